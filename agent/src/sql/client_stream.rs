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

use super::change_user::{CHANGE_USER, ChangeUser, MAX_CHANGE};
use super::packet::{Head, Packet};
use super::xa::XaWatch;
use std::sync::atomic::{AtomicU16, Ordering};
use zeroize::Zeroizing;

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
/// Secrets are left out: COM_CHANGE_USER is there as [`ChangeUser::recorded`] has it, of an answer to the server's
/// authentication only its length, as a u32.
pub(crate) const REDACTED: u8 = 8;

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

/// What comes of a client's bytes.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// To be recorded, before a byte is passed on.
    pub(crate) pieces: Vec<Piece>,
    /// To be passed on.
    pub(crate) pass: Vec<u8>,
}

/// A client that breaks the protocol, or wants what is not passed; its connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// An authentication that does not come to an end.
    #[error("the authentication exchange is too long")]
    LongExchange,
    /// A packet whose number the server would not take.
    #[error("packet number {0} is out of order")]
    OutOfOrder(u8),
    /// A command, or the local data that the server may have asked for by a number 255.
    #[error("packet number 0 is a command or local data, and nothing tells which")]
    Ambiguous,
    /// A COM_CHANGE_USER of a form that is not read here.
    #[error("a change of user of this form is not passed on")]
    ChangeUser,
    /// Another account than the grant's.
    #[error("this way to the database is for the account '{right}' alone")]
    OtherAccount {
        /// The grant's account.
        right: String,
        /// The one that was asked for, cut to a name's length.
        asked: String,
    },
    /// A branch of a distributed transaction that would outlive the account.
    #[error("XA PREPARE is not passed on: what it leaves would outlive the window")]
    XaPrepare,
}

impl Broken {
    /// A stable name, for the record and the log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::LongExchange | Self::OutOfOrder(_) | Self::Ambiguous | Self::ChangeUser => {
                "sql_protocol"
            }
            Self::OtherAccount { .. } => "sql_other_account",
            Self::XaPrepare => "sql_xa_prepare",
        }
    }

    /// Refuses who is not the grant's account.
    pub(crate) fn unless_account(right: &str, asked: &[u8]) -> Result<(), Self> {
        const LONGEST_NAME: usize = 80;
        if asked == right.as_bytes() {
            return Ok(());
        }
        let asked = asked.get(..LONGEST_NAME).unwrap_or(asked);
        Err(Self::OtherAccount {
            right: right.to_owned(),
            asked: String::from_utf8_lossy(asked).into_owned(),
        })
    }
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
            if self.first && self.mode == Mode::Command && body.first() == Some(&CHANGE_USER) {
                self.begin_change()?;
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
                Ok(Mode::Command)
            }
            (seq, Some(first)) if seq == first => {
                self.in_data = head.length > 0;
                Ok(Mode::Data)
            }
            (seq, _) => Err(Broken::OutOfOrder(seq)),
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
            answered: true,
        });
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
        let command = bytes.first().copied().unwrap_or(0);
        let answered = flags & (FIRST | DATA) == FIRST && !UNANSWERED.contains(&command);
        taken.pieces.push(Piece {
            statement: self.statement,
            flags,
            bytes,
            answered,
        });
    }
}

fn in_order(seq: u8, expected: u8) -> Result<(), Broken> {
    if seq == expected {
        Ok(())
    } else {
        Err(Broken::OutOfOrder(seq))
    }
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

    /// A client after its login, whose packet had number 2.
    fn stream() -> ClientStream {
        ClientStream::after_login("alice", 2)
    }

    fn asked(first: u8) -> Asked {
        let asked = Asked::default();
        asked.note(Some(first));
        asked
    }

    /// Takes packets, chunk by chunk.
    fn try_all(
        stream: &mut ClientStream,
        bytes: &[u8],
        chunk: usize,
        asked: &Asked,
    ) -> Result<Taken, Broken> {
        let mut all = Taken::default();
        for bytes in bytes.chunks(chunk) {
            stream.take(bytes, asked, &mut all)?;
        }
        Ok(all)
    }

    /// The same where the server asks for nothing.
    fn all(stream: &mut ClientStream, bytes: &[u8], chunk: usize) -> Taken {
        try_all(stream, bytes, chunk, &Asked::default()).unwrap()
    }

    /// Why the last of these is refused.
    fn refused(stream: &mut ClientStream, bytes: &[u8], asked: &Asked) -> Broken {
        try_all(stream, bytes, 32 * 1024, asked).unwrap_err()
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
            let taken = all(&mut stream(), &bytes, chunk);
            let expected = vec![
                (1, 0, b"\x03SELECT 1".to_vec()),
                (2, 0, b"\x0e".to_vec()),
                (3, 0, big.clone()),
            ];
            let pieces = &taken.pieces;
            assert_eq!(joined(pieces), expected, "{chunk}");
            assert_eq!(taken.pass, bytes, "{chunk}");
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
        let long = packet(0, &vec![3; 0xff_ffff]);
        let bytes = [&long[..], &packet(1, &rest), &packet(0, b"\x03after")].concat();
        let joined = joined(&all(&mut stream(), &bytes, 32 * 1024).pieces);
        assert_eq!(joined.len(), 2);
        assert_eq!(joined[0].2.len(), 0xff_ffff + 10);
        assert_eq!(joined[1].2, b"\x03after");
        for wrong in [0, 2] {
            let bytes = [&long[..], &packet(wrong, &rest)].concat();
            let refused = refused(&mut stream(), &bytes, &Asked::default());
            assert_eq!(refused, Broken::OutOfOrder(wrong));
        }
    }

    #[test]
    fn passwords_are_left_out_and_nothing_else_is() {
        let bytes = [
            packet(4, b"secret of the login\0"),
            packet(0, b"\x03SELECT 2"),
            packet(0, b"\x11alice\0\x14hashhashhashhashhashdb\0\x2d\0plugin\0"),
            packet(2, b"secret of the change\0"),
            packet(4, b"secret once more\0"),
            packet(0, b"\x03SELECT 3"),
        ]
        .concat();
        let data = [
            packet(2, b"data of LOAD DATA LOCAL"),
            packet(3, b""),
            packet(0, b"\x03SELECT 4"),
        ]
        .concat();
        for chunk in [1, 7, bytes.len()] {
            let mut stream = stream();
            let mut taken = all(&mut stream, &bytes, chunk);
            let more = try_all(&mut stream, &data, chunk, &asked(2)).unwrap();
            assert_eq!(more.pass, data);
            taken.pieces.extend(more.pieces);
            let text: Vec<u8> = taken.pieces.iter().flat_map(|p| p.bytes.clone()).collect();
            assert!(!text.windows(6).any(|w| w == b"secret" || w == b"hashha"));
            let passed = packet(0, b"\x11alice\0\0db\0\x2d\0powerpole\0");
            assert!(taken.pass.windows(passed.len()).any(|w| w == passed));
            let expected = vec![
                (0, DATA | REDACTED, 20u32.to_be_bytes().to_vec()),
                (1, 0, b"\x03SELECT 2".to_vec()),
                (2, REDACTED, b"\x11alice\0db\0\0\x2d".to_vec()),
                (2, DATA | REDACTED, 21u32.to_be_bytes().to_vec()),
                (2, DATA | REDACTED, 17u32.to_be_bytes().to_vec()),
                (3, 0, b"\x03SELECT 3".to_vec()),
                (3, DATA, b"data of LOAD DATA LOCAL".to_vec()),
                (3, DATA, Vec::new()),
                (4, 0, b"\x03SELECT 4".to_vec()),
            ];
            assert_eq!(joined(&taken.pieces), expected, "{chunk}");
        }
    }

    /// 254 packets of data bring the number round to 0; what follows is made to look like COM_CHANGE_USER and its exchange.
    #[test]
    fn data_stays_data_when_its_number_comes_round_to_0() {
        let command = b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
        let looks = b"\x11alice\0\0db\0\x2d\0SET @s=(SELECT 1)";
        let mut stream = stream();
        let mut pieces = all(&mut stream, &packet(0, command), 4096).pieces;
        let mut payloads: Vec<&[u8]> = vec![b"a\n"; 254];
        payloads.push(looks);
        payloads.extend([&b"hidden rows"[..]; 300]);
        payloads.push(b"");
        let numbers = (2..=255).chain((0..=255).cycle());
        let data: Vec<u8> = numbers
            .zip(&payloads)
            .flat_map(|(seq, payload)| packet(seq, payload))
            .collect();
        let taken = try_all(&mut stream, &data, 4096, &asked(2)).unwrap();
        pieces.extend(taken.pieces);
        let mut expected = vec![(1, 0, command.to_vec())];
        expected.extend(payloads.iter().map(|payload| (1, DATA, payload.to_vec())));
        assert_eq!(joined(&pieces), expected);
        assert_eq!(taken.pass, data);
        // It has ended: now 0 is a command again.
        all(&mut stream, &packet(0, b"\x03SELECT 1"), 4096);
        assert_eq!(stream.statements(), 2);
    }

    #[test]
    fn data_of_16_mib_in_one_packet_does_not_end_by_its_empty_rest() {
        let mut stream = stream();
        all(&mut stream, &packet(0, b"\x03LOAD"), 4096);
        let data = [
            packet(254, &vec![b'x'; 0xff_ffff]),
            packet(255, b""),
            packet(0, b"\x11more"),
            packet(1, b""),
        ]
        .concat();
        let taken = try_all(&mut stream, &data, 32 * 1024, &asked(254)).unwrap();
        assert!(taken.pieces.iter().all(|piece| piece.flags & DATA != 0));
        assert_eq!(taken.pass, data);
        assert_eq!(stream.statements(), 1);
    }

    #[test]
    fn what_a_server_would_refuse_is_refused_and_not_passed() {
        let change = packet(0, b"\x11alice\0\0db\0\x2d\0");
        let query = packet(0, b"\x03LOAD");
        let row = |seq| packet(seq, b"row");
        let cases = [
            ("nobody asked", [query.clone(), row(2)].concat(), None, 2),
            ("asked for another", row(3), Some(2), 3),
            (
                "asked before the command",
                [query.clone(), row(2)].concat(),
                Some(2),
                2,
            ),
            ("a gap", [row(2), row(4)].concat(), Some(2), 4),
            (
                "a command while data is awaited",
                [row(2), query.clone()].concat(),
                Some(2),
                0,
            ),
            (
                "after its end",
                [row(2), packet(3, b""), row(4)].concat(),
                Some(2),
                4,
            ),
            (
                "no gap in an exchange",
                [change.clone(), row(1)].concat(),
                None,
                1,
            ),
            (
                "a wider gap in an exchange",
                [change.clone(), row(2), row(5)].concat(),
                None,
                5,
            ),
            (
                "data in an exchange",
                [change.clone(), row(3)].concat(),
                Some(3),
                3,
            ),
            (
                "an answer after a command",
                [change, query, row(2)].concat(),
                None,
                2,
            ),
        ];
        for (case, bytes, first, wrong) in cases {
            let mut stream = stream();
            all(&mut stream, &packet(0, b"\x0e"), 4096);
            let asked = Asked::default();
            asked.note(first);
            let refused = refused(&mut stream, &bytes, &asked);
            assert_eq!(refused, Broken::OutOfOrder(wrong), "{case}");
        }
        // After 255 a first packet of data has number 0, like a command.
        let refused = refused(&mut stream(), &packet(0, b"\x11x"), &asked(0));
        assert_eq!(refused, Broken::Ambiguous);
    }

    #[test]
    fn an_authentication_without_end_is_cut() {
        let mut long = stream();
        for n in 0..MAX_EXCHANGE {
            all(&mut long, &packet(4 + 2 * n, b"x"), 4096);
        }
        let nobody = Asked::default();
        let more = refused(&mut long, &packet(20, b"x"), &nobody);
        assert_eq!(more, Broken::LongExchange);
        let large = refused(&mut stream(), &packet(4, &[0; MAX_SECRET + 1]), &nobody);
        assert_eq!(large, Broken::LongExchange);
    }

    #[test]
    fn another_account_is_refused_before_a_byte_of_it_is_passed() {
        for asks in ["root", "alic", "alice2", "ALICE", ""] {
            let bytes = packet(0, &[b"\x11", asks.as_bytes(), b"\0\0db\0\x2d\0"].concat());
            for chunk in [1, 7, bytes.len()] {
                let (mut stream, nobody) = (stream(), Asked::default());
                let mut taken = Taken::default();
                let refused = bytes
                    .chunks(chunk)
                    .find_map(|bytes| stream.take(bytes, &nobody, &mut taken).err())
                    .unwrap();
                assert_eq!(refused.code(), "sql_other_account", "{asks}");
                assert!(refused.to_string().contains("'alice'"));
                assert_eq!(taken.pass, b"");
                assert_eq!(taken.pieces.len(), 1);
            }
        }
        for form in [
            &b"\x11alice"[..],
            b"\x11alice\0\x05db\0\x2d\0",
            &[CHANGE_USER; MAX_CHANGE + 1],
        ] {
            let refused = refused(&mut stream(), &packet(0, form), &Asked::default());
            assert_eq!(refused, Broken::ChangeUser);
        }
    }

    #[test]
    fn no_xa_branch_is_prepared_by_a_command_nor_by_data() {
        let command = packet(0, b"\x03XA PREPARE 'x'");
        let by_command = refused(&mut stream(), &command, &Asked::default());
        assert_eq!(by_command, Broken::XaPrepare);
        let mut stream = stream();
        all(&mut stream, &packet(0, b"\x03LOAD"), 4096);
        let data = [packet(2, b"XA "), packet(3, b"PREPARE 'x'")].concat();
        let by_data = refused(&mut stream, &data, &asked(2));
        assert_eq!(by_data, Broken::XaPrepare);
    }
}
