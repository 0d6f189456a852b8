//! What a bastion is given: its boot document at the launch, and its handoff after it.

use crate::approval::Try;
use crate::clock::after;
use crate::service::{Service, StepError};
use crate::tickets;
use powerpole_protocol::boot::{BootDocument, ControlEndpoint, USER_DATA_LIMIT};
use powerpole_protocol::envelope::key_text;
use powerpole_protocol::handoff::{BastionTimes, DatabaseAccess, EvidencePlaces, Grant, Handoff};
use powerpole_protocol::id::InstanceId;
use powerpole_protocol::secret::Secret;
use powerpole_protocol::ticket::Ticket;

/// The boot document of a try, at most 16 KiB: the same at every repetition.
pub(super) fn user_data(service: &Service, item: Try<'_>) -> Result<Secret, StepError> {
    let document = BootDocument {
        v: 1,
        request: item.request.clone(),
        attempt: item.attempt,
        handoff: item.handoff().to_owned(),
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

/// The handoff of a try for this instance, with a ticket for its address: the same at every repetition.
pub(super) async fn handoff(
    service: &Service,
    item: Try<'_>,
    instance: &InstanceId,
) -> Result<Secret, StepError> {
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
        not_after: not_after(service, item)?,
        nonce: service
            .keys
            .derivation
            .ticket_nonce(&item.request, item.attempt),
        mac: String::new(),
    };
    let handoff = Handoff {
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
        ticket: tickets::sign(service, *item, ticket, address).await?,
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
    };
    handoff.to_secret().map_err(|_| lacks("handoff"))
}

/// The latest time that any deadline of this try can have, and a minute.
fn not_after(service: &Service, item: Try<'_>) -> Result<u64, StepError> {
    let most = service.config.times.attempt_timeout_s + item.duration_s + 60;
    u64::try_from(after(item.at(), most).as_second())
        .map_err(|_| StepError::Document("ticket before 1970"))
}
