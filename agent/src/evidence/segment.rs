//! One stream of the spool on disk: files that are appended to, each named for the number of its first entry.
//!
//! Entries are numbered without a hole, so whoever has read a file to its end knows the name of the next one:
//! `frames.00000000000000000000`, `frames.00000000000000000264`, … A file that has reached its size is followed by a new
//! one, and no entry spans two. Whole files are removed once they are not needed. That takes no lock which an append
//! needs and drops pages that were never written back; punching holes into one long file would wait for the disk on
//! XFS, with the file locked against the session that appends to it.
//!
//! Never passes a torn or damaged entry, and never removes the newest file.

use super::error::EvidenceError;
use super::frame::{HEAD, MAX_BODY, split_head};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Write as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const READ_AHEAD: usize = 1024 * 1024;

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of its file's first entry.
    pub(crate) first: u64,
    /// Where its head lies in the file.
    pub(crate) at: u64,
    /// Its number.
    pub(crate) number: u64,
}

/// A stream: its directory, its files' name, and the size at which a new file begins.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) dir: PathBuf,
    pub(crate) name: &'static str,
    pub(crate) segment_bytes: u64,
}

impl Stream {
    fn path(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{}.{first:020}", self.name))
    }

    fn create(&self, first: u64) -> io::Result<File> {
        OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path(first))
    }

    /// Numbers of the files' first entries, in order.
    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut segments = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix(self.name))
                .and_then(|rest| rest.strip_prefix('.'))
                .and_then(|digits| digits.parse::<u64>().ok());
            segments.extend(number);
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// Begins the stream with an empty file.
    ///
    /// # Errors
    /// When the file is there already or cannot be made.
    pub(crate) fn writer(&self) -> Result<SegmentWriter, EvidenceError> {
        let file = self.create(0).map_err(|source| EvidenceError::SpoolOpen {
            path: self.path(0),
            source,
        })?;
        Ok(SegmentWriter {
            file,
            stream: self.clone(),
            first: 0,
            length: 0,
        })
    }

    /// Reads from the oldest entry that is left.
    ///
    /// # Errors
    /// When there is none of its files.
    pub(crate) fn reader(&self) -> Result<SegmentReader, EvidenceError> {
        let oldest = self.segments().and_then(|segments| {
            let first = segments.first().copied();
            first.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        });
        let first = oldest.map_err(|source| EvidenceError::SpoolOpen {
            path: self.path(0),
            source,
        })?;
        self.reader_at(Place {
            first,
            at: 0,
            number: first,
        })
    }

    /// Reads from this entry on.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub(crate) fn reader_at(&self, place: Place) -> Result<SegmentReader, EvidenceError> {
        let path = self.path(place.first);
        let file = File::open(&path).map_err(|source| EvidenceError::SpoolOpen { path, source })?;
        Ok(SegmentReader {
            file,
            stream: self.clone(),
            first: place.first,
            next: place.number,
            at: place.at,
            buffer: vec![0; READ_AHEAD],
            buffered: 0..0,
        })
    }

    /// Removes the files that hold entries below `number` only, oldest first. A crash in between leaves a whole rest:
    /// the files that are still there follow each other without a hole.
    ///
    /// # Errors
    /// When the directory cannot be read or a file not removed.
    pub(crate) fn remove_below(&self, number: u64) -> Result<(), EvidenceError> {
        let failed = |path: &Path, source| EvidenceError::Spool {
            path: path.to_owned(),
            source,
        };
        let segments = self.segments().map_err(|e| failed(&self.dir, e))?;
        for (first, next) in segments.iter().zip(segments.iter().skip(1)) {
            if *next > number {
                break;
            }
            let path = self.path(*first);
            std::fs::remove_file(&path).map_err(|e| failed(&path, e))?;
        }
        Ok(())
    }
}

/// The writing end of a stream.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    stream: Stream,
    file: File,
    first: u64,
    length: u64,
}

impl SegmentWriter {
    /// Appends entries; `first` is the number of the first of them. When this returns, they survive the process. Says where
    /// the first lies; the others follow it.
    ///
    /// # Errors
    /// When the disk refuses. An entry may be torn then, so nothing may follow it.
    pub(crate) fn append(
        &mut self,
        first: u64,
        mut parts: &mut [IoSlice<'_>],
    ) -> Result<Place, EvidenceError> {
        if self.length >= self.stream.segment_bytes {
            // A crash between these lines and the write leaves an empty newest file, in which readers wait.
            self.first = first;
            self.file = self.stream.create(first).map_err(|e| self.failed(e))?;
            self.length = 0;
        }
        let place = Place {
            first: self.first,
            at: self.length,
            number: first,
        };
        // Parts of no length would look like a disk that takes nothing.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match self.file.write_vectored(parts) {
                Ok(0) => return Err(self.failed(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.length += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(place)
    }

    fn failed(&self, source: io::Error) -> EvidenceError {
        EvidenceError::Spool {
            path: self.stream.path(self.first),
            source,
        }
    }

    #[cfg(test)]
    pub(crate) fn set_file(&mut self, file: File) {
        self.file = file;
    }
}

/// Reads a stream's bodies in order, while another part of the process goes on writing it.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    stream: Stream,
    file: File,
    /// Number of the file's first entry.
    first: u64,
    /// Number of the next entry.
    next: u64,
    /// Where the next entry's head lies in the file.
    at: u64,
    buffer: Vec<u8>,
    /// The part of the file that `buffer` begins with.
    buffered: Range<u64>,
}

impl SegmentReader {
    /// Number of the next entry.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// The next body, or `None` when no whole entry is there (yet).
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn next_body(&mut self) -> Result<Option<&[u8]>, EvidenceError> {
        let failed = |at| move |source| EvidenceError::SpoolRead { at, source };
        let mut found = self.whole_entry().map_err(failed(self.next))?;
        if found.is_none() && self.enter_next().map_err(failed(self.next))? {
            found = self.whole_entry().map_err(failed(self.next))?;
        }
        let Some(body) = found else {
            return Ok(None);
        };
        let length = (HEAD + body.len()) as u64;
        self.next += 1;
        self.at += length;
        Ok(self.buffer.get(body))
    }

    /// Where the body of the entry at `at` lies in the buffer.
    fn whole_entry(&mut self) -> io::Result<Option<Range<usize>>> {
        let Some(head) = self.window(HEAD)? else {
            return Ok(None);
        };
        let Some((length, crc)) = self.buffer.get(head).and_then(split_head) else {
            return Ok(None);
        };
        // No entry has an empty body, and a head of zeros has the CRC of one.
        if length == 0 || length > MAX_BODY {
            return Ok(None);
        }
        let Some(entry) = self.window(HEAD + length)? else {
            return Ok(None);
        };
        let body = entry.start + HEAD..entry.end;
        let whole = self
            .buffer
            .get(body.clone())
            .is_some_and(|body| crc32fast::hash(body) == crc);
        Ok(whole.then_some(body))
    }

    /// Goes to the file that follows this one, if it is there: the writer has then left this one behind.
    fn enter_next(&mut self) -> io::Result<bool> {
        if self.next == self.first {
            return Ok(false);
        }
        match File::open(self.stream.path(self.next)) {
            Ok(file) => {
                self.file = file;
                self.first = self.next;
                self.at = 0;
                self.buffered = 0..0;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The next `length` bytes as a range of the buffer, if they are there.
    fn window(&mut self, length: usize) -> io::Result<Option<Range<usize>>> {
        let end = self.at + length as u64;
        if !(self.buffered.start <= self.at && end <= self.buffered.end) {
            self.fill()?;
        }
        if end > self.buffered.end {
            return Ok(None);
        }
        let from = usize::try_from(self.at - self.buffered.start).unwrap_or(usize::MAX);
        Ok(Some(from..from.saturating_add(length)))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffered = self.at..self.at;
        let mut filled = 0;
        while let Some(space) = self.buffer.get_mut(filled..).filter(|s| !s.is_empty()) {
            match self.file.read_at(space, self.at + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffered.end += filled as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(dir: &Path, segment_bytes: u64) -> Stream {
        Stream {
            dir: dir.to_owned(),
            name: "trial",
            segment_bytes,
        }
    }

    fn entry(body: &[u8]) -> Vec<u8> {
        let mut entry = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        entry.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
        entry.extend_from_slice(body);
        entry
    }

    fn bodies(reader: &mut SegmentReader) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        while let Some(body) = reader.next_body().unwrap() {
            bodies.push(body.to_vec());
        }
        bodies
    }

    #[test]
    fn entries_are_read_across_files_while_they_are_written_and_files_are_bounded() {
        let temp = tempfile::tempdir().unwrap();
        let stream = stream(temp.path(), 100);
        let mut writer = stream.writer().unwrap();
        let mut reader = stream.reader().unwrap();
        for number in 0..50u64 {
            let body = vec![b'x'; 1 + usize::try_from(number).unwrap()];
            writer
                .append(number, &mut [IoSlice::new(&entry(&body))])
                .unwrap();
            assert_eq!(bodies(&mut reader), vec![body]);
        }
        let segments = stream.segments().unwrap();
        assert!(segments.len() > 10, "{segments:?}");
        for first in segments {
            let length = std::fs::metadata(stream.path(first)).unwrap().len();
            assert!(length < 100 + 8 + 51, "{length}");
        }
    }

    #[test]
    fn only_whole_files_below_the_number_are_removed_and_the_rest_is_read_from_its_start() {
        let temp = tempfile::tempdir().unwrap();
        let stream = stream(temp.path(), 30);
        let mut writer = stream.writer().unwrap();
        let mut behind = stream.reader().unwrap();
        for number in 0..9u64 {
            let body = number.to_be_bytes();
            writer
                .append(number, &mut [IoSlice::new(&entry(&body))])
                .unwrap();
        }
        assert_eq!(stream.segments().unwrap(), [0, 2, 4, 6, 8]);
        stream.remove_below(5).unwrap();
        assert_eq!(stream.segments().unwrap(), [4, 6, 8]);
        stream.remove_below(u64::MAX).unwrap();
        assert_eq!(stream.segments().unwrap(), [8], "the newest stays");
        let left = bodies(&mut stream.reader().unwrap());
        assert_eq!(left, [8u64.to_be_bytes().to_vec()]);
        // Whoever has a removed file open reads it to its end, and no further.
        assert_eq!(bodies(&mut behind).len(), 2);
    }

    #[test]
    fn a_file_cut_at_any_byte_reads_up_to_the_last_whole_entry() {
        let temp = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for n in 1..5usize {
            bytes.extend(entry(&vec![b'x'; 30 * n]));
            ends.push(bytes.len());
        }
        for cut in 0..=bytes.len() {
            let stream = Stream {
                dir: temp.path().join(cut.to_string()),
                name: "trial",
                segment_bytes: u64::MAX,
            };
            std::fs::create_dir(&stream.dir).unwrap();
            let mut writer = stream.writer().unwrap();
            writer
                .append(0, &mut [IoSlice::new(&bytes[..cut])])
                .unwrap();
            let whole = bodies(&mut stream.reader().unwrap()).len();
            assert_eq!(whole, ends.iter().filter(|end| **end <= cut).count());
        }
    }

    #[test]
    fn a_flipped_bit_and_a_hole_of_zeros_stop_the_reader() {
        let temp = tempfile::tempdir().unwrap();
        let whole = entry(b"payload");
        for at in 0..=whole.len() {
            let mut damaged = whole.clone();
            match damaged.get_mut(at) {
                Some(byte) => *byte ^= 1,
                None => damaged.fill(0),
            }
            let stream = Stream {
                dir: temp.path().join(at.to_string()),
                name: "trial",
                segment_bytes: u64::MAX,
            };
            std::fs::create_dir(&stream.dir).unwrap();
            let mut writer = stream.writer().unwrap();
            writer.append(0, &mut [IoSlice::new(&damaged)]).unwrap();
            assert!(bodies(&mut stream.reader().unwrap()).is_empty(), "{at}");
        }
    }
}
