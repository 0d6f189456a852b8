//! Blocks of lines, reduced on several threads and taken in their order.
//!
//! Reading and judging stay on the caller's thread; at most two blocks for each worker are under way, so memory does
//! not depend on how long the stream is.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    intake::Verifier,
    reduce::{Reading, Reduced, Reducer},
};

const UNDER_WAY: usize = 2;

/// Feeds every line of every block. `read` fills the buffer that it is given (what is in it is old) with whole
/// lines, or says that there are no more; `open` takes a line out of what it travelled in, and every worker has a
/// copy of it. One thread works alone; more are that many workers beside the caller's.
///
/// # Errors
/// What `read` failed with; the verification must then not be finished.
pub fn verify_blocks<E>(
    verifier: &mut Verifier,
    threads: usize,
    mut read: impl FnMut(Vec<u8>) -> Result<Option<Vec<u8>>, E>,
    open: impl FnMut(&[u8], &mut Reducer) -> Reduced + Clone + Send,
) -> Result<(), E> {
    if threads <= 1 {
        let mut worker = Worker::new(open);
        let mut block = Vec::new();
        while let Some(filled) = read(block)? {
            worker.each(&filled, |line| verifier.take(line));
            block = filled;
        }
        return Ok(());
    }
    thread::scope(|scope| {
        let lanes: Vec<Lane> = (0..threads)
            .map(|_| {
                let (lane, work, done) = Lane::new();
                let mut worker = Worker::new(open.clone());
                scope.spawn(move || worker.serve(&work, &done));
                lane
            })
            .collect();
        let mut spare: Vec<Done> = Vec::new();
        let (mut sent, mut taken) = (0, 0);
        loop {
            let room = sent - taken < threads * UNDER_WAY;
            let next = if room {
                let used = spare.pop().unwrap_or_default();
                read(used.block)?.map(|block| Done { block, ..used })
            } else {
                None
            };
            let ended = room && next.is_none();
            if let (Some(next), Some(lane)) = (next, lanes.get(sent % threads)) {
                sent += 1;
                if lane.work.send(next).is_ok() {
                    continue;
                }
            }
            while taken < sent {
                let done = lanes.get(taken % threads).map(|lane| lane.done.recv());
                let Some(Ok(mut done)) = done else {
                    verifier.give_up("a thread of the verifier ended early");
                    return Ok(());
                };
                taken += 1;
                for line in done.lines.drain(..) {
                    verifier.take(line);
                }
                let counts = std::mem::take(&mut done.counts);
                verifier.unreadable(counts.unreadable);
                verifier.frames(counts.frames, counts.frame_bytes);
                spare.push(done);
                if !ended {
                    break;
                }
            }
            if ended {
                return Ok(());
            }
        }
    })
}

/// A block and its lines.
#[derive(Default)]
struct Done {
    block: Vec<u8>,
    lines: Vec<Reduced>,
    counts: Counted,
}

/// Lines that are only counted: a short one must not cost as much as a record.
#[derive(Default)]
struct Counted {
    unreadable: u64,
    frames: u64,
    frame_bytes: u64,
}

impl Counted {
    fn add(&mut self, reading: Reading) {
        match reading {
            Reading::Unreadable => self.unreadable += 1,
            Reading::Frame { bytes } => {
                self.frames += 1;
                self.frame_bytes += bytes;
            }
            Reading::Record(..) => {}
        }
    }
}

/// The way to one worker and back.
struct Lane {
    work: SyncSender<Done>,
    done: Receiver<Done>,
}

impl Lane {
    fn new() -> (Lane, Receiver<Done>, SyncSender<Done>) {
        let (work, take_work) = sync_channel(UNDER_WAY);
        let (give, done) = sync_channel(UNDER_WAY);
        (Lane { work, done }, take_work, give)
    }
}

struct Worker<O> {
    reducer: Reducer,
    open: O,
}

impl<O: FnMut(&[u8], &mut Reducer) -> Reduced> Worker<O> {
    fn new(open: O) -> Worker<O> {
        Worker {
            reducer: Reducer::new(),
            open,
        }
    }

    fn each(&mut self, block: &[u8], mut take: impl FnMut(Reduced)) {
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            if !line.is_empty() {
                take((self.open)(line, &mut self.reducer));
            }
        }
    }

    fn serve(&mut self, work: &Receiver<Done>, done: &SyncSender<Done>) {
        while let Ok(mut next) = work.recv() {
            let block = std::mem::take(&mut next.block);
            let (lines, counts) = (&mut next.lines, &mut next.counts);
            self.each(&block, |line| match line.0 {
                Reading::Record(..) => lines.push(line),
                counted => counts.add(counted),
            });
            next.block = block;
            if done.send(next).is_err() {
                return;
            }
        }
    }
}
