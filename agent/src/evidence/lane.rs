//! What was just written to a stream of the spool, handed on in memory to whoever reads the stream.
//!
//! The file comes first: an entry is put here once it is in its file, so nothing hangs on this memory, and a kill loses
//! copies only. A reader that keeps up never reads the file. One that falls behind by more than a lane holds takes what is
//! here, reads the file from the first entry that found no room, and comes back to the lane when it has caught up:
//!
//! ```text
//! written   1 2 3 4 5 6 7 8 9 …           lane of three
//! lane      1 2 3             9 …         4 finds no room: what follows is in the file alone
//! file            4 5 6 7 8               the reader has read 8 and nothing is behind it: 9 is put here again
//! ```

use super::error::EvidenceError;
use super::segment::{Place, SegmentReader, Stream};
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of entries that a lane holds. Its reader may have as much in its hands.
pub(crate) const LANE_BYTES: usize = 2 << 20;
/// What an entry takes besides its bytes, about.
const ENTRY_OVERHEAD: usize = 96;

#[derive(Debug)]
struct Inner<T> {
    entries: VecDeque<T>,
    bytes: usize,
    /// Number that follows the last entry's that was written, here or not.
    next: u64,
    /// The first entry that found no room.
    spilled: Option<Place>,
}

/// Between the one who writes a stream and the one who reads it.
#[derive(Debug)]
pub(crate) struct Lane<T> {
    inner: Mutex<Inner<T>>,
    most: usize,
}

impl<T> Lane<T> {
    /// An empty one that holds `most` bytes.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                entries: VecDeque::new(),
                bytes: 0,
                next: 0,
                spilled: None,
            }),
            most,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an entry of so many bytes that is written at `place`. It is made only if there is room. Entries come in order.
    /// True for the one that fills half of the room: the reader should come before the rest is full.
    pub(crate) fn put(&self, place: Place, bytes: usize, make: impl FnOnce() -> T) -> bool {
        let mut inner = self.lock();
        inner.next = place.number + 1;
        if inner.spilled.is_some() {
            return false;
        }
        let (before, after) = (inner.bytes, inner.bytes + bytes + ENTRY_OVERHEAD);
        if after > self.most {
            inner.spilled = Some(place);
            return false;
        }
        inner.bytes = after;
        inner.entries.push_back(make());
        before < self.most / 2 && after >= self.most / 2
    }

    /// Takes all that is here into `hand`, which is empty; what follows it is in the file from the returned place.
    fn take(&self, hand: &mut VecDeque<T>) -> Option<Place> {
        let mut inner = self.lock();
        std::mem::swap(&mut inner.entries, hand);
        inner.bytes = 0;
        inner.spilled
    }

    /// How the entries that were counted here compare with those before `next`, up to which the file was read. When they are
    /// the same, entries are put here again from now on.
    fn resume(&self, next: u64) -> Ordering {
        let mut inner = self.lock();
        if inner.next == next {
            inner.spilled = None;
        }
        inner.next.cmp(&next)
    }
}

/// Reads a stream in order while it is written: its lane, or its files when it has fallen behind.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    lane: Arc<Lane<T>>,
    stream: Stream,
    decode: fn(&[u8]) -> Option<T>,
    hand: VecDeque<T>,
    /// Where the file goes on when `hand` is empty.
    spilled: Option<Place>,
    /// While it is behind.
    file: Option<SegmentReader>,
}

impl<T> Follower<T> {
    /// Follows a stream from its first entry; a lane has one follower.
    pub(crate) fn new(lane: Arc<Lane<T>>, stream: Stream, decode: fn(&[u8]) -> Option<T>) -> Self {
        Self {
            lane,
            stream,
            decode,
            hand: VecDeque::new(),
            spilled: None,
            file: None,
        }
    }

    /// The next entry, if one is written.
    ///
    /// # Errors
    /// When a file that has to be read cannot be, or does not hold what was written to it.
    pub(crate) fn next(&mut self) -> Result<Option<T>, EvidenceError> {
        loop {
            if let Some(entry) = self.hand.pop_front() {
                return Ok(Some(entry));
            }
            if let Some(place) = self.spilled.take() {
                self.file = Some(self.stream.reader_at(place)?);
            }
            if let Some(file) = &mut self.file {
                let next = file.next_number();
                if let Some(body) = file.next_body()? {
                    return decoded(next, (self.decode)(body));
                }
                match self.lane.resume(next) {
                    Ordering::Equal => self.file = None,
                    // The file was read while its writer had not yet counted what it wrote. Going back to the lane now, it
                    // would come a second time.
                    Ordering::Less => return Ok(None),
                    // More was written since: it was in the file before it was counted.
                    Ordering::Greater => {
                        let body = file.next_body()?;
                        return decoded(next, body.and_then(self.decode));
                    }
                }
            }
            self.spilled = self.lane.take(&mut self.hand);
            if self.hand.is_empty() && self.spilled.is_none() {
                return Ok(None);
            }
        }
    }
}

fn decoded<T>(at: u64, entry: Option<T>) -> Result<Option<T>, EvidenceError> {
    let damaged = || EvidenceError::SpoolRead {
        at,
        source: io::Error::from(io::ErrorKind::InvalidData),
    };
    entry.map(Some).ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::super::segment::SegmentWriter;
    use super::*;
    use std::io::IoSlice;
    use std::os::unix::fs::FileExt as _;

    const MOST: usize = 4 * (100 + ENTRY_OVERHEAD);

    struct Trial {
        writer: SegmentWriter,
        lane: Arc<Lane<Vec<u8>>>,
        follower: Follower<Vec<u8>>,
        number: u64,
        temp: tempfile::TempDir,
    }

    fn trial() -> Trial {
        let temp = tempfile::tempdir().unwrap();
        let stream = Stream {
            dir: temp.path().to_owned(),
            name: "trial",
            segment_bytes: 500,
        };
        let lane = Lane::new(MOST);
        let decode = |body: &[u8]| Some(body.to_vec());
        Trial {
            writer: stream.writer().unwrap(),
            follower: Follower::new(Arc::clone(&lane), stream, decode),
            lane,
            number: 0,
            temp,
        }
    }

    impl Trial {
        fn write(&mut self) {
            let (place, body) = self.write_uncounted();
            self.lane.put(place, 100, || body);
        }

        fn write_uncounted(&mut self) -> (Place, Vec<u8>) {
            let mut body = vec![b'x'; 92];
            body[..8].copy_from_slice(&self.number.to_be_bytes());
            let mut entry = 92u32.to_be_bytes().to_vec();
            entry.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
            entry.extend_from_slice(&body);
            let parts = &mut [IoSlice::new(&entry)];
            let place = self.writer.append(self.number, parts).unwrap();
            self.number += 1;
            (place, body)
        }

        fn read(&mut self) -> Option<u64> {
            let body = self.follower.next().unwrap()?;
            Some(u64::from_be_bytes(body[..8].try_into().unwrap()))
        }

        fn in_memory(&self) -> usize {
            self.lane.lock().entries.len() + self.follower.hand.len()
        }
    }

    #[test]
    fn every_entry_comes_once_and_in_order_however_far_the_reader_is_behind() {
        let mut trial = trial();
        let mut read = 0;
        // Writes and reads take turns of every length, so that the reader falls behind and catches up at every place.
        for turn in 0..400u64 {
            for _ in 0..turn % 17 {
                trial.write();
                assert!(trial.in_memory() <= 8);
            }
            for _ in 0..turn * 7 % 18 {
                let Some(number) = trial.read() else {
                    assert_eq!(read, trial.number, "nothing is held back");
                    assert!(trial.follower.file.is_none(), "the lane goes on");
                    break;
                };
                assert_eq!(number, read);
                read += 1;
            }
        }
        while trial.read().is_some() {
            read += 1;
        }
        assert_eq!(read, trial.number);
        assert!(read > 2000, "{read}");
    }

    #[test]
    fn a_reader_that_keeps_up_needs_no_file() {
        let mut trial = trial();
        for number in 0..50 {
            trial.write();
            for file in std::fs::read_dir(trial.temp.path()).unwrap() {
                std::fs::remove_file(file.unwrap().path()).unwrap();
            }
            assert_eq!(trial.read(), Some(number));
            assert_eq!(trial.read(), None);
        }
    }

    #[test]
    fn whoever_fills_half_of_the_room_says_so_once_until_it_is_taken() {
        let lane = Lane::new(MOST);
        let place = |number| Place {
            first: 0,
            at: 0,
            number,
        };
        for round in 0..2 {
            let said: Vec<bool> = (0..6)
                .map(|n| lane.put(place(round * 6 + n), 100, Vec::<u8>::new))
                .collect();
            assert_eq!(said, [false, true, false, false, false, false]);
            lane.take(&mut VecDeque::new());
            assert_eq!(lane.resume(round * 6 + 6), Ordering::Equal);
        }
    }

    #[test]
    fn what_is_read_before_it_is_counted_comes_once() {
        let mut trial = trial();
        for _ in 0..6 {
            trial.write();
        }
        let (place, body) = trial.write_uncounted();
        for number in 0..7 {
            assert_eq!(trial.read(), Some(number));
        }
        assert_eq!(trial.read(), None, "its writer is not done with it");
        trial.lane.put(place, 100, || body);
        assert_eq!(trial.read(), None);
        assert!(trial.follower.file.is_none(), "the lane goes on");
        trial.write();
        assert_eq!(trial.read(), Some(7));
        assert_eq!(trial.read(), None);
    }

    #[test]
    fn a_file_that_does_not_hold_what_was_written_is_an_error() {
        let mut trial = trial();
        for _ in 0..5 {
            trial.write();
        }
        let damaged = std::fs::OpenOptions::new()
            .write(true)
            .open(trial.temp.path().join(format!("trial.{:020}", 0)))
            .unwrap();
        damaged.write_all_at(b"y", 4 * 100 + 50).unwrap();
        for number in 0..4 {
            assert_eq!(trial.read(), Some(number));
        }
        let error = trial.follower.next().unwrap_err();
        assert_eq!(error.code(), "spool_read");
        assert!(trial.follower.next().is_err(), "and it stays one");
    }

    #[test]
    fn two_threads_lose_nothing_between_lane_and_file() {
        let Trial {
            mut writer,
            lane,
            mut follower,
            temp: _temp,
            ..
        } = trial();
        let writing = std::thread::spawn(move || {
            for number in 0u64..4_000 {
                let body = number.to_be_bytes();
                let mut entry = 8u32.to_be_bytes().to_vec();
                entry.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
                entry.extend_from_slice(&body);
                let place = writer.append(number, &mut [IoSlice::new(&entry)]).unwrap();
                lane.put(place, entry.len(), || body.to_vec());
            }
        });
        let mut next = 0u64;
        while next < 4_000 {
            if let Some(body) = follower.next().unwrap() {
                assert_eq!(body, next.to_be_bytes());
                next += 1;
            }
        }
        writing.join().unwrap();
        assert_eq!(follower.next().unwrap(), None);
    }
}
