//! Commands of the protocol by their first byte.

/// COM_QUIT.
pub(super) const QUIT: u8 = 0x01;
/// COM_QUERY.
pub(super) const QUERY: u8 = 0x03;
/// COM_FIELD_LIST.
pub(super) const FIELD_LIST: u8 = 0x04;
/// COM_STATISTICS.
pub(super) const STATISTICS: u8 = 0x09;
/// COM_PROCESS_INFO.
pub(super) const PROCESS_INFO: u8 = 0x0a;
/// COM_CHANGE_USER.
pub(super) const CHANGE_USER: u8 = 0x11;
/// COM_STMT_PREPARE.
pub(super) const PREPARE: u8 = 0x16;
/// COM_STMT_EXECUTE.
pub(super) const EXECUTE: u8 = 0x17;
/// COM_STMT_SEND_LONG_DATA.
pub(super) const SEND_LONG_DATA: u8 = 0x18;
/// COM_STMT_CLOSE.
pub(super) const CLOSE: u8 = 0x19;
/// COM_STMT_FETCH.
pub(super) const FETCH: u8 = 0x1c;
/// COM_STMT_BULK_EXECUTE, of MariaDB.
pub(super) const BULK_EXECUTE: u8 = 0xfa;

/// Answered by one packet: COM_INIT_DB, COM_CREATE_DB, COM_DROP_DB, COM_REFRESH, COM_SHUTDOWN, COM_PROCESS_KILL, COM_DEBUG,
/// COM_PING, COM_STMT_RESET, COM_SET_OPTION, COM_RESET_CONNECTION.
pub(super) const ONE_PACKET: [u8; 11] = [
    0x02, 0x05, 0x06, 0x07, 0x08, 0x0c, 0x0d, 0x0e, 0x1a, 0x1b, 0x1f,
];

/// Bytes that a command without an answer has at least. Of a shorter one servers think differently: MySQL answers it
/// (ER_MALFORMED_PACKET) and MariaDB does not.
pub(super) fn unanswered(command: u8) -> Option<usize> {
    match command {
        QUIT => Some(1),
        SEND_LONG_DATA => Some(7),
        CLOSE => Some(5),
        _ => None,
    }
}
