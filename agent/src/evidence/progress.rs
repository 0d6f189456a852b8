//! How far each stage of the evidence has come, and what follows from it: the heads that may be anchored, the
//! lag that control hears of, and whether sessions may go on.

use super::error::EvidenceError;
use super::spool::Written;
use powerpole_chain::{Anchor, AnchorKind, Genesis, Head, Line};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Whether sessions may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They may.
    Open,
    /// Nothing more is read from terminals and database clients until evidence is shipped again.
    Frozen,
    /// Evidence is lost or was held up for too long: the bastion has to end.
    Ended,
}

/// Limits of what may wait to be shipped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Age of the oldest waiting record at which sessions freeze.
    pub(crate) freeze_after: Duration,
    /// Age at which the bastion ends.
    pub(crate) end_after: Duration,
    /// Bytes waiting in the spool at which sessions freeze: fast output must not fill the disk. They go on when half of it
    /// is shipped, so that a session does not stutter at the limit.
    pub(crate) freeze_above_bytes: u64,
}

/// Decides whether sessions may go on, given whether they may now.
pub(crate) fn decide_gate(
    now: Gate,
    lost: bool,
    lag: Duration,
    waiting: u64,
    patience: Patience,
) -> Gate {
    let most = match now {
        Gate::Open => patience.freeze_above_bytes,
        Gate::Frozen | Gate::Ended => patience.freeze_above_bytes / 2,
    };
    if lost || lag >= patience.end_after {
        Gate::Ended
    } else if lag >= patience.freeze_after || waiting >= most {
        Gate::Frozen
    } else {
        Gate::Open
    }
}

/// The evidence's state as control and people hear it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Records spooled and not yet accepted by CloudWatch.
    pub(crate) lag_records: u64,
    /// Age in milliseconds of the oldest of these.
    pub(crate) lag_ms: u64,
    /// Sequence number that follows the last accepted line's.
    pub(crate) accepted_next_seq: u64,
    /// Sequence number of the last head that is anchored.
    pub(crate) anchored_seq: Option<u64>,
    /// Records that CloudWatch answered it would not keep.
    pub(crate) rejected: u64,
    /// Whether something was lost for good.
    pub(crate) lost: bool,
    /// What did not go as it should, for a person to read.
    pub(crate) remarks: Vec<String>,
}

#[derive(Debug)]
struct Inner {
    head: Head,
    frames_consumed: u64,
    frames_written: u64,
    /// Bytes of all frames, and of those that are sealed.
    frame_bytes_written: u64,
    frame_bytes_sealed: u64,
    accepted_next_seq: u64,
    /// Time of the oldest record that CloudWatch has not accepted.
    waiting_since_us: Option<u64>,
    /// Anchors in order of their records; the first few may be shipped already.
    anchors: VecDeque<Anchor>,
    anchored_seq: Option<u64>,
    rejected: u64,
    lost: bool,
    remarks: Vec<String>,
    seal: Option<Anchor>,
    sealer_ended: bool,
    shipped_bytes: u64,
}

/// Heads kept for anchoring; older ones give way to newer ones.
const MAX_ANCHORS: usize = 4096;
const MAX_REMARKS: usize = 32;

/// Shared by recorder, sealer, shipper and anchors.
#[derive(Debug)]
pub(crate) struct Progress {
    inner: Mutex<Inner>,
    sealer_asleep: AtomicBool,
    lines_length: watch::Sender<u64>,
    accepted: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    gate: watch::Sender<Gate>,
}

impl Progress {
    /// At the chain's start.
    pub(crate) fn new(head: Head) -> Self {
        Self {
            inner: Mutex::new(Inner {
                head,
                frames_consumed: 0,
                frames_written: 0,
                frame_bytes_written: 0,
                frame_bytes_sealed: 0,
                accepted_next_seq: 0,
                waiting_since_us: None,
                anchors: VecDeque::new(),
                anchored_seq: None,
                rejected: 0,
                lost: false,
                remarks: Vec::new(),
                seal: None,
                sealer_ended: false,
                shipped_bytes: 0,
            }),
            sealer_asleep: AtomicBool::new(false),
            lines_length: watch::Sender::new(0),
            accepted: watch::Sender::new(0),
            ended: watch::Sender::new(false),
            gate: watch::Sender::new(Gate::Open),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame was written; true when the sealer has to be woken for it.
    pub(crate) fn frame_written(&self, written: Written) -> bool {
        {
            let mut inner = self.lock();
            inner.frames_written = inner.frames_written.max(written.frames);
            inner.frame_bytes_written = inner.frame_bytes_written.max(written.bytes);
            inner.waiting_since_us.get_or_insert(written.t_us);
        }
        let asleep = self.sealer_asleep.swap(false, Ordering::AcqRel);
        asleep || written.crowded
    }

    /// The sealer is about to sleep.
    pub(crate) fn sealer_sleeps(&self) {
        self.sealer_asleep.store(true, Ordering::Release);
    }

    /// The sealer is awake.
    pub(crate) fn sealer_woke(&self) {
        self.sealer_asleep.store(false, Ordering::Release);
    }

    /// The chain has grown, and its lines are in the spool: `lines` has `length` bytes, and they hold the first
    /// `consumed` frames, of `frame_bytes`.
    ///
    /// The ledger hears of this head. Were it told before the lines are written, a kill in between would leave a head that
    /// no line leads to, and an honest crash would look like a cut.
    pub(crate) fn lines_written(&self, head: Head, consumed: u64, frame_bytes: u64, length: u64) {
        {
            let mut inner = self.lock();
            inner.head = head;
            inner.frames_consumed = consumed;
            inner.frame_bytes_sealed = frame_bytes;
        }
        self.lines_length.send_replace(length);
    }

    /// A checkpoint may be anchored once its lines are accepted.
    pub(crate) fn checkpoint(&self, line: &Line, genesis: &Genesis) {
        let mut inner = self.lock();
        if inner.anchors.len() >= MAX_ANCHORS {
            inner.anchors.pop_front();
        }
        inner
            .anchors
            .push_back(line.anchor(AnchorKind::Head, genesis));
    }

    /// The chain has its seal, and the spool the seal's line.
    pub(crate) fn sealed(&self, line: &Line, genesis: &Genesis) {
        self.lock().seal = Some(line.anchor(AnchorKind::Seal, genesis));
    }

    /// The sealing thread is over.
    pub(crate) fn sealer_ended(&self) {
        self.lock().sealer_ended = true;
        self.ended.send_replace(true);
    }

    /// Evidence is lost.
    pub(crate) fn fail(&self, error: &EvidenceError) {
        self.lock().lost = true;
        self.remark(format!("evidence was lost: {error}"));
        self.gate.send_replace(Gate::Ended);
    }

    /// CloudWatch has accepted everything before `next_seq`, which took `spool_bytes` more off what waits.
    /// `waiting_since_us` is the time of what waits next.
    pub(crate) fn accepted(&self, next_seq: u64, spool_bytes: u64, waiting_since_us: Option<u64>) {
        {
            let mut inner = self.lock();
            inner.accepted_next_seq = next_seq;
            inner.shipped_bytes += spool_bytes;
            inner.waiting_since_us = waiting_since_us;
        }
        self.accepted.send_replace(next_seq);
    }

    /// CloudWatch answered that it would not keep some records.
    pub(crate) fn rejected(&self, records: u64) {
        self.lock().rejected += records;
    }

    /// Something for a person to read.
    pub(crate) fn remark(&self, text: String) {
        let mut inner = self.lock();
        if inner.remarks.len() < MAX_REMARKS && !inner.remarks.contains(&text) {
            inner.remarks.push(text);
        }
    }

    /// The newest head that may be anchored and is not.
    pub(crate) fn next_anchor(&self) -> Option<Anchor> {
        let mut inner = self.lock();
        let accepted = inner.accepted_next_seq;
        let mut newest = None;
        while inner
            .anchors
            .front()
            .is_some_and(|anchor| anchor.seq < accepted)
        {
            newest = inner.anchors.pop_front();
        }
        if let Some(newest) = &newest {
            // Kept until it is anchored, or until a newer one takes its place.
            inner.anchors.push_front(newest.clone());
        }
        newest.filter(|anchor| inner.anchored_seq.is_none_or(|seq| seq < anchor.seq))
    }

    /// The seal, once its line is accepted.
    pub(crate) fn seal_anchor(&self) -> Option<Anchor> {
        let inner = self.lock();
        inner
            .seal
            .clone()
            .filter(|seal| seal.seq < inner.accepted_next_seq)
    }

    /// A head is anchored.
    pub(crate) fn anchored(&self, seq: u64) {
        self.lock().anchored_seq = Some(seq);
    }

    /// The chain's latest head.
    pub(crate) fn latest_head(&self) -> Head {
        self.lock().head
    }

    /// Whether the sealing thread wrote the seal.
    pub(crate) fn is_sealed(&self) -> bool {
        self.lock().seal.is_some()
    }

    /// Where shipping stands and what waits; `now_us` is the evidence's own time.
    pub(crate) fn health(&self, now_us: u64) -> Health {
        let inner = self.lock();
        let lines = (inner.head.seq + 1).saturating_sub(inner.accepted_next_seq);
        let frames = inner.frames_written.saturating_sub(inner.frames_consumed);
        let lag_records = lines + frames;
        let since = inner.waiting_since_us.filter(|_| lag_records > 0);
        Health {
            lag_records,
            lag_ms: since.map_or(0, |since| now_us.saturating_sub(since)) / 1000,
            accepted_next_seq: inner.accepted_next_seq,
            anchored_seq: inner.anchored_seq,
            rejected: inner.rejected,
            lost: inner.lost || (inner.sealer_ended && inner.seal.is_none()),
            remarks: inner.remarks.clone(),
        }
    }

    /// Bytes in the spool that wait: frames to be sealed, lines to be shipped.
    fn waiting_bytes(&self) -> u64 {
        let lines = *self.lines_length.borrow();
        let inner = self.lock();
        lines.saturating_sub(inner.shipped_bytes)
            + inner
                .frame_bytes_written
                .saturating_sub(inner.frame_bytes_sealed)
    }

    /// Decides anew whether sessions may go on.
    pub(crate) fn review_gate(&self, now_us: u64, patience: Patience) -> Gate {
        let health = self.health(now_us);
        let next = decide_gate(
            *self.gate.borrow(),
            health.lost,
            Duration::from_millis(health.lag_ms),
            self.waiting_bytes(),
            patience,
        );
        self.gate.send_if_modified(|gate| {
            // What has ended stays ended.
            let changes = *gate != next && *gate != Gate::Ended;
            if changes {
                *gate = next;
            }
            changes
        });
        *self.gate.borrow()
    }

    #[cfg(test)]
    pub(crate) fn set_gate(&self, gate: Gate) {
        let _ = self.gate.send_replace(gate);
    }

    /// Follows the gate.
    pub(crate) fn watch_gate(&self) -> watch::Receiver<Gate> {
        self.gate.subscribe()
    }

    /// Follows the length of `lines`.
    pub(crate) fn watch_lines(&self) -> watch::Receiver<u64> {
        self.lines_length.subscribe()
    }

    /// Follows the sequence number up to which CloudWatch has accepted.
    pub(crate) fn watch_accepted(&self) -> watch::Receiver<u64> {
        self.accepted.subscribe()
    }

    /// Becomes true when the sealing thread is over.
    pub(crate) fn watch_ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_freeze_and_end_by_age_and_freeze_by_size() {
        let patience = Patience {
            freeze_after: Duration::from_secs(30),
            end_after: Duration::from_secs(120),
            freeze_above_bytes: 100,
        };
        let seconds = Duration::from_secs;
        for (now, lost, lag, waiting, expected) in [
            (Gate::Open, false, seconds(0), 0, Gate::Open),
            (Gate::Open, false, seconds(29), 99, Gate::Open),
            (Gate::Open, false, seconds(0), 100, Gate::Frozen),
            (Gate::Frozen, false, seconds(0), 99, Gate::Frozen),
            (Gate::Frozen, false, seconds(0), 50, Gate::Frozen),
            (Gate::Frozen, false, seconds(0), 49, Gate::Open),
            (Gate::Open, false, seconds(30), 0, Gate::Frozen),
            (Gate::Frozen, false, seconds(29), 0, Gate::Open),
            (Gate::Open, false, seconds(119), 0, Gate::Frozen),
            (Gate::Open, false, seconds(120), 0, Gate::Ended),
            (Gate::Open, true, seconds(0), 0, Gate::Ended),
        ] {
            assert_eq!(
                decide_gate(now, lost, lag, waiting, patience),
                expected,
                "{now:?} {lag:?} {waiting}"
            );
        }
    }

    #[test]
    fn only_heads_whose_lines_were_accepted_are_anchored_and_the_newest_of_them() {
        let progress = Progress::new(Head {
            seq: 0,
            hash: [0; 32],
            epoch: 0,
        });
        for seq in [3, 6, 9] {
            progress.lock().anchors.push_back(Anchor {
                kind: AnchorKind::Head,
                request: "r".to_owned(),
                stream: "s".to_owned(),
                instance: "i".to_owned(),
                seq,
                head: [0; 32],
                epoch: 0,
                t_us: 0,
            });
        }
        assert_eq!(progress.next_anchor(), None);
        progress.accepted(8, 0, None);
        assert_eq!(progress.next_anchor().map(|a| a.seq), Some(6));
        assert_eq!(
            progress.next_anchor().map(|a| a.seq),
            Some(6),
            "until it is anchored"
        );
        progress.anchored(6);
        assert_eq!(progress.next_anchor(), None);
        progress.accepted(10, 0, None);
        assert_eq!(progress.next_anchor().map(|a| a.seq), Some(9));
    }

    #[test]
    fn what_has_ended_stays_ended() {
        let progress = Progress::new(Head {
            seq: 0,
            hash: [0; 32],
            epoch: 0,
        });
        let patience = Patience {
            freeze_after: Duration::from_secs(1),
            end_after: Duration::from_secs(2),
            freeze_above_bytes: u64::MAX,
        };
        let _ = progress.frame_written(Written {
            frames: 1,
            t_us: 0,
            bytes: 9,
            crowded: false,
        });
        assert_eq!(progress.review_gate(1_500_000, patience), Gate::Frozen);
        progress.accepted(1, 0, Some(1_500_000));
        assert_eq!(progress.review_gate(1_600_000, patience), Gate::Open);
        assert_eq!(progress.review_gate(9_000_000, patience), Gate::Ended);
        progress.accepted(1, 0, None);
        assert_eq!(progress.review_gate(9_000_000, patience), Gate::Ended);
    }
}
