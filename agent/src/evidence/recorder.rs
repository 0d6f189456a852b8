//! The handle through which everything is recorded, before it is shown or forwarded.

use super::error::EvidenceError;
use super::progress::{Gate, Progress};
use super::sealer::Wake;
use super::spool::{FrameWriter, MAX_PAYLOAD};
use powerpole_chain::Kind;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// A cloneable handle that records.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(super) writer: Arc<Mutex<FrameWriter>>,
    pub(super) progress: Arc<Progress>,
    pub(super) wake: mpsc::Sender<Wake>,
}

impl Recorder {
    /// Records one payload. When this returns `Ok`, the record is in the spool and survives the process, so the
    /// bytes may be shown or forwarded. `session` is 0 for what belongs to no login.
    ///
    /// # Errors
    /// When it cannot be kept; what it describes must then not happen.
    pub(crate) fn record(
        &self,
        kind: Kind,
        session: u32,
        payload: &[u8],
    ) -> Result<(), EvidenceError> {
        let result = {
            let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.append(kind.byte(), session, payload)
        };
        match result {
            Ok(written) => {
                if self.progress.frame_written(written) {
                    // The sealer looks by itself every 200 ms; a lost wake costs that and nothing else.
                    let _ = self.wake.send(Wake::Frames);
                }
                Ok(())
            }
            Err(error) => {
                if matches!(error, EvidenceError::Spool { .. }) {
                    self.progress.fail(&error);
                }
                Err(error)
            }
        }
    }

    /// Records a JSON document, such as an event's. One that is too long is replaced by its length, but for what a login
    /// is known by: that must be there whole or not happen.
    ///
    /// # Errors
    /// As [`Recorder::record`].
    pub(crate) fn record_json(
        &self,
        kind: Kind,
        session: u32,
        document: &serde_json::Value,
    ) -> Result<(), EvidenceError> {
        let mut text = document.to_string();
        let whole = matches!(kind, Kind::SessionStart | Kind::Refusal);
        if text.len() > MAX_PAYLOAD && !whole {
            text = serde_json::json!({"cut": true, "bytes": text.len()}).to_string();
        }
        self.record(kind, session, text.as_bytes())
    }

    /// Follows whether sessions may go on.
    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.progress.watch_gate()
    }

    pub(super) fn now_us(&self) -> u64 {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .mark()
            .0
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod trial {
    //! A recorder on a spool alone, for tests of what stands before it.
    use super::*;
    use crate::evidence::spool::{SEGMENT_BYTES, SpoolDir, next_frame};
    use crate::evidence::time::{SystemClock, Timeline};
    use powerpole_chain::Head;
    use std::path::Path;

    /// A recorder into a new spool at `path`; nothing is sealed.
    pub(crate) fn recorder(path: &Path) -> Recorder {
        let dir = SpoolDir::create(path, SEGMENT_BYTES).unwrap();
        let clock = Arc::new(SystemClock);
        let timeline = Timeline::start(&*clock);
        let head = Head {
            seq: 0,
            hash: [0; 32],
            epoch: 0,
        };
        Recorder {
            writer: Arc::new(Mutex::new(dir.frame_writer(clock, timeline).unwrap())),
            progress: Arc::new(Progress::new(head)),
            wake: mpsc::channel().0,
        }
    }

    /// Everything in the spool at `path`.
    pub(crate) fn recorded(path: &Path) -> Vec<(Kind, u32, Vec<u8>)> {
        let mut reader = SpoolDir::existing(path).frames().unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = next_frame(&mut reader).unwrap() {
            frames.push((
                Kind::from_byte(frame.kind).unwrap(),
                frame.session,
                frame.payload.to_vec(),
            ));
        }
        frames
    }

    /// All payloads of one kind, joined.
    pub(crate) fn joined(path: &Path, kind: Kind) -> Vec<u8> {
        let frames = recorded(path);
        frames
            .into_iter()
            .filter(|frame| frame.0 == kind)
            .flat_map(|frame| frame.2)
            .collect()
    }

    impl Recorder {
        /// Opens or closes the gate by hand.
        pub(crate) fn set_gate(&self, gate: Gate) {
            self.progress.set_gate(gate);
        }
    }
}
