//! How far this process has seen each request go. Nothing goes back in the ledger, so whatever stands there as less was put
//! back by somebody: an older copy of an item bears seals that hold.
//!
//! Each replica remembers for itself and forgets when it ends; what holds beyond that are EC2's client tokens
//! ([`crate::instances`]) and the times under the seals.

use crate::ledger::item::Item;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// So many requests are remembered, the youngest; some 100 bytes each.
const REMEMBERED: usize = 10_000;

/// Where a request stands, in the order in which it goes: the state's turn, the try, and the turn within it.
type Place = (u8, u32, u8);

/// What is remembered.
#[derive(Default)]
pub struct Furthest(Mutex<BTreeMap<RequestId, Place>>);

impl Furthest {
    /// Notes where a request stands. False when it stood further before: then it was put back, or this copy of the item is
    /// older than another that was read meanwhile, which a second look tells apart.
    #[must_use]
    pub fn note(&self, item: &Item) -> bool {
        let place = place(item);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(item.request.clone()).or_insert(place);
        let forward = place >= *known;
        *known = place.max(*known);
        if all.len() > REMEMBERED {
            all.pop_first();
        }
        forward
    }
}

fn place(item: &Item) -> Place {
    match item.state {
        State::Requested => (0, 0, 0),
        State::Approved => (1, 0, 0),
        State::Launching => (2, item.attempt.0, 0),
        State::Booting => (2, item.attempt.0, 1),
        State::Ready => (3, item.attempt.0, 0),
        State::Denied | State::Lapsed | State::Closed | State::Failed => (4, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::item;
    use powerpole_protocol::id::Attempt;

    fn at(state: State, attempt: u32) -> Item {
        Item {
            state,
            attempt: Attempt(attempt),
            ..item("alice@example.com", 1)
        }
    }

    #[test]
    fn every_step_that_the_ledger_takes_is_forward_and_none_back_is() {
        for from in State::ALL {
            for next in State::ALL {
                let again = (from, next) == (State::Launching, State::Launching)
                    || (from, next) == (State::Booting, State::Launching);
                let furthest = Furthest::default();
                assert!(furthest.note(&at(from, 1)));
                assert!(furthest.note(&at(from, 1)));
                let taken = furthest.note(&at(next, if again { 2 } else { 1 }));
                if from.may_become(next) {
                    assert!(taken, "{from} {next}");
                    let back = furthest.note(&at(from, 1));
                    assert!(!back, "{next} {from}");
                }
            }
        }
    }

    #[test]
    fn an_older_try_is_back_and_another_request_is_not() {
        let furthest = Furthest::default();
        assert!(furthest.note(&at(State::Launching, 2)));
        assert!(!furthest.note(&at(State::Booting, 1)));
        assert!(!furthest.note(&at(State::Booting, 1)));
        assert!(furthest.note(&item("bob@example.com", 2)));
        assert!(furthest.note(&at(State::Booting, 2)));
    }

    #[test]
    fn the_youngest_are_remembered() {
        let furthest = Furthest::default();
        for n in 0..=REMEMBERED as u64 {
            let mut one = at(State::Closed, 1);
            one.request = RequestId::from_parts(n, [1; 10]);
            assert!(furthest.note(&one));
        }
        let mut old = at(State::Approved, 0);
        old.request = RequestId::from_parts(0, [1; 10]);
        assert!(furthest.note(&old));
        old.request = RequestId::from_parts(REMEMBERED as u64, [1; 10]);
        assert!(!furthest.note(&old));
    }
}
