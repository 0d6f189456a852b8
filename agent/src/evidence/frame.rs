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

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Largest body that is ever written or read: a line of a 32 KiB payload with room to spare.
pub(crate) const MAX_BODY: usize = 256 * 1024;
const HEAD: usize = 8;
const READ_AHEAD: usize = 1024 * 1024;

/// A raw frame, as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFrame {
    /// Counts frames of this spool from 0.
    pub(crate) number: u64,
    /// Microseconds since the epoch.
    pub(crate) t_us: u64,
    /// The chain's kind code.
    pub(crate) kind: u8,
    /// Session number; 0 for the bastion itself.
    pub(crate) session: u32,
    /// At most 32 KiB.
    pub(crate) payload: Vec<u8>,
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

/// Appends one raw frame's bytes to `out`.
pub(crate) fn encode_raw(
    out: &mut Vec<u8>,
    number: u64,
    t_us: u64,
    kind: u8,
    session: u32,
    payload: &[u8],
) {
    enclose(out, |out| {
        out.extend_from_slice(&number.to_be_bytes());
        out.extend_from_slice(&t_us.to_be_bytes());
        out.push(kind);
        out.extend_from_slice(&session.to_be_bytes());
        out.extend_from_slice(payload);
    });
}

/// Appends one sealed line's bytes to `out`.
pub(crate) fn encode_line(out: &mut Vec<u8>, consumed: u64, seq: u64, t_us: u64, text: &str) {
    enclose(out, |out| {
        out.extend_from_slice(&consumed.to_be_bytes());
        out.extend_from_slice(&seq.to_be_bytes());
        out.extend_from_slice(&t_us.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    });
}

fn enclose(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    body(out);
    let (length, crc) = out.get(start + HEAD..).map_or((0, 0), |body| {
        (
            u32::try_from(body.len()).unwrap_or(u32::MAX),
            crc32fast::hash(body),
        )
    });
    if let Some(head) = out.get_mut(start..start + HEAD) {
        let (first, second) = head.split_at_mut(4);
        first.copy_from_slice(&length.to_be_bytes());
        second.copy_from_slice(&crc.to_be_bytes());
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

impl RawFrame {
    /// Reads a body.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut at = Cursor(body);
        Some(Self {
            number: at.u64()?,
            t_us: at.u64()?,
            kind: at.take::<1>().map(|[kind]| kind)?,
            session: at.u32()?,
            payload: at.0.to_vec(),
        })
    }
}

impl LineFrame {
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

/// Reads a spool file's bodies in order, while another part of the process goes on writing it.
#[derive(Debug)]
pub(crate) struct FrameReader {
    file: File,
    /// Where the next body's head lies in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// Where `buffer` begins in the file.
    buffered_from: u64,
}

impl FrameReader {
    /// Reads from `offset`, which must be the start of an entry.
    pub(crate) fn new(file: File, offset: u64) -> Self {
        Self {
            file,
            offset,
            buffer: Vec::new(),
            buffered_from: offset,
        }
    }

    /// Where the next entry begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes back (or forth) to the entry at `offset`.
    pub(crate) fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next body, or `None` when no whole entry is there (yet). A torn or damaged entry is never passed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next_body(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(head) = self.window(self.offset, HEAD)? else {
            return Ok(None);
        };
        let Some((length, crc)) = split_head(head) else {
            return Ok(None);
        };
        if length > MAX_BODY {
            return Ok(None);
        }
        let body_at = self.offset + HEAD as u64;
        if self
            .window(body_at, length)?
            .is_none_or(|body| crc32fast::hash(body) != crc)
        {
            return Ok(None);
        }
        self.offset = body_at + length as u64;
        self.window(body_at, length)
    }

    fn window(&mut self, at: u64, length: usize) -> io::Result<Option<&[u8]>> {
        if !self.holds(at, length) {
            self.fill(at)?;
        }
        if !self.holds(at, length) {
            return Ok(None);
        }
        let from = usize::try_from(at - self.buffered_from).unwrap_or(usize::MAX);
        Ok(self.buffer.get(from..from.saturating_add(length)))
    }

    fn holds(&self, at: u64, length: usize) -> bool {
        at >= self.buffered_from
            && at + length as u64 <= self.buffered_from + self.buffer.len() as u64
    }

    fn fill(&mut self, at: u64) -> io::Result<()> {
        self.buffer.resize(READ_AHEAD, 0);
        self.buffered_from = at;
        let mut filled = 0;
        while let Some(space) = self
            .buffer
            .get_mut(filled..)
            .filter(|space| !space.is_empty())
        {
            match self.file.read_at(space, at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.buffer.clear();
                    return Err(e);
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }
}

fn split_head(head: &[u8]) -> Option<(usize, u32)> {
    let mut at = Cursor(head);
    Some((usize::try_from(at.u32()?).ok()?, at.u32()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        let mut bytes = Vec::new();
        encode_raw(&mut bytes, 7, 99, 3, 2, b"hello");
        encode_line(&mut bytes, 8, 41, 100, "{\"v\":1}");
        let mut reader = FrameReader::new(file_of(&bytes), 0);
        let raw = RawFrame::decode(reader.next_body().unwrap().unwrap()).unwrap();
        assert_eq!((raw.number, raw.t_us, raw.kind, raw.session), (7, 99, 3, 2));
        assert_eq!(raw.payload, b"hello");
        let line = LineFrame::decode(reader.next_body().unwrap().unwrap()).unwrap();
        assert_eq!(
            (line.consumed, line.seq, line.text.as_str()),
            (8, 41, "{\"v\":1}")
        );
        assert!(reader.next_body().unwrap().is_none());
    }

    #[test]
    fn a_file_cut_at_any_byte_reads_up_to_the_last_whole_frame() {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for n in 0..4u64 {
            encode_raw(&mut bytes, n, n, 0, 1, &vec![b'x'; 30 * n as usize]);
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let mut reader = FrameReader::new(file_of(&bytes[..cut]), 0);
            let mut whole = 0;
            while reader.next_body().unwrap().is_some() {
                whole += 1;
            }
            assert_eq!(
                whole,
                ends.iter().filter(|end| **end > 0 && **end <= cut).count()
            );
        }
    }

    #[test]
    fn a_flipped_bit_stops_the_reader() {
        let mut bytes = Vec::new();
        encode_raw(&mut bytes, 0, 0, 0, 1, b"payload");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let mut reader = FrameReader::new(file_of(&damaged), 0);
            assert!(reader.next_body().unwrap().is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_written_later_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut reader = FrameReader::new(file.reopen().unwrap(), 0);
        assert!(reader.next_body().unwrap().is_none());
        let mut bytes = Vec::new();
        encode_raw(&mut bytes, 0, 0, 0, 1, b"late");
        file.as_file().write_all(&bytes).unwrap();
        assert!(reader.next_body().unwrap().is_some());
    }
}
