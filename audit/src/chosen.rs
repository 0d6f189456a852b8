//! What of a bastion's folder counts, from a list of its versions: objects at an anchor's name, the first version of
//! each, in the order in which a chain grows.
//!
//! Trusts S3's times, and nobody's names: whoever holds the bastion may write any number of objects beside the true ones,
//! under any name, but none at an earlier time. An object that is written in parts has the time when that was begun, and
//! may come long after: it is no anchor, as an agent writes its anchors whole. So what counts is chosen by time, in bounded
//! memory, and what was written before somebody took the bastion over counts whatever they write. What does not count is
//! told.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use powerpole_chain::Anchor;
use serde::{Deserialize, Serialize};

use crate::{
    error::CheckError,
    object::{ObjectVersion, wrong},
    place::Folder,
};

/// Anchors that are kept: two days in which a head is anchored every 10 s.
const MOST: usize = 20_000;
/// The last head may be on its way while the seal is written: it is late when it comes so long after.
const AFTER_SEAL: SignedDuration = SignedDuration::from_secs(60);
/// So much of what does not count is kept by name.
const BESIDE: usize = 1000;
/// No anchor is longer, in bytes.
pub(crate) const LONGEST: u64 = 2048;

/// Objects that do not count, and that somebody wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aside {
    /// At a name that no anchor has, or written in parts.
    pub(crate) strange: u64,
    /// Not the first of its key.
    pub(crate) later: u64,
    /// A head that was written after a higher one, or long after the seal.
    pub(crate) late: u64,
}

/// What of a folder counts.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// By time, of one second by record number. A body that cannot be read is empty.
    pub(crate) objects: Vec<ObjectVersion>,
    /// The first of what does not count, without bodies.
    pub(crate) beside: Vec<ObjectVersion>,
    /// How much of it there is.
    pub(crate) counts: Aside,
    /// There are more objects at anchors' names than were looked at.
    pub(crate) cut: bool,
    /// Pages of what does not count were left out: its count is at least so much.
    pub(crate) more: bool,
}

/// The last line of a file of anchors, where there is more than its other lines say.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOut {
    /// [`Chosen::cut`].
    anchors: bool,
    /// [`Chosen::more`].
    more: bool,
    /// Of these there is no line.
    beside: Aside,
}

/// A line of a file of anchors.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Line {
    /// An object.
    Version(ObjectVersion),
    /// What has none.
    LeftOut { left_out: LeftOut },
}

/// The seal's place.
const SEAL: u64 = u64::MAX;

/// Which place of its chain an anchor of this name has: its record number, and the seal's above all. None for a name that
/// no anchor has.
pub(crate) fn place_of(name: &str) -> Option<u64> {
    match name {
        "genesis.json" => Some(0),
        "seal.json" => Some(SEAL),
        _ => {
            let digits = name.strip_prefix("head-")?.strip_suffix(".json")?;
            let whole = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
            let seq: u64 = digits.parse().ok().filter(|_| whole)?;
            (0 < seq && seq < SEAL).then_some(seq)
        }
    }
}

/// Folder and place of an anchor's key.
pub(crate) fn split(key: &str) -> Option<(Folder, u64)> {
    let (folder, name) = key.rsplit_once('/')?;
    Some((Folder::parse(folder)?, place_of(name)?))
}

/// Whether an object is no anchor whenever it was written.
fn is_strange(object: &ObjectVersion) -> bool {
    object.in_parts || split(&object.key).is_none()
}

/// Takes versions in any order.
#[derive(Debug)]
pub(crate) struct Chooser {
    newest_first: bool,
    most: usize,
    held: BTreeMap<String, Held>,
    by_time: BTreeSet<(Timestamp, String)>,
    chosen: Chosen,
}

#[derive(Debug)]
struct Held {
    time: Timestamp,
    object: ObjectVersion,
}

impl Chooser {
    /// Of versions of one key that have one time, the one that is taken last is the first, or else the one that is
    /// taken first.
    pub(crate) fn new(newest_first: bool) -> Chooser {
        Chooser {
            newest_first,
            most: MOST,
            held: BTreeMap::new(),
            by_time: BTreeSet::new(),
            chosen: Chosen::default(),
        }
    }

    /// One version.
    pub(crate) fn take(&mut self, mut object: ObjectVersion) -> Result<(), CheckError> {
        let Ok(time) = object.last_modified.parse::<Timestamp>() else {
            return Err(wrong(&object.key, "last_modified is not RFC 3339"));
        };
        if object.body.len() as u64 > LONGEST || Anchor::parse(object.body.as_bytes()).is_err() {
            object.body = String::new();
        }
        if is_strange(&object) {
            self.chosen.counts.strange += 1;
            self.lay_aside(object);
            return Ok(());
        }
        if let Some(held) = self.held.get(&object.key) {
            self.chosen.counts.later += 1;
            if time > held.time || (time == held.time && !self.newest_first) {
                self.lay_aside(object);
                return Ok(());
            }
            self.by_time.remove(&(held.time, object.key.clone()));
        }
        let key = object.key.clone();
        self.by_time.insert((time, key.clone()));
        if let Some(later) = self.held.insert(key, Held { time, object }) {
            self.lay_aside(later.object);
        }
        if self.held.len() > self.most
            && let Some((_, youngest)) = self.by_time.pop_last()
        {
            self.held.remove(&youngest);
            self.chosen.cut = true;
        }
        Ok(())
    }

    /// What a file says of what it has no line for.
    pub(crate) fn take_left_out(&mut self, left_out: &LeftOut) {
        let (counts, more) = (&mut self.chosen.counts, left_out.beside);
        self.chosen.cut |= left_out.anchors;
        self.chosen.more |= left_out.more;
        for (count, more) in [
            (&mut counts.strange, more.strange),
            (&mut counts.later, more.later),
            (&mut counts.late, more.late),
        ] {
            *count = count.saturating_add(more);
        }
    }

    /// The list of anchors' names broke off.
    pub(crate) fn cut(&mut self) {
        self.chosen.cut = true;
    }

    /// The list of the others broke off.
    pub(crate) fn more(&mut self) {
        self.chosen.more = true;
    }

    fn lay_aside(&mut self, mut object: ObjectVersion) {
        if self.chosen.beside.len() < BESIDE {
            object.body = String::new();
            self.chosen.beside.push(object);
        }
    }

    /// All that counts. A bastion anchors its heads in the order of its records, and the seal while the last of them may
    /// be on its way. So a head that was written after a higher one's, or long after the seal, is none of its own: it says
    /// nothing that the higher one does not say, and cannot be held against what was anchored before it.
    pub(crate) fn finish(mut self) -> Chosen {
        let mut grown: BTreeMap<Folder, Grown> = BTreeMap::new();
        let mut held: Vec<Held> = std::mem::take(&mut self.held).into_values().collect();
        held.sort_by_cached_key(|held| (held.time, split(&held.object.key)));
        for Held { time, object } in held {
            let Some((folder, place)) = split(&object.key) else {
                continue;
            };
            if grown.entry(folder).or_default().takes(time, place) {
                self.chosen.objects.push(object);
            } else {
                self.chosen.counts.late += 1;
                self.lay_aside(object);
            }
        }
        self.chosen
    }
}

/// How far the anchors of a folder had come.
#[derive(Debug, Default)]
struct Grown {
    /// The highest head in the seconds before `at`.
    before: u64,
    /// At `at`, too.
    now: u64,
    at: Timestamp,
    sealed: Option<Timestamp>,
}

impl Grown {
    /// Whether an anchor of this place comes in its turn; times never fall.
    fn takes(&mut self, time: Timestamp, place: u64) -> bool {
        if place == SEAL {
            self.sealed = Some(time);
            return true;
        }
        if time > self.at {
            self.before = self.now;
            self.at = time;
        }
        self.now = self.now.max(place);
        let sealed = self.sealed;
        place >= self.before && sealed.is_none_or(|at| time.duration_since(at) <= AFTER_SEAL)
    }
}

impl Chosen {
    /// As lines of a file that reads back as the same.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let mut told = Aside::default();
        let mut seen: BTreeSet<&str> = self.objects.iter().map(|o| o.key.as_str()).collect();
        for object in &self.beside {
            if is_strange(object) {
                told.strange += 1;
            } else if seen.insert(&object.key) {
                told.late += 1;
            } else {
                told.later += 1;
            }
        }
        let left_out = LeftOut {
            anchors: self.cut,
            more: self.more,
            beside: Aside {
                strange: self.counts.strange.saturating_sub(told.strange),
                later: self.counts.later.saturating_sub(told.later),
                late: self.counts.late.saturating_sub(told.late),
            },
        };
        let last = (left_out != LeftOut::default())
            .then(|| serde_json::json!({ "left_out": left_out }).to_string());
        let versions = self.objects.iter().chain(&self.beside);
        versions
            .map(|object| serde_json::json!(object).to_string())
            .chain(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "AROA:i-1/req-1";

    fn object(name: &str, second: u8, version: &str) -> ObjectVersion {
        ObjectVersion {
            key: format!("{FOLDER}/{name}"),
            version_id: version.to_owned(),
            last_modified: format!("2026-01-01T00:00:{second:02}Z"),
            in_parts: false,
            body: format!("{name} {version}"),
        }
    }

    fn head(n: u64) -> String {
        format!("head-{n:020}.json")
    }

    fn choose(objects: Vec<ObjectVersion>) -> Chosen {
        let mut chooser = Chooser::new(false);
        for object in objects {
            chooser.take(object).unwrap();
        }
        chooser.finish()
    }

    fn names(chosen: &Chosen) -> Vec<&str> {
        let keys = chosen.objects.iter().map(|o| o.key.as_str());
        keys.map(|key| key.rsplit_once('/').unwrap().1).collect()
    }

    #[test]
    fn only_names_that_anchors_have_count() {
        let honest = [("genesis.json", 0), ("seal.json", u64::MAX)];
        for (name, place) in honest {
            assert_eq!(place_of(name), Some(place));
        }
        assert_eq!(place_of(&head(7)), Some(7));
        for name in [
            "zzz",
            "",
            "genesis.jsonx",
            "head-7.json",
            "head-00000000000000000000.json",
            "head-99999999999999999999.json",
            "head-0000000000000000000+.json",
        ] {
            assert_eq!(place_of(name), None, "{name}");
        }
        let chosen = choose(vec![
            object("genesis.json", 1, "a"),
            object("zzz", 0, "b"),
            object("x/genesis.json", 0, "c"),
        ]);
        assert_eq!(names(&chosen), ["genesis.json"]);
        assert_eq!((chosen.counts.strange, chosen.beside.len()), (2, 2));
        assert!(chosen.beside.iter().all(|object| object.body.is_empty()));
    }

    #[test]
    fn the_first_version_counts_whichever_end_the_list_begins_at() {
        let objects = || {
            vec![
                object("genesis.json", 1, "a"),
                object("genesis.json", 1, "b"),
                object("genesis.json", 2, "c"),
            ]
        };
        let chosen = choose(objects());
        assert_eq!(chosen.objects[0].version_id, "a");
        assert_eq!(chosen.counts.later, 2);
        let mut chooser = Chooser::new(true);
        for object in objects().into_iter().rev() {
            chooser.take(object).unwrap();
        }
        assert_eq!(chooser.finish().objects[0].version_id, "a");
    }

    #[test]
    fn an_anchor_that_comes_after_a_higher_one_does_not_count() {
        let chosen = choose(vec![
            object("genesis.json", 1, "a"),
            object(&head(20), 9, "a"),
            object(&head(10), 9, "a"),
            object(&head(5), 12, "late"),
            object(&head(30), 12, "a"),
            object("seal.json", 13, "a"),
            // On its way while the seal was written.
            object(&head(40), 59, "a"),
            ObjectVersion {
                last_modified: "2026-01-01T00:01:13Z".to_owned(),
                ..object(&head(41), 0, "a")
            },
            ObjectVersion {
                last_modified: "2026-01-01T00:01:14Z".to_owned(),
                ..object(&head(42), 0, "late")
            },
        ]);
        let [first, second, third, fourth, fifth] = [10, 20, 30, 40, 41].map(head);
        let expected = [
            "genesis.json",
            &first,
            &second,
            &third,
            "seal.json",
            &fourth,
            &fifth,
        ];
        assert_eq!(names(&chosen), expected);
        assert_eq!(chosen.counts.late, 2);
    }

    /// Its time is when the first part was begun.
    #[test]
    fn what_was_written_in_parts_is_no_anchor() {
        let mut parts = vec![
            object("seal.json", 2, "parts"),
            object(&head(9999), 2, "parts"),
        ];
        for object in &mut parts {
            object.in_parts = true;
        }
        parts.extend([
            object("genesis.json", 1, "a"),
            object(&head(7), 3, "a"),
            object("seal.json", 4, "a"),
        ]);
        let chosen = choose(parts);
        assert_eq!(names(&chosen), ["genesis.json", &head(7), "seal.json"]);
        assert!(chosen.objects.iter().all(|object| object.version_id == "a"));
        assert_eq!((chosen.counts.strange, chosen.counts.late), (2, 0));
        let lines: Vec<String> = chosen.lines().collect();
        assert_eq!(lines.len(), 5, "no more is left out: {lines:?}");
        assert_eq!(lines.iter().filter(|l| l.contains("in_parts")).count(), 2);
    }

    #[test]
    fn whatever_is_written_later_does_not_push_out_what_was_there() {
        let mut chooser = Chooser::new(true);
        chooser.most = 3;
        for n in 1..200 {
            chooser.take(object(&head(n), 50, "flood")).unwrap();
        }
        for (name, second) in [("genesis.json", 1), (&head(100), 2), (&head(300), 3)] {
            chooser.take(object(name, second, "own")).unwrap();
        }
        let chosen = chooser.finish();
        assert_eq!(names(&chosen), ["genesis.json", &head(100), &head(300)]);
        assert!(chosen.objects.iter().all(|o| o.version_id == "own"));
        assert!(chosen.cut);
    }

    #[test]
    fn what_was_chosen_reads_back_as_the_same() {
        let mut objects = vec![
            object("genesis.json", 1, "a"),
            object(&head(9), 2, "a"),
            object(&head(3), 3, "late"),
            object("genesis.json", 5, "later"),
        ];
        objects.extend((0..1500).map(|n| object(&format!("z{n}"), 4, "strange")));
        let mut chosen = choose(objects);
        chosen.cut = true;
        let mut chooser = Chooser::new(false);
        for line in chosen.lines() {
            match serde_json::from_str(&line).unwrap() {
                Line::Version(object) => chooser.take(object).unwrap(),
                Line::LeftOut { left_out } => chooser.take_left_out(&left_out),
            }
        }
        let again = chooser.finish();
        assert_eq!(names(&again), names(&chosen));
        assert_eq!(again.counts, chosen.counts);
        assert_eq!(again.counts.strange, 1500);
        assert!(again.cut && !again.more);
    }
}
