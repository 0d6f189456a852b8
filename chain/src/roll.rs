//! The roll: which requests there were, day after day, and what became of each.
//!
//! A stream, an item and an instance can be made to vanish together; the roll is what they are missed by. Control
//! numbers requests without gaps as they come, and puts one roll a period into the object-locked bucket. Each names
//! the digest of the one before, so that none can be left out later, and the numbers go on where the last one ended.
//!
//! ```text
//! r_k = SHA256("powerpole/1/rol\0" ‖ number u64 ‖ from u64 ‖ until u64 ‖ r_{k-1} 32
//!              ‖ first u64 ‖ count u32 ‖ (length u16 ‖ request)*
//!              ‖ count u32 ‖ (n u64 ‖ length u16 ‖ request ‖ outcome u8 ‖ form u8 ‖ (seq u64 ‖ head 32)?)*)
//! {"v":1,"kind":"roll","number":K,"from":S,"until":S,"previous":"<base64>","first":N,
//!  "requested":["req-…",…],"ended":[{"n":N,"request":"req-…","outcome":"CLOSED","sealed":true,"seq":N,"head":"<base64>"},
//!  {"n":N,"request":"req-…","outcome":"DENIED"},…]}
//! ```
//! The JSON is one line without the line breaks shown here, and has exactly one spelling.

mod check;

use ::base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::{cursor::Cursor, digest::Hash, genesis::is_plain, line::MAX_NUMBER};

pub use check::{RollCheck, RollFinding, RollReport, RollRule};

const TAG_ROLL: &[u8; 16] = b"powerpole/1/rol\0";
/// Requests, and ends, that one roll may name.
pub const MAX_ROLL_ENTRIES: usize = 100_000;

/// What one period brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roll {
    /// Counts from 1.
    pub number: u64,
    /// Where the period begins, unix seconds: the end of the one before.
    pub from_s: u64,
    /// Where it ends.
    pub until_s: u64,
    /// Digest of the roll before; zeros in the first.
    pub previous: Hash,
    /// Number of the first request named here; the others follow without a gap.
    pub first: u64,
    /// Ids of the requests that were made, by number.
    pub requested: Vec<String>,
    /// Requests of this roll or an earlier one that have ended, each named once ever.
    pub ended: Vec<Ended>,
}

/// The end of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub n: u64,
    /// Its id.
    pub request: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What is known of its chain; none for a request that never had one.
    pub head: Option<FinalHead>,
}

/// The last head that control was told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalHead {
    /// Record number.
    pub seq: u64,
    /// The head after that record.
    pub head: Hash,
    /// Whether the bastion said that it is the seal's.
    pub sealed: bool,
}

/// How a request ended: the ledger's final states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An approver said no.
    Denied,
    /// Nobody decided in time.
    Lapsed,
    /// The window was used and is over.
    Closed,
    /// It never became ready.
    Failed,
}

impl Outcome {
    const ALL: [Outcome; 4] = [
        Outcome::Denied,
        Outcome::Lapsed,
        Outcome::Closed,
        Outcome::Failed,
    ];

    /// The ledger's word.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Denied => "DENIED",
            Outcome::Lapsed => "LAPSED",
            Outcome::Closed => "CLOSED",
            Outcome::Failed => "FAILED",
        }
    }

    /// Reads the ledger's word; a state that is not final is none.
    pub fn of_word(word: &str) -> Option<Outcome> {
        Outcome::ALL
            .into_iter()
            .find(|outcome| outcome.word() == word)
    }

    fn byte(self) -> u8 {
        match self {
            Outcome::Denied => b'd',
            Outcome::Lapsed => b'l',
            Outcome::Closed => b'c',
            Outcome::Failed => b'f',
        }
    }
}

/// The text is not a roll.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("roll is not in the one spelling of version 1")]
pub struct RollError;

impl RollError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        "roll-spelling"
    }
}

impl Roll {
    /// Number of the first request that a following roll names.
    pub fn next_request(&self) -> u64 {
        self.first.saturating_add(self.requested.len() as u64)
    }

    /// What the next roll names as `previous`.
    pub fn digest(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update(TAG_ROLL);
        for number in [self.number, self.from_s, self.until_s] {
            hash.update(number.to_be_bytes());
        }
        hash.update(self.previous);
        hash.update(self.first.to_be_bytes());
        hash.update((self.requested.len() as u32).to_be_bytes());
        for request in &self.requested {
            update_text(&mut hash, request);
        }
        hash.update((self.ended.len() as u32).to_be_bytes());
        for ended in &self.ended {
            hash.update(ended.n.to_be_bytes());
            update_text(&mut hash, &ended.request);
            let form = match ended.head {
                None => 0,
                Some(FinalHead { sealed: false, .. }) => 1,
                Some(FinalHead { sealed: true, .. }) => 2,
            };
            hash.update([ended.outcome.byte(), form]);
            if let Some(head) = ended.head {
                hash.update(head.seq.to_be_bytes());
                hash.update(head.head);
            }
        }
        hash.finalize().into()
    }

    /// The object's name below `rolls/`.
    pub fn object_name(&self) -> String {
        Roll::name_of(self.number)
    }

    /// The name of the roll of this number: names sort as numbers do.
    pub fn name_of(number: u64) -> String {
        format!("roll-{number:020}.json")
    }

    /// The object's body.
    pub fn to_json(&self) -> String {
        let requested: Vec<String> = self
            .requested
            .iter()
            .map(|request| format!("\"{request}\""))
            .collect();
        let ended: Vec<String> = self.ended.iter().map(Ended::to_json).collect();
        format!(
            "{{\"v\":1,\"kind\":\"roll\",\"number\":{},\"from\":{},\"until\":{},\"previous\":\"{}\",\
             \"first\":{},\"requested\":[{}],\"ended\":[{}]}}",
            self.number,
            self.from_s,
            self.until_s,
            STANDARD.encode(self.previous),
            self.first,
            requested.join(","),
            ended.join(",")
        )
    }

    /// Reads an object's body.
    ///
    /// # Errors
    /// When it is not the one spelling of a roll, or names more than [`MAX_ROLL_ENTRIES`].
    pub fn parse(text: &[u8]) -> Result<Roll, RollError> {
        read(text).ok_or(RollError)
    }
}

impl Ended {
    fn to_json(&self) -> String {
        let head = self.head.map_or_else(String::new, |head| {
            format!(
                ",\"sealed\":{},\"seq\":{},\"head\":\"{}\"",
                head.sealed,
                head.seq,
                STANDARD.encode(head.head)
            )
        });
        format!(
            "{{\"n\":{},\"request\":\"{}\",\"outcome\":\"{}\"{head}}}",
            self.n,
            self.request,
            self.outcome.word()
        )
    }
}

fn update_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u16).to_be_bytes());
    hash.update(text);
}

fn read(text: &[u8]) -> Option<Roll> {
    let mut c = Cursor(text);
    c.literal(b"{\"v\":1,\"kind\":\"roll\",\"number\":")?;
    let number = c.decimal(MAX_NUMBER)?;
    c.literal(b",\"from\":")?;
    let from_s = c.decimal(MAX_NUMBER)?;
    c.literal(b",\"until\":")?;
    let until_s = c.decimal(MAX_NUMBER)?;
    c.literal(b",\"previous\":\"")?;
    let previous = hash(&mut c)?;
    c.literal(b"\",\"first\":")?;
    let first = c.decimal(MAX_NUMBER)?;
    c.literal(b",\"requested\":[")?;
    let requested = list(&mut c, |c| {
        c.literal(b"\"")?;
        let request = plain(c)?;
        c.literal(b"\"")?;
        Some(request)
    })?;
    c.literal(b",\"ended\":[")?;
    let ended = list(&mut c, read_ended)?;
    c.literal(b"}")?;
    c.is_empty().then_some(())?;
    (number > 0 && first > 0 && from_s < until_s).then_some(())?;
    Some(Roll {
        number,
        from_s,
        until_s,
        previous,
        first,
        requested,
        ended,
    })
}

fn read_ended(c: &mut Cursor<'_>) -> Option<Ended> {
    c.literal(b"{\"n\":")?;
    let n = c.decimal(MAX_NUMBER)?;
    c.literal(b",\"request\":\"")?;
    let request = plain(c)?;
    c.literal(b"\",\"outcome\":\"")?;
    let outcome = Outcome::of_word(std::str::from_utf8(c.until_quote(8)?).ok()?)?;
    c.literal(b"\"")?;
    let head = if c.literal(b",\"sealed\":").is_some() {
        let sealed = c.literal(b"true").is_some();
        if !sealed {
            c.literal(b"false")?;
        }
        c.literal(b",\"seq\":")?;
        let seq = c.decimal(MAX_NUMBER)?;
        c.literal(b",\"head\":\"")?;
        let head = hash(c)?;
        c.literal(b"\"")?;
        Some(FinalHead { seq, head, sealed })
    } else {
        None
    };
    c.literal(b"}")?;
    Some(Ended {
        n,
        request,
        outcome,
        head,
    })
}

/// What stands between `[` and `]`, commas between; the bracket is taken too.
fn list<T>(
    c: &mut Cursor<'_>,
    mut one: impl FnMut(&mut Cursor<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut all = Vec::new();
    if c.literal(b"]").is_some() {
        return Some(all);
    }
    loop {
        (all.len() < MAX_ROLL_ENTRIES).then_some(())?;
        all.push(one(c)?);
        if c.literal(b"]").is_some() {
            return Some(all);
        }
        c.literal(b",")?;
    }
}

fn hash(c: &mut Cursor<'_>) -> Option<Hash> {
    STANDARD.decode(c.until_quote(44)?).ok()?.try_into().ok()
}

fn plain(c: &mut Cursor<'_>) -> Option<String> {
    let text = std::str::from_utf8(c.until_quote(512)?).ok()?;
    is_plain(text).then(|| text.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn first() -> Roll {
        Roll {
            number: 1,
            from_s: 86_400,
            until_s: 172_800,
            previous: [0; 32],
            first: 1,
            requested: vec!["req-a".to_owned(), "req-b".to_owned()],
            ended: vec![Ended {
                n: 1,
                request: "req-a".to_owned(),
                outcome: Outcome::Closed,
                head: Some(FinalHead {
                    seq: 41,
                    head: [7; 32],
                    sealed: true,
                }),
            }],
        }
    }

    #[test]
    fn a_roll_is_read_back_and_no_other_spelling_is() {
        let mut roll = first();
        roll.ended.push(Ended {
            n: 2,
            request: "req-b".to_owned(),
            outcome: Outcome::Denied,
            head: None,
        });
        let json = roll.to_json();
        assert_eq!(Roll::parse(json.as_bytes()), Ok(roll));
        for other in [
            format!("{json}\n"),
            json.replace("\"number\":1", "\"number\":01"),
            json.replace("\"number\":1", "\"number\":0"),
            json.replace("CLOSED", "READY"),
            json.replace("\"sealed\":true", "\"sealed\":yes"),
            json.replace("req-b\"]", "req-b\",]"),
            json.replace("req-a\",", "req a\","),
        ] {
            assert_ne!(other, json);
            assert_eq!(Roll::parse(other.as_bytes()), Err(RollError), "{other}");
        }
    }

    #[test]
    fn every_field_changes_the_digest() {
        type Change = fn(&mut Roll);
        let changes: [Change; 12] = [
            |r| r.number = 2,
            |r| r.from_s += 1,
            |r| r.until_s += 1,
            |r| r.previous = [1; 32],
            |r| r.first = 2,
            |r| r.requested.swap(0, 1),
            |r| r.requested.truncate(1),
            |r| r.ended.clear(),
            |r| r.ended[0].n = 2,
            |r| r.ended[0].outcome = Outcome::Failed,
            |r| r.ended[0].head.as_mut().unwrap().sealed = false,
            |r| r.ended[0].head.as_mut().unwrap().head = [8; 32],
        ];
        for (place, change) in changes.into_iter().enumerate() {
            let mut other = first();
            change(&mut other);
            assert_ne!(other.digest(), first().digest(), "{place}");
        }
    }

    #[test]
    fn the_digest_of_version_1_is_frozen() {
        let hex: String = first()
            .digest()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            hex,
            "841950ba8d37a32a06dc0dc92f27c065a399af4a66c28ce9b69db4978b599010"
        );
    }
}
