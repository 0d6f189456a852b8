//! What a roll names, and what of the ledger cannot be true. Pure.
//!
//! Requests are named by number and without a gap. Their times decide only how far: a time counts where control's seal
//! holds and it does not lie ahead, and none is later than that of a higher number, since numbers are given in order. A
//! request whose time does not count is named as soon as those before it are, which harms nothing; so no time in the
//! ledger can hold the roll up.

use super::RollError;
use super::known::Known;
use crate::approval::{Doubt, SKEW_S};
use crate::ledger::item::Item;
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use powerpole_chain::{Ended, FinalHead, Hash, MAX_ROLL_ENTRIES, Outcome, Roll};
use std::collections::{BTreeMap, BTreeSet};

/// What the ledger says.
pub(super) struct Look {
    /// When it was asked.
    pub(super) now: Timestamp,
    /// The number that was given last; none when the counter cannot be read.
    pub(super) counted: Option<u64>,
    /// Every item that is open or whose end no roll names.
    pub(super) items: Vec<Item>,
    /// Items that rolls name as going on and that are in no index any more.
    pub(super) hidden: Vec<Item>,
    /// Requests that rolls name as going on and that have no item, or none that can be read.
    pub(super) gone: Vec<(u64, String)>,
}

/// Something that nobody but whoever changed the ledger can have brought about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The log's `alarm`.
    pub(super) code: &'static str,
    /// The number.
    pub(super) number: u64,
    /// The request, where there is one.
    pub(super) request: String,
}

impl Found {
    /// Alarms.
    pub(super) fn alarm(&self) {
        tracing::error!(
            alarm = self.code,
            number = self.number,
            request = self.request,
            "the ledger contradicts the rolls or itself"
        );
    }
}

impl Look {
    /// How many numbers from `first` to the counter's have no item, and the first of them.
    pub(super) fn missing(&self, first: u64) -> Option<(u64, u64)> {
        let counted = self.counted?;
        let there: BTreeSet<u64> = self
            .items
            .iter()
            .map(|item| item.number)
            .filter(|n| (first..=counted).contains(n))
            .collect();
        let all = counted.saturating_sub(first - 1);
        let count = all - u64::try_from(there.len()).unwrap_or(all);
        let lowest = (first..).find(|n| !there.contains(n)).unwrap_or(first);
        (count > 0).then_some((count, lowest))
    }
}

/// What the roll of a period names: the requests that are new, by number and without a gap, and every end that no
/// earlier roll names; and what has to be alarmed about once it is kept.
pub(super) fn compose(
    known: &Known,
    (from_s, until_s): (u64, u64),
    look: Look,
    sealed: impl Fn(&Item) -> bool,
) -> Result<(Roll, Vec<Found>), RollError> {
    let first = known.next_request();
    let mut found = Vec::new();
    let mut note = |code, number, request: &str| {
        found.push(Found {
            code,
            number,
            request: request.to_owned(),
        });
    };
    if let Some((_, lowest)) = look.missing(first) {
        note("roll_request_missing", lowest, "");
    }
    for (n, request) in &look.gone {
        note("roll_request_missing", *n, request);
    }
    let new = look
        .items
        .iter()
        .filter(|item| item.number >= first && known.number(item.request.as_str()).is_none());
    let by_number = numbered(new, &sealed);
    let given = by_number.iter().filter(|(_, item)| sealed(item));
    let highest = given.map(|(n, _)| *n).max().unwrap_or(first - 1);
    if look.counted.is_none_or(|counted| counted < highest) {
        note("request_counter_back", highest, "");
    }
    let made = times(&by_number, look.now, &sealed, &mut note);

    let mut requested = Vec::new();
    for ((n, item), made) in by_number.iter().zip(made) {
        if made >= until_s || requested.len() == MAX_ROLL_ENTRIES {
            break;
        }
        // The index may lag behind, or an item was taken away: either way nothing may be skipped. What comes after the
        // last number that control gave is none of its requests.
        let next = first + u64::try_from(requested.len()).unwrap_or(u64::MAX);
        if *n != next {
            if next <= highest {
                return Err(RollError::Missing(next));
            }
            break;
        }
        requested.push(item.request.to_string());
    }
    let next = first + u64::try_from(requested.len()).unwrap_or(u64::MAX);

    let mut ended = Vec::new();
    for (item, hidden) in look
        .items
        .iter()
        .map(|item| (item, false))
        .chain(look.hidden.iter().map(|item| (item, true)))
    {
        let request = item.request.as_str();
        if hidden {
            note("roll_end_hidden", item.number, request);
        }
        let n = known.number(request).unwrap_or(item.number);
        if n >= next || known.end_of(request).is_some() {
            continue;
        }
        let fresh = n >= first;
        let ours = if fresh {
            by_number.get(&n).map(|item| item.request.as_str())
        } else {
            known.request(n)
        };
        // Under a number that the rolls give to another: its end would contradict them.
        if ours != Some(request) && (fresh || known.reaches(n)) {
            note("request_number_twice", n, request);
            continue;
        }
        if !fresh && !sealed(item) {
            note(Doubt::Asked.code(), n, request);
        }
        if ended.len() < MAX_ROLL_ENTRIES {
            ended.extend(end(item, n));
        }
    }
    ended.sort_by_key(|ended| ended.n);
    let roll = Roll {
        number: known.last().map_or(1, |last| last.number + 1),
        from_s,
        until_s,
        previous: known.last().map_or([0; 32], Roll::digest),
        first,
        requested,
        ended,
    };
    Ok((roll, found))
}

/// The items that no roll names, by number; of two that claim one, that whose seal holds.
fn numbered<'a>(
    items: impl Iterator<Item = &'a Item>,
    sealed: impl Fn(&Item) -> bool,
) -> BTreeMap<u64, &'a Item> {
    let mut all: BTreeMap<u64, &Item> = BTreeMap::new();
    for item in items {
        let held = all.entry(item.number).or_insert(item);
        if !sealed(held) && sealed(item) {
            *held = item;
        }
    }
    all
}

/// When each was made at the latest, in unix seconds; 0 where nothing says it.
fn times(
    by_number: &BTreeMap<u64, &Item>,
    now: Timestamp,
    sealed: impl Fn(&Item) -> bool,
    note: &mut impl FnMut(&'static str, u64, &str),
) -> Vec<u64> {
    let seconds = |at: Timestamp| u64::try_from(at.as_second()).unwrap_or(0);
    let limit = seconds(now).saturating_add(SKEW_S);
    let mut earliest = u64::MAX;
    let mut made = Vec::new();
    for (n, item) in by_number.iter().rev() {
        let request = item.request.as_str();
        let asked = seconds(item.requested_at);
        if !sealed(item) {
            note(Doubt::Asked.code(), *n, request);
            made.push(0);
            continue;
        }
        if asked > limit || asked > earliest.saturating_add(SKEW_S) {
            note("roll_time", *n, request);
        }
        if asked > limit {
            made.push(0);
            continue;
        }
        earliest = earliest.min(asked);
        made.push(earliest);
    }
    made.reverse();
    made
}

/// The end of a request; none while it goes on.
fn end(item: &Item, n: u64) -> Option<Ended> {
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
        n,
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
    use crate::seal::tests::key;
    use powerpole_chain::RollCheck;
    use powerpole_protocol::ledger::State;

    const DAY: u64 = 86_400;

    /// A request as control made it, some seconds after noon.
    fn asked(n: u64, state: State, seconds: u64) -> Item {
        let mut item = item("alice@example.com", u8::try_from(n).unwrap());
        item.number = n;
        item.requested_at = after(now(), seconds);
        item.asked_seal = Some(key().asked(&item));
        item.state = state;
        item
    }

    fn closed(n: u64) -> Item {
        let mut item = asked(n, State::Closed, 0);
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

    fn look(items: Vec<Item>, days: u64) -> Look {
        Look {
            now: Timestamp::from_second(i64::try_from(midnight() + days * DAY + 900).unwrap())
                .unwrap(),
            counted: items.iter().map(|item| item.number).max(),
            items,
            hidden: vec![],
            gone: vec![],
        }
    }

    fn next(known: &mut Known, look: Look) -> (Roll, Vec<(&'static str, u64)>) {
        let until = known.last().map_or(midnight(), |last| last.until_s + DAY);
        let sealed = |item: &Item| key().holds_asked(item);
        let (roll, found) = compose(known, (until - DAY, until), look, sealed).unwrap();
        let parsed = Roll::parse(roll.to_json().as_bytes()).unwrap();
        known.take(roll);
        let found = found.iter().map(|found| (found.code, found.number));
        (parsed, found.collect())
    }

    fn findings(rolls: &[&Roll]) -> usize {
        let mut check = RollCheck::new();
        for roll in rolls {
            check.take(roll);
        }
        check.finish().findings.len()
    }

    #[test]
    fn rolls_name_every_request_and_every_end_once() {
        let mut known = Known::default();
        let late = asked(3, State::Requested, DAY / 2 + 60);
        let items = vec![late.clone(), asked(2, State::Ready, 0), closed(1)];
        let (first, found) = next(&mut known, look(items, 0));
        assert_eq!(
            (first.first, first.requested.len(), first.ended.len()),
            (1, 2, 1)
        );
        assert_eq!(first.ended[0].head.unwrap().head, [7; 32]);
        assert_eq!(found, []);
        // The index still shows what the first roll named.
        let items = vec![closed(1), asked(2, State::Failed, 0), late];
        let (second, found) = next(&mut known, look(items, 1));
        assert_eq!(found, []);
        assert_eq!((second.requested.len(), second.ended.len()), (1, 1));
        let (third, _) = next(&mut known, look(vec![closed(1)], 2));
        assert_eq!(third.ended, []);
        assert_eq!(findings(&[&first, &second, &third]), 0);
    }

    #[test]
    fn a_number_without_an_item_stops_the_roll() {
        let until = midnight();
        let gap = look(vec![closed(1), closed(3)], 0);
        let gap = compose(&Known::default(), (until - DAY, until), gap, |_| true);
        assert!(matches!(gap, Err(RollError::Missing(2))));
    }

    #[test]
    fn a_time_that_was_changed_holds_nothing_up_and_alarms() {
        for time in [
            "9000-01-01T00:00:00Z",
            "2026-11-24T00:19:00Z",
            "1970-01-01T00:00:00Z",
        ] {
            for edited in 1..=3 {
                let mut items = vec![closed(1), closed(2), closed(3)];
                items[edited - 1].requested_at = time.parse().unwrap();
                let (roll, found) = next(&mut Known::default(), look(items, 0));
                assert_eq!((roll.requested.len(), roll.ended.len()), (3, 3), "{time}");
                let number = u64::try_from(edited).unwrap();
                assert_eq!(found, [("request_altered", number)], "{time}");
            }
        }
    }

    #[test]
    fn a_clock_that_was_wrong_when_control_sealed_holds_nothing_up_either() {
        let items = vec![closed(1), asked(2, State::Lapsed, 5 * DAY), closed(3)];
        let (roll, found) = next(&mut Known::default(), look(items, 0));
        assert_eq!(roll.requested.len(), 3);
        assert_eq!(found, [("roll_time", 2)]);
        // Two replicas a few minutes apart are no alarm.
        let items = vec![asked(1, State::Lapsed, 200), closed(2)];
        assert_eq!(next(&mut Known::default(), look(items, 0)).1, []);
    }

    #[test]
    fn an_end_that_was_taken_out_of_the_index_is_found_and_named() {
        let mut known = Known::default();
        let (first, _) = next(&mut known, look(vec![asked(1, State::Ready, 0)], 0));
        let mut taken = look(vec![], 1);
        taken.counted = Some(1);
        taken.hidden = vec![closed(1)];
        let (second, found) = next(&mut known, taken);
        assert_eq!(found, [("roll_end_hidden", 1)]);
        assert_eq!(second.ended.len(), 1);
        assert_eq!(findings(&[&first, &second]), 0);
    }

    #[test]
    fn an_item_that_went_after_it_was_named_and_the_newest_that_went_before_are_alarmed() {
        let mut known = Known::default();
        next(&mut known, look(vec![asked(1, State::Ready, 0)], 0));
        let mut gone = look(vec![], 1);
        gone.counted = Some(4);
        gone.gone = vec![(1, "req-1".into())];
        assert_eq!(gone.missing(2), Some((3, 2)));
        let (roll, found) = next(&mut known, gone);
        assert_eq!(
            found,
            [("roll_request_missing", 2), ("roll_request_missing", 1)]
        );
        assert_eq!(roll.requested, Vec::<String>::new());
    }

    #[test]
    fn a_number_that_is_given_twice_and_a_counter_that_went_back_are_alarmed() {
        let mut known = Known::default();
        let (first, _) = next(&mut known, look(vec![closed(1), closed(2)], 0));
        // The newest was deleted and the counter set back, and somebody asked again.
        let mut again = asked(9, State::Denied, DAY);
        again.number = 2;
        again.asked_seal = Some(key().asked(&again));
        let (second, found) = next(&mut known, look(vec![again], 1));
        assert_eq!(found, [("request_number_twice", 2)]);
        assert_eq!(findings(&[&first, &second]), 0);
        let mut back = look(vec![closed(3)], 2);
        back.counted = Some(1);
        assert_eq!(next(&mut known, back).1, [("request_counter_back", 3)]);
        let mut unreadable = look(vec![closed(4)], 3);
        unreadable.counted = None;
        assert_eq!(
            next(&mut known, unreadable).1,
            [("request_counter_back", 4)]
        );
    }

    #[test]
    fn an_item_that_control_never_made_stops_nothing() {
        let mut made_up = asked(9, State::Closed, 0);
        made_up.number = 1000;
        let mut look = look(vec![closed(1), made_up], 0);
        look.counted = Some(1);
        let (roll, found) = next(&mut Known::default(), look);
        assert_eq!((roll.requested.len(), roll.ended.len()), (1, 1));
        assert_eq!(found, [("request_altered", 1000)]);
    }

    #[test]
    fn an_item_that_claims_anothers_number_takes_it_from_nobody() {
        let mut thief = closed(2);
        thief.number = 1;
        let items = vec![thief, closed(1), closed(3)];
        let until = midnight();
        let sealed = |item: &Item| key().holds_asked(item);
        let gap = compose(
            &Known::default(),
            (until - DAY, until),
            look(items, 0),
            sealed,
        );
        assert!(matches!(gap, Err(RollError::Missing(2))));
        // After it was named, the rolls' own number counts.
        let mut known = Known::default();
        let (first, _) = next(&mut known, look(vec![asked(1, State::Ready, 0)], 0));
        let mut renumbered = closed(1);
        renumbered.number = 7;
        let mut renumbered = look(vec![renumbered], 1);
        renumbered.counted = Some(1);
        let (second, found) = next(&mut known, renumbered);
        assert_eq!((second.ended[0].n, second.requested.len()), (1, 0));
        assert!(found.contains(&("request_altered", 1)), "{found:?}");
        assert_eq!(findings(&[&first, &second]), 0);
    }

    #[test]
    fn a_counter_that_says_anything_costs_no_time() {
        let mut far = look(vec![closed(1)], 0);
        far.counted = Some(u64::MAX - 1);
        assert_eq!(far.missing(1), Some((u64::MAX - 2, 2)));
    }
}
