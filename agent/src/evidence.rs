//! The evidence of one bastion: recorded to the spool, sealed into a chain, shipped to CloudWatch Logs, anchored in S3.
//!
//! Owns the spool's directory, the epoch keys and the way out. Trusts the kernel's disk and clock, and nothing that
//! a session sends. Never lets a record be acknowledged that would not survive the process, and never reports a
//! success for evidence that was lost: what cannot be kept closes the [`Gate`], and with it every session.

pub(crate) mod anchor;
pub(crate) mod cloudwatch;
mod error;
mod frame;
pub(crate) mod keeper;
pub(crate) mod keys;
mod lane;
mod position;
pub(crate) mod progress;
mod recorder;
mod s3;
mod sealer;
mod segment;
pub(crate) mod shipper;
pub(crate) mod spool;
mod sts;
pub(crate) mod tail;
pub(crate) mod time;

pub(crate) use error::EvidenceError;
pub(crate) use keeper::SealOutcome;
pub(crate) use progress::{Gate, Health};
pub(crate) use recorder::Recorder;
#[cfg(test)]
pub(crate) use recorder::trial;
pub(crate) use spool::MAX_PAYLOAD;

use aws_config::SdkConfig;
use cloudwatch::CloudWatchStream;
use keeper::{Keeper, KeeperConfig};
use powerpole_chain::{Genesis, Head, Kind, SealReason};
use powerpole_protocol::handoff::{
    BastionTimes, EvidencePlaces, MAX_END_AFTER_S, MAX_FREEZE_AFTER_S,
};
use progress::Patience;
use s3::AnchorBucket;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use time::SystemClock;
use tokio::sync::watch;

/// What a bastion's evidence needs to begin.
#[derive(Debug)]
pub(crate) struct EvidenceConfig {
    /// Directory of the spool, root's own; it must not hold one yet.
    pub(crate) spool_dir: PathBuf,
    /// Log stream and bucket.
    pub(crate) places: EvidencePlaces,
    /// When sessions freeze and when they end.
    pub(crate) times: BastionTimes,
    /// Record 0; its start is set to the moment at which the chain begins.
    pub(crate) genesis: Genesis,
}

/// Bytes that may wait in the spool, for the sealer or for CloudWatch, before sessions freeze.
const MAX_WAITING_BYTES: u64 = 256 << 20;
// What was shipped and is still kept is little beside it.
const _: () = assert!(spool::SEGMENT_BYTES * 8 < MAX_WAITING_BYTES);
/// How long CloudWatch and S3 may take for the genesis, each.
const BEGIN_WITHIN: Duration = Duration::from_secs(25);
/// How long the end of the chain may take to be shipped and anchored.
const SEAL_WITHIN: Duration = Duration::from_secs(25);
/// How long the tail of a killed agent may take.
const TAIL_WITHIN: Duration = Duration::from_secs(20);

/// The evidence of this bastion.
pub(crate) struct Evidence(Keeper<AnchorBucket>);

impl Evidence {
    /// Begins the chain: when this returns, the genesis is sealed, accepted by CloudWatch and anchored in S3.
    ///
    /// # Errors
    /// When any of that does not come about in time. Nobody may be let in then.
    pub(crate) async fn begin(
        config: EvidenceConfig,
        aws: &SdkConfig,
    ) -> Result<Self, EvidenceError> {
        let unlocked = keys::lock_memory().err();
        let times = &config.times;
        let identity = sts::caller_identity(aws).await?;
        let anchor_prefix = format!("{}/{}/", identity.user_id, config.genesis.request);
        let logs = CloudWatchStream::new(aws, &config.places.log_group, &config.places.log_stream);
        let keeper = Keeper::begin(
            KeeperConfig {
                spool_dir: config.spool_dir.clone(),
                segment_bytes: spool::SEGMENT_BYTES,
                genesis: config.genesis,
                anchor_prefix,
                patience: Patience {
                    freeze_after: Duration::from_secs(times.freeze_after_s.min(MAX_FREEZE_AFTER_S)),
                    end_after: Duration::from_secs(times.end_after_s.min(MAX_END_AFTER_S)),
                    freeze_above_bytes: MAX_WAITING_BYTES,
                },
                begin_within: BEGIN_WITHIN,
            },
            Arc::new(SystemClock),
            logs,
            AnchorBucket::new(aws, &config.places.anchor_bucket),
        )
        .await?;
        spool::SpoolDir::existing(&config.spool_dir).store_places(&config.places)?;
        if let Some(error) = unlocked {
            tracing::warn!(%error, "memory is not locked: an epoch key could reach a swap device");
            let event = serde_json::json!({"event": "memory_not_locked", "why": error.to_string()});
            keeper.recorder().record_json(Kind::Event, 0, &event)?;
        }
        Ok(Self(keeper))
    }

    /// A handle that records.
    pub(crate) fn recorder(&self) -> Recorder {
        self.0.recorder()
    }

    /// The chain's latest head.
    pub(crate) fn head(&self) -> Head {
        self.0.head()
    }

    /// The head after record 0, 64 hexadecimal digits.
    pub(crate) fn genesis_head(&self) -> String {
        hex(&self.0.genesis_head().hash)
    }

    /// Prefix of the anchors' keys, `<aws userid>/<request>/`.
    pub(crate) fn anchor_prefix(&self) -> String {
        self.0.anchor_prefix().to_owned()
    }

    /// Where shipping stands.
    pub(crate) fn health(&self) -> Health {
        self.0.health()
    }

    /// Follows whether sessions may go on; [`Gate::Ended`] means that the bastion has to end.
    pub(crate) fn gate(&self) -> watch::Receiver<Gate> {
        self.0.gate()
    }

    /// Ends the chain: all that was recorded is sealed, then shipped and anchored.
    ///
    /// # Errors
    /// When there is no seal. A seal that was not shipped or anchored in time is told by the outcome.
    pub(crate) async fn seal(self, reason: SealReason) -> Result<SealOutcome, EvidenceError> {
        let outcome = self.0.seal(reason, SEAL_WITHIN).await;
        if outcome.sealed {
            Ok(outcome)
        } else {
            Err(EvidenceError::SealerGone)
        }
    }
}

/// Ships what a killed agent left in its spool, without a key, within 20 s. Harmless after an orderly end.
///
/// # Errors
/// When the spool cannot be read.
pub(crate) async fn ship_tail(spool_dir: &Path) -> Result<(), EvidenceError> {
    let Some(places) = spool::SpoolDir::existing(spool_dir).load_places()? else {
        tracing::info!("no chain was begun, nothing to ship");
        return Ok(());
    };
    let aws = crate::aws::settings(None).await;
    let logs = CloudWatchStream::new(&aws, &places.log_group, &places.log_stream);
    let outcome = tail::ship_tail(spool_dir, &logs, TAIL_WITHIN).await?;
    tracing::info!(
        sealed = outcome.sealed,
        unsealed = outcome.unsealed,
        complete = outcome.complete,
        "the spool's tail was shipped"
    );
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
