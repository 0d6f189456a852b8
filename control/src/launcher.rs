//! Launches a grant's bastion, one step at a time, each idempotent and written down before the next.
//!
//! 1. the try, a random handoff name and the tokens' digests go into the ledger (`APPROVED → LAUNCHING`);
//! 2. the image is fixed in the ledger, so that a repetition launches the same one;
//! 3. the instance is launched under a client token of its own (request, attempt and a MAC) and its id written
//!    down;
//! 4. the handoff is written, for that instance alone, with a ticket for its private address.
//!
//! A crash before 3's record leaves an instance that waits for its handoff: the repetition finds it by its
//! client token, and by nothing that others may set. A crash before 4's record repeats the same value under the same name; an
//! agent that had it already has said `hello`, and what is left over is deleted when the request ends.

use crate::approval::{Approved, Doubt, approved, distrust};
use crate::aws::cloud::{CloudError, Launch};
use crate::clock::after;
use crate::keys::random;
use crate::ledger::item::{Failure, Item};
use crate::ledger::transitions::{self as to, NewAttempt};
use crate::policy::{Permission, may_launch};
use crate::service::{Service, StepError};
use crate::tickets;
use jiff::Timestamp;
use powerpole_protocol::boot::{BootDocument, ControlEndpoint, USER_DATA_LIMIT};
use powerpole_protocol::envelope::key_text;
use powerpole_protocol::handoff::{BastionTimes, DatabaseAccess, EvidencePlaces, Grant, Handoff};
use powerpole_protocol::id::{Attempt, InstanceId};
use powerpole_protocol::secret::Secret;
use powerpole_protocol::ticket::Ticket;

/// Whether the ledger has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It has; look again.
    Moved,
    /// It has not.
    Stayed,
}

/// Begins the first try of an approved request, if it is what was approved and the operator's right still holds.
///
/// # Errors
/// When the ledger or Slack does not answer: without an answer nothing is launched.
pub async fn begin_first(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let item = match approved(service, item) {
        Ok(item) => item,
        Err(doubt) => return distrust(service, item, doubt).await,
    };
    let person = service.chat.person(&item.operator_slack).await?;
    let open = service.ledger.open().await?;
    let others: Vec<Item> = open
        .into_iter()
        .filter(|other| other.request != item.request)
        .collect();
    match may_launch(
        &service.config,
        &item,
        person.as_ref().map(|p| &p.email),
        &others,
    ) {
        Permission::Granted => begin(service, item, Attempt::FIRST).await,
        Permission::Refused(why) => {
            tracing::warn!(request = %item.request, code = why.code(), "refused a launch that had been approved");
            let failure = failure("policy", why.code(), why.text(), false);
            moved(
                service
                    .apply(&item.request, to::refuse_launch(item.state, &failure))
                    .await?,
            )
        }
    }
}

/// Begins a try.
///
/// # Errors
/// When the ledger does not answer or there is no randomness.
pub async fn begin(
    service: &Service,
    item: Approved<'_>,
    attempt: Attempt,
) -> Result<Progress, StepError> {
    let derivation = &service.keys.derivation;
    let new = NewAttempt {
        attempt,
        handoff: format!(
            "powerpole/handoff/{}",
            data_encoding::HEXLOWER.encode(&random::<16>()?)
        ),
        boot_token: derivation.boot_token(&item.request, attempt).digest(),
        handoff_token: derivation.handoff_token(&item.request, attempt).digest(),
        log_group: service.config.evidence.log_group.clone(),
        anchor_bucket: service.config.evidence.anchor_bucket.clone(),
    };
    let now = service.clock.now();
    moved(
        service
            .apply(&item.request, to::begin_attempt(&item, &new, now))
            .await?,
    )
}

/// Does what is left of a try's launch. Only one replica does at a time.
///
/// # Errors
/// When AWS or the ledger gives no usable answer: the next pass repeats. A refusal of AWS is no error here
/// but a failed try.
pub async fn proceed(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let attempt = item.attempt;
    let claim = to::claim_launch(attempt, service.clock.now());
    let Some(item) = service.apply(&item.request, claim).await? else {
        return Ok(Progress::Stayed);
    };
    let launched = match approved(service, &item) {
        Ok(approved) => launch(service, approved).await,
        Err(doubt) => Err(StepError::Doubt(doubt)),
    };
    match launched {
        Ok(()) => Ok(Progress::Moved),
        Err(StepError::Doubt(doubt)) => distrust(service, &item, doubt).await,
        Err(StepError::Cloud(
            error @ (CloudError::Capacity { .. } | CloudError::Refused { .. }),
        )) => {
            let retry = matches!(error, CloudError::Capacity { .. });
            tracing::error!(request = %item.request, attempt = attempt.0, code = error.code(), error = %error, "a launch failed");
            let failure = failure("launch", error.code(), &error.to_string(), retry);
            moved(
                service
                    .apply(&item.request, to::mark_failed(attempt, &failure))
                    .await?,
            )
        }
        Err(error) => {
            // Given back so that the repetition need not wait; if this fails too, the claim runs out.
            let _ = service
                .apply(&item.request, to::release_launch(attempt))
                .await;
            Err(error)
        }
    }
}

async fn launch(service: &Service, item: Approved<'_>) -> Result<(), StepError> {
    let image = match &item.image {
        Some(image) => image.clone(),
        None => {
            let image = service
                .cloud
                .image(&service.config.bastion.image_parameter)
                .await?;
            if service
                .apply(&item.request, to::fix_image(item.attempt, &image))
                .await?
                .is_none()
            {
                // Somebody fixed one, or the try is over: the next pass sees which.
                return Ok(());
            }
            image
        }
    };
    let derivation = &service.keys.derivation;
    let token = derivation.client_token(&item.request, item.attempt);
    let instance = match &item.instance {
        Some(instance) if item.handoff_at.is_none() => {
            own(service, &token, instance).await?;
            instance.clone()
        }
        Some(instance) => instance.clone(),
        None => {
            let instance = match service.cloud.find(&token).await? {
                Some(found) => found,
                None => run(service, item, &image, &token).await?,
            };
            tracing::info!(request = %item.request, attempt = item.attempt.0, instance = %instance, image, "launched");
            if service
                .apply(&item.request, to::record_instance(&item, &instance))
                .await?
                .is_none()
            {
                return Ok(());
            }
            instance
        }
    };
    if item.handoff_at.is_none() {
        let name = item
            .handoff
            .as_deref()
            .ok_or(StepError::Document("handoff without a name"))?;
        let secret = handoff(service, item, &instance)
            .await?
            .to_secret()
            .map_err(|_| StepError::Document("handoff"))?;
        let put_token = service
            .keys
            .derivation
            .put_token(&item.request, item.attempt);
        let reader = (service.config.bastion.role_id.as_str(), &instance);
        service
            .cloud
            .put_handoff(name, &secret, &put_token, reader)
            .await?;
        let _ = service
            .apply(
                &item.request,
                to::handoff_written(item.attempt, service.clock.now()),
            )
            .await?;
    }
    Ok(())
}

/// An instance that the ledger names gets a handoff only if EC2 says that this try's client token launched it.
async fn own(service: &Service, token: &str, instance: &InstanceId) -> Result<(), StepError> {
    match service.cloud.find(token).await? {
        Some(found) if found == *instance => Ok(()),
        Some(_) => Err(StepError::Doubt(Doubt::Instance)),
        // EC2 may not know it yet, or not any more: asked again until the try's time is over.
        None => Err(StepError::Cloud(CloudError::Unavailable {
            operation: "DescribeInstances",
            detail: format!("{instance} is not known by this try's client token"),
        })),
    }
}

async fn run(
    service: &Service,
    item: Approved<'_>,
    image: &str,
    client_token: &str,
) -> Result<InstanceId, StepError> {
    let bastion = &service.config.bastion;
    let turn = usize::try_from(item.attempt.0.saturating_sub(1)).unwrap_or(0)
        % bastion.subnets.len().max(1);
    let user_data = user_data(service, &item)?;
    let launch = Launch {
        request: &item.request,
        attempt: item.attempt,
        client_token,
        image,
        instance_type: &bastion.instance_type,
        subnet: bastion.subnets.get(turn).map_or("", String::as_str),
        security_groups: &bastion.security_groups,
        instance_profile: &bastion.instance_profile,
        tags: &bastion.tags,
        user_data: &user_data,
    };
    Ok(service.cloud.launch(&launch).await?)
}

fn user_data(service: &Service, item: &Item) -> Result<Secret, StepError> {
    let document = BootDocument {
        v: 1,
        request: item.request.clone(),
        attempt: item.attempt,
        handoff: item
            .handoff
            .clone()
            .ok_or(StepError::Document("boot document without a handoff"))?,
        release: service.config.bastion.release.clone(),
        control: ControlEndpoint {
            url: service.config.listen.public_url.clone(),
            signing_key: key_text(&service.keys.signing.verifying_key()),
            sealing_key: service.keys.opening.public_text(),
        },
        boot_token: service
            .keys
            .derivation
            .boot_token(&item.request, item.attempt),
    };
    let text = document
        .to_json()
        .map(Secret::new)
        .map_err(|_| StepError::Document("boot document"))?;
    if text.expose().len() > USER_DATA_LIMIT {
        return Err(StepError::Document("boot document within 16 KiB"));
    }
    Ok(text)
}

async fn handoff(
    service: &Service,
    item: Approved<'_>,
    instance: &InstanceId,
) -> Result<Handoff, StepError> {
    let lacks = StepError::Document;
    let config = &service.config;
    let cluster = config
        .cluster(&item.cluster)
        .ok_or(lacks("handoff of a cluster that is not configured"))?;
    // Asked of EC2 every time, and not kept: a repetition after a crash signs the same ticket, or none.
    let address = service.cloud.address(instance).await?;
    let ticket = Ticket {
        key_id: cluster.ticket_key_id.clone(),
        request: item.request.clone(),
        account: item.account.clone(),
        level: item.level,
        schemas: item.schemas.clone(),
        not_after: not_after(service, &item)?,
        nonce: service
            .keys
            .derivation
            .ticket_nonce(&item.request, item.attempt),
        mac: String::new(),
    };
    Ok(Handoff {
        v: 1,
        request: item.request.clone(),
        attempt: item.attempt,
        instance: instance.clone(),
        token: service
            .keys
            .derivation
            .handoff_token(&item.request, item.attempt),
        grant: Grant {
            operator: item.operator.clone(),
            account: item.account.clone(),
            principal: item.principal.clone(),
            cluster: item.cluster.clone(),
            level: item.level,
            schemas: item.schemas.clone(),
            reason: item.reason.clone(),
            approver: item
                .approver
                .clone()
                .ok_or(lacks("grant without an approver"))?,
            approved_at: item.approved_at.ok_or(lacks("grant without an approval"))?,
            duration_s: item.duration_s,
        },
        database: DatabaseAccess {
            grantor_secret: cluster.grantor_secret.clone(),
            session: cluster.session_of(item.level),
        },
        ticket: tickets::sign(service, item, ticket, address).await?,
        evidence: EvidencePlaces {
            log_group: config.evidence.log_group.clone(),
            log_stream: format!("{}/{instance}", item.request),
            anchor_bucket: config.evidence.anchor_bucket.clone(),
        },
        times: BastionTimes {
            warn_before_s: config.times.warn_before_s.clone(),
            renew_lease_s: config.times.renew_lease_s,
            heartbeat_s: config.times.heartbeat_s,
            freeze_after_s: config.times.freeze_after_s,
            end_after_s: config.times.end_after_s,
        },
    })
}

/// The latest time that any deadline of this try can have, and a minute.
fn not_after(service: &Service, item: &Item) -> Result<u64, StepError> {
    let launched: Timestamp = item
        .launched_at
        .ok_or(StepError::Document("ticket of a try without a launch"))?;
    let latest = after(
        launched,
        service.config.times.attempt_timeout_s + item.duration_s + 60,
    );
    u64::try_from(latest.as_second()).map_err(|_| StepError::Document("ticket before 1970"))
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

fn moved(item: Option<Item>) -> Result<Progress, StepError> {
    Ok(if item.is_some() {
        Progress::Moved
    } else {
        Progress::Stayed
    })
}
