//! LINES.jsonl: `{"timestamp":MS,"message":"…"}` a line, or the plain messages.
//!
//! Reads any file in bounded memory: a line longer than a log event can be is skipped and counted.

use std::io::{self, BufRead};

use powerpole_chain::verify::Verifier;
use serde::Deserialize;

/// A line of the format with every byte escaped is shorter; what is longer is no record anyway.
const LONGEST: usize = 512 << 10;

#[derive(Deserialize)]
struct Event {
    timestamp: i64,
    message: String,
}

/// Feeds every line of the file to the verifier.
pub(crate) fn feed(reader: &mut dyn BufRead, verifier: &mut Verifier) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        match next_line(reader, &mut line)? {
            Found::End => return Ok(()),
            Found::TooLong => verifier.unreadable(1),
            Found::Line if line.is_empty() => {}
            Found::Line => feed_line(&line, verifier),
        }
    }
}

fn feed_line(line: &[u8], verifier: &mut Verifier) {
    if line.starts_with(b"{\"timestamp\":") {
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => verifier.line(event.message.as_bytes(), Some(event.timestamp)),
            Err(_) => verifier.unreadable(1),
        }
    } else {
        verifier.line(line, None);
    }
}

enum Found {
    Line,
    TooLong,
    End,
}

fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<Found> {
    let mut too_long = false;
    let mut any = false;
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(match (any, too_long) {
                (false, _) => Found::End,
                (true, false) => Found::Line,
                (true, true) => Found::TooLong,
            });
        }
        any = true;
        let (part, used, end) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(place) => (chunk.get(..place).unwrap_or_default(), place + 1, true),
            None => (chunk, chunk.len(), false),
        };
        if line.len() + part.len() > LONGEST {
            too_long = true;
            line.clear();
        }
        if !too_long {
            line.extend_from_slice(part);
        }
        reader.consume(used);
        if end {
            return Ok(if too_long {
                Found::TooLong
            } else {
                Found::Line
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_chain::verify::Inputs;

    fn unreadable(bytes: &[u8]) -> u64 {
        let mut verifier = Verifier::new(Inputs::default());
        feed(&mut io::BufReader::with_capacity(64, bytes), &mut verifier).unwrap();
        verifier.finish().unreadable
    }

    #[test]
    fn hostile_lines_are_counted_and_cost_no_memory() {
        let mut bytes = vec![b'x'; LONGEST + 100];
        bytes.extend_from_slice(b"\n\xff\xfe\n{\"timestamp\":1e400,\"message\":\"\"}\nlast");
        assert_eq!(unreadable(&bytes), 4);
    }
}
