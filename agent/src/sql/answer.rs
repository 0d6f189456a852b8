//! One answer of a server: where it ends, and what it told.
//!
//! ```text
//! query, execution  ok | error | fb (local data) … ok | count · definitions · (eof) · rows · eof; and again while a status
//!                   says that another result follows
//! preparation       00 ‖ id u32 ‖ columns u16 ‖ parameters u16 ‖ … · definitions · (eof) · definitions · (eof) | error
//! fetch, fields     rows · eof | error
//! change of user    fe … | 01 … | … · ok | error
//! most others       ok | eof | error
//! ```
//!
//! The eof behind definitions is not sent to a client with CLIENT_DEPRECATE_EOF, and the last one is an ok that begins with
//! fe. Read as MySQL and MariaDB write it; what does not fit is no answer, and the caller must not go on.

use super::command;
use serde_json::{Value, json};

/// Bytes of a packet that are looked at.
pub(super) const LOOKED_AT: usize = 600;

/// Statuses of an ok and an eof: another result follows, and rows wait to be fetched.
const MORE_RESULTS: u16 = 0x08;
const CURSOR: u16 = 0x40;

/// A packet of the server's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    /// Its first bytes, at most [`LOOKED_AT`].
    pub(super) first: &'a [u8],
    /// Bytes of it, of the first packet of the protocol where there are several.
    pub(super) length: usize,
}

/// What the server's next packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The first one of an answer.
    First,
    /// The first one of another result of the same answer.
    Result,
    /// What became of local data.
    Loaded,
    /// A part of an authentication.
    Authentication,
    /// One of so many definitions of columns or parameters, and what is behind them.
    Definition(u64, Behind),
    /// The eof behind definitions.
    EndOfDefinitions(Behind),
    /// A row, or the end of rows.
    Row,
    /// None: the answer is over.
    Over,
}

/// What is behind definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    Rows,
    /// So many definitions of columns, behind those of parameters.
    Columns(u64),
    Nothing,
}

/// How a connection's answers are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// CLIENT_DEPRECATE_EOF is agreed.
    pub(super) deprecate_eof: bool,
}

impl Form {
    /// What is next after this packet of an answer to this command; `None` when it does not fit.
    pub(super) fn after(self, next: Next, command: u8, said: Said<'_>) -> Option<Next> {
        let first = said.first.first().copied();
        match next {
            Next::First => self.after_first(command, said),
            Next::Result => self.after_result(said),
            Next::Loaded => match first? {
                0x00 => more(ok_status(said.first)?),
                0xff => Some(Next::Over),
                _ => None,
            },
            Next::Authentication => Some(after_authentication(first)),
            Next::Definition(..) | Next::EndOfDefinitions(_) if first == Some(0xff) => {
                Some(Next::Over)
            }
            Next::Definition(left, behind) => Some(self.definitions(left.checked_sub(1)?, behind)),
            Next::EndOfDefinitions(behind) => self.after_definitions(said, behind),
            Next::Row => self.after_row(said),
            Next::Over => None,
        }
    }

    fn after_first(self, command: u8, said: Said<'_>) -> Option<Next> {
        let first = said.first.first().copied();
        match command {
            command::QUERY | command::EXECUTE | command::BULK_EXECUTE | command::PROCESS_INFO => {
                self.after_result(said)
            }
            command::PREPARE => self.after_prepared(said),
            command::FETCH | command::FIELD_LIST => self.after_row(said),
            command::CHANGE_USER => Some(after_authentication(first)),
            // Its text begins with any byte.
            command::STATISTICS => Some(Next::Over),
            _ if first == Some(0xff) => Some(Next::Over),
            _ if command::ONE_PACKET.contains(&command) && matches!(first, Some(0x00 | 0xfe)) => {
                Some(Next::Over)
            }
            _ => None,
        }
    }

    fn after_result(self, said: Said<'_>) -> Option<Next> {
        match said.first.first()? {
            0x00 => more(ok_status(said.first)?),
            0xff => Some(Next::Over),
            0xfb => Some(Next::Loaded),
            _ => {
                let (count, rest) = length_encoded(said.first)?;
                // The byte behind it, CLIENT_OPTIONAL_RESULTSET_METADATA or MARIADB_CLIENT_CACHE_METADATA.
                let definitions = match rest {
                    [] | [1] => count,
                    [0] => 0,
                    _ => return None,
                };
                Some(self.definitions(definitions, Behind::Rows))
            }
        }
    }

    fn after_prepared(self, said: Said<'_>) -> Option<Next> {
        let (columns, parameters, rest) = match said.first {
            [0xff, ..] => return Some(Next::Over),
            [0x00, _, _, _, _, a, b, c, d, rest @ ..] => (
                u16::from_le_bytes([*a, *b]),
                u16::from_le_bytes([*c, *d]),
                rest,
            ),
            _ => return None,
        };
        // CLIENT_OPTIONAL_RESULTSET_METADATA: no definitions, but what ends them.
        let left_out = matches!(rest, [0, _, _, 0]);
        let definitions = |count: u16| if left_out { 0 } else { u64::from(count) };
        let behind = match columns {
            0 => Behind::Nothing,
            columns => Behind::Columns(definitions(columns)),
        };
        Some(match (parameters, behind) {
            (0, behind) => self.behind(behind),
            (parameters, behind) => self.definitions(definitions(parameters), behind),
        })
    }

    /// Before so many definitions.
    fn definitions(self, left: u64, behind: Behind) -> Next {
        match left {
            1.. => Next::Definition(left, behind),
            0 if self.deprecate_eof => self.behind(behind),
            0 => Next::EndOfDefinitions(behind),
        }
    }

    fn behind(self, behind: Behind) -> Next {
        match behind {
            Behind::Rows => Next::Row,
            Behind::Columns(columns) => self.definitions(columns, Behind::Nothing),
            Behind::Nothing => Next::Over,
        }
    }

    fn after_definitions(self, said: Said<'_>, behind: Behind) -> Option<Next> {
        let status = self.end(said)?;
        if behind == Behind::Rows && status & CURSOR != 0 {
            return more(status);
        }
        Some(self.behind(behind))
    }

    fn after_row(self, said: Said<'_>) -> Option<Next> {
        match said.first {
            [0xff, ..] => Some(Next::Over),
            _ => self.end(said).map_or(Some(Next::Row), more),
        }
    }

    /// The status of an eof. A row that begins with fe has a value of 16 MiB or more.
    fn end(self, said: Said<'_>) -> Option<u16> {
        match said.first {
            [0xfe, ..] if self.deprecate_eof && said.length < 0xff_ffff => ok_status(said.first),
            [0xfe, _, _, low, high] if said.length == 5 => Some(u16::from_le_bytes([*low, *high])),
            _ => None,
        }
    }
}

fn more(status: u16) -> Option<Next> {
    let more = status & MORE_RESULTS != 0;
    Some(if more { Next::Result } else { Next::Over })
}

fn after_authentication(first: Option<u8>) -> Next {
    match first {
        Some(0x00 | 0xff) => Next::Over,
        _ => Next::Authentication,
    }
}

/// The status in `00 ‖ affected lenenc ‖ id lenenc ‖ status u16`.
fn ok_status(first: &[u8]) -> Option<u16> {
    let (_, rest) = length_encoded(first.get(1..)?)?;
    let (_, rest) = length_encoded(rest)?;
    Some(u16::from_le_bytes(*rest.first_chunk::<2>()?))
}

/// A length-encoded number and what is behind it.
fn length_encoded(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let length = match first {
        0..=250 => return Some((u64::from(*first), rest)),
        252 => 2,
        253 => 3,
        254 => 8,
        _ => return None,
    };
    let (number, rest) = rest.split_at_checked(length)?;
    let number = number.iter().rev();
    Some((number.fold(0, |n, byte| n << 8 | u64::from(*byte)), rest))
}

/// MariaDB's report of progress, which looks like an error 65535 without a state and is none: more follows.
pub(super) fn is_progress(first: &[u8]) -> bool {
    matches!(first, [0xff, 0xff, 0xff, not_state, ..] if *not_state != b'#')
}

/// What a packet tells of a command: the first one of its answer, or one that [`Form::after`] took for its end.
pub(super) fn outcome(command: u8, first: &[u8]) -> Value {
    match (first, command) {
        ([0xff, low, high, rest @ ..], _) => error([*low, *high], rest),
        (_, command::FETCH | command::FIELD_LIST) => json!({"outcome": "rows"}),
        ([0x00, a, b, c, d, ..], command::PREPARE) => json!({
            "outcome": "ok",
            "prepared": u32::from_le_bytes([*a, *b, *c, *d]),
        }),
        (_, command::STATISTICS) | ([0x00, ..], _) => json!({"outcome": "ok"}),
        ([0xfe, ..], _) if command::ONE_PACKET.contains(&command) => json!({"outcome": "ok"}),
        ([0xfb, ..], _) => json!({"outcome": "asks_for_data"}),
        _ => json!({"outcome": "rows"}),
    }
}

/// What became of a statement is not known.
pub(super) fn unknown() -> Value {
    json!({"outcome": "unknown"})
}

fn error(code: [u8; 2], rest: &[u8]) -> Value {
    let (state, message) = match rest {
        [b'#', rest @ ..] => rest.split_at(rest.len().min(5)),
        rest => rest.split_at(0),
    };
    json!({
        "outcome": "error",
        "error": u16::from_le_bytes(code),
        "state": String::from_utf8_lossy(state),
        "message": String::from_utf8_lossy(message),
    })
}
