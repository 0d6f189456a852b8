//! After a SIGKILL: ships what the killed agent left in its spool. There is no key any more, so frames that were
//! never sealed travel as unsealed lines, and the verdict will say UNSEALED.

use super::error::EvidenceError;
use super::shipper::{Batch, LogStream, backoff, collect};
use super::spool::{MAX_PAYLOAD, SpoolDir, next_frame};
use powerpole_chain::{Kind, unsealed_line};
use std::path::Path;
use std::time::Duration;

/// What was shipped without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TailOutcome {
    /// Sealed lines that had not been shipped.
    pub(crate) sealed: u64,
    /// Frames that had not been sealed.
    pub(crate) unsealed: u64,
    /// Whether everything was accepted in time.
    pub(crate) complete: bool,
}

/// Ships a dead agent's spool within `limit`; called once, before the machine powers off.
///
/// # Errors
/// When the spool cannot be read. CloudWatch's failures are retried until the limit and then told by `complete`.
pub(crate) async fn ship_tail<L: LogStream>(
    spool: &Path,
    logs: &L,
    limit: Duration,
) -> Result<TailOutcome, EvidenceError> {
    let mut outcome = TailOutcome::default();
    let shipped = tokio::time::timeout(limit, ship_all(spool, logs, &mut outcome)).await;
    match shipped {
        Ok(result) => {
            result?;
            outcome.complete = true;
        }
        Err(_) => tracing::error!(
            sealed = outcome.sealed,
            unsealed = outcome.unsealed,
            "the spool was not shipped in time"
        ),
    }
    Ok(outcome)
}

async fn ship_all<L: LogStream>(
    spool: &Path,
    logs: &L,
    outcome: &mut TailOutcome,
) -> Result<(), EvidenceError> {
    let dir = SpoolDir::existing(spool);
    let position_file = dir.position_file()?;
    let position = position_file.load();

    // The agent may have been killed before it had made the stream.
    let mut failures = 0;
    while let Err(error) = logs.create().await {
        failures += 1;
        tracing::warn!(%error, "the log stream cannot be made, trying again");
        tokio::time::sleep(backoff(failures)).await;
    }

    // What the agent forgot lies before the position, and what it was about to forget is passed over by number.
    let mut lines = dir.lines()?;
    while lines
        .peek()?
        .is_some_and(|line| line.seq < position.next_seq)
    {
        lines.take();
    }
    // When no line is left, the accepted ones say how many frames the chain holds.
    let mut consumed = position.consumed;
    while let Some(waiting) = collect(&mut lines)? {
        put(logs, &waiting.batch).await;
        outcome.sealed += waiting.seqs.len() as u64;
        consumed = waiting.end.consumed;
        position_file.store(waiting.end)?;
    }

    let mut frames = dir.frames()?;
    let mut batch = Batch::default();
    let mut n = 0;
    while let Some(frame) = next_frame(&mut frames)? {
        let Some(kind) = Kind::from_byte(frame.kind).filter(|_| frame.number >= consumed) else {
            continue;
        };
        for payload in pieces(frame.payload) {
            let text = unsealed_line(n, frame.t_us, kind, frame.session, payload);
            if !batch.has_room_for(frame.t_us, &text) {
                put(logs, &batch).await;
                outcome.unsealed += batch.events().len() as u64;
                batch = Batch::default();
            }
            batch.push(frame.t_us, text);
            n += 1;
        }
    }
    if !batch.events().is_empty() {
        put(logs, &batch).await;
        outcome.unsealed += batch.events().len() as u64;
    }
    Ok(())
}

fn pieces(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = payload.is_empty().then_some(payload);
    whole.into_iter().chain(payload.chunks(MAX_PAYLOAD))
}

async fn put<L: LogStream>(logs: &L, batch: &Batch) {
    let mut failures = 0;
    while let Err(error) = logs.put(batch.events()).await {
        failures += 1;
        tracing::warn!(%error, failures, "the tail is not taken, trying again");
        tokio::time::sleep(backoff(failures)).await;
    }
}
