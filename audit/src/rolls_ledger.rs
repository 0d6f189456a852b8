//! The comparison of the rolls with the ledger (docs/chain-format.md §13): what a roll names has to be in the ledger as
//! the roll says it, and what is in the ledger for longer than a roll takes has to be in a roll.
//!
//! Trusts no time of the ledger further than that: a time that would put an item beyond every roll is a contradiction.

use powerpole_chain::Ended;
use powerpole_protocol::ledger::{State, attribute};
use std::collections::{BTreeMap, BTreeSet};

use crate::{ledger::Item, rolls::Rolls};

/// The clocks of control's replicas and of whoever asks differ by less.
pub(crate) const SKEW_S: u64 = 300;
/// No request goes on for so long. By control's own times it waits a day for an approver or, approved, a week for its
/// start, then has two tries of ten minutes and a window of eight hours, and is closed minutes after that.
const LONGEST_S: u64 = 31 * 86_400;

/// What a comparison found.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Contradictions.
    pub(crate) findings: Vec<LedgerFinding>,
    /// Items that were asked for after the last roll: the next one has to name them.
    pub(crate) younger: u64,
}

/// One contradiction between rolls and ledger.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LedgerFinding {
    pub(crate) rule: &'static str,
    pub(crate) n: u64,
    pub(crate) detail: String,
}

/// What one item contradicts, or that it is younger than the rolls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// A roll names it.
    Named(Vec<LedgerFinding>),
    /// No roll names it, and one should.
    Missed(LedgerFinding),
    /// No roll can name it yet.
    Younger,
}

impl Ledger {
    /// Compares every item; `now_s` is a time before they were read.
    pub(crate) fn compare(rolls: &Rolls, items: &[Item], now_s: u64) -> Ledger {
        let mut ledger = Ledger::default();
        let by_request: BTreeMap<String, &Item> = items
            .iter()
            .filter_map(|item| Some((item.text(attribute::REQUEST)?, item)))
            .collect();
        for (&n, (request, _)) in &rolls.report.requests {
            if !by_request.contains_key(request) {
                ledger.find(
                    "ledger-lacks",
                    n,
                    format!("{request} is in a roll and not in the ledger"),
                );
            }
        }
        for item in by_request.values() {
            match judge(rolls, item, now_s) {
                Judged::Named(findings) => ledger.findings.extend(findings),
                Judged::Missed(finding) => ledger.findings.push(finding),
                Judged::Younger => ledger.younger += 1,
            }
        }
        ledger.numbers(rolls, &by_request, now_s);
        ledger.findings.sort_by_key(|finding| finding.n);
        ledger
    }

    /// Numbers go on after the last roll without a gap and without a double: control gives number and item in one
    /// transaction, so that what is missing was taken away.
    fn numbers(&mut self, rolls: &Rolls, items: &BTreeMap<String, &Item>, now_s: u64) {
        let known = last_number(rolls);
        let mut seen = BTreeSet::new();
        let mut settled = known;
        for (request, item) in items {
            let n = item.number(attribute::NUMBER).unwrap_or(0);
            if n <= known || rolls.numbers.contains_key(request) {
                continue;
            }
            if !seen.insert(n) {
                self.find(
                    "ledger-number",
                    n,
                    format!("{request} has another's number"),
                );
            }
            // Items that are made while the ledger is read may be seen without the ones before them.
            if asked_s(item).is_some_and(|asked| asked.saturating_add(SKEW_S) < now_s) {
                settled = settled.max(n);
            }
        }
        let mut next = known.saturating_add(1);
        for n in seen.range(..=settled) {
            if *n > next {
                let detail = format!("no item has number {next} to {}", n - 1);
                self.find("ledger-lacks", next, detail);
            }
            next = n.saturating_add(1);
        }
    }

    fn find(&mut self, rule: &'static str, n: u64, detail: String) {
        self.findings.push(LedgerFinding { rule, n, detail });
    }
}

/// Compares one item with the rolls.
pub(crate) fn judge(rolls: &Rolls, item: &Item, now_s: u64) -> Judged {
    let request = item.text(attribute::REQUEST).unwrap_or_default();
    match rolls.numbers.get(&request) {
        Some(n) => Judged::Named(named(rolls, &request, *n, item, now_s)),
        None => unnamed(rolls, &request, item, now_s),
    }
}

fn last_number(rolls: &Rolls) -> u64 {
    rolls.report.requests.keys().last().copied().unwrap_or(0)
}

fn named(rolls: &Rolls, request: &str, n: u64, item: &Item, now_s: u64) -> Vec<LedgerFinding> {
    let mut findings = Vec::new();
    let mut find = |rule, detail: String| findings.push(LedgerFinding { rule, n, detail });
    if item.number(attribute::NUMBER) != Some(n) {
        find(
            "ledger-number",
            format!("{request} has another number in the ledger"),
        );
    }
    match rolls.end(n) {
        Some(end) => {
            if let Some(detail) = differs(end, item) {
                find("ledger-differs", format!("{request}: {detail}"));
            }
        }
        None => {
            let missed = end_missed(rolls.until_s(), item, now_s);
            if let Some((rule, detail)) = missed.or_else(|| goes_on_too_long(rolls, n)) {
                find(rule, format!("{request} {detail}"));
            }
        }
    }
    findings
}

/// No roll names the request. What was asked for before the last roll's end should be there, and a time that lies
/// ahead, or none, would keep an item out of every roll.
fn unnamed(rolls: &Rolls, request: &str, item: &Item, now_s: u64) -> Judged {
    let n = item.number(attribute::NUMBER).unwrap_or(0);
    let missed = |rule, detail: &str| {
        let detail = format!("{request} {detail}");
        Judged::Missed(LedgerFinding { rule, n, detail })
    };
    if n <= last_number(rolls) {
        return missed("roll-lacks", "is in the ledger and in no roll");
    }
    let Some(asked) = asked_s(item) else {
        return missed("ledger-time", "is in no roll and says not when it was made");
    };
    if asked > now_s.saturating_add(SKEW_S) {
        return missed("ledger-time", "is in no roll and was made in the future");
    }
    if asked.saturating_add(SKEW_S) < rolls.until_s() {
        return missed("roll-lacks", "was made before the last roll and is in none");
    }
    Judged::Younger
}

/// Whether the rolls alone say that a request should have ended: whatever the ledger says of its state and times.
fn goes_on_too_long(rolls: &Rolls, n: u64) -> Option<(&'static str, String)> {
    let named = rolls.named_s(n);
    (named.saturating_add(LONGEST_S) < rolls.until_s()).then(|| {
        let days = LONGEST_S / 86_400;
        let detail = format!("was named by a roll more than {days} days before the last one, and none says how it ended");
        ("roll-lacks-end", detail)
    })
}

/// Whether an item that the rolls know as open has an end that one of them should name.
fn end_missed(until_s: u64, item: &Item, now_s: u64) -> Option<(&'static str, String)> {
    let word = item.text(attribute::STATE).unwrap_or_default();
    let Some(state) = State::parse(&word) else {
        return Some(("ledger-differs", format!("has the state {word:?}")));
    };
    let (needed, ended) = match state {
        State::Denied => (Some(attribute::DENIED_AT), None),
        State::Closed => (Some(attribute::CLOSED_AT), None),
        State::Failed => (
            None,
            [attribute::CLOSED_AT, attribute::TERMINATED_AT]
                .into_iter()
                .filter_map(|name| time_s(item, name))
                .max(),
        ),
        State::Lapsed => (None, None),
        State::Requested | State::Approved | State::Launching | State::Booting | State::Ready => {
            return None;
        }
    };
    let ended = needed.map_or(ended, |name| time_s(item, name));
    let missed = ("roll-lacks-end", format!("is {word}, and no roll says so"));
    match (ended, needed) {
        (None, Some(name)) => Some(("ledger-time", format!("is {word} and has no {name}"))),
        (Some(ended), _) if ended > now_s.saturating_add(SKEW_S) => {
            Some(("ledger-time", format!("is {word} since a time to come")))
        }
        (Some(ended), _) => (ended.saturating_add(SKEW_S) < until_s).then_some(missed),
        (None, None) => (last_noted_s(item).saturating_add(LONGEST_S) < until_s).then_some(missed),
    }
}

/// The latest time that the item has, its wanted start included.
fn last_noted_s(item: &Item) -> u64 {
    [
        attribute::REQUESTED_AT,
        attribute::START_AT,
        attribute::APPROVED_AT,
        attribute::LAUNCHED_AT,
        attribute::HELLO_AT,
    ]
    .into_iter()
    .filter_map(|name| time_s(item, name))
    .max()
    .unwrap_or(0)
}

fn asked_s(item: &Item) -> Option<u64> {
    time_s(item, attribute::REQUESTED_AT)
}

fn time_s(item: &Item, name: &str) -> Option<u64> {
    let time: jiff::Timestamp = item.text(name)?.parse().ok()?;
    u64::try_from(time.as_second()).ok()
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
    use crate::rolls::{Rolls, fixtures};

    /// The last roll's end, and a quarter of an hour later.
    const UNTIL: u64 = 100 * 86_400;
    const NOW: u64 = UNTIL + 900;

    /// Requests 1 and 2 were made on the last day; 1 has ended.
    fn rolls() -> Rolls {
        fixtures::read(vec![fixtures::object(&fixtures::roll(UNTIL))])
    }

    fn time(s: u64) -> String {
        jiff::Timestamp::from_second(i64::try_from(s).unwrap())
            .unwrap()
            .to_string()
    }

    /// An item that was made at that time, with what else it says.
    fn item(request: &str, n: u64, made_s: u64, more: &str) -> Item {
        let made = time(made_s);
        let text = format!(
            r#"{{"request":{{"S":"{request}"}},"number":{{"N":"{n}"}},"requested_at":{{"S":"{made}"}}{more}}}"#
        );
        Item::parse("x", text.as_bytes()).unwrap()
    }

    const OPEN: &str = r#","state":{"S":"READY"}"#;

    fn at(state: &str, name: &str, s: u64) -> String {
        let time = time(s);
        format!(r#","state":{{"S":"{state}"}},"{name}":{{"S":"{time}"}}"#)
    }

    fn closed_with(head: &str) -> Item {
        let end = format!(
            r#","state":{{"S":"CLOSED"}},"final_seq":{{"N":"4"}},"final_head":{{"S":"{head}"}},"sealed":{{"BOOL":true}}"#
        );
        item("req-a", 1, UNTIL - 7200, &end)
    }

    fn first() -> Item {
        closed_with(&"07".repeat(32))
    }

    fn second(more: &str) -> Item {
        item("req-b", 2, UNTIL - 3600, more)
    }

    fn said(items: &[Item]) -> (Vec<&'static str>, u64) {
        let ledger = Ledger::compare(&rolls(), items, NOW);
        let rules = ledger.findings.iter().map(|finding| finding.rule).collect();
        (rules, ledger.younger)
    }

    fn rules(items: &[Item]) -> Vec<&'static str> {
        said(items).0
    }

    #[test]
    fn a_ledger_that_agrees_is_complete_and_every_difference_has_its_rule() {
        let younger = item("req-c", 3, UNTIL + 60, OPEN);
        let agreed = [first(), second(OPEN), younger];
        assert_eq!(said(&agreed), (vec![], 1));
        assert_eq!(rules(&agreed[..1]), ["ledger-lacks"]);
        let other = closed_with(&"08".repeat(32));
        assert_eq!(rules(&[other, second(OPEN)]), ["ledger-differs"]);
        let open = item("req-a", 1, UNTIL - 7200, OPEN);
        assert_eq!(rules(&[open, second(OPEN)]), ["ledger-differs"]);
        let renumbered = [first(), item("req-b", 5, UNTIL - 3600, OPEN)];
        assert_eq!(rules(&renumbered), ["ledger-number"]);
        let smuggled = [first(), second(OPEN), item("req-x", 2, UNTIL - 60, OPEN)];
        assert_eq!(rules(&smuggled), ["roll-lacks"]);
    }

    #[test]
    fn an_item_that_control_s_rolls_stop_at_is_missed_and_so_is_what_lies_behind_it() {
        // The time of request 3 lies in the year 9000: control's roll ends before it, silently, day after day.
        let ahead = item(
            "req-c",
            3,
            221_845_392_000,
            &at("CLOSED", "closed_at", UNTIL - 3000),
        );
        let behind = item(
            "req-d",
            4,
            UNTIL - 3500,
            &at("CLOSED", "closed_at", UNTIL - 3000),
        );
        let items = [first(), second(OPEN), ahead, behind];
        assert_eq!(rules(&items), ["ledger-time", "roll-lacks"]);
        let timeless = r#"{"request":{"S":"req-c"},"number":{"N":"3"},"state":{"S":"CLOSED"}}"#;
        let timeless = Item::parse("x", timeless.as_bytes()).unwrap();
        assert_eq!(rules(&[first(), second(OPEN), timeless]), ["ledger-time"]);
        // Clocks differ by minutes, and the next roll is due then.
        for made in [UNTIL - 299, NOW, NOW + 299] {
            let item = item("req-c", 3, made, OPEN);
            assert_eq!(said(&[first(), second(OPEN), item]), (vec![], 1), "{made}");
        }
    }

    #[test]
    fn an_end_that_no_roll_names_is_missed() {
        for (more, expected) in [
            (
                at("CLOSED", "closed_at", UNTIL - 3000),
                Some("roll-lacks-end"),
            ),
            (
                at("DENIED", "denied_at", UNTIL - 3000),
                Some("roll-lacks-end"),
            ),
            (
                at("FAILED", "terminated_at", UNTIL - 3000),
                Some("roll-lacks-end"),
            ),
            (at("CLOSED", "closed_at", UNTIL - 299), None),
            (at("CLOSED", "closed_at", NOW), None),
            (at("CLOSED", "closed_at", NOW + 301), Some("ledger-time")),
            (at("CLOSED", "denied_at", UNTIL - 3000), Some("ledger-time")),
            (r#","state":{"S":"CLOSED"}"#.to_owned(), Some("ledger-time")),
            (r#","state":{"S":"LAPSED"}"#.to_owned(), None),
            (
                r#","state":{"S":"OVER"}"#.to_owned(),
                Some("ledger-differs"),
            ),
            (OPEN.to_owned(), None),
        ] {
            let expected: Vec<&str> = expected.into_iter().collect();
            assert_eq!(rules(&[first(), second(&more)]), expected, "{more}");
        }
        let long_ago = item(
            "req-b",
            2,
            UNTIL - 40 * 86_400,
            r#","state":{"S":"LAPSED"}"#,
        );
        assert_eq!(rules(&[first(), long_ago]), ["roll-lacks-end"]);
    }

    #[test]
    fn an_item_that_was_taken_away_before_a_roll_named_it_leaves_a_gap() {
        let later = |n, made| item(&format!("req-{n}"), n, made, OPEN);
        let items = [
            first(),
            second(OPEN),
            later(4, UNTIL + 1),
            later(7, UNTIL + 2),
        ];
        let ledger = Ledger::compare(&rolls(), &items, NOW);
        let told: Vec<&str> = ledger.findings.iter().map(|f| f.detail.as_str()).collect();
        assert_eq!(
            told,
            ["no item has number 3 to 3", "no item has number 5 to 6"]
        );
        assert_eq!(rules(&items), ["ledger-lacks", "ledger-lacks"]);
        // Made while the ledger was read.
        assert_eq!(
            rules(&[first(), second(OPEN), later(4, NOW)]),
            Vec::<&str>::new()
        );
        let twice = [
            first(),
            second(OPEN),
            later(3, NOW),
            item("req-y", 3, NOW, OPEN),
        ];
        assert_eq!(rules(&twice), ["ledger-number"]);
    }

    #[test]
    fn a_request_that_is_set_back_is_missed_a_month_after_a_roll_named_it() {
        let first_roll = fixtures::roll(UNTIL);
        let later = |days: u64| {
            let last = fixtures::next(&first_roll, UNTIL + days * 86_400);
            fixtures::read(vec![fixtures::object(&first_roll), fixtures::object(&last)])
        };
        // Whatever state and times it is given, of whatever time.
        for days in [31, 32] {
            let rolls = later(days);
            let now = rolls.until_s() + 900;
            let expected: &[&str] = if days > 31 { &["roll-lacks-end"] } else { &[] };
            let recent = at("READY", "launched_at", now - 60);
            let waits = r#","state":{"S":"APPROVED"}"#.to_owned();
            let ended = at("CLOSED", "closed_at", now);
            for more in [OPEN.to_owned(), recent, waits, ended] {
                let ledger = Ledger::compare(&rolls, &[first(), second(&more)], now);
                let rules: Vec<&str> = ledger.findings.iter().map(|f| f.rule).collect();
                assert_eq!(rules, expected, "{more} after {days} days");
            }
        }
    }
}
