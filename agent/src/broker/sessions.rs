//! What the broker keeps of its sessions: their numbers, the ways to signal them, and how many there were.

use super::admission::Refusal;
use super::alarms::Alarms;
use super::patrol::Workers;
use crate::evidence::{Gate, Recorder};
use crate::session::relay::Signal;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Sessions that may be open at once.
const MAX_SESSIONS: usize = 32;

#[derive(Debug)]
pub(super) struct State {
    pub(super) recorder: Recorder,
    pub(super) gate: watch::Receiver<Gate>,
    /// Whether the window has begun.
    pub(super) opened: AtomicBool,
    /// Whether it is over, or about to be.
    pub(super) closed: AtomicBool,
    pub(super) sessions: Mutex<HashMap<u32, mpsc::Sender<Signal>>>,
    pub(super) open: watch::Sender<u32>,
    pub(super) admitted: AtomicU32,
    pub(super) refused: AtomicU32,
    pub(super) alarms: Alarms,
    /// SSM sessions that came here, admitted or not.
    pub(super) known: Mutex<HashSet<String>>,
    pub(super) workers: Mutex<Workers>,
    pub(super) intrusion: AtomicBool,
}

impl State {
    pub(super) fn sessions(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<Signal>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn workers(&self) -> MutexGuard<'_, Workers> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a session and opens its way for signals; refused when there are too many or logins are over.
    pub(super) fn enter(&self) -> Result<(u32, mpsc::Receiver<Signal>), Refusal> {
        let mut sessions = self.sessions();
        // Looked at under the lock: `end_all` either sees this session or has closed the door before it.
        if self.closed.load(Ordering::SeqCst) {
            return Err(Refusal::Closed);
        }
        if !self.opened.load(Ordering::SeqCst) {
            return Err(Refusal::NotYet);
        }
        if *self.gate.borrow() != Gate::Open {
            return Err(Refusal::NoEvidence);
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(Refusal::TooMany);
        }
        let number = self.admitted.fetch_add(1, Ordering::SeqCst) + 1;
        let (signals, inbox) = mpsc::channel(64);
        sessions.insert(number, signals);
        self.open
            .send_replace(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        Ok((number, inbox))
    }

    pub(super) fn leave(&self, number: u32) {
        let mut sessions = self.sessions();
        sessions.remove(&number);
        self.open
            .send_replace(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
    }
}

pub(super) fn new_state(recorder: Recorder, gate: watch::Receiver<Gate>) -> Arc<State> {
    Arc::new(State {
        recorder,
        gate,
        opened: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        sessions: Mutex::new(HashMap::new()),
        open: watch::Sender::new(0),
        admitted: AtomicU32::new(0),
        refused: AtomicU32::new(0),
        alarms: Alarms::default(),
        known: Mutex::new(HashSet::new()),
        workers: Mutex::default(),
        intrusion: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::trial;

    #[tokio::test]
    async fn nobody_enters_before_the_window_is_open_nor_after_it_was_closed() {
        let temp = tempfile::tempdir().unwrap();
        let recorder = trial::recorder(&temp.path().join("spool"));
        let state = new_state(recorder.clone(), recorder.gate());
        assert_eq!(state.enter().unwrap_err(), Refusal::NotYet);
        state.opened.store(true, Ordering::SeqCst);
        assert_eq!(state.enter().unwrap().0, 1);
        state.closed.store(true, Ordering::SeqCst);
        assert_eq!(state.enter().unwrap_err(), Refusal::Closed);
    }
}
