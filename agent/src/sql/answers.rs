//! What the server answers, as far as a first packet tells: done, refused, or rows. Advisory: the statements are the
//! evidence, this says what became of them.

use super::packet::Head;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// Bytes of an answer's first packet that are looked at.
const LOOKED_AT: usize = 600;
/// Statements whose answers are waited for; more are not told of.
const MAX_WAITING: usize = 1024;

/// Follows the server's packets of one connection.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: VecDeque<u64>,
    head: Vec<u8>,
    left: usize,
    goes_on: bool,
    /// The statement whose answer's first packet is being read.
    current: Option<u64>,
    first: Vec<u8>,
}

impl Answers {
    /// A statement was passed on that the server will answer.
    pub(crate) fn expect(&mut self, statement: u64) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(statement);
        }
    }

    /// Takes bytes as they came and hands out what became of statements.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut out: impl FnMut(u64, Value)) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = 4usize.saturating_sub(self.head.len()).min(bytes.len());
                let (head, rest) = bytes.split_at(wanted);
                self.head.extend_from_slice(head);
                bytes = rest;
                let Ok(head) = <[u8; 4]>::try_from(self.head.as_slice()) else {
                    continue;
                };
                self.head.clear();
                let head = Head::of(head);
                let continues = self.goes_on;
                self.left = head.length;
                self.goes_on = head.goes_on();
                // Only an answer's first packet has number 1; a long one comes by it again after 256 packets,
                // when nothing is waiting any more.
                self.current = if head.seq == 1 && !continues {
                    self.waiting.pop_front()
                } else {
                    None
                };
                self.first.clear();
            }
            let (body, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            self.left -= body.len();
            let Some(statement) = self.current else {
                continue;
            };
            let room = LOOKED_AT.saturating_sub(self.first.len()).min(body.len());
            self.first
                .extend_from_slice(body.get(..room).unwrap_or_default());
            if self.left == 0 || self.first.len() >= LOOKED_AT {
                self.current = None;
                out(statement, outcome(&self.first));
            }
        }
    }
}

fn outcome(first: &[u8]) -> Value {
    match first {
        [0x00, ..] => json!({"outcome": "ok"}),
        [0xff, low, high, rest @ ..] => {
            let (state, message) = match rest {
                [b'#', rest @ ..] => rest.split_at(rest.len().min(5)),
                rest => rest.split_at(0),
            };
            json!({
                "outcome": "error",
                "error": u16::from_le_bytes([*low, *high]),
                "state": String::from_utf8_lossy(state),
                "message": String::from_utf8_lossy(message),
            })
        }
        [0xfb, ..] => json!({"outcome": "asks_for_data"}),
        _ => json!({"outcome": "rows"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_gets_its_own_answer() {
        let packet = |seq: u8, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
            [&length[..3], &[seq], payload].concat()
        };
        let bytes = [
            packet(1, &[0, 1, 0, 2, 0, 0, 0]),
            packet(1, &[2]),
            packet(2, b"column"),
            packet(1, b"\xff\x7a\x04#42S02Table 'x' doesn't exist"),
        ]
        .concat();
        for chunk in [1, 3, bytes.len()] {
            let mut answers = Answers::default();
            (1..=3).for_each(|statement| answers.expect(statement));
            let mut seen = Vec::new();
            for bytes in bytes.chunks(chunk) {
                answers.take(bytes, |statement, value| seen.push((statement, value)));
            }
            assert_eq!(seen.len(), 3, "{chunk}");
            assert_eq!(seen[0].1["outcome"], "ok");
            assert_eq!(seen[1].1["outcome"], "rows");
            assert_eq!(seen[2].1["error"], 1146);
            assert_eq!(seen[2].1["state"], "42S02");
        }
    }
}
