//! The rolls of requests: read from their objects, checked as a row, compared with the ledger.

use std::collections::{BTreeMap, BTreeSet};

use powerpole_chain::{Ended, Roll, RollCheck, RollReport};
use serde::{Deserialize, Serialize};

use crate::{
    error::CheckError,
    ledger::Item,
    object::{ObjectVersion, first_versions, wrong},
    rolls_ledger::Ledger,
};

/// Where rolls lie in the bucket.
pub(crate) const FOLDER: &str = "rolls/";
/// Control writes a roll a day. When the last one's period ended longer ago than this, it has written none since.
const LATE_S: u64 = 2 * 86_400;

/// Whether an object of the folder is meant to be a roll, by its key alone.
fn is_roll_key(key: &str) -> bool {
    key.strip_prefix(FOLDER)
        .and_then(|name| name.strip_prefix("roll-")?.strip_suffix(".json"))
        .is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether an object is meant to be a roll: by its key, and written whole, as control writes them. What is written in
/// parts may come long after the time that it has.
pub(crate) fn is_roll(object: &ObjectVersion) -> bool {
    !object.in_parts && is_roll_key(&object.key)
}

/// How a foreign object is told.
fn foreign_name(object: &ObjectVersion) -> String {
    if is_roll_key(&object.key) {
        format!("{}, written in parts,", object.key)
    } else {
        object.key.clone()
    }
}

/// What lies among the rolls of a bucket, or in a file.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// By key; a body that cannot be read is empty.
    pub(crate) versions: Vec<ObjectVersion>,
    /// How many later versions there are; at least those that are here.
    pub(crate) later: u64,
    /// How many keys there are that are no roll's, or hold something in parts; at least those that are here.
    pub(crate) foreign: u64,
    /// There is more than was looked at, behind the last roll that was.
    pub(crate) cut: bool,
}

/// The last line of a file of rolls, where there is more than its other lines say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// [`Objects::cut`].
    rolls: bool,
    /// Later versions that have no line.
    later: u64,
    /// Keys of foreign objects that have none.
    foreign: u64,
}

/// A line of a file of rolls.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    /// An object.
    Version(ObjectVersion),
    /// What has none.
    LeftOut { left_out: LeftOut },
}

impl Objects {
    /// What lines of a file say.
    pub(crate) fn parse(text: &str) -> Result<Objects, CheckError> {
        let mut objects = Objects::default();
        let mut left_out = LeftOut::default();
        for (index, line) in text.lines().enumerate().filter(|(_, l)| !l.is_empty()) {
            let line = serde_json::from_str(line)
                .map_err(|error| wrong(&format!("in line {}", index + 1), &error.to_string()))?;
            match line {
                Line::Version(object) => objects.versions.push(object),
                Line::LeftOut { left_out: more } => {
                    left_out.rolls |= more.rolls;
                    left_out.later = left_out.later.saturating_add(more.later);
                    left_out.foreign = left_out.foreign.saturating_add(more.foreign);
                }
            }
        }
        let (later, foreign) = objects.here();
        objects.later = later.saturating_add(left_out.later);
        objects.foreign = foreign.saturating_add(left_out.foreign);
        objects.cut = left_out.rolls;
        Ok(objects)
    }

    /// As lines of a file that reads back as the same.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let (later, foreign) = self.here();
        let left_out = LeftOut {
            rolls: self.cut,
            later: self.later.saturating_sub(later),
            foreign: self.foreign.saturating_sub(foreign),
        };
        let last = (left_out != LeftOut::default()).then_some(Line::LeftOut { left_out });
        let versions = self.versions.iter();
        versions
            .map(|object| serde_json::json!(object).to_string())
            .chain(last.map(|line| serde_json::json!(line).to_string()))
    }

    /// How many later versions, and how many keys that are no roll's, are among the versions.
    fn here(&self) -> (u64, u64) {
        let (mut later, mut seen, mut foreign) = (0, BTreeSet::new(), BTreeSet::new());
        for object in &self.versions {
            if !is_roll(object) {
                foreign.insert(object.key.as_str());
            } else if !seen.insert(object.key.as_str()) {
                later += 1;
            }
        }
        (later, foreign.len() as u64)
    }

    /// Keeps what does not count, without its body, unless there are so many already.
    pub(crate) fn lay_aside(&mut self, object: ObjectVersion, most: usize) {
        if self.versions.len() < most {
            self.versions.push(object);
        }
    }
}

/// One contradiction among the rolls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The roll.
    pub(crate) roll: u64,
    /// Stable.
    pub(crate) rule: &'static str,
    /// For a person.
    pub(crate) detail: String,
}

/// What the rolls say, and what the ledger says against them.
pub(crate) struct Rolls {
    pub(crate) report: RollReport,
    /// Number by request.
    pub(crate) numbers: BTreeMap<String, u64>,
    /// Until when the roll goes that names the requests from this number on, unix seconds.
    named: BTreeMap<u64, u64>,
    /// The first roll that names an end, by the request's number.
    ended_in: BTreeMap<u64, u64>,
    /// What contradicts the rolls among themselves, by roll.
    pub(crate) findings: Vec<Found>,
    /// Later versions of a roll.
    pub(crate) overwritten: u64,
    /// Objects of the folder that are no rolls, the first of them: somebody wrote them, and they say nothing.
    pub(crate) foreign: Vec<String>,
    /// How many there are.
    pub(crate) foreigners: u64,
    /// What the comparison with the ledger found; none when it was not given.
    pub(crate) ledger: Option<Ledger>,
    /// How many seconds ago the last roll's period ended, where that is too long ago.
    pub(crate) late_s: Option<u64>,
}

impl Rolls {
    /// Reads every roll. One that cannot be read is a contradiction, and what the others say stays known. An object under
    /// a key that no roll has is foreign, and the others are judged without it.
    pub(crate) fn read(objects: Objects) -> Result<Rolls, CheckError> {
        let (versions, foreign): (Vec<_>, Vec<_>) = objects.versions.into_iter().partition(is_roll);
        let mut foreign: Vec<String> = foreign.iter().map(foreign_name).collect();
        foreign.sort();
        foreign.dedup();
        let (versions, later) = first_versions(versions)?;
        let mut check = RollCheck::new();
        let mut named = BTreeMap::new();
        let mut ended_in = BTreeMap::new();
        let mut findings = Vec::new();
        let mut last = 0;
        for object in versions {
            last = number_of(&object.key);
            let roll = match read(&object) {
                Ok(roll) => roll,
                Err(detail) => {
                    findings.push(Found {
                        roll: last,
                        rule: "roll-form",
                        detail,
                    });
                    continue;
                }
            };
            check.take(&roll);
            if !roll.requested.is_empty() {
                named.entry(roll.first).or_insert(roll.until_s);
            }
            for end in &roll.ended {
                ended_in.entry(end.n).or_insert(roll.number);
            }
        }
        if objects.cut {
            findings.push(Found {
                roll: last,
                rule: "rolls-cut",
                detail: "more lies behind it than rolls do: not all of it was looked at".to_owned(),
            });
        }
        let report = check.finish();
        findings.extend(report.findings.iter().map(|finding| Found {
            roll: finding.roll,
            rule: finding.rule.code(),
            detail: finding.detail.clone(),
        }));
        findings.sort_by_key(|finding| finding.roll);
        let numbers = report
            .requests
            .iter()
            .map(|(n, (request, _))| (request.clone(), *n))
            .collect();
        Ok(Rolls {
            report,
            numbers,
            named,
            ended_in,
            findings,
            overwritten: later.max(objects.later),
            foreigners: objects.foreign.max(foreign.len() as u64),
            foreign,
            ledger: None,
            late_s: None,
        })
    }

    /// Whether a roll names the request's end that nothing contradicts and that follows none that something does.
    pub(crate) fn ended_soundly(&self, n: u64) -> bool {
        let broken = self.findings.first().map_or(u64::MAX, |first| first.roll);
        self.ended_in.get(&n).is_some_and(|roll| *roll < broken)
    }

    /// Compares with every item of the ledger; `now_s` is a time before they were read.
    pub(crate) fn compare(&mut self, items: &[Item], now_s: u64) {
        self.ledger = Some(Ledger::compare(self, items, now_s));
    }

    /// Whether a roll should have followed the last one by now. For rolls that were just read from the bucket.
    pub(crate) fn judge_age(&mut self, now_s: u64) {
        let ago = self
            .report
            .period
            .map_or(0, |(_, until)| now_s.saturating_sub(until));
        self.late_s = (ago > LATE_S).then_some(ago);
    }

    /// Until when the last roll goes, unix seconds; 0 without a roll.
    pub(crate) fn until_s(&self) -> u64 {
        self.report.period.map_or(0, |(_, until)| until)
    }

    /// The verdict's word.
    pub(crate) fn verdict(&self) -> &'static str {
        let contradicted = !self.findings.is_empty()
            || self
                .ledger
                .as_ref()
                .is_some_and(|ledger| !ledger.findings.is_empty());
        if contradicted {
            "CONTRADICTED"
        } else if self.report.rolls == 0 {
            "NOTHING"
        } else if self.late_s.is_some() {
            "LATE"
        } else {
            "COMPLETE"
        }
    }

    /// 0 for COMPLETE alone; `strict` turns foreign objects into 1.
    pub(crate) fn exit_code(&self, strict: bool) -> u8 {
        let strange = strict && self.foreigners > 0;
        u8::from(self.verdict() != "COMPLETE" || strange)
    }

    /// Requests that no roll calls ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u64, &str)> {
        self.report
            .requests
            .iter()
            .filter(|(_, (_, end))| end.is_none())
            .map(|(n, (request, _))| (*n, request.as_str()))
    }

    /// Until when the first roll goes that names the request of this number, unix seconds; 0 where none does.
    pub(crate) fn named_s(&self, n: u64) -> u64 {
        let mut rolls = self.named.range(..=n);
        rolls.next_back().map_or(0, |(_, until)| *until)
    }

    /// The end of a request that the rolls name under this number.
    pub(crate) fn end(&self, n: u64) -> Option<&Ended> {
        self.report.requests.get(&n)?.1.as_ref()
    }
}

fn number_of(key: &str) -> u64 {
    let digits = key.trim_start_matches(|c: char| !c.is_ascii_digit());
    let digits = digits.trim_end_matches(".json");
    digits.parse().unwrap_or(u64::MAX)
}

/// The roll that belongs under the object's key, or why there is none.
fn read(object: &ObjectVersion) -> Result<Roll, String> {
    let roll = Roll::parse(object.body.as_bytes()).map_err(|error| error.to_string())?;
    if object.key != format!("{FOLDER}{}", roll.object_name()) {
        return Err("its body belongs under another key".to_owned());
    }
    Ok(roll)
}

/// What tests of the rolls begin with.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use powerpole_chain::{FinalHead, Outcome};

    /// The first roll, of the day that ends then: requests 1 and 2 were made, and 1 has ended.
    pub(crate) fn roll(until_s: u64) -> Roll {
        Roll {
            number: 1,
            from_s: until_s - 86_400,
            until_s,
            previous: [0; 32],
            first: 1,
            requested: vec!["req-a".to_owned(), "req-b".to_owned()],
            ended: vec![Ended {
                n: 1,
                request: "req-a".to_owned(),
                outcome: Outcome::Closed,
                head: Some(FinalHead {
                    seq: 4,
                    head: [7; 32],
                    sealed: true,
                }),
            }],
        }
    }

    /// The roll after that one, which goes until then and names nothing.
    pub(crate) fn next(last: &Roll, until_s: u64) -> Roll {
        Roll {
            number: last.number + 1,
            from_s: last.until_s,
            until_s,
            previous: last.digest(),
            first: last.next_request(),
            requested: vec![],
            ended: vec![],
        }
    }

    /// What these objects say.
    pub(crate) fn read(versions: Vec<ObjectVersion>) -> Rolls {
        Rolls::read(Objects {
            versions,
            ..Objects::default()
        })
        .unwrap()
    }

    /// As it lies in the bucket.
    pub(crate) fn object(roll: &Roll) -> ObjectVersion {
        ObjectVersion {
            key: format!("{FOLDER}{}", roll.object_name()),
            version_id: "1".to_owned(),
            last_modified: "2026-01-02T00:15:00Z".to_owned(),
            in_parts: false,
            body: roll.to_json(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{object, read};
    use super::*;

    fn roll() -> Roll {
        fixtures::roll(86_400)
    }

    #[test]
    fn nothing_at_all_is_not_complete_and_a_later_version_says_nothing() {
        let nothing = read(vec![]);
        assert_eq!(
            (nothing.verdict(), nothing.exit_code(false)),
            ("NOTHING", 1)
        );
        let mut second = object(&Roll {
            requested: vec![],
            ended: vec![],
            ..roll()
        });
        second.last_modified = "2026-01-03T00:00:00Z".to_owned();
        let rolls = read(vec![second, object(&roll())]);
        assert_eq!((rolls.verdict(), rolls.overwritten), ("COMPLETE", 1));
        assert_eq!(rolls.open().collect::<Vec<_>>(), [(2, "req-b")]);
    }

    #[test]
    fn what_stands_at_a_roll_s_name_and_is_none_is_a_contradiction_and_what_came_before_is_known() {
        let second = fixtures::next(&roll(), 2 * 86_400);
        let mut moved = object(&roll());
        moved.key = "rolls/roll-00000000000000000002.json".to_owned();
        let mut empty = object(&second);
        empty.body = String::new();
        for none in [moved, empty] {
            let rolls = read(vec![none, object(&roll())]);
            assert_eq!(
                (rolls.verdict(), rolls.exit_code(false)),
                ("CONTRADICTED", 1)
            );
            let found = &rolls.findings[0];
            assert_eq!((found.roll, found.rule), (2, "roll-form"));
            assert!(rolls.ended_soundly(1) && !rolls.ended_soundly(2));
        }
        let mut torn = object(&roll());
        torn.body = "x".to_owned();
        let rolls = read(vec![torn, object(&second)]);
        assert_eq!(rolls.findings[0].rule, "roll-form");
        assert!(rolls.findings.len() > 1 && !rolls.ended_soundly(1));
        let cut = Rolls::read(Objects {
            versions: vec![object(&roll())],
            cut: true,
            ..Objects::default()
        });
        let cut = cut.unwrap();
        assert_eq!(
            (cut.verdict(), cut.findings[0].rule),
            ("CONTRADICTED", "rolls-cut")
        );
    }

    #[test]
    fn a_file_of_rolls_reads_back_as_what_was_in_the_bucket() {
        let mut foreign = object(&roll());
        foreign.key = "rolls/zzz".to_owned();
        let all = |versions, cut| Objects {
            versions,
            later: 1500,
            foreign: 1200,
            cut,
        };
        for (objects, verdict) in [
            (
                all(vec![object(&roll()), object(&roll()), foreign], true),
                "CONTRADICTED",
            ),
            (all(vec![object(&roll())], false), "COMPLETE"),
            (all(vec![], true), "CONTRADICTED"),
        ] {
            let text: Vec<String> = objects.lines().collect();
            let again = Objects::parse(&text.join("\n")).unwrap();
            assert_eq!(
                (again.later, again.foreign, again.cut),
                (objects.later, objects.foreign, objects.cut)
            );
            let rolls = Rolls::read(again).unwrap();
            assert_eq!((rolls.verdict(), rolls.exit_code(true)), (verdict, 1));
            assert_eq!((rolls.overwritten, rolls.foreigners), (1500, 1200));
        }
        let whole = Objects {
            versions: vec![object(&roll())],
            ..Objects::default()
        };
        assert!(whole.lines().all(|line| !line.contains("left_out")));
    }

    #[test]
    fn a_foreign_object_is_told_and_the_rolls_are_judged() {
        for key in [
            "rolls/zzz",
            "rolls/roll-1.json",
            "rolls/",
            "rolls/x/roll-00000000000000000002.json",
        ] {
            let mut foreign = object(&roll());
            foreign.key = key.to_owned();
            foreign.body = "not a roll".to_owned();
            let rolls = read(vec![foreign.clone(), foreign, object(&roll())]);
            assert_eq!(
                (rolls.verdict(), rolls.overwritten),
                ("COMPLETE", 0),
                "{key}"
            );
            assert_eq!(rolls.foreign, [key]);
            assert_eq!((rolls.exit_code(false), rolls.exit_code(true)), (0, 1));
        }
    }

    /// Begun before the true one and completed after it.
    #[test]
    fn what_was_written_in_parts_takes_no_roll_s_place() {
        let mut parts = object(&roll());
        parts.in_parts = true;
        parts.last_modified = "2026-01-01T00:00:00Z".to_owned();
        parts.body = "x".to_owned();
        let rolls = read(vec![parts, object(&roll())]);
        assert_eq!((rolls.verdict(), rolls.overwritten), ("COMPLETE", 0));
        assert!(rolls.foreign[0].ends_with("01.json, written in parts,"));
        assert_eq!((rolls.foreigners, rolls.exit_code(true)), (1, 1));
    }

    #[test]
    fn a_roll_that_none_followed_for_two_days_is_late() {
        let mut rolls = read(vec![object(&roll())]);
        rolls.judge_age(86_400 * 3);
        assert_eq!((rolls.verdict(), rolls.exit_code(false)), ("COMPLETE", 0));
        rolls.judge_age(86_400 * 3 + 1);
        assert_eq!((rolls.verdict(), rolls.exit_code(false)), ("LATE", 1));
    }

    #[test]
    fn a_request_is_named_until_the_end_of_its_own_roll() {
        let second = Roll {
            requested: vec!["req-c".to_owned()],
            ..fixtures::next(&roll(), 2 * 86_400)
        };
        let third = fixtures::next(&second, 9 * 86_400);
        let rolls = read([&roll(), &second, &third].map(object).into());
        assert_eq!(rolls.report.findings, []);
        assert_eq!(
            [1, 2, 3].map(|n| rolls.named_s(n)),
            [86_400, 86_400, 172_800]
        );
        assert_eq!(read(vec![]).named_s(1), 0);
    }
}
