//! Which of a connection's statements the server answers, and what became of it. Advisory: the statements are the evidence.
//! What is told is true, or it is told that it is not known: each packet must have the number and the place that the
//! answer before it left; where one has not, no result of this connection is known from there on.
//!
//! No advice is whether the last that the server said may be a request for local data: without one a client may send none.

use super::answer::{Form, LOOKED_AT, Next, Said, is_progress, outcome, unknown};
use super::command;
use super::packet::Head;
use serde_json::Value;
use tokio::sync::mpsc;

/// A command that was passed on and will be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The statement's number.
    pub(crate) statement: u64,
    /// Its command's byte.
    pub(crate) command: u8,
    /// Number of the answer's first packet.
    pub(crate) seq: u8,
}

/// Follows the server's packets of one connection.
#[derive(Debug)]
pub(crate) struct Answers {
    expected: mpsc::Receiver<Expected>,
    form: Form,
    /// What the answer that is being given goes on with; `None` when that is not known any more.
    next: Option<Next>,
    /// What is being answered.
    current: Expected,
    head: Vec<u8>,
    left: usize,
    goes_on: bool,
    /// Whether the bytes that are read are their packet's rest after 16 MiB.
    rest: bool,
    /// Number of the packet before, then of this one.
    before: u8,
    seq: u8,
    length: usize,
    first: Vec<u8>,
}

impl Answers {
    /// After the login's packet of this number, which the server has not answered. CLIENT_DEPRECATE_EOF is agreed or not.
    pub(crate) fn after_login(
        seq: u8,
        deprecate_eof: bool,
        expected: mpsc::Receiver<Expected>,
    ) -> Self {
        let current = Expected {
            statement: 0,
            command: command::CHANGE_USER,
            seq: seq.wrapping_add(1),
        };
        Self {
            expected,
            form: Form { deprecate_eof },
            next: Some(Next::Authentication),
            current,
            head: Vec::with_capacity(4),
            left: 0,
            goes_on: false,
            rest: false,
            before: seq,
            seq,
            length: 0,
            first: Vec::with_capacity(LOOKED_AT),
        }
    }

    /// The number of the first packet of local data, where a request for it is the last that the server said. A row that
    /// begins with NULL looks the same, but the server says more after it.
    pub(crate) fn asks_for_data(&self) -> Option<u8> {
        let whole = self.left == 0 && self.head.is_empty() && !self.rest && !self.goes_on;
        (whole && self.first.first() == Some(&0xfb)).then(|| self.seq.wrapping_add(1))
    }

    /// Takes bytes as they came and hands out what became of statements. A command must be expected before its answer is
    /// taken. Of statement 0, the login, nothing is told.
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
                self.begin(Head::of(head));
            }
            let (body, rest) = bytes.split_at(self.left.min(bytes.len()));
            bytes = rest;
            self.left -= body.len();
            if !self.rest {
                let room = LOOKED_AT.saturating_sub(self.first.len()).min(body.len());
                self.first
                    .extend_from_slice(body.get(..room).unwrap_or_default());
            }
            if self.left == 0 && !self.rest {
                self.packet(&mut out);
            }
        }
    }

    fn begin(&mut self, head: Head) {
        self.before = std::mem::replace(&mut self.seq, head.seq);
        self.rest = std::mem::replace(&mut self.goes_on, head.goes_on());
        self.left = head.length;
        if self.rest {
            if !self.follows() {
                self.next = None;
            }
            return;
        }
        self.length = head.length;
        self.first.clear();
    }

    fn follows(&self) -> bool {
        self.seq == self.before.wrapping_add(1)
    }

    fn packet(&mut self, out: &mut impl FnMut(u64, Value)) {
        let (place, after) = self.judge();
        self.next = after;
        if let Some(told) = self.told(place, after) {
            out(self.current.statement, told);
        }
        if after.is_none() {
            while let Ok(waiting) = self.expected.try_recv() {
                out(waiting.statement, unknown());
            }
        }
    }

    /// What a packet in this place tells, where the answer's next one is this.
    fn told(&self, place: Option<Next>, after: Option<Next>) -> Option<Value> {
        let first = self.first.as_slice();
        let place = place.filter(|_| self.current.statement != 0)?;
        let told = match (place, after) {
            (Next::First | Next::Authentication, None) => return Some(unknown()),
            (_, None) => false,
            (_, Some(after)) if after == place && is_progress(first) => false,
            (Next::First, Some(after)) => after != Next::Authentication,
            (Next::Authentication, Some(after)) => after == Next::Over,
            (Next::Loaded, _) => true,
            // What broke off an answer that had begun.
            _ => first.first() == Some(&0xff),
        };
        told.then(|| outcome(self.current.command, first))
    }

    /// The place of the packet that was read, and what is next.
    fn judge(&mut self) -> (Option<Next>, Option<Next>) {
        let Some(mut place) = self.next else {
            return (None, None);
        };
        let in_order = match place {
            Next::Over => {
                let Ok(expected) = self.expected.try_recv() else {
                    return (None, None);
                };
                self.current = expected;
                place = Next::First;
                self.seq == expected.seq
            }
            // The client speaks in between.
            Next::Authentication | Next::Loaded => true,
            _ => self.follows(),
        };
        if !in_order {
            return (Some(place), None);
        }
        if is_progress(&self.first) {
            return (Some(place), Some(place));
        }
        let said = Said {
            first: &self.first,
            length: self.length,
        };
        let after = self.form.after(place, self.current.command, said);
        (Some(place), after.filter(|after| !self.is_early(*after)))
    }

    /// Whether a command that is waited for may be local data, sent with number 0 before the server's request was heard.
    fn is_early(&self, after: Next) -> bool {
        after == Next::Loaded && self.seq == u8::MAX && !self.expected.is_empty()
    }
}

#[cfg(test)]
mod tests;
