//! What the server answers, as far as a first packet tells: done, refused, or rows. Advisory: the statements are the
//! evidence, this says what became of them. No advice is whether the last that it said may be a request for local data:
//! without one a client may send none.

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
    /// The statement (COM_CHANGE_USER) that the server asked a password for, until it says what became of it.
    authenticating: Option<u64>,
    /// Number and first byte of a packet that is not its predecessor's rest.
    packet: Option<(u8, Option<u8>)>,
}

impl Answers {
    /// A statement was passed on that the server will answer.
    pub(crate) fn expect(&mut self, statement: u64) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(statement);
        }
    }

    /// The number of the first packet of local data, where a request for it is the last that the server said. A row that
    /// begins with NULL looks the same, but the server says more after it.
    pub(crate) fn asks_for_data(&self) -> Option<u8> {
        match self.packet {
            Some((seq, Some(0xfb))) if self.left == 0 && self.head.is_empty() => {
                Some(seq.wrapping_add(1))
            }
            _ => None,
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
                self.current = if continues {
                    None
                } else if head.seq == 1 {
                    self.authenticating = None;
                    self.waiting.pop_front()
                } else {
                    self.authenticating.take()
                };
                self.packet = (!continues && !self.goes_on).then_some((head.seq, None));
                self.first.clear();
            }
            let (body, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            self.left -= body.len();
            if let Some((_, first @ None)) = &mut self.packet {
                *first = body.first().copied();
            }
            let Some(statement) = self.current else {
                continue;
            };
            let room = LOOKED_AT.saturating_sub(self.first.len()).min(body.len());
            self.first
                .extend_from_slice(body.get(..room).unwrap_or_default());
            if self.left == 0 || self.first.len() >= LOOKED_AT {
                self.current = None;
                let later = self.packet.is_some_and(|(seq, _)| seq != 1);
                if is_authentication(&self.first, later) {
                    self.authenticating = Some(statement);
                } else {
                    out(statement, outcome(&self.first));
                }
            }
        }
    }
}

/// Whether this asks for a password: `fe ‖ plugin NUL ‖ …` (AuthSwitchRequest), or `01 ‖ …` later (AuthMoreData).
fn is_authentication(first: &[u8], later: bool) -> bool {
    // An EOF packet begins with fe too, and goes on with a small number.
    matches!(first, [0xfe, b' '..=b'~', _, _, _, _, ..]) || later && first.first() == Some(&0x01)
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

    fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&length[..3], &[seq], payload].concat()
    }

    #[test]
    fn each_statement_gets_its_own_answer() {
        let bytes = [
            packet(1, &[0, 1, 0, 2, 0, 0, 0]),
            packet(1, &[2]),
            packet(2, b"column"),
            packet(1, b"\xfecaching_sha2_password\0saltsalt"),
            packet(3, b"\x01\x04"),
            packet(5, &[0, 0, 0, 2, 0, 0, 0]),
            packet(1, b"\xff\x7a\x04#42S02Table 'x' doesn't exist"),
        ]
        .concat();
        for chunk in [1, 3, bytes.len()] {
            let mut answers = Answers::default();
            (1..=4).for_each(|statement| answers.expect(statement));
            let mut seen = Vec::new();
            for bytes in bytes.chunks(chunk) {
                answers.take(bytes, |statement, value| seen.push((statement, value)));
            }
            assert_eq!(seen.len(), 4, "{chunk}");
            for ((statement, value), (expected, outcome)) in
                seen.iter()
                    .zip([(1, "ok"), (2, "rows"), (3, "ok"), (4, "error")])
            {
                assert_eq!(
                    (*statement, &value["outcome"]),
                    (expected, &outcome.into()),
                    "{chunk}"
                );
            }
            assert_eq!(seen[3].1["error"], 1146);
            assert_eq!(seen[3].1["state"], "42S02");
        }
    }

    #[test]
    fn data_is_asked_for_by_the_last_that_was_said() {
        let mut answers = Answers::default();
        let mut after = |bytes: &[u8]| {
            answers.take(bytes, |_, _| {});
            answers.asks_for_data()
        };
        let request = packet(1, b"\xfbfile.csv");
        let (most, last) = request.split_at(request.len() - 1);
        assert_eq!(after(most), None);
        assert_eq!(after(last), Some(2));
        assert_eq!(after(&packet(255, b"\xfbfile.csv")), Some(0));
        // A row that begins with NULL, and what comes after it in any case.
        assert_eq!(after(&packet(7, b"\xfb\x01x")), Some(8));
        assert_eq!(after(&packet(8, &[0xfe, 0, 0, 2, 0])[..3]), None);
        assert_eq!(after(&packet(8, &[0xfe, 0, 0, 2, 0])[3..]), None);
        // The rest of a long packet is no request, whatever it begins with.
        let long = packet(3, &vec![0xfb; 0xff_ffff]);
        assert_eq!(after(&long), None);
        assert_eq!(after(&packet(4, b"\xfbfile.csv")), None);
        assert_eq!(after(&packet(5, b"\xfbfile.csv")), Some(6));
    }
}
