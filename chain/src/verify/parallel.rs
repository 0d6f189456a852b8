//! Blocks of lines, reduced on several threads and judged in their order.
//!
//! Every thread does the same: take the next block, reduce its lines, hand them in. Whoever hands in the block whose
//! turn it is judges it and what else is ready, while the others go on reducing; nobody waits for a thread that only
//! judges. Few blocks are under way, so memory does not depend on how long the stream is.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use super::{
    intake::Verifier,
    reduce::{Reduced, Reducer},
};

/// Records that one thread alone judges at once.
const AT_ONCE: usize = 64;
/// Blocks for each thread that may wait for their turn.
const WAITING: usize = 2;

/// Feeds every line of every block. `read` fills the block that it is given (what is in it is old) with whole lines,
/// or says that there are no more; `open` takes a line out of what it travelled in, and every thread has a copy of it.
/// The caller's thread is one of the threads.
///
/// # Errors
/// What `read` failed with; the verification must then not be finished.
pub fn verify_blocks<B, E>(
    verifier: &mut Verifier,
    threads: usize,
    mut read: impl FnMut(B) -> Result<Option<B>, E> + Send,
    open: impl FnMut(&[u8], &mut Reducer) + Clone + Send,
) -> Result<(), E>
where
    B: AsRef<[u8]> + Default,
    E: Send,
{
    if threads <= 1 {
        let mut worker = Worker::new(open);
        let (mut block, mut reduced) = (B::default(), Reduced::default());
        while let Some(filled) = read(block)? {
            // Judged while they are still near: nothing waits for the end of the block.
            let each = |reducer: &mut Reducer| {
                if reducer.ready() >= AT_ONCE {
                    reduced = reducer.finish(std::mem::take(&mut reduced));
                    verifier.take(&mut reduced);
                }
            };
            worker.each(filled.as_ref(), each);
            reduced = worker.reducer.finish(reduced);
            verifier.take(&mut reduced);
            block = filled;
        }
        return Ok(());
    }
    let table = Table {
        source: Mutex::new(Source {
            read,
            next: 0,
            ended: None,
        }),
        turn: Mutex::new(Turn {
            verifier: Some(verifier),
            next: 0,
            ready: VecDeque::new(),
            spare: Vec::new(),
            most: threads * WAITING,
            broken: false,
        }),
        moved: Condvar::new(),
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            let worker = Worker::new(open.clone());
            scope.spawn(|| table.serve(worker));
        }
        table.serve(Worker::new(open));
    });
    let source = table.source.into_inner();
    match source.unwrap_or_else(PoisonError::into_inner).ended {
        Some(Err(error)) => Err(error),
        _ => Ok(()),
    }
}

/// What the threads share.
struct Table<'a, R, E> {
    source: Mutex<Source<R, E>>,
    turn: Mutex<Turn<'a>>,
    /// The turn went on.
    moved: Condvar,
}

/// Where blocks come from. Never locked while the turn is.
struct Source<R, E> {
    read: R,
    /// Number of the next block.
    next: u64,
    ended: Option<Result<(), E>>,
}

/// Whose turn it is.
struct Turn<'a> {
    /// Absent while a thread judges.
    verifier: Option<&'a mut Verifier>,
    /// Number of the next block to be judged.
    next: u64,
    /// What came before its turn: the first is block `next`.
    ready: VecDeque<Option<Reduced>>,
    spare: Vec<Reduced>,
    most: usize,
    /// A thread ended without handing in its block.
    broken: bool,
}

impl<R, E> Table<'_, R, E> {
    fn serve<B>(&self, mut worker: Worker<impl FnMut(&[u8], &mut Reducer)>)
    where
        B: AsRef<[u8]> + Default,
        R: FnMut(B) -> Result<Option<B>, E>,
    {
        let leaving = Leaving(self);
        let mut block = B::default();
        while let Some(spare) = self.wait_for_room() {
            let Some((number, filled)) = self.next_block(block) else {
                break;
            };
            let reduced = worker.reduce(filled.as_ref(), spare);
            block = filled;
            self.hand_in(number, reduced);
        }
        drop(leaving);
    }

    /// Waits until few blocks wait for their turn. Whoever waits here holds none, so the one whose turn it is comes.
    fn wait_for_room(&self) -> Option<Reduced> {
        let mut turn = lock(&self.turn);
        while turn.ready.len() >= turn.most && !turn.broken {
            turn = self
                .moved
                .wait(turn)
                .unwrap_or_else(PoisonError::into_inner);
        }
        (!turn.broken).then(|| turn.spare.pop().unwrap_or_default())
    }

    fn next_block<B>(&self, block: B) -> Option<(u64, B)>
    where
        R: FnMut(B) -> Result<Option<B>, E>,
    {
        let mut source = lock(&self.source);
        if source.ended.is_some() {
            return None;
        }
        match (source.read)(block) {
            Ok(Some(filled)) => {
                let number = source.next;
                source.next += 1;
                Some((number, filled))
            }
            Ok(None) => {
                source.ended = Some(Ok(()));
                None
            }
            Err(error) => {
                source.ended = Some(Err(error));
                None
            }
        }
    }

    fn hand_in(&self, number: u64, reduced: Reduced) {
        let mut turn = lock(&self.turn);
        let place = number.saturating_sub(turn.next) as usize;
        while turn.ready.len() <= place {
            turn.ready.push_back(None);
        }
        if let Some(slot) = turn.ready.get_mut(place) {
            *slot = Some(reduced);
        }
        // Whoever has the verifier looks for more before it gives it back, under this very lock.
        let Some(verifier) = turn.verifier.take() else {
            return;
        };
        while matches!(turn.ready.front(), Some(Some(_))) {
            let Some(Some(mut reduced)) = turn.ready.pop_front() else {
                break;
            };
            turn.next += 1;
            drop(turn);
            self.moved.notify_all();
            verifier.take(&mut reduced);
            turn = lock(&self.turn);
            turn.spare.push(reduced);
        }
        turn.verifier = Some(verifier);
    }
}

/// A thread that panics still lets the others go, so that the panic can be passed on.
struct Leaving<'t, 'a, R, E>(&'t Table<'a, R, E>);

impl<R, E> Drop for Leaving<'_, '_, R, E> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.turn).broken = true;
            self.0.moved.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Worker<O> {
    reducer: Reducer,
    open: O,
}

impl<O: FnMut(&[u8], &mut Reducer)> Worker<O> {
    fn new(open: O) -> Worker<O> {
        Worker {
            reducer: Reducer::new(),
            open,
        }
    }

    fn reduce(&mut self, block: &[u8], spare: Reduced) -> Reduced {
        self.each(block, |_| ());
        self.reducer.finish(spare)
    }

    fn each(&mut self, block: &[u8], mut after: impl FnMut(&mut Reducer)) {
        let mut rest = block;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let (line, tail) = rest.split_at(end);
            rest = tail.get(1..).unwrap_or_default();
            if !line.is_empty() {
                (self.open)(line, &mut self.reducer);
                self.reducer.hash_enough(rest);
                after(&mut self.reducer);
            }
        }
    }
}
