//! What the rolls in the bucket say of requests. Pure; memory grows with the requests that they name.

use powerpole_chain::Roll;
use std::collections::BTreeMap;

/// The rolls, as far back as they were read.
#[derive(Debug, Default)]
pub(super) struct Known {
    last: Option<Roll>,
    numbers: BTreeMap<u64, String>,
    requests: BTreeMap<String, Named>,
}

#[derive(Debug)]
struct Named {
    n: u64,
    /// The roll that names its end.
    ended: Option<u64>,
}

impl Known {
    /// Takes the roll after the last.
    pub(super) fn take(&mut self, roll: Roll) {
        for (n, request) in (roll.first..).zip(&roll.requested) {
            self.numbers.entry(n).or_insert_with(|| request.clone());
            let named = Named { n, ended: None };
            self.requests.entry(request.clone()).or_insert(named);
        }
        for ended in &roll.ended {
            if let Some(named) = self.requests.get_mut(&ended.request) {
                named.ended.get_or_insert(roll.number);
            }
        }
        self.last = Some(roll);
    }

    /// The last roll.
    pub(super) fn last(&self) -> Option<&Roll> {
        self.last.as_ref()
    }

    /// The number of the first request that no roll names.
    pub(super) fn next_request(&self) -> u64 {
        self.last.as_ref().map_or(1, Roll::next_request)
    }

    /// The request that the rolls name under this number.
    pub(super) fn request(&self, n: u64) -> Option<&str> {
        self.numbers.get(&n).map(String::as_str)
    }

    /// The number under which the rolls name this request.
    pub(super) fn number(&self, request: &str) -> Option<u64> {
        self.requests.get(request).map(|named| named.n)
    }

    /// The roll that names the end of this request.
    pub(super) fn end_of(&self, request: &str) -> Option<u64> {
        self.requests.get(request).and_then(|named| named.ended)
    }

    /// Whether the rolls were read as far back as this number.
    pub(super) fn reaches(&self, n: u64) -> bool {
        self.numbers
            .first_key_value()
            .is_some_and(|(first, _)| *first <= n)
    }

    /// Requests whose end no roll names, with their numbers.
    pub(super) fn going_on(&self) -> impl Iterator<Item = (u64, &str)> {
        let going_on = self
            .requests
            .iter()
            .filter(|(_, named)| named.ended.is_none());
        going_on.map(|(request, named)| (named.n, request.as_str()))
    }
}
