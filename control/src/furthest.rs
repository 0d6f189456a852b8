//! How far this process has seen each request go. Nothing goes back in the ledger, so whatever stands there as less was put
//! back by somebody: an older copy of an item bears seals that hold.
//!
//! Each replica remembers for itself and forgets when it ends; what holds beyond that are EC2's client tokens
//! ([`crate::instances`]) and the times under the seals.

use crate::ledger::item::Item;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// So many requests are remembered, the youngest; some 100 bytes each.
const REMEMBERED: usize = 10_000;

/// Where a request stands, in the order in which it goes: the state's turn, the try, and the turn within it.
type Place = (u8, u32, u8);

/// What is remembered.
#[derive(Default)]
pub struct Furthest {
    places: Mutex<BTreeMap<RequestId, Place>>,
    told: Mutex<BTreeSet<(RequestId, &'static str)>>,
}

impl Furthest {
    /// Notes where a request stands. False when it stood further before: then it was put back, or this copy of the item is
    /// older than another that was read meanwhile, which a second look tells apart. A request is remembered once a seal of
    /// control's held for its id: ids that others make up push no real one out.
    #[must_use]
    pub fn note(&self, item: &Item, sealed: bool) -> bool {
        let place = place(item);
        let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get_mut(&item.request) {
            let forward = place >= *known;
            *known = place.max(*known);
            return forward;
        }
        if sealed {
            all.insert(item.request.clone(), place);
            if all.len() > REMEMBERED {
                all.pop_first();
            }
        }
        true
    }

    /// Whether this was not told of a request yet. Of very many, some are told again.
    #[must_use]
    pub fn first(&self, request: &RequestId, code: &'static str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.insert((request.clone(), code));
        if told.len() > REMEMBERED {
            told.pop_first();
        }
        first
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
                assert!(furthest.note(&at(from, 1), true));
                assert!(furthest.note(&at(from, 1), true));
                let taken = furthest.note(&at(next, if again { 2 } else { 1 }), true);
                if from.may_become(next) {
                    assert!(taken, "{from} {next}");
                    let back = furthest.note(&at(from, 1), true);
                    assert!(!back, "{next} {from}");
                }
            }
        }
    }

    #[test]
    fn an_older_try_is_back_and_another_request_is_not() {
        let furthest = Furthest::default();
        assert!(furthest.note(&at(State::Launching, 2), true));
        assert!(!furthest.note(&at(State::Booting, 1), true));
        assert!(!furthest.note(&at(State::Booting, 1), true));
        assert!(furthest.note(&item("bob@example.com", 2), true));
        assert!(furthest.note(&at(State::Booting, 2), true));
    }

    #[test]
    fn ids_that_were_made_up_push_none_out_and_hide_no_step_back() {
        let furthest = Furthest::default();
        let real = at(State::Ready, 1);
        assert!(furthest.note(&real, true));
        for n in 0..=REMEMBERED as u64 {
            let mut one = at(State::Closed, 1);
            one.request = RequestId::from_parts(1 << 40 | n, [1; 10]);
            assert!(furthest.note(&one, false));
        }
        // Once it is known, its seals are not asked for any more.
        assert!(!furthest.note(&at(State::Approved, 0), false));
        assert!(!furthest.note(&at(State::Approved, 0), true));
    }

    #[test]
    fn a_thing_is_told_once_of_each_request() {
        let furthest = Furthest::default();
        let (one, other) = (
            RequestId::from_parts(1, [1; 10]),
            RequestId::from_parts(2, [1; 10]),
        );
        assert!(
            furthest.first(&one, "a") && furthest.first(&one, "b") && furthest.first(&other, "a")
        );
        assert!(!furthest.first(&one, "a"));
    }

    #[test]
    fn the_youngest_are_remembered() {
        let furthest = Furthest::default();
        for n in 0..=REMEMBERED as u64 {
            let mut one = at(State::Closed, 1);
            one.request = RequestId::from_parts(n, [1; 10]);
            assert!(furthest.note(&one, true));
        }
        let mut old = at(State::Approved, 0);
        old.request = RequestId::from_parts(0, [1; 10]);
        assert!(furthest.note(&old, true));
        old.request = RequestId::from_parts(REMEMBERED as u64, [1; 10]);
        assert!(!furthest.note(&old, true));
    }
}
