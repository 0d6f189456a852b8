//! The rolls of requests: read from their objects, checked as a row, compared with the ledger.

use powerpole_chain::{Ended, Roll, RollCheck, RollReport};
use powerpole_protocol::ledger::attribute;
use std::collections::BTreeMap;

use crate::{
    error::CheckError,
    ledger::Item,
    object::{ObjectVersion, first_versions, wrong},
};

/// Where rolls lie in the bucket.
pub(crate) const FOLDER: &str = "rolls/";

/// What the rolls say, and what the ledger says against them.
pub(crate) struct Rolls {
    pub(crate) report: RollReport,
    /// Later versions of a roll.
    pub(crate) overwritten: u64,
    /// Contradictions with the ledger; none was looked for when it was not given.
    pub(crate) ledger: Option<Vec<LedgerFinding>>,
}

/// One contradiction between rolls and ledger.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LedgerFinding {
    pub(crate) rule: &'static str,
    pub(crate) n: u64,
    pub(crate) detail: String,
}

impl Rolls {
    /// Reads every roll. One that cannot be read stops the check: it could be the one that names what is missed.
    pub(crate) fn read(objects: Vec<ObjectVersion>) -> Result<Rolls, CheckError> {
        let (objects, overwritten) = first_versions(objects)?;
        let mut check = RollCheck::new();
        for object in &objects {
            let roll = Roll::parse(object.body.as_bytes())
                .map_err(|error| wrong(&object.key, &error.to_string()))?;
            if object.key != format!("{FOLDER}{}", roll.object_name()) {
                return Err(wrong(&object.key, "its body belongs under another key"));
            }
            check.take(&roll);
        }
        Ok(Rolls {
            report: check.finish(),
            overwritten,
            ledger: None,
        })
    }

    /// Compares with every item of the ledger.
    pub(crate) fn compare(&mut self, items: &[Item]) {
        let mut findings = Vec::new();
        let by_request: BTreeMap<String, &Item> = items
            .iter()
            .filter_map(|item| Some((item.text(attribute::REQUEST)?, item)))
            .collect();
        for (&n, (request, end)) in &self.report.requests {
            let mut find = |rule, detail: String| findings.push(LedgerFinding { rule, n, detail });
            let Some(item) = by_request.get(request) else {
                find(
                    "ledger-lacks",
                    format!("{request} is in a roll and not in the ledger"),
                );
                continue;
            };
            if item.number(attribute::NUMBER) != Some(n) {
                find(
                    "ledger-number",
                    format!("{request} has another number in the ledger"),
                );
            }
            if let Some(end) = end
                && let Some(detail) = differs(end, item)
            {
                find("ledger-differs", format!("{request}: {detail}"));
            }
        }
        let known = self.report.requests.keys().last().copied().unwrap_or(0);
        for (request, item) in &by_request {
            let n = item.number(attribute::NUMBER).unwrap_or(0);
            let named = self
                .report
                .requests
                .get(&n)
                .is_some_and(|(named, _)| named == request);
            // What came after the last roll is for the next one to name.
            if n <= known && !named {
                findings.push(LedgerFinding {
                    rule: "roll-lacks",
                    n,
                    detail: format!("{request} is in the ledger and in no roll"),
                });
            }
        }
        self.ledger = Some(findings);
    }

    /// The verdict's word.
    pub(crate) fn verdict(&self) -> &'static str {
        let contradicted =
            !self.report.findings.is_empty() || self.ledger.as_ref().is_some_and(|f| !f.is_empty());
        if contradicted {
            "CONTRADICTED"
        } else if self.report.rolls == 0 {
            "NOTHING"
        } else {
            "COMPLETE"
        }
    }

    /// 0 for COMPLETE alone.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::from(self.verdict() != "COMPLETE")
    }

    /// Requests that no roll calls ended.
    pub(crate) fn open(&self) -> impl Iterator<Item = (u64, &str)> {
        self.report
            .requests
            .iter()
            .filter(|(_, (_, end))| end.is_none())
            .map(|(n, (request, _))| (*n, request.as_str()))
    }
}

/// In what the ledger's end is another one.
fn differs(end: &Ended, item: &Item) -> Option<&'static str> {
    if item.text(attribute::STATE).as_deref() != Some(end.outcome.word()) {
        return Some("it ended in another way");
    }
    let Some(head) = end.head else {
        let none = item.text(attribute::FINAL_HEAD).is_none();
        return (!none).then_some("the ledger has a final head, the roll has none");
    };
    // A bastion that was lost has no final head; the roll then names the latest.
    let (seq, text) = match item.number(attribute::FINAL_SEQ) {
        Some(seq) => (Some(seq), item.text(attribute::FINAL_HEAD)),
        None => (
            item.number(attribute::LATEST_SEQ),
            item.text(attribute::LATEST_HEAD),
        ),
    };
    let same = seq == Some(head.seq) && text == Some(data_encoding::HEXLOWER.encode(&head.head));
    if !same {
        return Some("it has another head");
    }
    let sealed = item.flag(attribute::SEALED).unwrap_or(false);
    (sealed != head.sealed).then_some("one says sealed and the other does not")
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_chain::{FinalHead, Outcome};

    fn object(roll: &Roll) -> ObjectVersion {
        ObjectVersion {
            key: format!("rolls/{}", roll.object_name()),
            version_id: "1".to_owned(),
            last_modified: "2026-01-02T00:15:00Z".to_owned(),
            body: roll.to_json(),
        }
    }

    fn roll() -> Roll {
        Roll {
            number: 1,
            from_s: 0,
            until_s: 86_400,
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

    fn item(text: &str) -> Item {
        Item::parse("x", text.as_bytes()).unwrap()
    }

    fn closed(head: &str) -> Item {
        item(&format!(
            r#"{{"request":{{"S":"req-a"}},"number":{{"N":"1"}},"state":{{"S":"CLOSED"}},
                "final_seq":{{"N":"4"}},"final_head":{{"S":"{head}"}},"sealed":{{"BOOL":true}}}}"#
        ))
    }

    fn open(request: &str, n: u64) -> Item {
        item(&format!(
            r#"{{"request":{{"S":"{request}"}},"number":{{"N":"{n}"}},"state":{{"S":"READY"}}}}"#
        ))
    }

    fn rules(items: &[Item]) -> Vec<&'static str> {
        let mut rolls = Rolls::read(vec![object(&roll())]).unwrap();
        rolls.compare(items);
        rolls.ledger.unwrap().iter().map(|f| f.rule).collect()
    }

    #[test]
    fn a_ledger_that_agrees_is_complete_and_every_difference_has_its_rule() {
        let good = closed(&"07".repeat(32));
        let later = open("req-c", 3);
        let agreed = [good.clone(), open("req-b", 2), later];
        assert_eq!(rules(&agreed), Vec::<&str>::new());
        assert_eq!(rules(&agreed[..1]), ["ledger-lacks"]);
        assert_eq!(
            rules(&[closed(&"08".repeat(32)), open("req-b", 2)]),
            ["ledger-differs"]
        );
        assert_eq!(
            rules(&[open("req-a", 1), open("req-b", 2)]),
            ["ledger-differs"]
        );
        let renumbered = [good.clone(), open("req-b", 5)];
        assert_eq!(rules(&renumbered), ["ledger-number"]);
        let smuggled = [good, open("req-b", 2), open("req-x", 2)];
        assert_eq!(rules(&smuggled), ["roll-lacks"]);
    }

    #[test]
    fn nothing_at_all_is_not_complete_and_a_later_version_says_nothing() {
        let nothing = Rolls::read(vec![]).unwrap();
        assert_eq!((nothing.verdict(), nothing.exit_code()), ("NOTHING", 1));
        let mut second = object(&Roll {
            requested: vec![],
            ended: vec![],
            ..roll()
        });
        second.last_modified = "2026-01-03T00:00:00Z".to_owned();
        let rolls = Rolls::read(vec![second, object(&roll())]).unwrap();
        assert_eq!((rolls.verdict(), rolls.overwritten), ("COMPLETE", 1));
        assert_eq!(rolls.open().collect::<Vec<_>>(), [(2, "req-b")]);
    }

    #[test]
    fn a_roll_under_another_name_stops_the_check() {
        let mut moved = object(&roll());
        moved.key = "rolls/roll-00000000000000000002.json".to_owned();
        assert!(Rolls::read(vec![moved]).is_err());
    }
}
