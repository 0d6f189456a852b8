//! The spool: what was recorded, on this machine's disk before anyone sees it.
//!
//! Owns the files of one directory (root, 0700): `frames` (raw, append only), `lines` (sealed, append only) and
//! `position` (what CloudWatch has taken). Every append is one `write(2)` with nothing held back in the
//! process: a SIGKILL at any instruction loses nothing that was acknowledged. There is no `fsync`: losing the
//! machine loses its disk as well, and what was shipped and anchored by then is all that is left either way.
//!
//! After the first write that fails the spool refuses everything: a session without evidence must not go on.

use super::error::EvidenceError;
use super::frame::{FrameReader, LineFrame, RawFrame, encode_line, encode_raw};
use super::time::{Clock, Timeline};
use powerpole_protocol::handoff::EvidencePlaces;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest payload of one record, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 32 * 1024;

const FRAMES: &str = "frames";
const LINES: &str = "lines";
const POSITION: &str = "position";
const PLACES: &str = "places";

/// Where shipping stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Position {
    /// Offset in `lines` of the first line that CloudWatch has not accepted.
    pub(crate) offset: u64,
    /// Sequence number that follows the last accepted line's.
    pub(crate) next_seq: u64,
}

/// A frame that is on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Frames in the spool, this one included.
    pub(crate) frames: u64,
    /// The frame's time.
    pub(crate) t_us: u64,
}

/// The writing end of `frames`. One per bastion, behind a lock.
pub(crate) struct FrameWriter {
    file: File,
    path: PathBuf,
    timeline: Timeline,
    next_number: u64,
    buffer: Vec<u8>,
    state: State,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Failed,
    Sealed,
}

/// A directory that holds a spool.
#[derive(Debug, Clone)]
pub(crate) struct SpoolDir(PathBuf);

impl SpoolDir {
    /// Takes an empty or missing directory and makes it root's own.
    ///
    /// # Errors
    /// When it cannot be made, or holds a spool already: a bastion records once.
    pub(crate) fn create(path: &Path) -> Result<Self, EvidenceError> {
        let failed = |source| EvidenceError::SpoolOpen {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let dir = Self(path.to_owned());
        for name in [FRAMES, LINES, POSITION] {
            dir.create_file(name)?;
        }
        Ok(dir)
    }

    /// Opens what an earlier process left.
    pub(crate) fn existing(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn create_file(&self, name: &str) -> Result<File, EvidenceError> {
        let path = self.0.join(name);
        OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| EvidenceError::SpoolOpen { path, source })
    }

    fn open(&self, name: &str, options: &OpenOptions) -> Result<File, EvidenceError> {
        let path = self.0.join(name);
        options
            .open(&path)
            .map_err(|source| EvidenceError::SpoolOpen { path, source })
    }

    /// The writing end of `frames`; takes the time's start.
    pub(crate) fn frame_writer(
        &self,
        clock: Arc<dyn Clock>,
        timeline: Timeline,
    ) -> Result<FrameWriter, EvidenceError> {
        Ok(FrameWriter {
            file: self.open(FRAMES, OpenOptions::new().append(true))?,
            path: self.0.join(FRAMES),
            timeline,
            next_number: 0,
            buffer: Vec::with_capacity(MAX_PAYLOAD + 64),
            state: State::Open,
            clock,
        })
    }

    /// The writing end of `lines`.
    pub(crate) fn line_writer(&self) -> Result<LineWriter, EvidenceError> {
        Ok(LineWriter {
            file: self.open(LINES, OpenOptions::new().append(true))?,
            path: self.0.join(LINES),
            length: 0,
            buffer: Vec::new(),
        })
    }

    /// Reads `frames` from the start.
    pub(crate) fn frames(&self) -> Result<FrameReader, EvidenceError> {
        Ok(FrameReader::new(
            self.open(FRAMES, OpenOptions::new().read(true))?,
            0,
        ))
    }

    /// Reads `lines` from an entry's offset.
    pub(crate) fn lines(&self, offset: u64) -> Result<FrameReader, EvidenceError> {
        Ok(FrameReader::new(
            self.open(LINES, OpenOptions::new().read(true))?,
            offset,
        ))
    }

    /// Keeps where lines go, for the process that ships what a killed one left.
    pub(crate) fn store_places(&self, places: &EvidencePlaces) -> Result<(), EvidenceError> {
        let path = self.0.join(PLACES);
        serde_json::to_vec(places)
            .map_err(io::Error::other)
            .and_then(|text| std::fs::write(&path, text))
            .map_err(|source| EvidenceError::Spool { path, source })
    }

    /// Where lines go, if a chain was begun here.
    pub(crate) fn load_places(&self) -> Result<Option<EvidencePlaces>, EvidenceError> {
        let path = self.0.join(PLACES);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(EvidenceError::SpoolOpen { path, source }),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| EvidenceError::SpoolOpen {
                path,
                source: io::Error::other(e),
            })
    }

    /// Keeps where shipping stands. A crash before this line ships some lines twice, which verification expects.
    pub(crate) fn position_file(&self) -> Result<PositionFile, EvidenceError> {
        Ok(PositionFile {
            file: self.open(POSITION, OpenOptions::new().read(true).write(true))?,
            path: self.0.join(POSITION),
        })
    }
}

impl std::fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameWriter")
            .field("frames", &self.next_number)
            .finish_non_exhaustive()
    }
}

impl FrameWriter {
    /// Writes one frame; when this returns, the frame survives the process.
    ///
    /// # Errors
    /// [`EvidenceError::TooLong`] for a payload above 32 KiB, [`EvidenceError::Spool`] when the disk refuses, and
    /// the same for ever after; [`EvidenceError::Sealed`] when the chain has its seal.
    pub(crate) fn append(
        &mut self,
        kind: u8,
        session: u32,
        payload: &[u8],
    ) -> Result<Written, EvidenceError> {
        match self.state {
            State::Open => {}
            State::Failed => return Err(EvidenceError::Lost),
            State::Sealed => return Err(EvidenceError::Sealed),
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(EvidenceError::TooLong {
                bytes: payload.len(),
            });
        }
        let t_us = self.timeline.now_us(&*self.clock);
        self.buffer.clear();
        encode_raw(
            &mut self.buffer,
            self.next_number,
            t_us,
            kind,
            session,
            payload,
        );
        // A write that stops half-way leaves a torn frame: readers end there, so nothing may follow it.
        if let Err(source) = self.file.write_all(&self.buffer) {
            self.state = State::Failed;
            return Err(EvidenceError::Spool {
                path: self.path.clone(),
                source,
            });
        }
        self.next_number += 1;
        Ok(Written {
            frames: self.next_number,
            t_us,
        })
    }

    /// A time that no frame written so far exceeds and no later frame precedes, and how many frames there are.
    pub(crate) fn mark(&mut self) -> (u64, u64) {
        (self.timeline.now_us(&*self.clock), self.next_number)
    }

    /// By how much the wall clock has jumped since this was last asked.
    pub(crate) fn jump_us(&mut self) -> Option<i64> {
        self.timeline.jump_us(&*self.clock)
    }

    /// Takes no more frames.
    pub(crate) fn close(&mut self) {
        if self.state == State::Open {
            self.state = State::Sealed;
        }
    }

    /// Refuses everything from now on: evidence was lost elsewhere.
    pub(crate) fn fail(&mut self) {
        self.state = State::Failed;
    }
}

/// The writing end of `lines`; the sealer's own.
#[derive(Debug)]
pub(crate) struct LineWriter {
    file: File,
    path: PathBuf,
    length: u64,
    buffer: Vec<u8>,
}

impl LineWriter {
    /// Collects a line; nothing is written yet.
    pub(crate) fn push(&mut self, consumed: u64, seq: u64, t_us: u64, text: &str) {
        encode_line(&mut self.buffer, consumed, seq, t_us, text);
    }

    /// Bytes collected and not yet written.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Writes what was collected; returns the file's length.
    ///
    /// # Errors
    /// When the disk refuses; the sealer then stops, and with it every session.
    pub(crate) fn flush(&mut self) -> Result<u64, EvidenceError> {
        self.file
            .write_all(&self.buffer)
            .map_err(|source| EvidenceError::Spool {
                path: self.path.clone(),
                source,
            })?;
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(self.length)
    }
}

/// The file that holds a [`Position`]: offset, next sequence number, CRC.
#[derive(Debug)]
pub(crate) struct PositionFile {
    file: File,
    path: PathBuf,
}

impl PositionFile {
    /// Keeps a position.
    pub(crate) fn store(&self, position: Position) -> Result<(), EvidenceError> {
        let mut bytes = [0u8; 20];
        let (numbers, crc) = bytes.split_at_mut(16);
        numbers.copy_from_slice(
            &(u128::from(position.offset) << 64 | u128::from(position.next_seq)).to_be_bytes(),
        );
        crc.copy_from_slice(&crc32fast::hash(numbers).to_be_bytes());
        self.file
            .write_all_at(&bytes, 0)
            .map_err(|source| EvidenceError::Spool {
                path: self.path.clone(),
                source,
            })
    }

    /// The position kept last; the start when there is none or it is damaged: lines are then shipped again.
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
            offset: u64::try_from(both >> 64).unwrap_or(0),
            next_seq: u64::try_from(both & u128::from(u64::MAX)).unwrap_or(0),
        }
    }
}

/// The next raw frame, if a whole one is there.
pub(crate) fn next_frame(reader: &mut FrameReader) -> Result<Option<RawFrame>, EvidenceError> {
    read(reader, RawFrame::decode)
}

/// The next sealed line, if a whole one is there.
pub(crate) fn next_line(reader: &mut FrameReader) -> Result<Option<LineFrame>, EvidenceError> {
    read(reader, LineFrame::decode)
}

fn read<T>(
    reader: &mut FrameReader,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<Option<T>, EvidenceError> {
    let at = reader.offset();
    let body = reader
        .next_body()
        .map_err(|source| EvidenceError::SpoolRead { at, source })?;
    match body {
        None => Ok(None),
        Some(body) => decode(body)
            .map(Some)
            .ok_or_else(|| EvidenceError::SpoolRead {
                at,
                source: io::Error::from(io::ErrorKind::InvalidData),
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::time::tests::ManualClock;
    use super::*;

    fn writer(dir: &SpoolDir) -> FrameWriter {
        let clock = Arc::new(ManualClock::default());
        let timeline = Timeline::start(&*clock);
        dir.frame_writer(clock, timeline).unwrap()
    }

    #[test]
    fn a_frame_is_readable_as_soon_as_append_returns() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SpoolDir::create(&temp.path().join("spool")).unwrap();
        let mut writer = writer(&dir);
        let mut reader = dir.frames().unwrap();
        for n in 0..3 {
            writer.append(1, 2, b"shown").unwrap();
            assert_eq!(next_frame(&mut reader).unwrap().unwrap().number, n);
        }
        let mode = std::fs::metadata(temp.path().join("spool"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_full_disk_ends_recording_for_good() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SpoolDir::create(&temp.path().join("spool")).unwrap();
        let mut writer = writer(&dir);
        writer.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(writer.append(1, 1, b"x").unwrap_err().code(), "spool_write");
        writer.file = tempfile::tempfile().unwrap();
        assert_eq!(
            writer.append(1, 1, b"x").unwrap_err().code(),
            "evidence_lost"
        );
    }

    #[test]
    fn a_directory_that_was_recorded_into_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        SpoolDir::create(temp.path()).unwrap();
        assert_eq!(
            SpoolDir::create(temp.path()).unwrap_err().code(),
            "spool_open"
        );
    }

    #[test]
    fn a_position_survives_and_a_damaged_one_starts_over() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SpoolDir::create(&temp.path().join("spool")).unwrap();
        let file = dir.position_file().unwrap();
        assert_eq!(file.load(), Position::default());
        let position = Position {
            offset: 77,
            next_seq: u64::MAX,
        };
        file.store(position).unwrap();
        assert_eq!(dir.position_file().unwrap().load(), position);
        file.file.write_all_at(&[9], 3).unwrap();
        assert_eq!(file.load(), Position::default());
    }
}
