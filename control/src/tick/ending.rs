//! Looks at a request's instances, ends them and clears away what was made for them.
//!
//! What is ended is what control's own client tokens launched, and what is deleted bears a name that control derives: the
//! ledger, which may name another's instance or handoff, is asked for neither.

use crate::approval::{self, Doubt, SKEW_S};
use crate::aws::cloud::{CloudError, InstanceState};
use crate::clock::{after, seconds_between};
use crate::instances::{self, Launched};
use crate::launcher::{self, Progress, failure, moved};
use crate::ledger::item::{Closing, Item};
use crate::ledger::transitions as to;
use crate::service::{Service, StepError};
use powerpole_protocol::id::{Attempt, InstanceId};
use powerpole_protocol::ledger::State;

/// EC2 may not know an instance yet for this many seconds after its launch.
const NOT_YET_KNOWN_S: u64 = 60;

/// Clears a failed try away before the next begins, so that no request ever has two bastions.
pub(super) async fn abandon(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let all = instances::all(service, item).await?;
    instances::end(service, &all).await?;
    shown(service, item, &all)?;
    let own = all
        .iter()
        .find(|one| one.attempt == item.attempt && !one.elsewhere);
    // It may have been launched without being written down.
    if let (Some(own), None) = (own, &item.instance) {
        let written = to::record_instance(item, &own.instance);
        let _ = service.apply(&item.request, written).await?;
    }
    delete_handoffs(service, item).await?;
    let again = item.failure.as_ref().is_some_and(|f| f.retry)
        && item.attempt.0 < service.config.times.max_attempts;
    if again && let Some(progress) = try_again(service, item).await? {
        return Ok(progress);
    }
    moved(
        service
            .apply(&item.request, to::give_up(item.attempt))
            .await?,
    )
}

/// Begins the next try; none when it may not begin, which is told in the log.
async fn try_again(service: &Service, item: &Item) -> Result<Option<Progress>, StepError> {
    let begun = match approval::approved(service, item) {
        Ok(item) => launcher::begin(service, item, Attempt(item.attempt.0 + 1)).await,
        Err(doubt) => Err(StepError::Doubt(doubt)),
    };
    match begun {
        Ok(progress) => Ok(Some(progress)),
        Err(StepError::Doubt(doubt)) => {
            approval::alarm(item, doubt);
            Ok(None)
        }
        Err(StepError::Cloud(
            error @ (CloudError::Capacity { .. } | CloudError::Refused { .. }),
        )) => {
            tracing::error!(request = %item.request, attempt = item.attempt.0, code = error.code(), error = %error, "the next try cannot begin");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Deletes what may be left of the handoffs of all tries.
pub(super) async fn delete_handoffs(service: &Service, item: &Item) -> Result<(), StepError> {
    let derivation = &service.keys.derivation;
    for attempt in instances::tries(service, item) {
        let name = derivation.handoff_name(&item.request, attempt);
        service.cloud.delete_handoff(&name).await?;
    }
    Ok(())
}

/// Asks EC2 whether the current try's instance lives.
pub(super) async fn look(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let Some(named) = &item.instance else {
        return Ok(Progress::Stayed);
    };
    let all = instances::of(service, item, item.attempt).await?;
    let (named_one, other) = told_apart(&all, named);
    if other && named_one.is_none() {
        if item.state == State::Ready {
            approval::alarm(item, Doubt::Instance);
        } else {
            return approval::distrust(service, item, Doubt::Instance).await;
        }
    }
    // A window's own, whatever the ledger names.
    let own = named_one.or_else(|| all.iter().find(|one| !one.elsewhere));
    match (own.map(|own| own.state), item.state) {
        (Some(InstanceState::Alive | InstanceState::Ending), _) => Ok(Progress::Stayed),
        (None, _) if young(service, item) => Ok(Progress::Stayed),
        (Some(InstanceState::Gone) | None, State::Ready) => {
            end_lost(service, item, "the instance vanished").await
        }
        (Some(InstanceState::Gone) | None, _) => {
            let text = "The instance ended before it was ready, without a word.";
            let failure = failure("boot", "instance_gone", text, true);
            tracing::error!(request = %item.request, attempt = item.attempt.0, instance = %named, "an instance ended before it was ready");
            let failed = to::mark_failed(item.attempt, &failure);
            moved(service.apply(&item.request, failed).await?)
        }
    }
}

/// The instance that the ledger names, if it is control's, and whether that cannot be said of it: EC2 knows another one where
/// it should be, or it elsewhere.
fn told_apart<'a>(all: &'a [Launched], named: &InstanceId) -> (Option<&'a Launched>, bool) {
    let is_named = |one: &&Launched| one.instance == *named;
    let own = all.iter().filter(|one| !one.elsewhere).find(is_named);
    let other = all
        .iter()
        .any(|one| !one.elsewhere || one.instance == *named);
    (own, other)
}

/// Ends the instance first: closing the ledger of a bastion that still runs would be a lie.
pub(super) async fn end_lost(
    service: &Service,
    item: &Item,
    why: &str,
) -> Result<Progress, StepError> {
    tracing::error!(alarm = "bastion_lost", request = %item.request, why, "a bastion is lost");
    let all = instances::all(service, item).await?;
    instances::end(service, &all).await?;
    let closing = Closing {
        at: service.clock.now(),
        reason: "lost".to_owned(),
        sealed: false,
        account_gone: false,
        head: item.latest.clone(),
        sessions: 0,
        refused: 0,
        statements: 0,
        remarks: vec![
            format!("bastion lost: {why}"),
            "the head is the latest that control heard of; numbers of logins and statements are in the evidence".to_owned(),
        ],
    };
    moved(
        service
            .apply(&item.request, to::close(item.attempt, &closing))
            .await?,
    )
}

/// Sees that no instance of an ended request lives, and ends what does if `end`.
pub(super) async fn ensure_gone(
    service: &Service,
    item: &Item,
    end: bool,
) -> Result<Progress, StepError> {
    let all = instances::all(service, item).await?;
    if end {
        instances::end(service, &all).await?;
    }
    shown(service, item, &all)?;
    let left = |one: &Launched| !one.elsewhere && one.state != InstanceState::Gone;
    if all.iter().any(left) {
        return Ok(Progress::Stayed);
    }
    let gone = to::terminated(item.attempt, service.clock.now());
    moved(service.apply(&item.request, gone).await?)
}

/// Whether EC2 may not show yet what the current try has launched. A time that lies ahead is none of control's.
fn young(service: &Service, item: &Item) -> bool {
    let now = service.clock.now();
    item.launched_at
        .filter(|at| *at <= after(now, SKEW_S))
        .is_some_and(|at| seconds_between(at, now) < NOT_YET_KNOWN_S)
}

/// Waits for an instance that was written down a moment ago and that EC2 does not show by its client token yet.
fn shown(service: &Service, item: &Item, all: &[Launched]) -> Result<(), StepError> {
    let Some(named) = &item.instance else {
        return Ok(());
    };
    let shown =
        |one: &Launched| !one.elsewhere && (one.attempt == item.attempt || one.instance == *named);
    if all.iter().any(shown) || !young(service, item) {
        return Ok(());
    }
    Err(StepError::Cloud(CloudError::Unavailable {
        operation: "DescribeInstances",
        detail: "the instance is not shown yet".to_owned(),
    }))
}
