//! The spool: what was recorded, on this machine's disk before anyone sees it.
//!
//! Owns the files of one directory (root, 0700): the streams `frames` (raw) and `lines` (sealed), in pieces (see
//! [`super::segment`]), and `position` (what CloudWatch has taken). Every append is one `writev(2)` with nothing held
//! back in the process: a SIGKILL at any instruction loses nothing that was acknowledged. There is no `fsync`: losing
//! the machine loses its disk as well, and what was shipped and anchored by then is all that is left either way.
//!
//! Whoever reads a stream while it is written takes its entries from memory (see [`super::lane`]), and from the files after
//! falling behind. The files are what a later process ships.
//!
//! What CloudWatch has accepted is removed, in this order, so that a crash on any line loses nothing:
//! 1. CloudWatch answers. A crash here ships some lines twice.
//! 2. `position` is stored. A crash here leaves files that nobody reads any more.
//! 3. Pieces of `lines`, then of `frames`, that hold nothing but accepted records are removed, oldest first. A crash here
//!    leaves some of them; the tail goes by number and passes over them.
//!
//! A frame is removed only after the line that holds it was accepted: never because it was sealed.
//!
//! After the first write that fails the spool refuses everything: a session without evidence must not go on.

use super::error::EvidenceError;
use super::frame::{LineFrame, OwnFrame, RawFrame, line_head, raw_head};
use super::lane::{Follower, LANE_BYTES, Lane};
use super::position::{Position, PositionFile};
use super::segment::{SegmentReader, SegmentWriter, Stream};
use super::time::{Clock, Timeline};
use powerpole_protocol::handoff::EvidencePlaces;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest payload of one record, in bytes.
pub(crate) const MAX_PAYLOAD: usize = 32 * 1024;
/// Size at which a stream's next file begins. What was shipped and is still kept is at most this much a stream.
pub(crate) const SEGMENT_BYTES: u64 = 8 << 20;

const FRAMES: &str = "frames";
const LINES: &str = "lines";
const POSITION: &str = "position";
/// The spool is root's alone; a link in it is nobody's of ours.
const NO_LINK: i32 = nix::libc::O_NOFOLLOW;
const PLACES: &str = "places";

/// A frame that is on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    /// Frames in the spool, this one included.
    pub(crate) frames: u64,
    /// The frame's time.
    pub(crate) t_us: u64,
    /// Bytes of all frames.
    pub(crate) bytes: u64,
    /// Whether the sealer should come before it looks by itself: much waits in memory.
    pub(crate) crowded: bool,
}

/// The writing end of `frames`. One per bastion, behind a lock.
pub(crate) struct FrameWriter {
    segments: SegmentWriter,
    lane: Arc<Lane<OwnFrame>>,
    stream: Stream,
    timeline: Timeline,
    next_number: u64,
    bytes: u64,
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
pub(crate) struct SpoolDir {
    path: PathBuf,
    segment_bytes: u64,
}

impl SpoolDir {
    /// Takes an empty or missing directory and makes it root's own.
    ///
    /// # Errors
    /// When it cannot be made, or holds a spool already: a bastion records once.
    pub(crate) fn create(path: &Path, segment_bytes: u64) -> Result<Self, EvidenceError> {
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
        let position = path.join(POSITION);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&position)
            .map_err(|source| EvidenceError::SpoolOpen {
                path: position,
                source,
            })?;
        Ok(Self {
            path: path.to_owned(),
            segment_bytes,
        })
    }

    /// Opens what an earlier process left.
    pub(crate) fn existing(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            segment_bytes: SEGMENT_BYTES,
        }
    }

    fn stream(&self, name: &'static str) -> Stream {
        Stream {
            dir: self.path.clone(),
            name,
            segment_bytes: self.segment_bytes,
        }
    }

    /// Begins `frames`; takes the time's start.
    pub(crate) fn frame_writer(
        &self,
        clock: Arc<dyn Clock>,
        timeline: Timeline,
    ) -> Result<FrameWriter, EvidenceError> {
        let stream = self.stream(FRAMES);
        Ok(FrameWriter {
            segments: stream.writer()?,
            lane: Lane::new(LANE_BYTES),
            stream,
            timeline,
            next_number: 0,
            bytes: 0,
            state: State::Open,
            clock,
        })
    }

    /// Begins `lines`.
    pub(crate) fn line_writer(&self) -> Result<LineWriter, EvidenceError> {
        let stream = self.stream(LINES);
        Ok(LineWriter {
            segments: stream.writer()?,
            lane: Lane::new(LANE_BYTES),
            stream,
            length: 0,
            pending: Vec::new(),
            joined: Vec::new(),
            pending_bytes: 0,
        })
    }

    /// Reads `frames` from the oldest that is left.
    pub(crate) fn frames(&self) -> Result<SegmentReader, EvidenceError> {
        self.stream(FRAMES).reader()
    }

    /// Reads `lines` from the oldest that is left.
    pub(crate) fn lines(&self) -> Result<LineReader, EvidenceError> {
        Ok(LineReader {
            from: Lines::Left(self.stream(LINES).reader()?),
            ahead: None,
        })
    }

    /// Removes what is accepted and not needed for a tail. `position` is stored already.
    ///
    /// # Errors
    /// When a file cannot be removed: the disk would fill up unseen.
    pub(crate) fn forget(&self, position: Position) -> Result<(), EvidenceError> {
        self.stream(LINES).remove_below(position.next_seq)?;
        self.stream(FRAMES).remove_below(position.consumed)
    }

    /// Keeps where lines go, for the process that ships what a killed one left.
    pub(crate) fn store_places(&self, places: &EvidencePlaces) -> Result<(), EvidenceError> {
        let path = self.path.join(PLACES);
        serde_json::to_vec(places)
            .map_err(io::Error::other)
            .and_then(|text| std::fs::write(&path, text))
            .map_err(|source| EvidenceError::Spool { path, source })
    }

    /// Where lines go, if a chain was begun here.
    pub(crate) fn load_places(&self) -> Result<Option<EvidencePlaces>, EvidenceError> {
        let path = self.path.join(PLACES);
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

    /// Where the position is kept.
    pub(crate) fn position_file(&self) -> Result<PositionFile, EvidenceError> {
        let path = self.path.join(POSITION);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(NO_LINK)
            .open(&path);
        match file {
            Ok(file) => Ok(PositionFile { file, path }),
            Err(source) => Err(EvidenceError::SpoolOpen { path, source }),
        }
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
        let frame = RawFrame {
            number: self.next_number,
            t_us: self.timeline.now_us(&*self.clock),
            kind,
            session,
            payload,
        };
        let head = raw_head(&frame);
        let parts = &mut [IoSlice::new(&head), IoSlice::new(payload)];
        // A write that stops half-way leaves a torn frame: readers end there, so nothing may follow it.
        let place = match self.segments.append(frame.number, parts) {
            Ok(place) => place,
            Err(error) => {
                self.state = State::Failed;
                return Err(error);
            }
        };
        let length = head.len() + payload.len();
        let crowded = self.lane.put(place, length, || OwnFrame::from(frame));
        self.next_number += 1;
        self.bytes += length as u64;
        Ok(Written {
            frames: self.next_number,
            t_us: frame.t_us,
            bytes: self.bytes,
            crowded,
        })
    }

    /// Follows what is written; once a writer.
    pub(crate) fn follow(&self) -> Follower<OwnFrame> {
        Follower::new(
            Arc::clone(&self.lane),
            self.stream.clone(),
            OwnFrame::decode,
        )
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

/// Texts below this are written together with their heads; to pass each on its own would cost more than to copy it.
const SHORT_LINE: usize = 2048;

/// The writing end of `lines`; the sealer's own.
#[derive(Debug)]
pub(crate) struct LineWriter {
    segments: SegmentWriter,
    lane: Arc<Lane<LineFrame>>,
    stream: Stream,
    length: u64,
    /// Lines, each with the end of what `joined` holds up to it.
    pending: Vec<(LineFrame, usize)>,
    /// Heads, and the texts that are short. Long ones are written as they are.
    joined: Vec<u8>,
    pending_bytes: usize,
}

impl LineWriter {
    /// Collects a line; nothing is written yet.
    pub(crate) fn push(&mut self, consumed: u64, seq: u64, t_us: u64, text: impl Into<String>) {
        let text = text.into();
        let head = line_head(consumed, seq, t_us, &text);
        self.pending_bytes += head.len() + text.len();
        self.joined.extend_from_slice(&head);
        if text.len() < SHORT_LINE {
            self.joined.extend_from_slice(text.as_bytes());
        }
        let line = LineFrame {
            consumed,
            seq,
            t_us,
            text,
        };
        self.pending.push((line, self.joined.len()));
    }

    /// Bytes collected and not yet written.
    pub(crate) fn pending(&self) -> usize {
        self.pending_bytes
    }

    /// Writes what was collected; returns the bytes of all lines.
    ///
    /// # Errors
    /// When the disk refuses; the sealer then stops, and with it every session.
    pub(crate) fn flush(&mut self) -> Result<u64, EvidenceError> {
        let Some((first, _)) = self.pending.first() else {
            return Ok(self.length);
        };
        let first = first.seq;
        let mut parts = Vec::new();
        let mut from = 0;
        for (line, to) in &self.pending {
            if line.text.len() >= SHORT_LINE {
                let joined = self.joined.get(from..*to).unwrap_or_default();
                parts.push(IoSlice::new(joined));
                parts.push(IoSlice::new(line.text.as_bytes()));
                from = *to;
            }
        }
        parts.push(IoSlice::new(self.joined.get(from..).unwrap_or_default()));
        let mut place = self.segments.append(first, &mut parts)?;
        self.length += self.pending_bytes as u64;
        self.pending_bytes = 0;
        self.joined.clear();
        for (line, _) in self.pending.drain(..) {
            let length = line.entry_bytes();
            place.number = line.seq;
            self.lane.put(place, line.text.len(), || line);
            place.at += length;
        }
        Ok(self.length)
    }

    /// Follows what is written; once a writer.
    pub(crate) fn follow(&self) -> LineReader {
        let lane = Arc::clone(&self.lane);
        let following = Follower::new(lane, self.stream.clone(), LineFrame::decode);
        LineReader {
            from: Lines::Followed(following),
            ahead: None,
        }
    }
}

/// Reads `lines` in order, with a look at the next one.
#[derive(Debug)]
pub(crate) struct LineReader {
    from: Lines,
    ahead: Option<LineFrame>,
}

/// Where lines are read.
#[derive(Debug)]
enum Lines {
    /// What another process left.
    Left(SegmentReader),
    /// What this one writes.
    Followed(Follower<LineFrame>),
}

impl LineReader {
    /// The next line, if a whole one is there; it stays the next one.
    ///
    /// # Errors
    /// When the spool cannot be read.
    pub(crate) fn peek(&mut self) -> Result<Option<&LineFrame>, EvidenceError> {
        if self.ahead.is_none() {
            self.ahead = match &mut self.from {
                Lines::Left(segments) => read(segments, LineFrame::decode)?,
                Lines::Followed(following) => following.next()?,
            };
        }
        Ok(self.ahead.as_ref())
    }

    /// Takes the line that was looked at.
    pub(crate) fn take(&mut self) -> Option<LineFrame> {
        self.ahead.take()
    }
}

/// The next raw frame, if a whole one is there.
pub(crate) fn next_frame(
    reader: &mut SegmentReader,
) -> Result<Option<RawFrame<'_>>, EvidenceError> {
    read(reader, RawFrame::decode)
}

fn read<'a, T>(
    reader: &'a mut SegmentReader,
    decode: impl FnOnce(&'a [u8]) -> Option<T>,
) -> Result<Option<T>, EvidenceError> {
    let at = reader.next_number();
    match reader.next_body()? {
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
        let dir = SpoolDir::create(&temp.path().join("spool"), SEGMENT_BYTES).unwrap();
        let mut writer = writer(&dir);
        let mut reader = dir.frames().unwrap();
        for n in 0..3u64 {
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
    fn lines_of_every_length_come_back_from_memory_and_from_the_files_as_they_were() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SpoolDir::create(&temp.path().join("spool"), 64 << 10).unwrap();
        let mut writer = dir.line_writer().unwrap();
        let mut followed = writer.follow();
        let mut seq = 0;
        for flush in 0..200usize {
            // Nothing, one, or many at once; short ones, long ones, and those about the bound.
            for n in 0..flush % 9 {
                let length = [0, 1, 300, SHORT_LINE - 1, SHORT_LINE, 9000][(flush + n * n) % 6];
                let text = char::from(b'a' + (seq % 26) as u8).to_string();
                writer.push(seq * 2, seq, seq * 3, text.repeat(length));
                seq += 1;
            }
            writer.flush().unwrap();
        }
        let mut left = dir.lines().unwrap();
        let mut bytes = 0;
        for n in 0..seq {
            assert_eq!(left.peek().unwrap(), followed.peek().unwrap());
            let (left, followed) = (left.take().unwrap(), followed.take().unwrap());
            assert_eq!((left.seq, left.consumed, left.t_us), (n, n * 2, n * 3));
            bytes += followed.entry_bytes();
        }
        assert!(left.peek().unwrap().is_none() && followed.peek().unwrap().is_none());
        assert_eq!(writer.flush().unwrap(), bytes);
        assert!(bytes > 1 << 20, "{bytes}");
    }

    #[test]
    fn a_full_disk_ends_recording_for_good() {
        let temp = tempfile::tempdir().unwrap();
        let dir = SpoolDir::create(&temp.path().join("spool"), SEGMENT_BYTES).unwrap();
        let mut writer = writer(&dir);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        writer.segments.set_file(full);
        assert_eq!(writer.append(1, 1, b"x").unwrap_err().code(), "spool_write");
        writer.segments.set_file(tempfile::tempfile().unwrap());
        assert_eq!(
            writer.append(1, 1, b"x").unwrap_err().code(),
            "evidence_lost"
        );
    }

    #[test]
    fn a_directory_that_was_recorded_into_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        SpoolDir::create(temp.path(), SEGMENT_BYTES).unwrap();
        assert_eq!(
            SpoolDir::create(temp.path(), SEGMENT_BYTES)
                .unwrap_err()
                .code(),
            "spool_open"
        );
    }
}
