//! Checking a row of rolls: nothing left out, nothing named twice. Pure; memory grows with the requests.

use std::collections::BTreeMap;

use super::{Ended, Roll};
use crate::digest::Hash;

/// What a contradiction broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollRule {
    /// Rolls are numbered from 1 without a gap.
    Number,
    /// A roll begins where the one before ended.
    Period,
    /// A roll names the digest of the one before.
    Previous,
    /// Requests are numbered without a gap.
    RequestNumber,
    /// A request is named once.
    RequestTwice,
    /// What ended was requested, under that number.
    EndedUnknown,
    /// A request ends once.
    EndedTwice,
}

impl RollRule {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            RollRule::Number => "roll-number",
            RollRule::Period => "roll-period",
            RollRule::Previous => "roll-previous",
            RollRule::RequestNumber => "request-number",
            RollRule::RequestTwice => "request-twice",
            RollRule::EndedUnknown => "ended-unknown",
            RollRule::EndedTwice => "ended-twice",
        }
    }
}

/// One contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollFinding {
    /// The roll.
    pub roll: u64,
    /// Which rule.
    pub rule: RollRule,
    /// For a person.
    pub detail: String,
}

/// What a row of rolls says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollReport {
    /// Rolls read.
    pub rolls: u64,
    /// Where the first period begins and the last one ends, unix seconds.
    pub period: Option<(u64, u64)>,
    /// Every request by number, with its end where there is one.
    pub requests: BTreeMap<u64, (String, Option<Ended>)>,
    /// Contradictions, in the order of the rolls.
    pub findings: Vec<RollFinding>,
}

/// Takes rolls by number and compares each with those before it.
#[derive(Debug, Default)]
pub struct RollCheck {
    report: RollReport,
    numbers: BTreeMap<String, u64>,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    number: u64,
    until_s: u64,
    digest: Hash,
    next_request: u64,
}

impl RollCheck {
    /// A check that has seen no roll.
    pub fn new() -> RollCheck {
        RollCheck::default()
    }

    /// The next roll by number. After a contradiction the check goes on from what this roll says.
    pub fn take(&mut self, roll: &Roll) {
        let start = Last {
            number: 0,
            until_s: roll.from_s,
            digest: [0; 32],
            next_request: 1,
        };
        let last = self.last.take().unwrap_or(start);
        if roll.number != last.number.saturating_add(1) {
            let detail = format!("roll {} follows roll {}", roll.number, last.number);
            self.find(roll, RollRule::Number, detail);
        }
        if roll.from_s != last.until_s {
            let detail = format!(
                "it begins at {}, the one before ended at {}",
                roll.from_s, last.until_s
            );
            self.find(roll, RollRule::Period, detail);
        }
        if roll.previous != last.digest {
            let detail = "it does not name the digest of the roll before it".to_owned();
            self.find(roll, RollRule::Previous, detail);
        }
        if roll.first != last.next_request {
            let detail = format!(
                "its first request is number {}, number {} comes next",
                roll.first, last.next_request
            );
            self.find(roll, RollRule::RequestNumber, detail);
        }
        for (n, request) in (roll.first..).zip(&roll.requested) {
            if let Some(known) = self.numbers.get(request) {
                let detail = format!("{request} is number {n} and number {known}");
                self.find(roll, RollRule::RequestTwice, detail);
                continue;
            }
            self.numbers.insert(request.clone(), n);
            self.report
                .requests
                .entry(n)
                .or_insert_with(|| (request.clone(), None));
        }
        for ended in &roll.ended {
            self.end(roll, ended);
        }
        self.report.rolls += 1;
        let from_s = self.report.period.map_or(roll.from_s, |(from, _)| from);
        self.report.period = Some((from_s, roll.until_s));
        self.last = Some(Last {
            number: roll.number,
            until_s: roll.until_s,
            digest: roll.digest(),
            next_request: roll.next_request(),
        });
    }

    fn end(&mut self, roll: &Roll, ended: &Ended) {
        let broken = match self.report.requests.get_mut(&ended.n) {
            Some((request, end)) if *request == ended.request => {
                let twice = end.is_some();
                end.get_or_insert_with(|| ended.clone());
                twice.then_some(RollRule::EndedTwice)
            }
            _ => Some(RollRule::EndedUnknown),
        };
        if let Some(rule) = broken {
            self.find(roll, rule, format!("number {}, {}", ended.n, ended.request));
        }
    }

    fn find(&mut self, roll: &Roll, rule: RollRule, detail: String) {
        self.report.findings.push(RollFinding {
            roll: roll.number,
            rule,
            detail,
        });
    }

    /// What they all say.
    pub fn finish(self) -> RollReport {
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Outcome, tests::first};
    use super::*;

    fn second() -> Roll {
        let first = first();
        Roll {
            number: 2,
            from_s: first.until_s,
            until_s: first.until_s + 86_400,
            previous: first.digest(),
            first: 3,
            requested: vec!["req-c".to_owned()],
            ended: vec![Ended {
                n: 2,
                request: "req-b".to_owned(),
                outcome: Outcome::Lapsed,
                head: None,
            }],
        }
    }

    fn rules(rolls: &[Roll]) -> Vec<RollRule> {
        let mut check = RollCheck::new();
        for roll in rolls {
            check.take(roll);
        }
        check.finish().findings.iter().map(|f| f.rule).collect()
    }

    #[test]
    fn a_row_without_a_gap_says_what_became_of_every_request() {
        let mut check = RollCheck::new();
        check.take(&first());
        check.take(&second());
        let report = check.finish();
        assert_eq!(report.findings, vec![]);
        assert_eq!(report.period, Some((86_400, 259_200)));
        let open: Vec<u64> = report
            .requests
            .iter()
            .filter(|(_, (_, end))| end.is_none())
            .map(|(n, _)| *n)
            .collect();
        assert_eq!((report.requests.len(), open), (3, vec![3]));
    }

    #[test]
    fn whatever_is_left_out_or_named_twice_shows() {
        let with = |change: fn(&mut Roll)| {
            let mut roll = second();
            change(&mut roll);
            vec![first(), roll]
        };
        for (expected, rolls) in [
            (
                vec![
                    RollRule::Number,
                    RollRule::Previous,
                    RollRule::RequestNumber,
                    RollRule::EndedUnknown,
                ],
                vec![second()],
            ),
            (vec![RollRule::Number], with(|r| r.number = 3)),
            (vec![RollRule::Period], with(|r| r.from_s += 1)),
            (vec![RollRule::Previous], with(|r| r.previous = [1; 32])),
            (vec![RollRule::RequestNumber], with(|r| r.first = 4)),
            (
                vec![RollRule::RequestTwice],
                with(|r| r.requested = vec!["req-a".to_owned()]),
            ),
            (vec![RollRule::EndedUnknown], with(|r| r.ended[0].n = 9)),
            (
                vec![RollRule::EndedUnknown],
                with(|r| r.ended[0].request = "req-x".to_owned()),
            ),
            (
                vec![RollRule::EndedTwice],
                with(|r| r.ended = first().ended),
            ),
        ] {
            assert_eq!(rules(&rolls), expected);
        }
        let mut changed = first();
        changed.requested.swap(0, 1);
        changed.ended.clear();
        assert_eq!(
            rules(&[changed, second()]),
            vec![RollRule::Previous, RollRule::EndedUnknown]
        );
    }
}
