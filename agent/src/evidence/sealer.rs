//! The sealer: one thread that turns raw frames into the chain's lines, in order, beside the sessions.
//!
//! Owns the epoch keys: each is made from the operating system's randomness, signs one checkpoint and is
//! erased when the next takes its place. The process locks its memory (see [`lock_memory`]), so a key never
//! reaches a disk. A crash loses the current key and with it nothing but the right to seal: the frames stay.

use super::error::EvidenceError;
use super::frame::{FrameReader, RawFrame};
use super::progress::Progress;
use super::spool::{FrameWriter, LineWriter, next_frame};
use powerpole_chain::{EpochKey, Genesis, Head, Kind, Line, SealReason, Sealer};
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// What wakes the sealer.
#[derive(Debug)]
pub(crate) enum Wake {
    /// Frames were written while it slept.
    Frames,
    /// Seal the chain and stop.
    Seal(SealReason),
}

/// While frames keep coming the sealer looks for more this often, instead of being woken for each.
const BUSY: Duration = Duration::from_millis(10);
/// Lines are written in pieces of about this size.
const FLUSH_BYTES: usize = 1 << 20;
const CLOCK_CHECK: u64 = 1_000_000;

/// Keeps every page of the process out of swap. Needs `LimitMEMLOCK=infinity`: under a finite limit a lock that
/// succeeds now would make allocations fail later.
///
/// # Errors
/// When the limit is finite or the kernel refuses; the caller records that keys may reach a swap device, if there
/// is one.
pub(crate) fn lock_memory() -> std::io::Result<()> {
    use rustix::mm::MlockAllFlags;
    use rustix::process::{Resource, getrlimit};
    if getrlimit(Resource::Memlock).current.is_some() {
        return Err(std::io::Error::other("LimitMEMLOCK is not infinity"));
    }
    Ok(rustix::mm::mlockall(
        MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT,
    )?)
}

/// A new epoch's key.
///
/// # Errors
/// When the operating system gives no randomness.
pub(crate) fn fresh_key() -> Result<EpochKey, EvidenceError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    SysRng
        .try_fill_bytes(&mut *seed)
        .map_err(|_| EvidenceError::Random)?;
    Ok(EpochKey::from_seed(*seed))
}

/// Sixteen bytes that hide what a payload was once it is withheld. Drawn in bulk.
#[derive(Debug)]
pub(crate) struct Salts {
    pool: Vec<u8>,
}

impl Salts {
    /// An empty pool.
    pub(crate) fn new() -> Self {
        Self { pool: Vec::new() }
    }

    /// The next salt.
    pub(crate) fn next(&mut self) -> Result<[u8; 16], EvidenceError> {
        if self.pool.len() < 16 {
            self.pool.resize(4096, 0);
            SysRng
                .try_fill_bytes(&mut self.pool)
                .map_err(|_| EvidenceError::Random)?;
        }
        let rest = self.pool.len() - 16;
        let salt = self
            .pool
            .get(rest..)
            .and_then(|tail| <[u8; 16]>::try_from(tail).ok())
            .ok_or(EvidenceError::Random)?;
        self.pool.truncate(rest);
        Ok(salt)
    }
}

/// The sealing thread's state.
pub(crate) struct SealingThread {
    /// `None` once the seal is made.
    pub(crate) sealer: Option<Sealer>,
    pub(crate) genesis: Arc<Genesis>,
    pub(crate) salts: Salts,
    pub(crate) frames: FrameReader,
    pub(crate) lines: LineWriter,
    pub(crate) writer: Arc<Mutex<FrameWriter>>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) consumed: u64,
    pub(crate) last_t_us: u64,
    pub(crate) clock_checked_us: u64,
}

impl SealingThread {
    /// Runs until the seal is written or something fails; a failure stops recording as a whole.
    pub(crate) fn run(mut self, wake: &Receiver<Wake>) {
        let progress = Arc::clone(&self.progress);
        let writer = Arc::clone(&self.writer);
        if let Err(error) = self.work(wake) {
            tracing::error!(code = error.code(), %error, "sealing failed");
            writer.lock().unwrap_or_else(PoisonError::into_inner).fail();
            progress.fail(&error);
        }
        progress.sealer_ended();
    }

    fn work(&mut self, wake: &Receiver<Wake>) -> Result<(), EvidenceError> {
        loop {
            let sealed_any = self.drain()?;
            self.keep_cadence()?;
            self.flush()?;
            let patience = if sealed_any {
                BUSY
            } else {
                // Announced before the last look at the frames: a frame written after it sends a wake.
                self.progress.sealer_sleeps();
                if self.drain()? {
                    continue;
                }
                Duration::from_millis(200)
            };
            match wake.recv_timeout(patience) {
                Ok(Wake::Frames) | Err(RecvTimeoutError::Timeout) => self.progress.sealer_woke(),
                Ok(Wake::Seal(reason)) => return self.finish(reason),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    fn drain(&mut self) -> Result<bool, EvidenceError> {
        let before = self.consumed;
        while let Some(frame) = next_frame(&mut self.frames)? {
            self.seal_frame(&frame)?;
            if self.lines.pending() >= FLUSH_BYTES {
                self.flush()?;
            }
        }
        Ok(self.consumed > before)
    }

    fn seal_frame(&mut self, frame: &RawFrame) -> Result<(), EvidenceError> {
        if self.sealer()?.checkpoint_due(frame.t_us) {
            self.checkpoint(self.last_t_us)?;
        }
        let kind = Kind::from_byte(frame.kind)
            .ok_or_else(|| EvidenceError::Chain(format!("unknown kind {}", frame.kind)))?;
        let salt = self.salts.next()?;
        let line = self
            .sealer()?
            .append(frame.t_us, kind, frame.session, salt, &frame.payload)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        self.consumed = frame.number + 1;
        self.push(&line);
        Ok(())
    }

    fn keep_cadence(&mut self) -> Result<(), EvidenceError> {
        let (now_us, written, jump) = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let (now_us, written) = writer.mark();
            let check = now_us.saturating_sub(self.clock_checked_us) >= CLOCK_CHECK;
            (
                now_us,
                written,
                if check { Some(writer.jump_us()) } else { None },
            )
        };
        if let Some(jump) = jump {
            self.clock_checked_us = now_us;
            if let Some(by_us) = jump {
                let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.append(Kind::ClockJump.byte(), 0, &by_us.to_be_bytes())?;
                drop(writer);
                self.drain()?;
            }
        }
        if self.sealer()?.checkpoint_due(now_us) {
            // Frames that are not sealed yet may be older than `now_us`; a checkpoint must not overtake them.
            let t_us = if written == self.consumed {
                now_us
            } else {
                self.last_t_us
            };
            self.checkpoint(t_us)?;
        }
        Ok(())
    }

    fn checkpoint(&mut self, t_us: u64) -> Result<(), EvidenceError> {
        let salt = self.salts.next()?;
        let next = fresh_key()?;
        let line = self
            .sealer()?
            .checkpoint(t_us, salt, next)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        self.push(&line);
        self.progress.checkpoint(&line, &self.genesis);
        Ok(())
    }

    fn push(&mut self, line: &Line) {
        self.last_t_us = line.t_us;
        self.lines
            .push(self.consumed, line.seq, line.t_us, &line.text);
        let head = Head {
            seq: line.seq,
            hash: line.hash,
            epoch: line.epoch,
        };
        self.progress.head(head, self.consumed);
    }

    fn sealer(&mut self) -> Result<&mut Sealer, EvidenceError> {
        self.sealer.as_mut().ok_or(EvidenceError::Sealed)
    }

    fn flush(&mut self) -> Result<(), EvidenceError> {
        if self.lines.pending() > 0 {
            let length = self.lines.flush()?;
            self.progress.lines_written(length);
        }
        Ok(())
    }

    fn finish(&mut self, reason: SealReason) -> Result<(), EvidenceError> {
        // The writer is closed first, so these are all the frames that there will ever be.
        let written = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.close();
            writer.mark().1
        };
        self.drain()?;
        if self.consumed != written {
            return Err(EvidenceError::Chain(format!(
                "{written} frames were spooled, {} could be read back",
                self.consumed
            )));
        }
        let now_us = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .mark()
            .0;
        let salt = self.salts.next()?;
        let line = self
            .sealer
            .take()
            .ok_or(EvidenceError::Sealed)?
            .seal(now_us, salt, reason)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        self.last_t_us = line.t_us;
        self.lines
            .push(self.consumed, line.seq, line.t_us, &line.text);
        self.progress.sealed(&line, self.consumed, &self.genesis);
        self.flush()
    }
}
