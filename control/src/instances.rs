//! A request's instances, as EC2 knows them by the client tokens of its tries.
//!
//! Whoever may write the ledger may name any instance there, so nothing here asks the ledger for one: what is looked at,
//! given a handoff or ended is what control's own tokens launched. EC2 forgets no token while a grant can be used, so it is
//! also the witness of a try that the ledger does not know of any more.
//!
//! EC2 shows a token to whoever may look, and holds it to one launch within a zone alone: with it others may launch elsewhere.
//! What lies outside the subnet that a try's seal names is none of control's: it is alarmed about, gets nothing, is ended
//! where that is allowed, and holds nothing up.

use crate::aws::cloud::{CloudError, Found, InstanceState};
use crate::ledger::item::Item;
use crate::service::Service;
use futures_util::future::try_join_all;
use powerpole_protocol::id::{Attempt, InstanceId};

/// One instance of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// The try whose client token launched it.
    pub attempt: Attempt,
    /// Its id.
    pub instance: InstanceId,
    /// How it stands.
    pub state: InstanceState,
    /// It lies outside the subnet that the try's seal names, so somebody else launched it. False where no seal names one.
    pub elsewhere: bool,
}

/// Every try that a request may have had: all that settings allow or a seal proves, and the one that the ledger names.
pub fn tries(service: &Service, item: &Item) -> impl Iterator<Item = Attempt> {
    let begun = if sealed(service, item) {
        item.attempt.0
    } else {
        0
    };
    let most = service.config.times.max_attempts.max(begun);
    let beyond = Some(item.attempt).filter(|attempt| attempt.0 > most);
    (1..=most).map(Attempt).chain(beyond)
}

/// What one try has launched, and what others have under its token.
///
/// # Errors
/// When EC2 gives no usable answer.
pub async fn of(
    service: &Service,
    item: &Item,
    attempt: Attempt,
) -> Result<Vec<Launched>, CloudError> {
    let derivation = &service.keys.derivation;
    let token = derivation.client_token(&item.request, attempt);
    let subnet = subnet(service, item, attempt);
    let found = service.cloud.find(&token).await?;
    let all: Vec<Launched> = found
        .into_iter()
        .map(|found| Launched {
            attempt,
            elsewhere: subnet.is_some_and(|subnet| is_elsewhere(&found, subnet)),
            instance: found.instance,
            state: found.state,
        })
        .collect();
    if all.len() > 1 || all.iter().any(|one| one.elsewhere) {
        let ids: Vec<&str> = all.iter().map(|one| one.instance.as_str()).collect();
        tracing::error!(
            alarm = "two_instances",
            request = %item.request,
            attempt = attempt.0,
            instances = ids.join(" "),
            elsewhere = all.iter().filter(|one| one.elsewhere).count(),
            "somebody else launched under a try's client token"
        );
    }
    Ok(all)
}

/// What all tries of a request have launched, the first try's first. One that was launched moments ago may be missing.
///
/// # Errors
/// When EC2 gives no usable answer.
pub async fn all(service: &Service, item: &Item) -> Result<Vec<Launched>, CloudError> {
    let asked = tries(service, item).map(|attempt| of(service, item, attempt));
    Ok(try_join_all(asked).await?.concat())
}

/// Ends those that live, each whether or not another can be ended. May be repeated.
///
/// # Errors
/// The first, when one that may be control's was not ended; the others are by then.
pub async fn end(service: &Service, all: &[Launched]) -> Result<(), CloudError> {
    let mut first = Ok(());
    for launched in all {
        if launched.state != InstanceState::Alive {
            continue;
        }
        match service.cloud.terminate(&launched.instance).await {
            Ok(()) => {}
            Err(error) if launched.elsewhere => {
                tracing::error!(instance = %launched.instance, code = error.code(), error = %error, "an instance that somebody else launched cannot be ended");
            }
            Err(error) => first = first.and(Err(error)),
        }
    }
    first
}

/// The subnet of a try, as the current try's seal says it; none where no seal does.
fn subnet<'a>(service: &Service, item: &'a Item, attempt: Attempt) -> Option<&'a str> {
    let place = usize::try_from(attempt.0).ok()?.checked_sub(1)?;
    let subnet = item.subnets.get(place)?;
    sealed(service, item).then_some(subnet)
}

fn sealed(service: &Service, item: &Item) -> bool {
    let seals = &service.keys.seals;
    seals.holds_approved(item) && seals.holds_try(item)
}

// EC2 says of one that has ended no subnet any more.
fn is_elsewhere(found: &Found, subnet: &str) -> bool {
    match &found.subnet {
        Some(said) => said != subnet,
        None => found.state != InstanceState::Gone,
    }
}
