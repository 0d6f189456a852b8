//! The sealer: one thread that turns raw frames into the chain's lines, in order, beside the sessions.
//!
//! Owns the epoch keys (see [`super::keys`]). A crash loses the current key and with it nothing but the right to seal:
//! the frames stay.

use super::error::EvidenceError;
use super::frame::OwnFrame;
use super::keys::{Salts, fresh_key};
use super::lane::Follower;
use super::progress::Progress;
use super::spool::{FrameWriter, LineWriter};
use powerpole_chain::{Genesis, Head, Kind, Line, SealReason, Sealer};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What wakes the sealer.
#[derive(Debug)]
pub(crate) enum Wake {
    /// Frames were written while it slept.
    Frames,
    /// Seal the chain and stop.
    Seal(SealReason),
}

/// While frames keep coming the sealer looks for more this often, instead of being woken for each; sooner when they fill half
/// of the lane. Every look takes a core from the sessions for a moment, so that the fewer there are the fewer keys wait.
const BUSY: Duration = Duration::from_millis(50);
/// Lines are written in pieces of about this size.
const FLUSH_BYTES: usize = 1 << 20;
const CLOCK_CHECK: u64 = 1_000_000;

/// The sealing thread's state.
pub(crate) struct SealingThread {
    pub(crate) frames: Follower<OwnFrame>,
    pub(crate) writer: Arc<Mutex<FrameWriter>>,
    pub(crate) chain: ChainWriter,
    pub(crate) clock_checked_us: u64,
}

impl SealingThread {
    /// Runs until the seal is written or something fails; a failure stops recording as a whole.
    pub(crate) fn run(mut self, wake: &Receiver<Wake>) {
        let progress = Arc::clone(&self.chain.progress);
        if let Err(error) = self.work(wake) {
            tracing::error!(code = error.code(), %error, "sealing failed");
            lock(&self.writer).fail();
            progress.fail(&error);
        }
        progress.sealer_ended();
    }

    fn work(&mut self, wake: &Receiver<Wake>) -> Result<(), EvidenceError> {
        loop {
            let sealed_any = self.drain()?;
            self.keep_cadence()?;
            self.chain.flush()?;
            let patience = if sealed_any {
                BUSY
            } else {
                // Announced before the last look at the frames: a frame written after it sends a wake.
                self.chain.progress.sealer_sleeps();
                if self.drain()? {
                    continue;
                }
                Duration::from_millis(200)
            };
            match wake.recv_timeout(patience) {
                Ok(Wake::Frames) | Err(RecvTimeoutError::Timeout) => {
                    self.chain.progress.sealer_woke();
                }
                Ok(Wake::Seal(reason)) => return self.finish(reason),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn drain(&mut self) -> Result<bool, EvidenceError> {
        let before = self.chain.consumed;
        while let Some(frame) = self.frames.next()? {
            self.chain.seal_frame(&frame)?;
            if self.chain.lines.pending() >= FLUSH_BYTES {
                self.chain.flush()?;
            }
        }
        Ok(self.chain.consumed > before)
    }

    fn keep_cadence(&mut self) -> Result<(), EvidenceError> {
        let (now_us, written, jump) = {
            let mut writer = lock(&self.writer);
            let (now_us, written) = writer.mark();
            let check = now_us.saturating_sub(self.clock_checked_us) >= CLOCK_CHECK;
            (now_us, written, check.then(|| writer.jump_us()))
        };
        if let Some(jump) = jump {
            self.clock_checked_us = now_us;
            if let Some(by_us) = jump {
                lock(&self.writer).append(Kind::ClockJump.byte(), 0, &by_us.to_be_bytes())?;
                self.drain()?;
            }
        }
        // Frames that are not sealed yet may be older than `now_us`; a checkpoint must not overtake them.
        let t_us = if written == self.chain.consumed {
            now_us
        } else {
            self.chain.last_t_us
        };
        self.chain.checkpoint_if_due(now_us, t_us)
    }

    fn finish(&mut self, reason: SealReason) -> Result<(), EvidenceError> {
        // The writer is closed first, so these are all the frames that there will ever be.
        let written = {
            let mut writer = lock(&self.writer);
            writer.close();
            writer.mark().1
        };
        self.drain()?;
        if self.chain.consumed != written {
            return Err(EvidenceError::Chain(format!(
                "{written} frames were spooled, {} could be read back",
                self.chain.consumed
            )));
        }
        let now_us = lock(&self.writer).mark().0;
        let line = self.chain.seal(now_us, reason)?;
        self.chain.flush()?;
        self.chain.progress.sealed(&line, &self.chain.genesis);
        Ok(())
    }
}

/// The chain and the lines that come of it.
pub(crate) struct ChainWriter {
    /// `None` once the seal is made.
    pub(crate) sealer: Option<Sealer>,
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) salts: Salts,
    pub(crate) lines: LineWriter,
    pub(crate) progress: Arc<Progress>,
    /// Frames that the chain holds, and their bytes in the spool.
    pub(crate) consumed: u64,
    pub(crate) consumed_bytes: u64,
    pub(crate) last_t_us: u64,
    pub(crate) head: Head,
}

impl ChainWriter {
    fn seal_frame(&mut self, frame: &OwnFrame) -> Result<(), EvidenceError> {
        self.checkpoint_if_due(frame.t_us, self.last_t_us)?;
        let kind = Kind::from_byte(frame.kind)
            .ok_or_else(|| EvidenceError::Chain(format!("unknown kind {}", frame.kind)))?;
        let salt = self.salts.next()?;
        let line = self
            .sealer()?
            .append(frame.t_us, kind, frame.session, salt, &frame.payload)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        self.consumed = frame.number + 1;
        self.consumed_bytes += frame.entry_bytes();
        self.push(line);
        Ok(())
    }

    /// Ends the epoch, at `t_us`, when the policy wants that at `now_us`.
    fn checkpoint_if_due(&mut self, now_us: u64, t_us: u64) -> Result<(), EvidenceError> {
        if !self.sealer()?.checkpoint_due(now_us) {
            return Ok(());
        }
        let salt = self.salts.next()?;
        let next = fresh_key()?;
        let line = self
            .sealer()?
            .checkpoint(t_us, salt, next)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        self.progress.checkpoint(&line, &self.genesis);
        self.push(line);
        Ok(())
    }

    fn seal(&mut self, now_us: u64, reason: SealReason) -> Result<Line, EvidenceError> {
        let salt = self.salts.next()?;
        let line = self
            .sealer
            .take()
            .ok_or(EvidenceError::Sealed)?
            .seal(now_us, salt, reason)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        self.push(line.clone());
        Ok(line)
    }

    fn push(&mut self, line: Line) {
        self.last_t_us = line.t_us;
        self.head = Head {
            seq: line.seq,
            hash: line.hash,
            epoch: line.epoch,
        };
        self.lines
            .push(self.consumed, line.seq, line.t_us, line.text);
    }

    fn sealer(&mut self) -> Result<&mut Sealer, EvidenceError> {
        self.sealer.as_mut().ok_or(EvidenceError::Sealed)
    }

    fn flush(&mut self) -> Result<(), EvidenceError> {
        if self.lines.pending() > 0 {
            let length = self.lines.flush()?;
            self.progress
                .lines_written(self.head, self.consumed, self.consumed_bytes, length);
        }
        Ok(())
    }
}

fn lock(writer: &Mutex<FrameWriter>) -> MutexGuard<'_, FrameWriter> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
