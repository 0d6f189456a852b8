//! The spool's framing: what makes a file that was cut off in mid-write readable up to the cut.
//!
//! Every entry of a spool file is
//!
//! ```text
//! length of body u32 | CRC-32 of body u32 | body          all numbers big-endian
//! ```
//!
//! and a body is either a raw frame (`frames`) or a sealed line (`lines`):
//!
//! ```text
//! raw frame:    number u64 | t_us u64 | kind u8 | session u32 | payload
//! sealed line:  raw frames consumed so far u64 | seq u64 | t_us u64 | text of the line
//! ```
//!
//! The CRC tells a torn write from a whole one; it is no protection against people, the chain is.

/// Largest body that is ever written or read: a line of a 32 KiB payload with room to spare.
pub(crate) const MAX_BODY: usize = 256 * 1024;
/// Length of an entry's head.
pub(crate) const HEAD: usize = 8;
const RAW_FIELDS: usize = 21;
const LINE_FIELDS: usize = 24;

/// Head and numbers of a sealed line.
pub(crate) type LineHead = [u8; HEAD + LINE_FIELDS];

/// A raw frame, as it was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawFrame<'a> {
    /// Counts frames of this spool from 0.
    pub(crate) number: u64,
    /// Microseconds since the epoch.
    pub(crate) t_us: u64,
    /// The chain's kind code.
    pub(crate) kind: u8,
    /// Session number; 0 for the bastion itself.
    pub(crate) session: u32,
    /// At most 32 KiB.
    pub(crate) payload: &'a [u8],
}

/// A raw frame that is on its way to the sealer in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnFrame {
    /// As [`RawFrame::number`].
    pub(crate) number: u64,
    /// As [`RawFrame::t_us`].
    pub(crate) t_us: u64,
    /// As [`RawFrame::kind`].
    pub(crate) kind: u8,
    /// As [`RawFrame::session`].
    pub(crate) session: u32,
    /// As [`RawFrame::payload`].
    pub(crate) payload: Box<[u8]>,
}

/// A sealed line, ready to be shipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LineFrame {
    /// How many raw frames the chain holds after this line.
    pub(crate) consumed: u64,
    /// Sequence number of the record.
    pub(crate) seq: u64,
    /// Microseconds since the epoch.
    pub(crate) t_us: u64,
    /// The line's text.
    pub(crate) text: String,
}

/// What precedes a raw frame's payload in the file: both are written by one call, and the payload is not copied for it.
pub(crate) fn raw_head(frame: &RawFrame<'_>) -> [u8; HEAD + RAW_FIELDS] {
    let mut fields = [0; RAW_FIELDS];
    let mut at = Room(&mut fields);
    at.put(frame.number.to_be_bytes());
    at.put(frame.t_us.to_be_bytes());
    at.put([frame.kind]);
    at.put(frame.session.to_be_bytes());
    head(fields, frame.payload)
}

/// What precedes a sealed line's text in the file.
pub(crate) fn line_head(consumed: u64, seq: u64, t_us: u64, text: &str) -> LineHead {
    let mut fields = [0; LINE_FIELDS];
    let mut at = Room(&mut fields);
    at.put(consumed.to_be_bytes());
    at.put(seq.to_be_bytes());
    at.put(t_us.to_be_bytes());
    head(fields, text.as_bytes())
}

fn head<const FIELDS: usize, const LENGTH: usize>(
    fields: [u8; FIELDS],
    rest: &[u8],
) -> [u8; LENGTH] {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&fields);
    crc.update(rest);
    let length = u32::try_from(FIELDS + rest.len()).unwrap_or(u32::MAX);
    let mut head = [0; LENGTH];
    let mut at = Room(&mut head);
    at.put(length.to_be_bytes());
    at.put(crc.finalize().to_be_bytes());
    at.put(fields);
    head
}

/// Room that numbers are written into, one behind the other.
struct Room<'a>(&'a mut [u8]);

impl Room<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some((space, rest)) = std::mem::take(&mut self.0).split_first_chunk_mut() {
            *space = bytes;
            self.0 = rest;
        }
    }
}

/// Takes numbers off the front of a body.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}

impl OwnFrame {
    /// Reads a body.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        RawFrame::decode(body).map(Self::from)
    }

    /// Bytes of the entry in its file.
    pub(crate) fn entry_bytes(&self) -> u64 {
        (HEAD + RAW_FIELDS + self.payload.len()) as u64
    }
}

impl From<RawFrame<'_>> for OwnFrame {
    fn from(frame: RawFrame<'_>) -> Self {
        Self {
            number: frame.number,
            t_us: frame.t_us,
            kind: frame.kind,
            session: frame.session,
            payload: frame.payload.into(),
        }
    }
}

impl<'a> RawFrame<'a> {
    /// Reads a body.
    pub(crate) fn decode(body: &'a [u8]) -> Option<Self> {
        let mut at = Cursor(body);
        Some(Self {
            number: at.u64()?,
            t_us: at.u64()?,
            kind: at.take::<1>().map(|[kind]| kind)?,
            session: at.u32()?,
            payload: at.0,
        })
    }
}

impl LineFrame {
    /// Bytes of the entry in its file.
    pub(crate) fn entry_bytes(&self) -> u64 {
        (HEAD + LINE_FIELDS + self.text.len()) as u64
    }

    /// Reads a body.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut at = Cursor(body);
        Some(Self {
            consumed: at.u64()?,
            seq: at.u64()?,
            t_us: at.u64()?,
            text: String::from_utf8(at.0.to_vec()).ok()?,
        })
    }
}

/// Length and CRC of the body that follows this head.
pub(crate) fn split_head(head: &[u8]) -> Option<(usize, u32)> {
    let mut at = Cursor(head);
    Some((usize::try_from(at.u32()?).ok()?, at.u32()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_written() {
        let frame = RawFrame {
            number: 7,
            t_us: 99,
            kind: 3,
            session: 2,
            payload: b"hello",
        };
        let mut entry = raw_head(&frame).to_vec();
        entry.extend_from_slice(frame.payload);
        let (head, body) = entry.split_at(HEAD);
        assert_eq!(split_head(head), Some((body.len(), crc32fast::hash(body))));
        assert_eq!(RawFrame::decode(body), Some(frame));

        let text = "{\"v\":1}";
        let mut entry = line_head(8, 41, 100, text).to_vec();
        entry.extend_from_slice(text.as_bytes());
        let (head, body) = entry.split_at(HEAD);
        assert_eq!(split_head(head), Some((body.len(), crc32fast::hash(body))));
        let line = LineFrame::decode(body).unwrap();
        assert_eq!(
            (line.consumed, line.seq, line.text.as_str()),
            (8, 41, "{\"v\":1}")
        );
        assert_eq!(line.entry_bytes(), entry.len() as u64);
    }
}
