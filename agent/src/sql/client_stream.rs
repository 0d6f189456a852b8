//! What a client sends, cut into pieces for the record while it streams through.
//!
//! Every byte that reaches the server is in a piece, but the answers to its authentication. What a packet is, is judged as
//! the server judges it, by the number in its head; what a server would refuse (ER_NET_PACKETS_OUT_OF_ORDER) is refused
//! here already, so that there is no second opinion on where a command begins:
//!
//! - 0 begins a command, and a packet of 0xffffff bytes goes on with the next number;
//! - local data (LOAD DATA LOCAL) begins with the number after the server's request for it, goes on with the next number,
//!   which after 255 is 0, and ends with an empty packet;
//! - an answer to the server's authentication has the number after next, as the server spoke in between.
//!
//! Numbers of data have no gap and numbers of answers always have one. So what is left out of the record as an answer can
//! never be data to the server, whatever it made of the packet before. A first packet of data that has number 0, sent before
//! the server's request for it was heard (behind other results of one command), stands in the record as a command, whole, and
//! the next packet ends the connection.

use super::answers::Expected;
use super::broken::Broken;
use super::change_user::{ChangeUser, MAX_CHANGE};
use super::command::{self, CHANGE_USER};
use super::packet::{Head, Packet};
use super::piece::{DATA, FIRST, LAST, PIECE, Piece, REDACTED};
use super::xa::XaWatch;
use std::sync::atomic::{AtomicU16, Ordering};
use zeroize::Zeroizing;

/// Packets that a client may send in one authentication exchange.
const MAX_EXCHANGE: u8 = 8;
/// Largest packet of an authentication exchange.
const MAX_SECRET: usize = 64 * 1024;

/// What comes of a client's bytes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// To be recorded, before a byte is passed on.
    pub(crate) pieces: Vec<Piece>,
    /// Commands in `pass` that the server will answer.
    pub(crate) expected: Vec<Expected>,
    /// To be passed on.
    pub(crate) pass: Vec<u8>,
}

/// The server's request for local data, as the last that it said: noted by the other direction before the client hears it.
#[derive(Debug)]
pub(crate) struct Asked(AtomicU16);

impl Asked {
    const NOTHING: u16 = u16::MAX;

    /// Notes the number of the data's first packet, or that something else was said.
    pub(crate) fn note(&self, first: Option<u8>) {
        let first = first.map_or(Self::NOTHING, u16::from);
        self.0.store(first, Ordering::SeqCst);
    }

    fn take(&self) -> Option<u8> {
        u8::try_from(self.0.swap(Self::NOTHING, Ordering::SeqCst)).ok()
    }
}

impl Default for Asked {
    fn default() -> Self {
        Self(AtomicU16::new(Self::NOTHING))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// A command's packet, and its continuation after 16 MiB.
    Command,
    /// Data of a statement.
    Data,
    /// COM_CHANGE_USER, collected until it is whole.
    ChangeUser,
    /// An answer in an authentication exchange.
    Secret,
}

/// Follows the packets of one client after its login.
#[derive(Debug)]
pub(crate) struct ClientStream {
    account: String,
    /// Of the packet that begins; kept until it is known whether it is passed as it is.
    head: Vec<u8>,
    left: usize,
    goes_on: bool,
    /// Number of the packet before, then of this one.
    seq: u8,
    mode: Mode,
    first: bool,
    statement: u64,
    /// Of the statement: its command's byte.
    command: u8,
    /// Packets left in the authentication exchange; `None` outside of one.
    exchange: Option<u8>,
    /// Local data was begun and not ended.
    in_data: bool,
    collected: Zeroizing<Vec<u8>>,
    length: usize,
    xa: XaWatch,
}

impl ClientStream {
    /// After the login's packet of this number, as this account: the exchange that it began is not over.
    pub(crate) fn after_login(account: &str, seq: u8) -> Self {
        Self {
            account: account.to_owned(),
            head: Vec::with_capacity(4),
            left: 0,
            goes_on: false,
            seq,
            mode: Mode::Secret,
            first: false,
            statement: 0,
            command: 0,
            exchange: Some(MAX_EXCHANGE),
            in_data: false,
            collected: Zeroizing::default(),
            length: 0,
            xa: XaWatch::default(),
        }
    }

    /// Commands seen so far.
    pub(crate) fn statements(&self) -> u64 {
        self.statement
    }

    /// The number that an answer to the last packet has.
    pub(crate) fn answer_seq(&self) -> u8 {
        self.seq.wrapping_add(1)
    }

    /// Takes bytes as they came.
    ///
    /// # Errors
    /// When the client breaks the protocol, or wants what is not passed: what was taken is to be recorded then too, and
    /// none of it passed on.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        asked: &Asked,
        taken: &mut Taken,
    ) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = 4usize.saturating_sub(self.head.len()).min(bytes.len());
                let (head, rest) = bytes.split_at(wanted);
                self.head.extend_from_slice(head);
                bytes = rest;
                let Ok(head) = <[u8; 4]>::try_from(self.head.as_slice()) else {
                    continue;
                };
                self.begin(Head::of(head), asked)?;
                if self.left == 0 {
                    taken.pass.append(&mut self.head);
                    self.piece(&[], taken);
                }
                continue;
            }
            let (body, rest) = bytes.split_at(self.left.min(bytes.len()).min(PIECE));
            bytes = rest;
            if self.first && self.mode == Mode::Command {
                self.begin_command(body.first().copied().unwrap_or(0))?;
            }
            self.left -= body.len();
            if self.mode == Mode::ChangeUser {
                self.change_user(body, taken)?;
                continue;
            }
            taken.pass.append(&mut self.head);
            taken.pass.extend_from_slice(body);
            self.piece(body, taken);
            if self.mode != Mode::Secret && self.xa.take(body) {
                return Err(Broken::XaPrepare);
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: Head, asked: &Asked) -> Result<(), Broken> {
        let before = std::mem::replace(&mut self.seq, head.seq);
        let continues = std::mem::replace(&mut self.goes_on, head.goes_on());
        self.left = head.length;
        if continues {
            return in_order(head.seq, before.wrapping_add(1));
        }
        self.first = true;
        self.length = 0;
        self.mode = self.mode_of(head, before, asked)?;
        Ok(())
    }

    fn mode_of(&mut self, head: Head, before: u8, asked: &Asked) -> Result<Mode, Broken> {
        if self.in_data {
            in_order(head.seq, before.wrapping_add(1))?;
            self.in_data = head.length > 0;
            return Ok(Mode::Data);
        }
        if let Some(left) = self.exchange.filter(|_| head.seq != 0) {
            in_order(head.seq, before.wrapping_add(2))?;
            let left = left.checked_sub(1).ok_or(Broken::LongExchange)?;
            if head.length > MAX_SECRET {
                return Err(Broken::LongExchange);
            }
            self.exchange = Some(left);
            return Ok(Mode::Secret);
        }
        self.xa = XaWatch::default();
        match (head.seq, asked.take()) {
            (0, Some(0)) => Err(Broken::Ambiguous),
            (0, _) => {
                self.exchange = None;
                self.statement += 1;
                self.command = 0;
                Ok(Mode::Command)
            }
            (seq, Some(first)) if seq == first => {
                self.in_data = head.length > 0;
                Ok(Mode::Data)
            }
            (seq, _) => Err(Broken::OutOfOrder(seq)),
        }
    }

    /// A command that is not empty.
    fn begin_command(&mut self, command: u8) -> Result<(), Broken> {
        self.command = command;
        self.xa = XaWatch::of(command);
        match command::unanswered(command) {
            Some(least) if self.left < least => Err(Broken::ShortCommand(command)),
            _ if command == CHANGE_USER => self.begin_change(),
            _ => Ok(()),
        }
    }

    fn begin_change(&mut self) -> Result<(), Broken> {
        if self.left > MAX_CHANGE {
            return Err(Broken::ChangeUser);
        }
        self.mode = Mode::ChangeUser;
        self.exchange = Some(MAX_EXCHANGE);
        // At once, so that no copy of the secret is left behind by growing.
        self.collected.reserve_exact(self.left);
        Ok(())
    }

    /// Nothing of it is passed before it is whole, and then another packet.
    fn change_user(&mut self, body: &[u8], taken: &mut Taken) -> Result<(), Broken> {
        self.collected.extend_from_slice(body);
        self.first = false;
        if self.left > 0 {
            return Ok(());
        }
        self.head.clear();
        let whole = std::mem::take(&mut self.collected);
        let change = ChangeUser::parse(&whole).ok_or(Broken::ChangeUser)?;
        taken.pieces.push(Piece {
            statement: self.statement,
            flags: FIRST | LAST | REDACTED,
            bytes: change.recorded(),
        });
        taken.expected.push(self.expected());
        Broken::unless_account(&self.account, change.user)?;
        let passed = Packet {
            seq: self.seq,
            payload: change.without_secret(),
        };
        taken.pass.extend_from_slice(&passed.bytes());
        Ok(())
    }

    fn piece(&mut self, body: &[u8], taken: &mut Taken) {
        let last = self.left == 0 && !self.goes_on;
        let ends = if last { LAST } else { 0 };
        let begins = if self.first { FIRST } else { 0 };
        self.first = false;
        let (flags, bytes) = match self.mode {
            Mode::Command | Mode::ChangeUser => (begins | ends, body.to_vec()),
            Mode::Data => (begins | ends | DATA, body.to_vec()),
            Mode::Secret => {
                self.length += body.len();
                if !last {
                    return;
                }
                let length = u32::try_from(self.length).unwrap_or(u32::MAX);
                (
                    FIRST | LAST | DATA | REDACTED,
                    length.to_be_bytes().to_vec(),
                )
            }
        };
        taken.pieces.push(Piece {
            statement: self.statement,
            flags,
            bytes,
        });
        if flags & (LAST | DATA) == LAST && command::unanswered(self.command).is_none() {
            taken.expected.push(self.expected());
        }
    }

    /// The answer to the command that this packet ends.
    fn expected(&self) -> Expected {
        Expected {
            statement: self.statement,
            command: self.command,
            seq: self.answer_seq(),
        }
    }
}

fn in_order(seq: u8, expected: u8) -> Result<(), Broken> {
    if seq == expected {
        Ok(())
    } else {
        Err(Broken::OutOfOrder(seq))
    }
}

#[cfg(test)]
mod tests;
