//! The payload of a gap record: which records the log service refused to keep.
//!
//! first u64 ‖ last u64 ‖ reason u8. A gap record explains a hole, it does not fill it: the verdict
//! stays INCOMPLETE, with the innocent cause that the chain itself signed.

use crate::cursor::Cursor;

/// Why records are not in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GapReason {
    /// The log service called the events too old.
    TooOld = 1,
    /// The log service called the events too far in the future.
    TooNew = 2,
    /// The log service called the events past the group's retention.
    Expired = 3,
    /// Any other refusal.
    Rejected = 4,
}

/// A stretch of records that the log service refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// First record that was refused.
    pub first: u64,
    /// Last record that was refused.
    pub last: u64,
    /// Why.
    pub reason: GapReason,
}

impl Gap {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(17);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.last.to_be_bytes());
        bytes.push(self.reason as u8);
        bytes
    }

    /// Reads a payload.
    pub fn decode(bytes: &[u8]) -> Option<Gap> {
        let mut cursor = Cursor(bytes);
        let first = cursor.u64()?;
        let last = cursor.u64()?;
        let reason = match cursor.u8()? {
            1 => GapReason::TooOld,
            2 => GapReason::TooNew,
            3 => GapReason::Expired,
            4 => GapReason::Rejected,
            _ => return None,
        };
        (cursor.is_empty() && first <= last).then_some(Gap {
            first,
            last,
            reason,
        })
    }
}
