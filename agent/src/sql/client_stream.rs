//! What a client sends, cut into pieces for the record while it streams through.
//!
//! Every byte of every packet that a server could take for a command, or for the data of one, is in a piece. Left
//! out are passwords only: the packets of an authentication exchange. Those can never be commands: a command's
//! packet has sequence number 0 (servers refuse any other, ER_NET_PACKETS_OUT_OF_ORDER), and a packet with number
//! 0 is always recorded.

use super::packet::{Head, until_nul};
use super::xa::XaWatch;

/// Largest piece of a statement in one record.
pub(crate) const PIECE: usize = 32 * 1024 - HEADER;
/// Bytes before a piece in its record's payload.
pub(crate) const HEADER: usize = 13;

/// First piece of its statement.
pub(crate) const FIRST: u8 = 1;
/// Last piece of its statement.
pub(crate) const LAST: u8 = 2;
/// Data that belongs to a statement before it (LOAD DATA LOCAL): no command byte.
pub(crate) const DATA: u8 = 4;
/// Secrets are left out: of COM_CHANGE_USER the command byte, the user's name, NUL, the database, NUL and the character
/// set as a u16 are there, of an answer to the server's authentication only its length, as a u32.
pub(crate) const REDACTED: u8 = 8;

/// COM_CHANGE_USER, which carries a password's hash, or the password.
const CHANGE_USER: u8 = 0x11;
/// Commands that servers do not answer: COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE.
const UNANSWERED: [u8; 3] = [0x01, 0x18, 0x19];
/// Packets that a client may send in one authentication exchange.
const MAX_EXCHANGE: u8 = 8;
/// Largest packet of an authentication exchange.
const MAX_SECRET: usize = 64 * 1024;

/// A part of a statement, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Counts statements of the connection from 1; 0 for the exchange that belongs to the login.
    pub(crate) statement: u64,
    /// [`FIRST`], [`LAST`], [`DATA`], [`REDACTED`].
    pub(crate) flags: u8,
    /// Its bytes; the first piece of a command begins with the command byte.
    pub(crate) bytes: Vec<u8>,
    /// Whether the server answers this statement.
    pub(crate) answered: bool,
}

/// A client that breaks the protocol; its connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// An authentication that does not come to an end.
    #[error("the authentication exchange is too long")]
    LongExchange,
    /// A branch of a distributed transaction that would outlive the account.
    #[error("XA PREPARE is not passed on: what it leaves would outlive the window")]
    XaPrepare,
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
    head: Vec<u8>,
    left: usize,
    goes_on: bool,
    seq: u8,
    mode: Mode,
    first: bool,
    statement: u64,
    /// Packets left in the authentication exchange; `None` outside of one.
    exchange: Option<u8>,
    collected: Vec<u8>,
    length: usize,
    xa: XaWatch,
}

impl ClientStream {
    /// After a login's packet: the exchange that it began is not over.
    pub(crate) fn after_login() -> Self {
        Self {
            head: Vec::with_capacity(4),
            left: 0,
            goes_on: false,
            seq: 0,
            mode: Mode::Secret,
            first: false,
            statement: 0,
            exchange: Some(MAX_EXCHANGE),
            collected: Vec::new(),
            length: 0,
            xa: XaWatch::default(),
        }
    }

    /// Commands seen so far.
    pub(crate) fn statements(&self) -> u64 {
        self.statement
    }

    /// Takes bytes as they came and hands out what has to be recorded before they are passed on.
    ///
    /// # Errors
    /// When the client breaks the protocol.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        mut out: impl FnMut(Piece),
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
                self.head.clear();
                self.begin(Head::of(head))?;
                if self.left == 0 {
                    self.piece(&[], &mut out);
                }
                continue;
            }
            let (body, rest) = bytes.split_at(self.left.min(bytes.len()).min(PIECE));
            bytes = rest;
            self.left -= body.len();
            if self.first && self.mode == Mode::Command && body.first() == Some(&CHANGE_USER) {
                self.mode = Mode::ChangeUser;
                self.exchange = Some(MAX_EXCHANGE);
            }
            self.piece(body, &mut out);
            if self.mode == Mode::Command && self.xa.take(body) {
                return Err(Broken::XaPrepare);
            }
        }
        Ok(())
    }

    fn begin(&mut self, head: Head) -> Result<(), Broken> {
        let continues = self.goes_on;
        self.left = head.length;
        self.goes_on = head.goes_on();
        self.seq = head.seq;
        if continues {
            return Ok(());
        }
        self.first = true;
        self.length = 0;
        if head.seq == 0 {
            self.exchange = None;
            self.statement += 1;
            self.mode = Mode::Command;
            self.xa = XaWatch::default();
        } else if let Some(left) = self.exchange {
            let left = left.checked_sub(1).ok_or(Broken::LongExchange)?;
            if head.length > MAX_SECRET {
                return Err(Broken::LongExchange);
            }
            self.exchange = Some(left);
            self.mode = Mode::Secret;
        } else {
            self.mode = Mode::Data;
        }
        Ok(())
    }

    fn piece(&mut self, body: &[u8], out: &mut impl FnMut(Piece)) {
        let last = self.left == 0 && !self.goes_on;
        let ends = if last { LAST } else { 0 };
        let begins = if self.first { FIRST } else { 0 };
        let (flags, bytes) = match self.mode {
            Mode::Command => (begins | ends, body.to_vec()),
            Mode::Data => (begins | ends | DATA, body.to_vec()),
            Mode::ChangeUser => {
                // Name, authentication, database and character set stand first and are short.
                let room = 1024usize
                    .saturating_sub(self.collected.len())
                    .min(body.len());
                self.collected
                    .extend_from_slice(body.get(..room).unwrap_or_default());
                self.first = false;
                if !last {
                    return;
                }
                let bytes = changed_user(&self.collected);
                self.collected.fill(0);
                self.collected.clear();
                (FIRST | LAST | REDACTED, bytes)
            }
            Mode::Secret => {
                self.length += body.len();
                self.first = false;
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
        let command = bytes.first().copied().unwrap_or(0);
        let answered = flags & (FIRST | DATA) == FIRST && !UNANSWERED.contains(&command);
        self.first = false;
        out(Piece {
            statement: self.statement,
            flags,
            bytes,
            answered,
        });
    }
}

/// What is recorded of COM_CHANGE_USER: `11 | user NUL | length u8 | authentication | database NUL | charset u16 | …`
/// without the authentication. The login was refused unless the length has this form (CLIENT_SECURE_CONNECTION).
fn changed_user(packet: &[u8]) -> Vec<u8> {
    let rest = packet.get(1..).unwrap_or_default();
    let after_nul = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0).map(|at| at + 1);
    let name = until_nul(rest);
    let rest = after_nul(rest)
        .and_then(|at| rest.get(at..))
        .unwrap_or_default();
    let secret = rest.first().map_or(0, |length| usize::from(*length) + 1);
    let rest = rest.get(secret..).unwrap_or_default();
    let database = until_nul(rest);
    let charset = after_nul(rest)
        .and_then(|at| rest.get(at..)?.first_chunk::<2>())
        .map_or(0, |bytes| u16::from_le_bytes(*bytes));
    let mut bytes = vec![CHANGE_USER];
    for text in [name, database] {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    bytes.extend_from_slice(&charset.to_be_bytes());
    bytes
}

impl Piece {
    /// The record's payload: connection u32, statement u64, flags u8, bytes.
    pub(crate) fn payload(&self, connection: u32) -> Vec<u8> {
        let mut payload = Vec::with_capacity(HEADER + self.bytes.len());
        payload.extend_from_slice(&connection.to_be_bytes());
        payload.extend_from_slice(&self.statement.to_be_bytes());
        payload.push(self.flags);
        payload.extend_from_slice(&self.bytes);
        payload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        [&length[..3], &[seq], payload].concat()
    }

    fn pieces(stream: &mut ClientStream, bytes: &[u8], chunk: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for bytes in bytes.chunks(chunk) {
            stream.take(bytes, |piece| pieces.push(piece)).unwrap();
        }
        pieces
    }

    /// Statements put together again from their pieces.
    fn joined(pieces: &[Piece]) -> Vec<(u64, u8, Vec<u8>)> {
        let mut whole: Vec<(u64, u8, Vec<u8>)> = Vec::new();
        for piece in pieces {
            if piece.flags & FIRST != 0 {
                whole.push((piece.statement, piece.flags & (DATA | REDACTED), Vec::new()));
            }
            whole.last_mut().unwrap().2.extend_from_slice(&piece.bytes);
        }
        whole
    }

    #[test]
    fn statements_are_whole_however_the_bytes_arrive() {
        let big = vec![b'x'; 100_000];
        let bytes = [
            packet(0, b"\x03SELECT 1"),
            packet(0, b"\x0e"),
            packet(0, &big),
        ]
        .concat();
        for chunk in [1, 2, 3, 5, 4096, bytes.len()] {
            let mut stream = ClientStream::after_login();
            let pieces = pieces(&mut stream, &bytes, chunk);
            let expected = vec![
                (1, 0, b"\x03SELECT 1".to_vec()),
                (2, 0, b"\x0e".to_vec()),
                (3, 0, big.clone()),
            ];
            assert_eq!(joined(&pieces), expected, "{chunk}");
            assert!(
                pieces
                    .iter()
                    .all(|piece| piece.payload(1).len() <= 32 * 1024)
            );
            assert_eq!(pieces.iter().filter(|piece| piece.answered).count(), 3);
        }
    }

    #[test]
    fn a_statement_of_more_than_16_mib_is_one_statement() {
        let rest = vec![7; 10];
        let bytes = [
            packet(0, &vec![3; 0xff_ffff]),
            packet(1, &rest),
            packet(0, b"\x03after"),
        ]
        .concat();
        let mut stream = ClientStream::after_login();
        let joined = joined(&pieces(&mut stream, &bytes, 32 * 1024));
        assert_eq!(joined.len(), 2);
        assert_eq!(joined[0].2.len(), 0xff_ffff + 10);
        assert_eq!(joined[1].2, b"\x03after");
    }

    #[test]
    fn passwords_are_left_out_and_nothing_else_is() {
        let bytes = [
            packet(3, b"secret of the login\0"),
            packet(0, b"\x03SELECT 2"),
            packet(0, b"\x11mallory\0\x14hashhashhashhashhashdb\0"),
            packet(2, b"secret of the change\0"),
            packet(0, b"\x03SELECT 3"),
            packet(2, b"data of LOAD DATA LOCAL"),
            packet(3, b""),
        ]
        .concat();
        for chunk in [1, 7, bytes.len()] {
            let mut stream = ClientStream::after_login();
            let pieces = pieces(&mut stream, &bytes, chunk);
            let text: Vec<u8> = pieces
                .iter()
                .flat_map(|piece| piece.bytes.clone())
                .collect();
            assert!(!text.windows(6).any(|w| w == b"secret" || w == b"hashha"));
            let expected = vec![
                (0, DATA | REDACTED, 20u32.to_be_bytes().to_vec()),
                (1, 0, b"\x03SELECT 2".to_vec()),
                (2, REDACTED, b"\x11mallory".to_vec()),
                (2, DATA | REDACTED, 21u32.to_be_bytes().to_vec()),
                (3, 0, b"\x03SELECT 3".to_vec()),
                (3, DATA, b"data of LOAD DATA LOCAL".to_vec()),
                (3, DATA, Vec::new()),
            ];
            assert_eq!(joined(&pieces), expected, "{chunk}");
        }
    }

    #[test]
    fn an_authentication_without_end_is_cut() {
        let mut stream = ClientStream::after_login();
        for n in 0..MAX_EXCHANGE {
            stream.take(&packet(3 + n, b"x"), |_| {}).unwrap();
        }
        assert_eq!(
            stream.take(&packet(99, b"x"), |_| {}),
            Err(Broken::LongExchange)
        );
    }
}
