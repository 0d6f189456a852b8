//! The roll of requests: once a period, who asked and what became of it, into the evidence's bucket.
//!
//! Owns the decision what a roll names and the port to the bucket. Trusts the rolls in the bucket, which are locked, and
//! of the ledger what control's seal of a request covers, its number and time among it; [`compose`] alarms about the rest.
//! A roll is written once; whichever replica is first wins, and the others go on from what it wrote. Control can add
//! rolls and change none: the bucket locks what is there.

mod compose;
mod known;

use crate::approval::SKEW_S;
use crate::ledger::item::Item;
use crate::ledger::{LedgerError, transitions as to};
use crate::service::Service;
use compose::{Found, Look, compose};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use known::Known;
use powerpole_chain::Roll;
use powerpole_protocol::ledger::State;
use std::sync::{Mutex, PoisonError};

/// Rolls that one look writes at most; after a long pause the next look goes on.
const AT_ONCE: usize = 16;
/// Rolls that are read at the start, to know which requests they name: more than two years of days.
const LOOK_BACK: usize = 1000;

/// The bucket did not do what was asked, or holds what is no roll.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// No usable answer: it may have happened.
    #[error("the bucket's {operation} failed: {detail}")]
    Unavailable {
        /// Which call.
        operation: &'static str,
        /// The service's own words.
        detail: String,
    },
    /// A roll cannot be read, so none can follow it.
    #[error("{key} is not a roll; rolls stop until somebody has looked at it")]
    Unreadable {
        /// The object's key.
        key: String,
    },
    /// The last roll is for a time to come: control has not written it, or its clock was wrong.
    #[error("roll {0} ends in the future; rolls stop until somebody has looked at it")]
    Future(u64),
    /// A number between two that are known has no item yet, or has one no more.
    #[error("request number {0} is not in the ledger")]
    Missing(u64),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl RollError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "bucket_unavailable",
            Self::Unreadable { .. } => "roll_unreadable",
            Self::Future(_) => "roll_in_future",
            Self::Missing(_) => "roll_request_missing",
            Self::Ledger(error) => error.code(),
        }
    }

    /// Whether somebody has to look: it does not pass by itself.
    #[must_use]
    pub fn alarms(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::Future(_) | Self::Missing(_) => true,
            Self::Unavailable { .. } | Self::Ledger(_) => false,
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Kept {
    /// This roll is there now.
    Ours,
    /// A roll of this number was there already.
    Theirs,
}

/// Where rolls are kept.
///
/// Contract: `keep` is durable when it returns and never replaces a roll; after an error the roll may be there, and
/// the caller asks `recent`. `recent` sees every roll that was kept before it was asked, and alarms about what else lies
/// there.
pub trait RollStore: Send + Sync {
    /// The rolls after this number, oldest first, and of many the last `count`: the row without a gap that begins with the
    /// number after it, or after 0 with the lowest that is there.
    fn recent(&self, after: u64, count: usize) -> BoxFuture<'_, Result<Vec<Roll>, RollError>>;
    /// Writes a roll unless one of its number exists.
    fn keep<'a>(&'a self, roll: &'a Roll) -> BoxFuture<'a, Result<Kept, RollError>>;
}

/// What this replica knows of the rolls. It saves calls, and is what a ledger that was changed is compared with.
#[derive(Debug, Default)]
pub struct RollMemory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    known: Option<Known>,
    /// Numbers that had no item at the last look: an index may lag behind, so it takes two to believe it.
    missing: Option<(u64, u64)>,
}

impl RollMemory {
    fn with<T>(&self, work: impl FnOnce(&mut Remembered) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes the rolls that are due.
///
/// A crash after a roll was kept and before its ends were marked in the ledger is mended here: the rolls are read again
/// at the start, and marks that lack are made, which is harmless.
pub async fn keep_up(service: &Service) {
    for _ in 0..AT_ONCE {
        match step(service).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                if error.alarms() {
                    tracing::error!(alarm = error.code(), code = error.code(), error = %error, "the roll of requests is not kept");
                } else {
                    tracing::error!(code = error.code(), error = %error, "the roll of requests is not kept and will be tried again");
                }
                return;
            }
        }
    }
}

/// Whether a roll was written, so that another may be due.
async fn step(service: &Service) -> Result<bool, RollError> {
    let mut known = match service.roll_memory.with(|memory| memory.known.take()) {
        Some(known) => known,
        None => load(service).await?,
    };
    let stepped = write(service, &mut known).await;
    // After an answer of the bucket that is of no use nothing is known for sure.
    if matches!(
        stepped,
        Ok(_) | Err(RollError::Missing(_) | RollError::Ledger(_))
    ) {
        service
            .roll_memory
            .with(|memory| memory.known = Some(known));
    }
    stepped
}

async fn write(service: &Service, known: &mut Known) -> Result<bool, RollError> {
    let times = &service.config.times;
    let now = service.clock.now();
    let Some(period) = due(known.last(), now, times.roll_every_s, times.roll_delay_s) else {
        return Ok(false);
    };
    let look = look(service, known, now).await?;
    let missing = look.missing(known.next_request());
    let before = service
        .roll_memory
        .with(|memory| std::mem::replace(&mut memory.missing, missing));
    if missing.is_some() && before != missing {
        return Ok(false);
    }
    let sealed = |item: &Item| service.keys.seals.holds_asked(item);
    let (roll, found) = compose(known, period, look, sealed)?;
    match service.rolls.keep(&roll).await? {
        Kept::Ours => {
            tracing::info!(
                roll = roll.number,
                requested = roll.requested.len(),
                ended = roll.ended.len(),
                "a roll of requests is kept"
            );
            found.iter().for_each(Found::alarm);
            let marked = mark(service, &roll).await;
            known.take(roll);
            marked?;
        }
        // Another replica's.
        Kept::Theirs => read(service, known).await?,
    }
    Ok(true)
}

/// What the bucket says, at the start; and the marks that a crash left out.
async fn load(service: &Service) -> Result<Known, RollError> {
    let mut known = Known::default();
    read(service, &mut known).await?;
    let items = service.ledger.unrolled().await?;
    service.ledger.given(highest(service, &known, &items));
    for item in &items {
        if let Some(roll) = known.end_of(item.request.as_str()) {
            let step = to::rolled(item.state, roll);
            let _ = service.apply(&item.request, step).await?;
        }
    }
    Ok(known)
}

/// Takes the rolls that are new.
async fn read(service: &Service, known: &mut Known) -> Result<(), RollError> {
    let after = known.last().map_or(0, |last| last.number);
    for roll in service.rolls.recent(after, LOOK_BACK).await? {
        let now = u64::try_from(service.clock.now().as_second()).unwrap_or(0);
        if roll.until_s > now.saturating_add(SKEW_S) {
            return Err(RollError::Future(roll.number));
        }
        known.take(roll);
    }
    Ok(())
}

/// What the ledger says now, with whatever it hides of what the rolls name.
async fn look(service: &Service, known: &Known, now: Timestamp) -> Result<Look, RollError> {
    // Counted first: a request that is made meanwhile is not missed.
    let counted = match service.ledger.last_number().await {
        Ok(counted) => Some(counted),
        Err(LedgerError::Item { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut items = service.ledger.unrolled().await?;
    // Whoever takes a new one out of the first index may have left it in the second.
    for item in service.ledger.open().await? {
        let new = item.number >= known.next_request();
        if new && !items.iter().any(|other| other.request == item.request) {
            items.push(item);
        }
    }
    service.ledger.given(highest(service, known, &items));
    let mut hidden = Vec::new();
    let mut gone = Vec::new();
    for (n, id) in known.going_on() {
        if items.iter().any(|item| item.request.as_str() == id) {
            continue;
        }
        let Ok(request) = id.parse() else {
            continue;
        };
        match service.ledger.read(&request).await {
            Ok(Some(item)) => hidden.push(item),
            Ok(None) | Err(LedgerError::Item { .. }) => gone.push((n, id.to_owned())),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Look {
        now,
        counted,
        items,
        hidden,
        gone,
    })
}

/// The highest number that is known to be given: by the rolls, or by control's own seal.
fn highest(service: &Service, known: &Known, items: &[Item]) -> u64 {
    let sealed = items
        .iter()
        .filter(|item| service.keys.seals.holds_asked(item));
    let sealed = sealed.map(|item| item.number).max().unwrap_or(0);
    sealed.max(known.next_request().saturating_sub(1))
}

async fn mark(service: &Service, roll: &Roll) -> Result<(), LedgerError> {
    for ended in &roll.ended {
        let (Ok(request), Some(state)) =
            (ended.request.parse(), State::parse(ended.outcome.word()))
        else {
            continue;
        };
        let _ = service
            .apply(&request, to::rolled(state, roll.number))
            .await?;
    }
    Ok(())
}

/// The period whose roll is due, in unix seconds. The first roll is for the period that ended last.
fn due(last: Option<&Roll>, now: Timestamp, every_s: u64, delay_s: u64) -> Option<(u64, u64)> {
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    let from = match last {
        Some(last) => last.until_s,
        None => (now / every_s).checked_sub(1)? * every_s,
    };
    // After a change of the period the next end is the next multiple of the new one.
    let until = (from / every_s + 1) * every_s;
    (until.saturating_add(delay_s) <= now).then_some((from, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    #[test]
    fn a_roll_is_due_some_time_after_its_period_and_the_next_follows_without_a_gap() {
        let at = |s: u64| Timestamp::from_second(i64::try_from(s).unwrap()).unwrap();
        assert_eq!(due(None, at(10 * DAY + 899), DAY, 900), None);
        let first = due(None, at(10 * DAY + 900), DAY, 900).unwrap();
        assert_eq!(first, (9 * DAY, 10 * DAY));
        let last = Roll {
            number: 1,
            from_s: first.0,
            until_s: first.1,
            previous: [0; 32],
            first: 1,
            requested: vec![],
            ended: vec![],
        };
        assert_eq!(due(Some(&last), at(11 * DAY + 899), DAY, 900), None);
        assert_eq!(
            due(Some(&last), at(15 * DAY), DAY, 900),
            Some((10 * DAY, 11 * DAY))
        );
    }
}
