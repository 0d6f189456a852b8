//! LINES.jsonl: `{"timestamp":MS,"message":"…"}` a line, or the plain messages.
//!
//! Reads any file in bounded memory: a line longer than a log event can be is skipped and counted.

use std::io::{self, Read};

use memchr::{memchr, memchr2, memrchr};
use powerpole_chain::verify::{Reducer, Verifier, verify_blocks};
use serde::Deserialize;

/// A line of the format with every byte escaped (`\u0041`) is shorter; what is longer is no record anyway.
const LONGEST: usize = 264 << 10;
/// What is read at once. Smaller ones make the threads wait for each other, larger ones leave the second-level cache.
const BLOCK: usize = 128 << 10;
const MOST_THREADS: usize = 2;

#[derive(Deserialize)]
struct Event {
    timestamp: i64,
    message: String,
}

/// Feeds every line of the file to the verifier, on as many threads as the machine has.
pub(crate) fn feed(reader: impl Read + Send, verifier: &mut Verifier) -> io::Result<()> {
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

fn open(line: &[u8], message: &mut Vec<u8>, reducer: &mut Reducer) {
    // Whether a block came to hold all of it depends on how the file was read; its worth must not.
    if line.len() > LONGEST {
        return reducer.unreadable();
    }
    let Some(rest) = line.strip_prefix(b"{\"timestamp\":") else {
        return reducer.line(line, None);
    };
    if let Some((timestamp, text)) = open_envelope(rest) {
        if reducer.quoted(text, Some(timestamp)) {
            return;
        }
        if open_text(text, message).is_some() {
            return reducer.line(message, Some(timestamp));
        }
    }
    match serde_json::from_slice::<Event>(line) {
        Ok(event) => reducer.line(event.message.as_bytes(), Some(event.timestamp)),
        Err(_) => reducer.unreadable(),
    }
}

/// The envelope as `export` writes it: digits, then the message. Anything else is JSON's. What stands in the message
/// is not looked at.
fn open_envelope(rest: &[u8]) -> Option<(i64, &[u8])> {
    let digits = rest
        .iter()
        .take(16)
        .take_while(|b| b.is_ascii_digit())
        .count();
    let (number, rest) = rest.split_at_checked(digits)?;
    if number.is_empty() || number.starts_with(b"0") {
        return None;
    }
    let timestamp = number
        .iter()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    let rest = rest.strip_prefix(b",\"message\":\"")?;
    Some((timestamp, rest.strip_suffix(b"\"}")?))
}

/// A message with no escape but that of the quote.
fn open_text(text: &[u8], message: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    message.clear();
    while let Some(place) = memchr2(b'\\', b'"', rest) {
        let (before, escape) = rest.split_at(place);
        message.extend_from_slice(before);
        rest = escape.strip_prefix(b"\\\"")?;
        message.push(b'"');
    }
    message.extend_from_slice(rest);
    Some(())
}

/// Whole lines, and room that was used before.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    filled: usize,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }
}

impl Block {
    /// Takes what a line that was cut left over, and gives back what only a long line needed.
    fn begin(&mut self, carry: &mut Vec<u8>) {
        self.bytes.truncate(2 * BLOCK);
        self.bytes.shrink_to(2 * BLOCK);
        self.filled = 0;
        self.room(carry.len()).copy_from_slice(carry);
        self.filled = carry.len();
        carry.clear();
        carry.shrink_to(BLOCK);
    }

    /// This many bytes behind what is filled.
    fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.filled + length;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }
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
    fn next(&mut self, mut block: Block) -> io::Result<Option<Block>> {
        block.begin(&mut self.carry);
        loop {
            if !self.more(&mut block)? {
                self.too_long += u64::from(std::mem::take(&mut self.skipping));
                return Ok((block.filled > 0).then_some(block));
            }
            if self.skipping {
                let Some(end) = memchr(b'\n', block.as_ref()) else {
                    block.filled = 0;
                    continue;
                };
                block.bytes.copy_within(end + 1..block.filled, 0);
                block.filled -= end + 1;
                self.skipping = false;
                self.too_long += 1;
            }
            if let Some(last) = memrchr(b'\n', block.as_ref()) {
                let left = block.as_ref().get(last + 1..).unwrap_or_default();
                self.carry.extend_from_slice(left);
                block.filled = last + 1;
                return Ok(Some(block));
            }
            if block.filled > LONGEST {
                block.filled = 0;
                self.skipping = true;
            }
        }
    }

    /// Reads once; false at the end.
    fn more(&mut self, block: &mut Block) -> io::Result<bool> {
        let space = block.room(BLOCK);
        let read = loop {
            match self.reader.read(space) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        block.filled += read;
        Ok(read > 0)
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
    fn a_line_that_is_too_long_is_unreadable_however_the_file_is_read() {
        let vector = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../chain/tests/vectors/valid/LINES.jsonl");
        let text = std::fs::read_to_string(vector).unwrap();
        let (first, _) = text.split_once('\n').unwrap();
        let rest = first.strip_prefix("{\"timestamp\":").unwrap();
        // JSON allows blanks: the same line, so long or one longer.
        let padded = |length: usize| {
            let blanks = " ".repeat(length - first.len());
            format!("{{\"timestamp\":{blanks}{rest}\n")
        };
        for step in [4096, BLOCK - 1, BLOCK, 1 << 20] {
            for (length, expected) in [(LONGEST, 0), (LONGEST + 1, 1), (LONGEST + BLOCK, 1)] {
                let mut verifier = Verifier::new(Inputs::default());
                feed(Dribble(padded(length).as_bytes(), step), &mut verifier).unwrap();
                assert_eq!(verifier.finish().unreadable, expected, "{length} by {step}");
            }
        }
    }

    #[test]
    fn the_fast_ways_into_the_envelope_agree_with_json() {
        let mut message = Vec::new();
        for line in [
            r#"{"timestamp":1700000000000,"message":"{\"v\":1,\"s\":0}"}"#,
            r#"{"timestamp":0,"message":"a"}"#,
            r#"{"timestamp":-5,"message":"a"}"#,
            r#"{"timestamp":05,"message":"a"}"#,
            r#"{"timestamp":,"message":"a"}"#,
            r#"{"timestamp":5,"message":"a\\"}"#,
            r#"{"timestamp":5,"message":"a\u0041"}"#,
            r#"{"timestamp":5,"message":"a"b"}"#,
            r#"{"timestamp":5,"message":"a\"}"#,
            r#"{"timestamp":5,"message":""}"#,
        ] {
            let slow = serde_json::from_str::<Event>(line).ok();
            let rest = line.strip_prefix("{\"timestamp\":").unwrap();
            let Some((timestamp, text)) = open_envelope(rest.as_bytes()) else {
                continue;
            };
            if open_text(text, &mut message).is_some() {
                let slow = slow.unwrap();
                assert_eq!(
                    (slow.timestamp, slow.message.as_bytes()),
                    (timestamp, &message[..])
                );
            }
        }
    }

    fn report(bytes: &[u8]) -> String {
        let mut verifier = Verifier::new(Inputs::default());
        feed(bytes, &mut verifier).unwrap();
        let report = verifier.finish();
        assert!(report.records > 0, "{report:?}");
        format!("{report:?}")
    }

    #[test]
    fn a_message_is_worth_the_same_however_json_spells_it() {
        let vectors =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors");
        for name in ["valid", "withheld", "unsealed-with-keyless-frames"] {
            let text = std::fs::read_to_string(vectors.join(name).join("LINES.jsonl")).unwrap();
            let expected = report(text.as_bytes());
            // Escapes that nobody needs, a blank where JSON allows one, another order of the keys.
            let letters = text.replace(r#"\"k\":\"o\""#, r#"\"k\":\"\u006f\""#);
            let payloads = text.replace(r#"\"d\":\"c"#, r#"\"d\":\"\u0063"#);
            let quotes = text.replace(r#"{\"v\""#, r#"{\u0022v\u0022"#);
            let blanks = text.replace(",\"message\":", ", \"message\": ");
            for other in [letters, payloads, quotes, blanks] {
                assert!(name != "valid" || other != text);
                assert_eq!(report(other.as_bytes()), expected, "{name}");
            }
        }
    }
}
