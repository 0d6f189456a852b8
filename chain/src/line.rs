//! The transport: one JSON object a record, with exactly one spelling.
//!
//! ```text
//! sealed    {"v":1,"s":SEQ,"t":T_US,"k":"o","n":SESSION,"p":"H_PREV","z":"SALT","d":"PAYLOAD"}
//! withheld  {"v":1,"s":SEQ,"t":T_US,"k":"o","n":SESSION,"p":"H_PREV","l":LEN,"w":"PD"}
//! unsealed  {"v":1,"u":N,"t":T_US,"k":"o","n":SESSION,"d":"PAYLOAD"}
//! ```
//! Numbers are decimal without sign, leading zero or exponent; byte strings are standard Base64
//! with padding. No space, no other order, nothing after the brace. A line names the head that it
//! follows (`p`), so its own hash needs nothing but the line, and lines that others wrote into the
//! stream cost no more than one look each.

use crate::{
    anchor::{Anchor, AnchorKind},
    base64::{decode_16, decode_32, decode_into, decoded_len, encode},
    digest::{Hash, genesis_hash, link_hash, payload_digest},
    genesis::Genesis,
    kind::Kind,
    scan::{Bare, Body, scan},
};

/// The longest payload of a record, in bytes.
pub const MAX_PAYLOAD: usize = 32 * 1024;
/// No line of this format is longer, in bytes.
pub const MAX_LINE: usize = 44_032;
/// Sequence numbers and times stay below 2^63.
pub(crate) const MAX_NUMBER: u64 = i64::MAX as u64;

/// A sealed record as it leaves the sealer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Number in the chain; 0 is the genesis.
    pub seq: u64,
    /// Microseconds since 1970 UTC, never before the previous record's. The log event's timestamp
    /// is `t_us / 1000`, rounded down.
    pub t_us: u64,
    /// The head after this record.
    pub hash: Hash,
    /// The epoch that the record belongs to.
    pub epoch: u32,
    /// The exact JSON line, without a newline.
    pub text: String,
}

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Salt and payload.
    Full {
        /// Fresh randomness that keeps a withheld payload from being guessed.
        salt: [u8; 16],
        /// Raw bytes.
        payload: Vec<u8>,
    },
    /// A payload that was withheld: its length and digest are left.
    Withheld {
        /// Length of the payload in bytes.
        len: u32,
        /// The payload's digest.
        digest: Hash,
    },
}

/// A line that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number in the chain.
    pub seq: u64,
    /// Microseconds since 1970 UTC.
    pub t_us: u64,
    /// Kind.
    pub kind: Kind,
    /// Login that it belongs to, 0 for none.
    pub session: u32,
    /// The head that it follows; zeros in the genesis.
    pub previous: Hash,
    /// Payload.
    pub content: Content,
}

/// A raw spooled frame that was shipped after its agent had died: no hash, no key, no proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsealed {
    /// Number in the spool's tail, from 0.
    pub n: u64,
    /// Microseconds since 1970 UTC.
    pub t_us: u64,
    /// Kind.
    pub kind: Kind,
    /// Login that it belongs to, 0 for none.
    pub session: u32,
    /// Raw bytes.
    pub payload: Vec<u8>,
}

/// What a line can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A record of a chain.
    Record(Record),
    /// A frame without a chain.
    Unsealed(Unsealed),
}

/// The line is not in the format's one spelling.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE`].
    #[error("line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// Any other spelling.
    #[error("line is not in the one spelling of version 1")]
    Spelling,
}

impl LineError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            LineError::TooLong => "line-too-long",
            LineError::Spelling => "line-spelling",
        }
    }
}

impl Line {
    /// The anchor of this line: genesis for record 0, seal for a seal, a head otherwise. Heads are
    /// taken from checkpoints, and only when the log service has accepted every line up to here.
    pub fn anchor(&self, kind: AnchorKind, genesis: &Genesis) -> Anchor {
        Anchor {
            kind,
            request: genesis.request.clone(),
            stream: genesis.log_stream.clone(),
            instance: genesis.instance.clone(),
            seq: self.seq,
            head: self.hash,
            epoch: self.epoch,
            t_us: self.t_us,
        }
    }
}

impl Record {
    /// Length of the payload in bytes, withheld or not.
    pub fn len(&self) -> u32 {
        match &self.content {
            Content::Full { payload, .. } => u32::try_from(payload.len()).unwrap_or(u32::MAX),
            Content::Withheld { len, .. } => *len,
        }
    }

    /// True when the payload has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Digest of the payload.
    pub fn digest(&self) -> Hash {
        match &self.content {
            Content::Full { salt, payload } => payload_digest(salt, payload),
            Content::Withheld { digest, .. } => *digest,
        }
    }

    /// The head after this record, by what the line itself says.
    pub fn hash(&self) -> Hash {
        match (&self.kind, &self.content) {
            (Kind::Genesis, Content::Full { salt, payload }) => genesis_hash(salt, payload),
            _ => self.hash_with(&self.digest()),
        }
    }

    pub(crate) fn hash_with(&self, digest: &Hash) -> Hash {
        link_hash(
            &self.previous,
            digest,
            self.seq,
            self.t_us,
            self.kind,
            self.session,
            self.len(),
        )
    }

    /// The line.
    pub fn to_line(&self) -> String {
        match &self.content {
            Content::Full { salt, payload } => full_line(
                self.seq,
                self.t_us,
                self.kind,
                self.session,
                &self.previous,
                salt,
                payload,
            ),
            Content::Withheld { len, digest } => {
                let mut text = Vec::with_capacity(240);
                push_record(&mut text, self.seq, self.t_us, self.kind, self.session);
                encode(&self.previous, &mut text);
                text.extend_from_slice(b"\",\"l\":");
                push_decimal(&mut text, u64::from(*len));
                text.extend_from_slice(b",\"w\":\"");
                encode(digest, &mut text);
                text.extend_from_slice(b"\"}");
                spelled(text)
            }
        }
    }
}

/// The line of a record that holds its payload.
pub(crate) fn full_line(
    seq: u64,
    t_us: u64,
    kind: Kind,
    session: u32,
    previous: &Hash,
    salt: &[u8; 16],
    payload: &[u8],
) -> String {
    let mut text = Vec::with_capacity(200 + payload.len().div_ceil(3) * 4);
    push_record(&mut text, seq, t_us, kind, session);
    encode(previous, &mut text);
    text.extend_from_slice(b"\",\"z\":\"");
    encode(salt, &mut text);
    text.extend_from_slice(b"\",\"d\":\"");
    encode(payload, &mut text);
    text.extend_from_slice(b"\"}");
    spelled(text)
}

/// The text of these letters: ASCII, all of them.
fn spelled(text: Vec<u8>) -> String {
    #[cfg(target_arch = "x86_64")]
    let text = crate::vector::ascii(text);
    #[cfg(not(target_arch = "x86_64"))]
    let text = String::from_utf8(text).ok();
    text.unwrap_or_default()
}

fn push_record(text: &mut Vec<u8>, seq: u64, t_us: u64, kind: Kind, session: u32) {
    text.extend_from_slice(b"{\"v\":1,\"s\":");
    push_decimal(text, seq);
    push_common(text, t_us, kind, session);
    text.extend_from_slice(b",\"p\":\"");
}

fn push_common(text: &mut Vec<u8>, t_us: u64, kind: Kind, session: u32) {
    text.extend_from_slice(b",\"t\":");
    push_decimal(text, t_us);
    text.extend_from_slice(&[b',', b'"', b'k', b'"', b':', b'"', kind.byte()]);
    text.extend_from_slice(b"\",\"n\":");
    push_decimal(text, u64::from(session));
}

/// Numbers below this have at most eight digits.
const EIGHT_DIGITS: u64 = 100_000_000;

fn push_decimal(text: &mut Vec<u8>, value: u64) {
    let (high, low) = (value / EIGHT_DIGITS, value % EIGHT_DIGITS);
    if high == 0 {
        return push_first_digits(text, low);
    }
    if high < EIGHT_DIGITS {
        push_first_digits(text, high);
    } else {
        push_first_digits(text, high / EIGHT_DIGITS);
        text.extend_from_slice(&eight_digits(high % EIGHT_DIGITS).to_le_bytes());
    }
    text.extend_from_slice(&eight_digits(low).to_le_bytes());
}

/// A number below [`EIGHT_DIGITS`] without zeros in front.
fn push_first_digits(text: &mut Vec<u8>, value: u64) {
    let digits = eight_digits(value);
    let zeros = ((digits ^ DIGITS) | 1 << 56).trailing_zeros() / 8;
    let end = text.len() + 8 - zeros as usize;
    text.extend_from_slice(&(digits >> (8 * zeros)).to_le_bytes());
    text.truncate(end);
}

/// `0` eight times.
const DIGITS: u64 = 0x3030_3030_3030_3030;

/// Eight digits of a number below [`EIGHT_DIGITS`], the first in the lowest byte. It is halved three times: into ten
/// thousands, hundreds, tens; quotients are products with a rounded inverse.
fn eight_digits(value: u64) -> u64 {
    let halves = (value / 10_000) | ((value % 10_000) << 32);
    let hundreds = ((halves * 5243) >> 19) & 0x0000_007f_0000_007f;
    let pairs = hundreds | ((halves - hundreds * 100) << 16);
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((pairs - tens * 10) << 8) | DIGITS
}

/// The line of a frame that was spooled and never sealed. `n` counts from 0 in the spool's tail.
/// Payloads longer than [`MAX_PAYLOAD`] have to be cut by the caller: no verifier reads them.
pub fn unsealed_line(n: u64, t_us: u64, kind: Kind, session: u32, payload: &[u8]) -> String {
    let mut text = Vec::with_capacity(80 + payload.len().div_ceil(3) * 4);
    text.extend_from_slice(b"{\"v\":1,\"u\":");
    push_decimal(&mut text, n);
    push_common(&mut text, t_us, kind, session);
    text.extend_from_slice(b",\"d\":\"");
    encode(payload, &mut text);
    text.extend_from_slice(b"\"}");
    spelled(text)
}

/// The withheld twin of a line; `None` for what can never be withheld.
pub fn withheld_line(line: &[u8]) -> Option<String> {
    let Ok(Parsed::Record(record)) = parse_line(line) else {
        return None;
    };
    if record.kind.is_structural() {
        return None;
    }
    let content = Content::Withheld {
        len: record.len(),
        digest: record.digest(),
    };
    Some(Record { content, ..record }.to_line())
}

/// Reads one line without its newline.
pub fn parse_line(line: &[u8]) -> Result<Parsed, LineError> {
    if line.len() > MAX_LINE {
        return Err(LineError::TooLong);
    }
    read(line).ok_or(LineError::Spelling)
}

fn read(line: &[u8]) -> Option<Parsed> {
    let scanned = scan::<Bare>(line)?;
    let (previous, content) = match scanned.body {
        Body::Frame { payload } => {
            return Some(Parsed::Unsealed(Unsealed {
                n: scanned.number,
                t_us: scanned.t_us,
                kind: scanned.kind,
                session: scanned.session,
                payload: read_payload(payload)?,
            }));
        }
        Body::Full {
            previous,
            salt,
            payload,
        } => {
            let content = Content::Full {
                salt: decode_16(salt)?,
                payload: read_payload(payload)?,
            };
            (previous, content)
        }
        Body::Withheld {
            previous,
            len,
            digest,
        } => {
            let digest = decode_32(digest)?;
            (previous, Content::Withheld { len, digest })
        }
    };
    Some(Parsed::Record(Record {
        seq: scanned.number,
        t_us: scanned.t_us,
        kind: scanned.kind,
        session: scanned.session,
        previous: decode_32(previous)?,
        content,
    }))
}

fn read_payload(text: &[u8]) -> Option<Vec<u8>> {
    let length = decoded_len(text).filter(|length| *length <= MAX_PAYLOAD)?;
    let mut payload = vec![0; length];
    decode_into(text, length, &mut payload)?;
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            seq: 12,
            t_us: 1_764_000_000_000_001,
            kind: Kind::Output,
            session: 1,
            previous: [9; 32],
            content: Content::Full {
                salt: [1; 16],
                payload: b"hello".to_vec(),
            },
        }
    }

    #[test]
    fn a_line_is_read_back_to_the_record_that_wrote_it() {
        let line = record().to_line();
        assert_eq!(parse_line(line.as_bytes()), Ok(Parsed::Record(record())));
    }

    #[test]
    fn numbers_are_written_as_everybody_writes_them() {
        for power in (0..20).map(|power| 10u64.pow(power)) {
            for number in [
                0,
                power - 1,
                power,
                power + 1,
                power.saturating_mul(9),
                u64::MAX,
            ] {
                let mut text = Vec::new();
                push_decimal(&mut text, number);
                assert_eq!(spelled(text), number.to_string());
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_is_ascii_is_a_text_and_nothing_else_is() {
        for length in 0..100 {
            for byte in 0..=255 {
                let mut letters = vec![b'x'; length];
                if let Some(last) = letters.last_mut() {
                    *last = byte;
                }
                let expected = String::from_utf8(letters.clone()).ok();
                assert_eq!(crate::vector::ascii(letters), expected);
            }
        }
        assert_eq!(crate::vector::ascii("\u{e9}".into()), None);
    }

    #[test]
    fn a_withheld_line_keeps_the_hash() {
        let withheld = withheld_line(record().to_line().as_bytes()).unwrap();
        let Ok(Parsed::Record(read)) = parse_line(withheld.as_bytes()) else {
            panic!()
        };
        assert_eq!(read.hash(), record().hash());
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let line = record().to_line();
        for other in [
            format!("{line}\n"),
            format!(" {line}"),
            line.replace("\"s\":12", "\"s\":012"),
            line.replace("\"s\":12", "\"s\":+12"),
            line.replace("\"s\":12", "\"s\":1.2e1"),
            line.replace("\"s\":12", "\"s\": 12"),
            line.replace("\"v\":1", "\"v\":2"),
            line.replace("\"k\":\"o\"", "\"k\":\"O\""),
            line.replace("aGVsbG8=", "aGVsbG8"),
            line.replace("aGVsbG8=", "aGVsbG9="),
            line.replace("\"s\":12", "\"s\":9223372036854775808"),
            line.replace("\"s\":12", &format!("\"s\":1{}", "0".repeat(400))),
        ] {
            assert_ne!(other, line);
            assert_eq!(
                parse_line(other.as_bytes()),
                Err(LineError::Spelling),
                "{other}"
            );
        }
        assert_eq!(
            parse_line(&vec![b'{'; MAX_LINE + 1]),
            Err(LineError::TooLong)
        );
    }

    #[test]
    fn the_longest_payload_fits_the_longest_line() {
        let content = Content::Full {
            salt: [255; 16],
            payload: vec![255; MAX_PAYLOAD],
        };
        let record = Record {
            seq: MAX_NUMBER,
            t_us: MAX_NUMBER,
            session: u32::MAX,
            content,
            ..record()
        };
        let line = record.to_line();
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert_eq!(parse_line(line.as_bytes()), Ok(Parsed::Record(record)));
    }
}
