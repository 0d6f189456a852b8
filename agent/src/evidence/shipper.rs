//! The shipper: sealed lines to CloudWatch Logs, in order, for ever, until it is told to stop.
//!
//! Decides what goes into a batch and what an answer means; the adapter only carries. A batch that may have
//! been taken is sent again: the chain makes duplicates harmless, a lost line would be for good.

use super::error::EvidenceError;
use super::position::{Position, PositionFile};
use super::progress::Progress;
use super::spool::{LineReader, SpoolDir};
use powerpole_chain::{Gap, GapReason};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// One event, ready for CloudWatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEvent {
    /// Milliseconds since the epoch.
    pub(crate) t_ms: u64,
    /// The line.
    pub(crate) message: String,
}

/// Events of a batch that CloudWatch took note of and threw away, as indexes into the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rejected {
    /// Events before this index were too old.
    pub(crate) too_old_before: Option<usize>,
    /// Events before this index were past the group's retention.
    pub(crate) expired_before: Option<usize>,
    /// Events from this index on were too far in the future.
    pub(crate) too_new_from: Option<usize>,
}

/// A call to CloudWatch Logs that failed; nothing is known about its effect.
#[derive(Debug, thiserror::Error)]
#[error("CloudWatch Logs {operation}: {reason}")]
pub(crate) struct LogsError {
    /// The call.
    pub(crate) operation: &'static str,
    /// The service's error code and message, or the transport's.
    pub(crate) reason: String,
}

/// The log stream that one bastion writes. Durable when `put` returns; order within the stream is by event time;
/// calls may be repeated, a repetition may store events twice. The caller retries.
pub(crate) trait LogStream: Send + Sync + 'static {
    /// Makes the stream; one that exists is success.
    fn create(&self) -> impl Future<Output = Result<(), LogsError>> + Send;
    /// Stores events, at most one batch as [`Batch`] limits it.
    fn put(&self, events: &[LogEvent]) -> impl Future<Output = Result<Rejected, LogsError>> + Send;
}

/// Limits of PutLogEvents (CloudWatch Logs API reference): 1,048,576 bytes counting 26 an event, 10,000 events,
/// 24 h between first and last.
const MAX_BATCH_BYTES: usize = 1_048_576;
const EVENT_OVERHEAD: usize = 26;
const MAX_BATCH_EVENTS: usize = 10_000;
const MAX_BATCH_SPAN_MS: u64 = 24 * 3600 * 1000;

/// A batch that grows within CloudWatch's limits.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    events: Vec<LogEvent>,
    bytes: usize,
}

impl Batch {
    /// Whether an event still fits. The first always does: a line is at most 64 KiB.
    #[must_use]
    pub(crate) fn has_room_for(&self, t_us: u64, text: &str) -> bool {
        let Some(first) = self.events.first() else {
            return true;
        };
        self.events.len() < MAX_BATCH_EVENTS
            && self.bytes + text.len() + EVENT_OVERHEAD <= MAX_BATCH_BYTES
            && (t_us / 1000).saturating_sub(first.t_ms) <= MAX_BATCH_SPAN_MS
    }

    /// Adds an event; times never go backwards within a batch.
    pub(crate) fn push(&mut self, t_us: u64, text: String) {
        let t_ms = (t_us / 1000).max(self.events.last().map_or(0, |last| last.t_ms));
        self.bytes += text.len() + EVENT_OVERHEAD;
        self.events.push(LogEvent {
            t_ms,
            message: text,
        });
    }

    /// The events.
    pub(crate) fn events(&self) -> &[LogEvent] {
        &self.events
    }
}

/// The stretches that an answer says are not kept, as index ranges of the batch with their reason.
pub(crate) fn rejected_ranges(
    rejected: Rejected,
    events: usize,
) -> Vec<(std::ops::Range<usize>, GapReason)> {
    let mut ranges = Vec::new();
    let old = rejected.too_old_before.unwrap_or(0).min(events);
    if old > 0 {
        ranges.push((0..old, GapReason::TooOld));
    }
    let expired = rejected.expired_before.unwrap_or(0).min(events);
    if expired > old {
        ranges.push((old..expired, GapReason::Expired));
    }
    let new = rejected
        .too_new_from
        .unwrap_or(events)
        .max(old.max(expired));
    if new < events {
        ranges.push((new..events, GapReason::TooNew));
    }
    ranges
}

/// How long to wait before the try that follows `failures` failures in a row.
pub(crate) fn backoff(failures: u32) -> Duration {
    Duration::from_millis(200u64.saturating_mul(1 << failures.saturating_sub(1).min(5)))
        .min(Duration::from_secs(5))
}

/// After the first new line the shipper waits this long for more, to send them together.
const GATHER: Duration = Duration::from_millis(150);

/// Ships what the sealer writes.
pub(crate) struct Shipper<L> {
    pub(crate) logs: Arc<L>,
    pub(crate) lines: LineReader,
    pub(crate) position: PositionFile,
    pub(crate) spool: SpoolDir,
    pub(crate) progress: Arc<Progress>,
}

/// Records that CloudWatch would not keep, for the recorder to write down.
pub(crate) type GapSink = Box<dyn Fn(Gap) -> Result<(), EvidenceError> + Send + Sync>;

impl<L: LogStream> Shipper<L> {
    /// Ships until `stop` is set; what is still waiting then stays in the spool.
    ///
    /// # Errors
    /// When the spool cannot be read. CloudWatch's failures are retried and never end this.
    pub(crate) async fn run(
        mut self,
        gaps: GapSink,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), EvidenceError> {
        let mut lines = self.progress.watch_lines();
        loop {
            lines.borrow_and_update();
            while self.ship_batch(&gaps, &mut stop).await? {}
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                changed = lines.changed() => if changed.is_err() { return Ok(()) },
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                () = tokio::time::sleep(GATHER) => {}
            }
        }
    }

    /// Ships one batch until CloudWatch has it; false when nothing waits or it was told to stop.
    async fn ship_batch(
        &mut self,
        gaps: &GapSink,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, EvidenceError> {
        let Some(waiting) = collect(&mut self.lines)? else {
            return Ok(false);
        };
        let mut failures = 0;
        let rejected = loop {
            match self.logs.put(waiting.batch.events()).await {
                Ok(rejected) => break rejected,
                Err(error) => {
                    failures += 1;
                    if failures == 1 || failures % 10 == 0 {
                        tracing::warn!(%error, failures, "evidence is not taken, trying again");
                    }
                    self.progress.remark(error.to_string());
                    tokio::select! {
                        _ = stop.wait_for(|stop| *stop) => return Ok(false),
                        () = tokio::time::sleep(backoff(failures)) => {}
                    }
                }
            }
        };
        self.note_rejected(rejected, &waiting.seqs, gaps)?;
        self.note_accepted(&waiting)?;
        Ok(true)
    }

    fn note_rejected(
        &self,
        rejected: Rejected,
        seqs: &[u64],
        gaps: &GapSink,
    ) -> Result<(), EvidenceError> {
        for (range, reason) in rejected_ranges(rejected, seqs.len()) {
            let (Some(first), Some(last)) = (seqs.get(range.start), seqs.get(range.end - 1)) else {
                continue;
            };
            self.progress.rejected(range.len() as u64);
            self.progress.remark(format!(
                "CloudWatch did not keep records {first} to {last} ({reason:?})"
            ));
            match gaps(Gap {
                first: *first,
                last: *last,
                reason,
            }) {
                // After the seal no record can tell of it; the remark does.
                Ok(()) | Err(EvidenceError::Sealed) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn note_accepted(&mut self, waiting: &Waiting) -> Result<(), EvidenceError> {
        self.position.store(waiting.end)?;
        self.spool.forget(waiting.end)?;
        let next = self.lines.peek()?.map(|line| line.t_us);
        self.progress
            .accepted(waiting.end.next_seq, waiting.spool_bytes, next);
        Ok(())
    }
}

/// Lines that wait, as one batch.
pub(crate) struct Waiting {
    /// The batch.
    pub(crate) batch: Batch,
    /// Its lines' sequence numbers.
    pub(crate) seqs: Vec<u64>,
    /// Where shipping stands once it is taken.
    pub(crate) end: Position,
    /// Bytes that its lines have in the spool.
    pub(crate) spool_bytes: u64,
}

/// The next batch of lines, if any wait.
pub(crate) fn collect(lines: &mut LineReader) -> Result<Option<Waiting>, EvidenceError> {
    let mut waiting = Waiting {
        batch: Batch::default(),
        seqs: Vec::new(),
        end: Position::default(),
        spool_bytes: 0,
    };
    while let Some(line) = lines.peek()? {
        if !waiting.batch.has_room_for(line.t_us, &line.text) {
            break;
        }
        let Some(line) = lines.take() else { break };
        waiting.spool_bytes += line.entry_bytes();
        waiting.end = Position {
            next_seq: line.seq + 1,
            consumed: line.consumed,
        };
        waiting.seqs.push(line.seq);
        waiting.batch.push(line.t_us, line.text);
    }
    Ok((!waiting.seqs.is_empty()).then_some(waiting))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_stays_within_every_limit() {
        let mut batch = Batch::default();
        assert!(batch.has_room_for(0, &"x".repeat(1000)));
        batch.push(0, "x".repeat(1000));
        assert!(batch.has_room_for(MAX_BATCH_SPAN_MS * 1000, "x"));
        assert!(!batch.has_room_for((MAX_BATCH_SPAN_MS + 1) * 1000, "x"));
        let room = MAX_BATCH_BYTES - 2 * EVENT_OVERHEAD - 1000;
        assert!(batch.has_room_for(0, &"x".repeat(room)));
        assert!(!batch.has_room_for(0, &"x".repeat(room + 1)));

        let mut many = Batch::default();
        for _ in 0..MAX_BATCH_EVENTS {
            assert!(many.has_room_for(0, ""));
            many.push(0, String::new());
        }
        assert!(!many.has_room_for(0, ""));
    }

    #[test]
    fn every_rejection_becomes_the_right_stretch() {
        let rejected = |too_old_before, expired_before, too_new_from| Rejected {
            too_old_before,
            expired_before,
            too_new_from,
        };
        assert_eq!(rejected_ranges(rejected(None, None, None), 5), vec![]);
        assert_eq!(
            rejected_ranges(rejected(Some(2), Some(3), Some(4)), 5),
            vec![
                (0..2, GapReason::TooOld),
                (2..3, GapReason::Expired),
                (4..5, GapReason::TooNew)
            ]
        );
        assert_eq!(
            rejected_ranges(rejected(None, None, Some(0)), 5),
            vec![(0..5, GapReason::TooNew)]
        );
        assert_eq!(
            rejected_ranges(rejected(Some(99), None, None), 5),
            vec![(0..5, GapReason::TooOld)]
        );
    }

    #[test]
    fn waiting_grows_to_five_seconds_and_no_further() {
        assert_eq!(backoff(1), Duration::from_millis(200));
        assert_eq!(backoff(2), Duration::from_millis(400));
        assert_eq!(backoff(6), Duration::from_secs(5));
        assert_eq!(backoff(u32::MAX), Duration::from_secs(5));
    }
}
