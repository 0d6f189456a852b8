//! One chain being kept: recorder, sealer, shipper and anchors, started together and ended in order.

use super::anchor::{AnchorStore, Anchorer, BETWEEN_HEADS};
use super::error::EvidenceError;
use super::keys::{Salts, fresh_key};
use super::progress::{Gate, Health, Patience, Progress};
use super::recorder::Recorder;
use super::sealer::{ChainWriter, SealingThread, Wake};
use super::shipper::{LogStream, Shipper, backoff};
use super::spool::SpoolDir;
use super::time::{Clock, Timeline};
use powerpole_chain::{AnchorKind, Gap, Genesis, Head, Kind, SealReason, Sealer};
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a bastion's evidence needs to begin.
#[derive(Debug)]
pub(crate) struct KeeperConfig {
    /// Directory of the spool, root's own; it must not hold one yet.
    pub(crate) spool_dir: PathBuf,
    /// Size of the spool's pieces, see [`super::spool::SEGMENT_BYTES`].
    pub(crate) segment_bytes: u64,
    /// Record 0. `started_us` is set by [`Keeper::begin`].
    pub(crate) genesis: Genesis,
    /// Prefix of the anchors' keys, `<aws userid>/<request>/`.
    pub(crate) anchor_prefix: String,
    /// When sessions freeze and when they end.
    pub(crate) patience: Patience,
    /// How long CloudWatch and S3 may take for the genesis.
    pub(crate) begin_within: Duration,
}

/// How the chain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct SealOutcome {
    /// The final head.
    pub(crate) head: Head,
    /// Whether the chain has its seal.
    pub(crate) sealed: bool,
    /// Whether CloudWatch has every line, the seal's included.
    pub(crate) shipped: bool,
    /// Whether the seal is anchored.
    pub(crate) anchored: bool,
}

/// A chain that is being written, and all that carries it away.
pub(crate) struct Keeper<S> {
    recorder: Recorder,
    anchorer: Arc<Anchorer<S>>,
    anchor_prefix: String,
    genesis_head: Head,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl<S: AnchorStore> Keeper<S> {
    /// Begins the chain: when this returns, the genesis is sealed, accepted by CloudWatch and anchored in S3.
    ///
    /// # Errors
    /// When any of that does not come about within the configured time. Nothing may be shown to anyone then.
    pub(crate) async fn begin<L: LogStream>(
        config: KeeperConfig,
        clock: Arc<dyn Clock>,
        logs: L,
        anchors: S,
    ) -> Result<Self, EvidenceError> {
        let KeeperConfig {
            spool_dir,
            segment_bytes,
            mut genesis,
            anchor_prefix,
            patience,
            begin_within,
        } = config;
        let dir = SpoolDir::create(&spool_dir, segment_bytes)?;
        let mut timeline = Timeline::start(&*clock);
        genesis.started_us = timeline.now_us(&*clock);
        let mut salts = Salts::new();
        let (sealer, line) = Sealer::begin(&genesis, fresh_key()?, salts.next()?)
            .map_err(|e| EvidenceError::Chain(e.to_string()))?;
        let genesis_head = sealer.head();
        let genesis_anchor = line.anchor(AnchorKind::Genesis, &genesis);

        let progress = Arc::new(Progress::new(genesis_head));
        let writer = dir.frame_writer(clock, timeline)?;
        let frames = writer.follow();
        let writer = Arc::new(Mutex::new(writer));
        let mut lines = dir.line_writer()?;
        lines.push(0, line.seq, line.t_us, &line.text);
        progress.lines_written(genesis_head, 0, 0, lines.flush()?);

        let (wake, woken) = mpsc::channel();
        let recorder = Recorder {
            writer: Arc::clone(&writer),
            progress: Arc::clone(&progress),
            wake,
        };
        let (stop, stopped) = watch::channel(false);
        let anchorer = Arc::new(Anchorer::new(
            Arc::new(anchors),
            anchor_prefix.clone(),
            BETWEEN_HEADS,
            Arc::clone(&progress),
        ));

        create_stream(&logs, begin_within).await?;
        let shipper = Shipper {
            logs: Arc::new(logs),
            lines: lines.follow(),
            position: dir.position_file()?,
            spool: dir.clone(),
            progress: Arc::clone(&progress),
        };
        let gap_recorder = recorder.clone();
        let gaps = Box::new(move |gap: Gap| gap_recorder.record(Kind::Gap, 0, &gap.encode()));
        let failed = Arc::clone(&progress);
        let shipper_stop = stopped.clone();
        let mut tasks = vec![tokio::spawn(async move {
            if let Err(error) = shipper.run(gaps, shipper_stop).await {
                tracing::error!(code = error.code(), %error, "shipping failed");
                failed.fail(&error);
            }
        })];
        // From here on a failure has to end the shipper, which dropping `stop` does.
        genesis_shipped(&progress, begin_within).await?;
        genesis_anchored(&anchorer, &genesis_anchor, begin_within).await?;

        let thread = SealingThread {
            frames,
            writer,
            chain: ChainWriter {
                sealer: Some(sealer),
                genesis: Arc::new(genesis),
                salts,
                lines,
                progress: Arc::clone(&progress),
                consumed: 0,
                consumed_bytes: 0,
                last_t_us: line.t_us,
                head: genesis_head,
            },
            clock_checked_us: line.t_us,
        };
        std::thread::Builder::new()
            .name("sealer".to_owned())
            .spawn(move || thread.run(&woken))
            .map_err(|source| EvidenceError::SpoolOpen {
                path: spool_dir,
                source,
            })?;
        let anchoring = Arc::clone(&anchorer);
        let anchoring_stop = stopped.clone();
        tasks.push(tokio::spawn(
            async move { anchoring.run(anchoring_stop).await },
        ));
        tasks.push(tokio::spawn(review(recorder.clone(), patience, stopped)));
        Ok(Self {
            recorder,
            anchorer,
            anchor_prefix,
            genesis_head,
            stop,
            tasks,
        })
    }

    /// A handle that records.
    pub(crate) fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// The chain's latest head.
    pub(crate) fn head(&self) -> Head {
        self.recorder.progress.latest_head()
    }

    /// The head after record 0.
    pub(crate) fn genesis_head(&self) -> Head {
        self.genesis_head
    }

    /// Where shipping stands.
    pub(crate) fn health(&self) -> Health {
        self.recorder.progress.health(self.recorder.now_us())
    }

    /// Follows whether sessions may go on; [`Gate::Ended`] means that the bastion has to end.
    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.recorder.gate()
    }

    /// Prefix of the anchors' keys.
    pub(crate) fn anchor_prefix(&self) -> &str {
        &self.anchor_prefix
    }

    /// Ends the chain: everything recorded is sealed, then shipped and anchored as far as `within` allows.
    /// Nothing can be recorded afterwards.
    pub(crate) async fn seal(mut self, reason: SealReason, within: Duration) -> SealOutcome {
        let progress = Arc::clone(&self.recorder.progress);
        let _ = self.recorder.wake.send(Wake::Seal(reason));
        let ending = async {
            let mut ended = progress.watch_ended();
            let _ = ended.wait_for(|ended| *ended).await;
            let mut outcome = SealOutcome {
                head: progress.latest_head(),
                sealed: progress.is_sealed(),
                shipped: false,
                anchored: false,
            };
            let mut accepted = progress.watch_accepted();
            let wanted = outcome.head.seq + 1;
            outcome.shipped = accepted.wait_for(|next| *next >= wanted).await.is_ok();
            outcome
        };
        let started = tokio::time::Instant::now();
        let mut outcome = tokio::time::timeout(within, ending)
            .await
            .unwrap_or(SealOutcome {
                head: progress.latest_head(),
                sealed: progress.is_sealed(),
                shipped: false,
                anchored: false,
            });
        let left = within.saturating_sub(started.elapsed());
        if let Some(seal) = progress.seal_anchor() {
            outcome.anchored = self.anchor_within(&seal, left).await;
        }
        let health = self.health();
        outcome.shipped &= health.rejected == 0;
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
        outcome
    }

    async fn anchor_within(&self, anchor: &powerpole_chain::Anchor, within: Duration) -> bool {
        let trying = async {
            let mut failures = 0;
            while let Err(error) = self.anchorer.put(anchor).await {
                failures += 1;
                self.recorder.progress.remark(error.to_string());
                tokio::time::sleep(backoff(failures)).await;
            }
        };
        tokio::time::timeout(within, trying).await.is_ok()
    }
}

async fn create_stream<L: LogStream>(logs: &L, within: Duration) -> Result<(), EvidenceError> {
    let mut last = String::new();
    let trying = async {
        let mut failures = 0;
        while let Err(error) = logs.create().await {
            failures += 1;
            last = error.to_string();
            tokio::time::sleep(backoff(failures)).await;
        }
    };
    tokio::time::timeout(within, trying)
        .await
        .map_err(|_| EvidenceError::GenesisNotShipped {
            seconds: within.as_secs(),
            last,
        })
}

async fn genesis_shipped(progress: &Progress, within: Duration) -> Result<(), EvidenceError> {
    let mut accepted = progress.watch_accepted();
    let shipped = tokio::time::timeout(within, accepted.wait_for(|next| *next >= 1)).await;
    if matches!(shipped, Ok(Ok(_))) {
        return Ok(());
    }
    let last = progress.health(0).remarks.pop().unwrap_or_default();
    Err(EvidenceError::GenesisNotShipped {
        seconds: within.as_secs(),
        last,
    })
}

async fn genesis_anchored<S: AnchorStore>(
    anchorer: &Anchorer<S>,
    genesis: &powerpole_chain::Anchor,
    within: Duration,
) -> Result<(), EvidenceError> {
    let mut last = String::new();
    let trying = async {
        let mut failures = 0;
        while let Err(error) = anchorer.put(genesis).await {
            failures += 1;
            last = error.to_string();
            tokio::time::sleep(backoff(failures)).await;
        }
    };
    tokio::time::timeout(within, trying)
        .await
        .map_err(|_| EvidenceError::GenesisNotAnchored {
            seconds: within.as_secs(),
            last,
        })
}

async fn review(recorder: Recorder, patience: Patience, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    let mut before = Gate::Open;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let gate = recorder.progress.review_gate(recorder.now_us(), patience);
        if gate != before {
            tracing::warn!(?gate, "the evidence's gate has changed");
            before = gate;
        }
    }
}

#[cfg(test)]
mod forgetting;
#[cfg(test)]
pub(crate) mod tests;
