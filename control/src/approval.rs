//! What an approval is good for, and what follows when a request is not what was asked or approved.
//!
//! Every effect that rests on an approval takes an [`Approved`], which [`approved`] alone makes, of the very copy of the
//! item that the effect uses; every effect of a try (its instance, handoff, ticket, password) takes a [`Try`], which
//! [`tried`] alone makes. Trusts the seals ([`crate::seal`]) and nothing else that stands in the ledger.

use crate::clock::after;
use crate::launcher::{Progress, failure};
use crate::ledger::item::{Item, PostKind};
use crate::ledger::transitions as to;
use crate::seal::begun;
use crate::service::{Service, StepError};
use jiff::Timestamp;
use powerpole_protocol::ledger::State;
use std::ops::Deref;

/// Clocks of replicas differ by less than this, in seconds.
pub const SKEW_S: u64 = 300;
/// An approval outlives the time that its tries may take by this many seconds; control may have been down for as long.
const SLACK_S: u64 = 3600;

/// What the failure says; [`Doubt::text`] stands before it.
const MESSAGE: &str = "The ledger does not say what control wrote.";

/// A request that is, to the letter, what somebody approved through control, not too long before a try of it began or may
/// begin.
#[derive(Debug, Clone, Copy)]
pub struct Approved<'a>(&'a Item);

impl Deref for Approved<'_> {
    type Target = Item;
    fn deref(&self) -> &Item {
        self.0
    }
}

/// A try of an approved request, to the letter what control began.
#[derive(Debug, Clone, Copy)]
pub struct Try<'a> {
    item: Approved<'a>,
    handoff: &'a str,
    image: &'a str,
    subnet: &'a str,
    at: Timestamp,
}

impl<'a> Try<'a> {
    /// Its handoff's name.
    #[must_use]
    pub fn handoff(&self) -> &'a str {
        self.handoff
    }

    /// Its image.
    #[must_use]
    pub fn image(&self) -> &'a str {
        self.image
    }

    /// Its subnet.
    #[must_use]
    pub fn subnet(&self) -> &'a str {
        self.subnet
    }

    /// When it began.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

impl<'a> Deref for Try<'a> {
    type Target = Approved<'a>;
    fn deref(&self) -> &Approved<'a> {
        &self.item
    }
}

/// Why a request is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// It is not what was asked.
    Asked,
    /// It is not what was approved, or nobody approved it.
    Approval,
    /// Its approval is too old to build on.
    Stale,
    /// Its try is not one that control began.
    Try,
    /// A later try of it, or the same one before, has had an instance.
    SetBack,
    /// Its bastion is not the one that redeemed the handoff.
    Bastion,
    /// Its instance is not the one that control launched for this try.
    Instance,
    /// Its direct message does not go to the operator.
    Message,
}

impl Doubt {
    const ALL: [Self; 8] = [
        Self::Asked,
        Self::Approval,
        Self::Stale,
        Self::Try,
        Self::SetBack,
        Self::Bastion,
        Self::Instance,
        Self::Message,
    ];

    /// Stable code of the failure, and the log's `alarm`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Asked => "request_altered",
            Self::Approval => "approval_altered",
            Self::Stale => "approval_stale",
            Self::Try => "try_altered",
            Self::SetBack => "request_set_back",
            Self::Bastion => "bastion_altered",
            Self::Instance => "instance_altered",
            Self::Message => "dm_altered",
        }
    }

    /// The doubt of this code.
    #[must_use]
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|doubt| doubt.code() == code)
    }

    /// For people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Asked => {
                "This request was changed in the ledger after it was asked, so nothing is built on it. Security was alarmed."
            }
            Self::Approval => {
                "This request is not what an approver approved: it was changed in the ledger, or its approval was written there by somebody else. So nothing is built on it. Security was alarmed."
            }
            Self::Stale => {
                "The approval is too old to build on: control was down for long, or somebody has set the request back in the ledger. Security was alarmed."
            }
            Self::Try => {
                "The ledger does not name the bastion that control began to build: its image, handoff, subnet, attempt or time was written there by somebody else, or by a control of another version. So nothing is built on it. Security was alarmed."
            }
            Self::SetBack => {
                "Somebody has set the request back in the ledger: EC2 knows an instance of it that cannot be there yet. So nothing is built on it. Security was alarmed."
            }
            Self::Bastion => {
                "The ledger names another bastion, or another key of it, than the one that took the handoff, so no password was sent. Security was alarmed."
            }
            Self::Instance => {
                "The ledger names an instance that was not launched for this request, or EC2 has several, so none gets anything. Security was alarmed."
            }
            Self::Message => {
                "The ledger names another place than the operator's direct messages for the password, so it was not sent. Security was alarmed."
            }
        }
    }
}

/// Whether an item is what control wrote, as far as seals say: what was asked until somebody decides, then what was
/// approved.
///
/// # Errors
/// When it is not. A request that runs or is over passes: nothing is built on it any more.
pub fn check(service: &Service, item: &Item) -> Result<(), Doubt> {
    let seals = &service.keys.seals;
    match item.state {
        State::Requested if !seals.holds_asked(item) => Err(Doubt::Asked),
        State::Approved if !seals.holds_approved(item) => Err(Doubt::Approval),
        State::Launching | State::Booting => built(service, item),
        State::Requested | State::Approved => Ok(()),
        State::Ready | State::Denied | State::Lapsed | State::Closed | State::Failed => Ok(()),
    }
}

/// Whether a running window is the one that control opened. Nothing follows but an alarm: its bastion has its grant and
/// asks the ledger for nothing.
///
/// # Errors
/// When it is not.
pub fn check_running(service: &Service, item: &Item) -> Result<(), Doubt> {
    built(service, item)?;
    if service.keys.seals.holds_bastion(item) {
        Ok(())
    } else {
        Err(Doubt::Bastion)
    }
}

fn built(service: &Service, item: &Item) -> Result<(), Doubt> {
    let seals = &service.keys.seals;
    if !seals.holds_approved(item) {
        Err(Doubt::Approval)
    } else if !seals.holds_try(item) {
        Err(Doubt::Try)
    } else {
        Ok(())
    }
}

/// The item as one on which a try may begin.
///
/// # Errors
/// When its approval's seal does not hold or it is too old, or as [`tried`] when a try has begun. So an approval that was
/// used up cannot be used again later by setting the request back.
pub fn approved<'a>(service: &Service, item: &'a Item) -> Result<Approved<'a>, Doubt> {
    sealed(service, item)?;
    let times = &service.config.times;
    let from = item
        .approved_at
        .max(item.start_at)
        .unwrap_or(item.requested_at);
    let tries = times
        .attempt_timeout_s
        .saturating_mul(times.max_attempts.into());
    if service.clock.now() > after(from, tries.saturating_add(SLACK_S)) {
        return Err(Doubt::Stale);
    }
    Ok(Approved(item))
}

/// The item as a try that may have effects.
///
/// # Errors
/// When its approval's seal does not hold, or it names no try that control began: one without a seal that holds, that
/// lies ahead, or that began before the wanted start. [`StepError::Over`] when its time is over,
/// so that an older try that was put back does nothing.
pub fn tried<'a>(service: &Service, item: &'a Item) -> Result<Try<'a>, StepError> {
    sealed(service, item).map_err(StepError::Doubt)?;
    let begun = begun(item).ok_or(StepError::Doubt(Doubt::Try))?;
    // Its time is sealed, and it began while the approval was good.
    if service.clock.now() >= after(begun.at, service.config.times.attempt_timeout_s) {
        return Err(StepError::Over);
    }
    Ok(Try {
        item: Approved(item),
        handoff: begun.handoff,
        image: begun.image,
        subnet: begun.subnets.last().ok_or(StepError::Doubt(Doubt::Try))?,
        at: begun.at,
    })
}

fn sealed(service: &Service, item: &Item) -> Result<(), Doubt> {
    let seals = &service.keys.seals;
    if !seals.holds_approved(item) {
        return Err(Doubt::Approval);
    }
    if item.attempt.0 == 0 {
        return Ok(());
    }
    let Some(begun) = begun(item).filter(|_| seals.holds_try(item)) else {
        return Err(Doubt::Try);
    };
    // All of it is sealed: no clock of a replica and no setting of today decides whether the try began too early.
    let early = !due(item, begun.at, begun.ahead_s);
    if early || begun.at > after(service.clock.now(), SKEW_S) {
        return Err(Doubt::Try);
    }
    Ok(())
}

/// Whether a launch may begin at this time: at the wanted start, or so many seconds before it.
#[must_use]
pub fn due(item: &Item, at: Timestamp, ahead_s: u64) -> bool {
    item.start_at
        .is_none_or(|start| after(at, ahead_s) >= start)
}

/// Alarms, and fails the request, so that nothing is built on it and what was built is cleared away.
///
/// # Errors
/// When the ledger does not answer; the next look doubts it again.
pub async fn distrust(service: &Service, item: &Item, doubt: Doubt) -> Result<Progress, StepError> {
    alarm(item, doubt);
    let failure = failure("ledger", doubt.code(), MESSAGE, false);
    let step = match item.state {
        State::Requested | State::Approved => to::refuse_launch(item.state, &failure),
        State::Launching | State::Booting => to::condemn(item.attempt, &failure),
        State::Ready | State::Denied | State::Lapsed | State::Closed | State::Failed => {
            return Ok(Progress::Stayed);
        }
    };
    // Whoever changes the ledger may have written there that people were told.
    let step = PostKind::ALL
        .into_iter()
        .fold(step, |step, kind| step.remove(kind.shown()));
    let failed = service.apply(&item.request, step).await?;
    Ok(if failed.is_some() {
        Progress::Moved
    } else {
        Progress::Stayed
    })
}

/// Alarms about a request.
pub fn alarm(item: &Item, doubt: Doubt) {
    tracing::error!(
        alarm = doubt.code(),
        request = %item.request,
        number = item.number,
        state = %item.state,
        attempt = item.attempt.0,
        "the ledger does not say of a request what control wrote"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_doubt_has_a_code_of_its_own_and_says_that_security_knows() {
        for doubt in Doubt::ALL {
            assert_eq!(Doubt::of(doubt.code()), Some(doubt));
            assert!(doubt.text().ends_with("Security was alarmed."));
        }
        assert_eq!(Doubt::of("ticket_used"), None);
    }
}
