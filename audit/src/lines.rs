//! LINES.jsonl: `{"timestamp":MS,"message":"…"}` a line, or the plain messages.
//!
//! Reads any file in bounded memory: a line longer than a log event can be is skipped and counted.

use std::io::{self, Read};

use memchr::{memchr, memchr2, memrchr};
use powerpole_chain::verify::{Reduced, Reducer, Verifier, verify_blocks};
use serde::Deserialize;

/// A line of the format with every byte escaped (`\u0041`) is shorter; what is longer is no record anyway.
const LONGEST: usize = 264 << 10;
const BLOCK: usize = 32 << 10;
const MOST_THREADS: usize = 2;

#[derive(Deserialize)]
struct Event {
    timestamp: i64,
    message: String,
}

/// Feeds every line of the file to the verifier, on as many threads as the machine has.
pub(crate) fn feed(reader: impl Read, verifier: &mut Verifier) -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(MOST_THREADS));
    let mut blocks = Blocks {
        reader,
        carry: Vec::new(),
        skipping: false,
        too_long: 0,
    };
    let mut message = Vec::new();
    let open = move |line: &[u8], reducer: &mut Reducer| open(line, &mut message, reducer);
    verify_blocks(verifier, threads, |block| blocks.next(block), open)?;
    verifier.unreadable(blocks.too_long);
    Ok(())
}

fn open(line: &[u8], message: &mut Vec<u8>, reducer: &mut Reducer) -> Reduced {
    let Some(rest) = line.strip_prefix(b"{\"timestamp\":") else {
        return reducer.reduce(line, None);
    };
    if let Some(timestamp) = open_plain(rest, message) {
        return reducer.reduce(message, Some(timestamp));
    }
    match serde_json::from_slice::<Event>(line) {
        Ok(event) => reducer.reduce(event.message.as_bytes(), Some(event.timestamp)),
        Err(_) => Reduced::unreadable(),
    }
}

/// The envelope as `export` writes it: digits, and no escape but that of the quote. Anything else is JSON's.
fn open_plain(rest: &[u8], message: &mut Vec<u8>) -> Option<i64> {
    let digits = rest
        .iter()
        .take(16)
        .take_while(|b| b.is_ascii_digit())
        .count();
    let (number, rest) = rest.split_at_checked(digits)?;
    if number.starts_with(b"0") {
        return None;
    }
    let timestamp = std::str::from_utf8(number).ok()?.parse().ok()?;
    let rest = rest.strip_prefix(b",\"message\":\"")?;
    let mut rest = rest.strip_suffix(b"\"}")?;
    message.clear();
    while let Some(place) = memchr2(b'\\', b'"', rest) {
        let (before, escape) = rest.split_at(place);
        message.extend_from_slice(before);
        rest = escape.strip_prefix(b"\\\"")?;
        message.push(b'"');
    }
    message.extend_from_slice(rest);
    Some(timestamp)
}

/// A file in blocks of whole lines.
struct Blocks<R> {
    reader: R,
    /// The beginning of a line that the last block left.
    carry: Vec<u8>,
    /// The line that is being read is too long.
    skipping: bool,
    too_long: u64,
}

impl<R: Read> Blocks<R> {
    fn next(&mut self, mut block: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        block.clear();
        block.shrink_to(2 * BLOCK);
        block.append(&mut self.carry);
        self.carry.shrink_to(BLOCK);
        loop {
            if !self.more(&mut block)? {
                self.too_long += u64::from(std::mem::take(&mut self.skipping));
                return Ok((!block.is_empty()).then_some(block));
            }
            if self.skipping {
                let Some(end) = memchr(b'\n', &block) else {
                    block.clear();
                    continue;
                };
                block.drain(..=end);
                self.skipping = false;
                self.too_long += 1;
            }
            if let Some(last) = memrchr(b'\n', &block) {
                self.carry
                    .extend_from_slice(block.get(last + 1..).unwrap_or_default());
                block.truncate(last + 1);
                return Ok(Some(block));
            }
            if block.len() > LONGEST {
                block.clear();
                self.skipping = true;
            }
        }
    }

    /// Reads once; false at the end.
    fn more(&mut self, block: &mut Vec<u8>) -> io::Result<bool> {
        let before = block.len();
        block.resize(before + BLOCK, 0);
        let space = block.get_mut(before..).unwrap_or_default();
        let read = loop {
            match self.reader.read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        block.truncate(before + *read.as_ref().unwrap_or(&0));
        read.map(|length| length > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_chain::verify::Inputs;

    fn unreadable(bytes: &[u8]) -> u64 {
        let mut verifier = Verifier::new(Inputs::default());
        feed(bytes, &mut verifier).unwrap();
        verifier.finish().unreadable
    }

    #[test]
    fn hostile_lines_are_counted_and_cost_no_memory() {
        let mut bytes = vec![b'x'; LONGEST + 100];
        bytes.extend_from_slice(b"\n\xff\xfe\n{\"timestamp\":1e400,\"message\":\"\"}\nlast");
        assert_eq!(unreadable(&bytes), 4);
        bytes.extend_from_slice(&vec![b'y'; LONGEST * 3]);
        assert_eq!(unreadable(&bytes), 4, "the last line grew too long");
        assert_eq!(unreadable(&b"a\n".repeat(200_000)), 200_000);
    }

    /// Every block boundary, by a reader that gives what it likes.
    struct Dribble<'a>(&'a [u8], usize);

    impl Read for Dribble<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(space.len());
            let (head, tail) = self.0.split_at(n);
            space[..n].copy_from_slice(head);
            self.0 = tail;
            Ok(n)
        }
    }

    #[test]
    fn lines_are_whole_however_the_file_is_read() {
        let text = b"one\n\ntwo\n{\"timestamp\":1,\"message\":\"x\"}\nfour";
        for step in 1..text.len() {
            let mut verifier = Verifier::new(Inputs::default());
            feed(Dribble(text, step), &mut verifier).unwrap();
            assert_eq!(verifier.finish().unreadable, 4, "{step}");
        }
    }

    #[test]
    fn the_fast_way_into_the_envelope_agrees_with_json() {
        let mut message = Vec::new();
        for line in [
            r#"{"timestamp":1700000000000,"message":"{\"v\":1,\"s\":0}"}"#,
            r#"{"timestamp":0,"message":"a"}"#,
            r#"{"timestamp":-5,"message":"a"}"#,
            r#"{"timestamp":05,"message":"a"}"#,
            r#"{"timestamp":5,"message":"a\\"}"#,
            r#"{"timestamp":5,"message":"a\u0041"}"#,
            r#"{"timestamp":5,"message":"a"b"}"#,
            r#"{"timestamp":5,"message":"a\"}"#,
            r#"{"timestamp":5,"message":""}"#,
        ] {
            let slow = serde_json::from_str::<Event>(line).ok();
            let rest = line.strip_prefix("{\"timestamp\":").unwrap();
            if let Some(timestamp) = open_plain(rest.as_bytes(), &mut message) {
                let slow = slow.unwrap();
                assert_eq!(
                    (slow.timestamp, slow.message.as_bytes()),
                    (timestamp, &message[..])
                );
            }
        }
    }
}
