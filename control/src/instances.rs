//! A request's instances, as EC2 knows them by the client tokens of its tries.
//!
//! Whoever may write the ledger may name any instance there, so nothing here asks the ledger for one: what is looked at,
//! given a handoff or ended is what control's own tokens launched. EC2 forgets no token while a grant can be used, so it is
//! also the witness of a try that the ledger does not know of any more.

use crate::aws::cloud::{CloudError, InstanceState};
use crate::ledger::item::Item;
use crate::service::Service;
use futures_util::future::try_join_all;
use powerpole_protocol::id::{Attempt, InstanceId, RequestId};

/// One instance of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// The try whose client token launched it.
    pub attempt: Attempt,
    /// Its id.
    pub instance: InstanceId,
    /// How it stands.
    pub state: InstanceState,
}

/// Every try that a request may have had: all that settings allow, and the one that the ledger names.
pub fn tries(service: &Service, item: &Item) -> impl Iterator<Item = Attempt> {
    let most = service.config.times.max_attempts;
    let beyond = Some(item.attempt).filter(|attempt| attempt.0 > most);
    (1..=most).map(Attempt).chain(beyond)
}

/// What one try has launched: nothing, or one instance.
///
/// # Errors
/// When EC2 gives no usable answer.
pub async fn of(
    service: &Service,
    request: &RequestId,
    attempt: Attempt,
) -> Result<Vec<Launched>, CloudError> {
    let token = service.keys.derivation.client_token(request, attempt);
    let found = service.cloud.find(&token).await?;
    if found.len() > 1 {
        tracing::error!(
            alarm = "two_instances",
            client_token = token,
            count = found.len(),
            "one try has several instances"
        );
    }
    let found = found.into_iter().map(|(instance, state)| Launched {
        attempt,
        instance,
        state,
    });
    Ok(found.collect())
}

/// What all tries of a request have launched, the first try's first. One that was launched moments ago may be missing.
///
/// # Errors
/// When EC2 gives no usable answer.
pub async fn all(service: &Service, item: &Item) -> Result<Vec<Launched>, CloudError> {
    let asked = tries(service, item).map(|attempt| of(service, &item.request, attempt));
    Ok(try_join_all(asked).await?.concat())
}

/// Ends those that live. May be repeated.
///
/// # Errors
/// When EC2 gives no usable answer; some may be ended by then.
pub async fn end(service: &Service, all: &[Launched]) -> Result<(), CloudError> {
    for launched in all {
        if launched.state == InstanceState::Alive {
            service.cloud.terminate(&launched.instance).await?;
        }
    }
    Ok(())
}
