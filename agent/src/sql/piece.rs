//! The parts that a statement is recorded in.

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
/// Secrets are left out: COM_CHANGE_USER is there as [`super::change_user::ChangeUser::recorded`] has it, of an answer to the server's
/// authentication only its length, as a u32.
pub(crate) const REDACTED: u8 = 8;

/// A part of a statement, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Counts statements of the connection from 1; 0 for the exchange that belongs to the login.
    pub(crate) statement: u64,
    /// [`FIRST`], [`LAST`], [`DATA`], [`REDACTED`].
    pub(crate) flags: u8,
    /// Its bytes; the first piece of a command begins with the command byte.
    pub(crate) bytes: Vec<u8>,
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
