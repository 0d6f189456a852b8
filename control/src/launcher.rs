//! Launches a grant's bastion, one step at a time, each idempotent and written down before the next.
//!
//! 1. the try, its handoff's name, the image that the parameter names now, and a seal over all of it go into the ledger
//!    (`APPROVED → LAUNCHING`), in one write: a repetition launches the same image, and a crash leaves the whole try or none;
//! 2. the instance is launched under a client token of its own (request, attempt and a MAC) and its id written
//!    down;
//! 3. the handoff is written, for that instance alone, with a ticket for its private address.
//!
//! Before 2 and 3 the seal is checked, EC2 is asked what the request has already, and Slack whether the operator's right
//! still holds. A crash before 2's record leaves an instance that waits for its handoff: the repetition finds it by its
//! client token, and by nothing that others may set. A crash before 3's record repeats the same value under the same name; an
//! agent that had it already has said `hello`, and what is left over is deleted when the request ends.

mod documents;

use crate::approval::{Approved, Doubt, Try, approved, distrust, due, tried};
use crate::aws::cloud::{CloudError, InstanceState, Launch};
use crate::instances::{self, Launched};
use crate::ledger::item::{Failure, Item};
use crate::ledger::transitions::{self as to, NewAttempt};
use crate::policy::{Permission, may_launch};
use crate::seal::Begun;
use crate::service::{Service, StepError};
use powerpole_protocol::id::{Attempt, InstanceId};
use powerpole_protocol::ledger::State;

/// Whether the ledger has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has; look again.
    Moved,
    /// It has not.
    Stayed,
}

/// Begins the first try of an approved request, if it is what was approved and the operator's right still holds. What AWS,
/// the policy or a seal forbids fails the request.
///
/// # Errors
/// When a part of ours does not answer, or the start has not come: nothing is launched.
pub async fn begin_first(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let begun = async {
        let approved = approved(service, item).map_err(StepError::Doubt)?;
        permitted(service, item).await?;
        begin(service, approved, Attempt::FIRST).await
    };
    match begun.await {
        Ok(progress) => Ok(progress),
        Err(error) => forbid(service, item, error).await,
    }
}

/// Begins a try.
///
/// # Errors
/// When the start has not come, EC2 knows of this try or a later one already, AWS or the ledger does not answer or
/// refuses.
pub async fn begin(
    service: &Service,
    item: Approved<'_>,
    attempt: Attempt,
) -> Result<Progress, StepError> {
    let now = service.clock.now();
    if !due(&item, now, service.config.times.launch_ahead_s) {
        return Err(StepError::Early);
    }
    let launched = instances::all(service, &item).await?;
    if launched.iter().any(|one| one.attempt >= attempt) {
        return Err(StepError::Doubt(Doubt::SetBack));
    }
    let image = service
        .cloud
        .image(&service.config.bastion.image_parameter)
        .await?;
    let subnets = subnets(service, &item, attempt);
    let derivation = &service.keys.derivation;
    let begun = Begun {
        attempt,
        handoff: &derivation.handoff_name(&item.request, attempt),
        image: &image,
        subnets: &subnets,
        at: now,
        ahead_s: service.config.times.launch_ahead_s,
    };
    let new = NewAttempt {
        begun,
        seal: service.keys.seals.tried(&item, begun),
        boot_token: derivation.boot_token(&item.request, attempt).digest(),
        handoff_token: derivation.handoff_token(&item.request, attempt).digest(),
        log_group: service.config.evidence.log_group.clone(),
        anchor_bucket: service.config.evidence.anchor_bucket.clone(),
    };
    moved(
        service
            .apply(&item.request, to::begin_attempt(&item, &new))
            .await?,
    )
}

/// The subnets of the tries before, which were sealed, and this one's: another at every try, as far as settings name some.
fn subnets(service: &Service, item: &Item, attempt: Attempt) -> Vec<String> {
    let all = &service.config.bastion.subnets;
    let before = usize::try_from(attempt.0.saturating_sub(1)).unwrap_or(0);
    let own = all.get(before % all.len().max(1));
    item.subnets
        .iter()
        .take(before)
        .chain(own)
        .cloned()
        .collect()
}

/// Does what is left of a try's launch. Only one replica does at a time.
///
/// # Errors
/// When AWS, Slack or the ledger gives no usable answer: the next pass repeats. A refusal is no error here but a
/// failed try.
pub async fn proceed(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let claim = to::claim_launch(item.attempt, service.clock.now());
    let Some(item) = service.apply(&item.request, claim).await? else {
        return Ok(Progress::Stayed);
    };
    let launched = async { launch(service, tried(service, &item)?).await };
    let error = match launched.await {
        Ok(()) => return Ok(Progress::Moved),
        Err(error) => error,
    };
    let forbidden = forbid(service, &item, error).await;
    if forbidden.is_err() {
        // Given back so that the repetition need not wait; if this fails too, the claim runs out.
        let _ = service
            .apply(&item.request, to::release_launch(item.attempt))
            .await;
    }
    forbidden
}

/// What follows when a launch does not go on: what AWS, the policy or a seal forbids fails the request or its try; anything
/// else is given back, to be repeated.
async fn forbid(service: &Service, item: &Item, error: StepError) -> Result<Progress, StepError> {
    let failure = match error {
        StepError::Doubt(doubt) => return distrust(service, item, doubt).await,
        StepError::Refused(why) => {
            tracing::warn!(request = %item.request, code = why.code(), "refused a launch that had been approved");
            failure("policy", why.code(), why.text(), false)
        }
        StepError::Cloud(error @ (CloudError::Capacity { .. } | CloudError::Refused { .. })) => {
            let retry = matches!(error, CloudError::Capacity { .. });
            tracing::error!(request = %item.request, attempt = item.attempt.0, code = error.code(), error = %error, "a launch failed");
            failure("launch", error.code(), &error.to_string(), retry)
        }
        error => return Err(error),
    };
    let step = match item.state {
        State::Approved => to::refuse_launch(item.state, &failure),
        _ => to::mark_failed(item.attempt, &failure),
    };
    moved(service.apply(&item.request, step).await?)
}

/// Whether the operator's right to this launch still holds.
async fn permitted(service: &Service, item: &Item) -> Result<(), StepError> {
    let person = service.chat.person(&item.operator_slack).await?;
    let open = service.ledger.open().await?;
    let others: Vec<Item> = open
        .into_iter()
        .filter(|other| other.request != item.request)
        .collect();
    let email = person.as_ref().map(|p| &p.email);
    match may_launch(&service.config, item, email, &others) {
        Permission::Granted => Ok(()),
        Permission::Refused(why) => Err(StepError::Refused(why)),
    }
}

async fn launch(service: &Service, item: Try<'_>) -> Result<(), StepError> {
    permitted(service, &item).await?;
    let Some(instance) = instance(service, item).await? else {
        // Somebody wrote another, or the try is over: the next pass sees which.
        return Ok(());
    };
    if item.handoff_at.is_none() {
        let value = documents::handoff(service, item, &instance).await?;
        let derivation = &service.keys.derivation;
        let put_token = derivation.put_token(&item.request, item.attempt);
        let reader = (service.config.bastion.role_id.as_str(), &instance);
        service
            .cloud
            .put_handoff(item.handoff(), &value, &put_token, reader)
            .await?;
        let written = to::handoff_written(item.attempt, service.clock.now());
        let _ = service.apply(&item.request, written).await?;
    }
    Ok(())
}

/// The one living instance of this try, launched now if EC2 knows none and the ledger names none; none when the ledger
/// does not take it.
async fn instance(service: &Service, item: Try<'_>) -> Result<Option<InstanceId>, StepError> {
    let all = instances::all(service, &item).await?;
    if all.iter().any(|one| one.attempt > item.attempt) {
        return Err(StepError::Doubt(Doubt::SetBack));
    }
    let (own, earlier): (Vec<Launched>, Vec<Launched>) =
        all.into_iter().partition(|one| one.attempt == item.attempt);
    // Ended when their try failed, if EC2 showed them by then.
    instances::end(service, &earlier).await?;
    let instance = match (only(own)?, &item.instance) {
        (Some(own), Some(named)) if own.instance != *named => {
            return Err(StepError::Doubt(Doubt::Instance));
        }
        (Some(own), _) if own.state != InstanceState::Alive => {
            return Err(not_there("the instance has ended"));
        }
        (Some(own), Some(_)) => return Ok(Some(own.instance)),
        // EC2 may not know it yet, or not any more: asked again until the try's time is over.
        (None, Some(_)) => return Err(not_there("the instance is not known by its client token")),
        (Some(own), None) => own.instance,
        (None, None) => run(service, item).await?,
    };
    tracing::info!(request = %item.request, attempt = item.attempt.0, instance = %instance, image = item.image(), "launched");
    let written = to::record_instance(&item, &instance);
    let written = service.apply(&item.request, written).await?;
    if written.is_none() {
        end_if_over(service, item, &instance).await?;
    }
    Ok(written.map(|_| instance))
}

/// The one instance of a try in its subnet: the living one, or one that has ended. Several living ones are none: which of
/// them control launched cannot be told.
fn only(own: Vec<Launched>) -> Result<Option<Launched>, StepError> {
    let here = own.into_iter().filter(|one| !one.elsewhere);
    let (gone, there): (Vec<Launched>, Vec<Launched>) =
        here.partition(|one| one.state == InstanceState::Gone);
    if there.len() > 1 {
        return Err(StepError::Doubt(Doubt::Instance));
    }
    Ok(there.into_iter().chain(gone).next())
}

/// Ends what was launched while another replica gave its try up: EC2 did not show it to that one, and nobody looks again.
async fn end_if_over(
    service: &Service,
    item: Try<'_>,
    instance: &InstanceId,
) -> Result<(), StepError> {
    let goes_on = |now: &Item| {
        let stands = matches!(now.state, State::Launching | State::Booting | State::Ready);
        stands && now.attempt == item.attempt
    };
    let now = service.ledger.read(&item.request).await;
    if matches!(&now, Ok(Some(now)) if goes_on(now)) {
        return Ok(());
    }
    tracing::warn!(request = %item.request, attempt = item.attempt.0, instance = %instance, "ends an instance whose try is over");
    Ok(service.cloud.terminate(instance).await?)
}

fn not_there(detail: &str) -> StepError {
    StepError::Cloud(CloudError::Unavailable {
        operation: "DescribeInstances",
        detail: detail.to_owned(),
    })
}

async fn run(service: &Service, item: Try<'_>) -> Result<InstanceId, StepError> {
    // EC2 and Slack were asked since it was looked at: its time may be over by now.
    tried(service, &item)?;
    let bastion = &service.config.bastion;
    let user_data = documents::user_data(service, item)?;
    let derivation = &service.keys.derivation;
    let launch = Launch {
        request: &item.request,
        attempt: item.attempt,
        client_token: &derivation.client_token(&item.request, item.attempt),
        image: item.image(),
        instance_type: &bastion.instance_type,
        subnet: item.subnet(),
        security_groups: &bastion.security_groups,
        instance_profile: &bastion.instance_profile,
        tags: &bastion.tags,
        user_data: &user_data,
    };
    Ok(service.cloud.launch(&launch).await?)
}

/// Says what failed.
#[must_use]
pub fn failure(step: &str, code: &str, message: &str, retry: bool) -> Failure {
    Failure {
        step: step.to_owned(),
        code: code.to_owned(),
        message: message.chars().take(1000).collect(),
        retry,
    }
}

/// Whether a move happened, as progress.
pub(crate) fn moved(item: Option<Item>) -> Result<Progress, StepError> {
    Ok(if item.is_some() {
        Progress::Moved
    } else {
        Progress::Stayed
    })
}
