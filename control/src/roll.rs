//! The roll of requests: once a period, who asked and what became of it, into the evidence's bucket.
//!
//! Owns the decision what a roll names and the port to the bucket. Trusts the ledger's numbers. A roll is written
//! once; whichever replica is first wins, and the others go on from what it wrote. Control can add rolls and change
//! none: the bucket locks what is there.

use crate::ledger::item::Item;
use crate::ledger::{LedgerError, transitions as to};
use crate::service::Service;
use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use powerpole_chain::{Ended, FinalHead, Hash, MAX_ROLL_ENTRIES, Outcome, Roll};
use std::sync::{Mutex, PoisonError};

/// Rolls that one look writes at most; after a long pause the next look goes on.
const AT_ONCE: usize = 16;

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
    /// The last roll cannot be read, so none can follow it.
    #[error("{key} is not a roll; rolls stop until somebody has looked at it")]
    Unreadable {
        /// The object's key.
        key: String,
    },
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
            Self::Missing(_) => "roll_request_missing",
            Self::Ledger(error) => error.code(),
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
/// the caller asks `latest`. `latest` sees every roll that was kept before it was asked.
pub trait RollStore: Send + Sync {
    /// The roll with the highest number; none before the first. `after` is a number that is known to be there.
    fn latest(&self, after: u64) -> BoxFuture<'_, Result<Option<Roll>, RollError>>;
    /// Writes a roll unless one of its number exists.
    fn keep<'a>(&'a self, roll: &'a Roll) -> BoxFuture<'a, Result<Kept, RollError>>;
}

/// What this replica knows of the rolls; only saves calls.
#[derive(Debug, Default)]
pub struct RollMemory(Mutex<Option<Roll>>);

impl RollMemory {
    fn last(&self) -> Option<Roll> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn remember(&self, roll: &Roll) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(roll.clone());
    }

    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Writes the rolls that are due.
///
/// A crash after a roll was kept and before its ends were marked in the ledger is mended here: the last roll is read
/// again at the start, and its marks are made again, which is harmless.
pub async fn keep_up(service: &Service) {
    for _ in 0..AT_ONCE {
        match step(service).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                // Whether it was written is unknown: look again.
                service.roll_memory.forget();
                tracing::error!(code = error.code(), error = %error, "the roll of requests is not kept and will be tried again");
                return;
            }
        }
    }
}

/// Whether a roll was written, so that another may be due.
async fn step(service: &Service) -> Result<bool, RollError> {
    let last = match service.roll_memory.last() {
        Some(last) => Some(last),
        None => {
            let last = service.rolls.latest(0).await?;
            if let Some(last) = &last {
                mark(service, last).await?;
                service.roll_memory.remember(last);
            }
            last
        }
    };
    let times = &service.config.times;
    let now = service.clock.now();
    let Some((from_s, until_s)) = due(last.as_ref(), now, times.roll_every_s, times.roll_delay_s)
    else {
        return Ok(false);
    };
    let items = service.ledger.unrolled().await?;
    let roll = compose(last.as_ref(), from_s, until_s, items)?;
    match service.rolls.keep(&roll).await? {
        Kept::Ours => {
            tracing::info!(
                roll = roll.number,
                requested = roll.requested.len(),
                ended = roll.ended.len(),
                "a roll of requests is kept"
            );
            mark(service, &roll).await?;
            service.roll_memory.remember(&roll);
        }
        // Another replica's; what it says is read at the next look.
        Kept::Theirs => service.roll_memory.forget(),
    }
    Ok(true)
}

async fn mark(service: &Service, roll: &Roll) -> Result<(), LedgerError> {
    for ended in &roll.ended {
        let (Ok(request), Some(state)) = (
            ended.request.parse(),
            powerpole_protocol::ledger::State::parse(ended.outcome.word()),
        ) else {
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

/// What the roll of a period names: the requests that are new, by number and without a gap, and every end that no
/// earlier roll names.
fn compose(
    last: Option<&Roll>,
    from_s: u64,
    until_s: u64,
    mut items: Vec<Item>,
) -> Result<Roll, RollError> {
    items.sort_by_key(|item| item.number);
    let first = last.map_or(1, Roll::next_request);
    let mut next = first;
    let mut requested = Vec::new();
    for item in items.iter().filter(|item| item.number >= first) {
        let asked = u64::try_from(item.requested_at.as_second()).unwrap_or(0);
        if asked >= until_s || requested.len() == MAX_ROLL_ENTRIES {
            break;
        }
        // The index may lag behind, or an item was taken away: either way nothing may be skipped.
        if item.number != next {
            return Err(RollError::Missing(next));
        }
        requested.push(item.request.to_string());
        next += 1;
    }
    let named = |item: &Item| {
        last.is_some_and(|last| last.ended.iter().any(|ended| ended.n == item.number))
    };
    let ended = items
        .iter()
        .filter(|item| item.number < next && !named(item))
        .filter_map(end)
        .take(MAX_ROLL_ENTRIES)
        .collect();
    Ok(Roll {
        number: last.map_or(1, |last| last.number + 1),
        from_s,
        until_s,
        previous: last.map_or([0; 32], Roll::digest),
        first,
        requested,
        ended,
    })
}

/// The end of a request; none while it goes on.
fn end(item: &Item) -> Option<Ended> {
    let outcome = Outcome::of_word(item.state.as_str())?;
    let closing = item.closing.as_ref();
    let known = closing
        .and_then(|closing| closing.head.as_ref())
        .or(item.latest.as_ref());
    let head = known.and_then(|(seq, text)| {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(FinalHead {
            seq: *seq,
            head: Hash::try_from(bytes).ok()?,
            sealed: closing.is_some_and(|closing| closing.sealed),
        })
    });
    Some(Ended {
        n: item.number,
        request: item.request.to_string(),
        outcome,
        head,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::after;
    use crate::ledger::item::Closing;
    use crate::request::tests::{item, now};
    use powerpole_chain::RollCheck;
    use powerpole_protocol::ledger::State;

    const DAY: u64 = 86_400;

    fn numbered(n: u64, state: State) -> Item {
        let mut item = item("alice@example.com", u8::try_from(n).unwrap());
        item.number = n;
        item.state = state;
        item
    }

    fn closed(n: u64) -> Item {
        let mut item = numbered(n, State::Closed);
        item.closing = Some(Closing {
            at: now(),
            reason: "deadline".into(),
            sealed: true,
            account_gone: true,
            head: Some((41, "07".repeat(32))),
            sessions: 1,
            refused: 0,
            statements: 2,
            remarks: vec![],
        });
        item
    }

    fn midnight() -> u64 {
        u64::try_from(now().as_second()).unwrap() / DAY * DAY + DAY
    }

    #[test]
    fn a_roll_is_due_some_time_after_its_period_and_the_next_follows_without_a_gap() {
        let at = |s: u64| Timestamp::from_second(i64::try_from(s).unwrap()).unwrap();
        assert_eq!(due(None, at(10 * DAY + 899), DAY, 900), None);
        let first = due(None, at(10 * DAY + 900), DAY, 900).unwrap();
        assert_eq!(first, (9 * DAY, 10 * DAY));
        let last = compose(None, first.0, first.1, vec![]).unwrap();
        assert_eq!(due(Some(&last), at(11 * DAY + 899), DAY, 900), None);
        assert_eq!(
            due(Some(&last), at(15 * DAY), DAY, 900),
            Some((10 * DAY, 11 * DAY))
        );
    }

    #[test]
    fn rolls_name_every_request_and_every_end_once() {
        let until = midnight();
        let open = numbered(2, State::Ready);
        let late = Item {
            requested_at: after(now(), DAY),
            ..numbered(3, State::Requested)
        };
        let items = vec![late.clone(), open.clone(), closed(1)];
        let first = compose(None, until - DAY, until, items).unwrap();
        assert_eq!(
            (first.first, first.requested.len(), first.ended.len()),
            (1, 2, 1)
        );
        assert_eq!(first.ended[0].head.unwrap().head, [7; 32]);
        // The index still shows what the first roll named.
        let items = vec![closed(1), numbered(2, State::Failed), late];
        let second = compose(Some(&first), until, until + DAY, items).unwrap();
        let mut check = RollCheck::new();
        for roll in [&first, &second] {
            check.take(&Roll::parse(roll.to_json().as_bytes()).unwrap());
        }
        let report = check.finish();
        assert_eq!(report.findings, vec![]);
        let ends: Vec<bool> = report
            .requests
            .values()
            .map(|(_, end)| end.is_some())
            .collect();
        assert_eq!(ends, [true, true, false]);
    }

    #[test]
    fn a_number_without_an_item_stops_the_roll() {
        let until = midnight();
        let gap = compose(None, until - DAY, until, vec![closed(1), closed(3)]);
        assert!(matches!(gap, Err(RollError::Missing(2))));
    }
}
