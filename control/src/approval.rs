//! What an approval is good for, and what follows when a request is not what was asked or approved.
//!
//! Every effect that rests on an approval takes an [`Approved`], which [`approved`] alone makes, of the very copy of the
//! item that the effect uses. Trusts the seals ([`crate::seal`]) and nothing else that stands in the ledger.

use crate::clock::after;
use crate::launcher::{Progress, failure};
use crate::ledger::item::{Item, PostKind};
use crate::ledger::transitions as to;
use crate::service::{Service, StepError};
use powerpole_protocol::ledger::State;
use std::ops::Deref;

/// Clocks of replicas differ by less than this, in seconds.
pub const SKEW_S: u64 = 300;
/// An approval outlives the time that its tries may take by this many seconds; control may have been down for as long.
const SLACK_S: u64 = 3600;

/// What the failure says; [`Doubt::text`] stands before it.
const MESSAGE: &str = "The ledger does not say what control wrote.";

/// A request that is, to the letter, what somebody approved through control, not too long ago.
#[derive(Debug, Clone, Copy)]
pub struct Approved<'a>(&'a Item);

impl Deref for Approved<'_> {
    type Target = Item;
    fn deref(&self) -> &Item {
        self.0
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
    /// Its instance is not the one that control launched for this try.
    Instance,
    /// Its direct message does not go to the operator.
    Message,
}

impl Doubt {
    const ALL: [Self; 5] = [
        Self::Asked,
        Self::Approval,
        Self::Stale,
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
            Self::Instance => {
                "The ledger names an instance that was not launched for this request, so it gets nothing. Security was alarmed."
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
    let (holds, doubt) = match item.state {
        State::Requested => (seals.holds_asked(item), Doubt::Asked),
        State::Approved | State::Launching | State::Booting => {
            (seals.holds_approved(item), Doubt::Approval)
        }
        State::Ready | State::Denied | State::Lapsed | State::Closed | State::Failed => {
            (true, Doubt::Approval)
        }
    };
    if holds { Ok(()) } else { Err(doubt) }
}

/// The item as one on which a launch may rest.
///
/// # Errors
/// When its approval's seal does not hold or it is too old, its try is beyond the last that there may be, or its try's
/// time lies ahead. So an approval that was used up cannot be used again later by setting the request back.
pub fn approved<'a>(service: &Service, item: &'a Item) -> Result<Approved<'a>, Doubt> {
    let times = &service.config.times;
    let now = service.clock.now();
    if !service.keys.seals.holds_approved(item)
        || item.attempt.0 > times.max_attempts
        || item.launched_at.is_some_and(|at| at > after(now, SKEW_S))
    {
        return Err(Doubt::Approval);
    }
    let due = item
        .approved_at
        .max(item.start_at)
        .unwrap_or(item.requested_at);
    let tries = times
        .attempt_timeout_s
        .saturating_mul(times.max_attempts.into());
    if now > after(due, tries.saturating_add(SLACK_S)) {
        return Err(Doubt::Stale);
    }
    Ok(Approved(item))
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
        State::Launching | State::Booting => to::mark_failed(item.attempt, &failure),
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
