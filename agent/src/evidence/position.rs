//! How far CloudWatch has taken the chain: what a tail need not ship again, and what the spool may forget.

use super::error::EvidenceError;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Where shipping stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Sequence number that follows the last accepted line's.
    pub(crate) next_seq: u64,
    /// Raw frames that the accepted lines account for.
    pub(crate) consumed: u64,
}

/// The file that holds a [`Position`]: both numbers and their CRC.
#[derive(Debug)]
pub(crate) struct PositionFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl PositionFile {
    /// Keeps a position. A crash before this line ships some lines twice, which verification expects.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn store(&self, position: Position) -> Result<(), EvidenceError> {
        let mut bytes = [0u8; 20];
        let (numbers, crc) = bytes.split_at_mut(16);
        numbers.copy_from_slice(
            &(u128::from(position.next_seq) << 64 | u128::from(position.consumed)).to_be_bytes(),
        );
        crc.copy_from_slice(&crc32fast::hash(numbers).to_be_bytes());
        self.file
            .write_all_at(&bytes, 0)
            .map_err(|source| EvidenceError::Spool {
                path: self.path.clone(),
                source,
            })
    }

    /// The position kept last; the start when there is none or it is damaged: what the spool still has is then shipped
    /// again.
    pub(crate) fn load(&self) -> Position {
        let mut bytes = [0u8; 20];
        if self.file.read_exact_at(&mut bytes, 0).is_err() {
            return Position::default();
        }
        let (numbers, crc) = bytes.split_at(16);
        if crc != crc32fast::hash(numbers).to_be_bytes() {
            return Position::default();
        }
        let both = numbers
            .iter()
            .fold(0u128, |sum, byte| sum << 8 | u128::from(*byte));
        Position {
            next_seq: u64::try_from(both >> 64).unwrap_or(0),
            consumed: u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_and_a_damaged_one_starts_over() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        let file = || PositionFile {
            file: temp.reopen().unwrap(),
            path: temp.path().to_owned(),
        };
        assert_eq!(file().load(), Position::default());
        let position = Position {
            next_seq: 77,
            consumed: u64::MAX,
        };
        file().store(position).unwrap();
        assert_eq!(file().load(), position);
        temp.as_file().write_all_at(&[9], 3).unwrap();
        assert_eq!(file().load(), Position::default());
    }
}
