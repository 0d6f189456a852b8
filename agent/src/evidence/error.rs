//! What can go wrong with evidence. Every one of these ends sessions rather than letting them go on unrecorded.

use crate::failure::Coded;
use std::io;
use std::path::PathBuf;

/// Evidence that could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EvidenceError {
    /// The spool cannot be opened or made.
    #[error("cannot open the spool at {path}")]
    SpoolOpen {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk refused a write.
    #[error("cannot write to the spool at {path}")]
    Spool {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The spool cannot be read back.
    #[error("cannot read entry {at} of the spool")]
    SpoolRead {
        /// Number of the frame or line.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// A write failed earlier; nothing is recorded any more.
    #[error("evidence was lost earlier, nothing more is recorded")]
    Lost,
    /// The chain has its seal.
    #[error("the chain is sealed, nothing more is recorded")]
    Sealed,
    /// A payload above the format's limit.
    #[error("a record of {bytes} bytes is above the limit of 32,768")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness")]
    Random,
    /// The chain refused a record.
    #[error("the chain refused a record: {0}")]
    Chain(String),
    /// CloudWatch did not take the genesis in time.
    #[error("the genesis record was not shipped within {seconds} s: {last}")]
    GenesisNotShipped {
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        last: String,
    },
    /// S3 did not take the genesis in time.
    #[error("the genesis was not anchored within {seconds} s: {last}")]
    GenesisNotAnchored {
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        last: String,
    },
    /// This bastion's own identity is not known, so no anchor can be written.
    #[error("cannot learn this bastion's AWS identity")]
    Identity(#[from] super::sts::IdentityError),
    /// The sealing thread is gone.
    #[error("the chain has no seal: sealing failed earlier")]
    SealerGone,
}

impl EvidenceError {
    /// A stable name for the failure.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::SpoolOpen { .. } => "spool_open",
            Self::Spool { .. } => "spool_write",
            Self::SpoolRead { .. } => "spool_read",
            Self::Lost => "evidence_lost",
            Self::Sealed => "evidence_sealed",
            Self::TooLong { .. } => "record_too_long",
            Self::Random => "no_randomness",
            Self::Chain(_) => "chain_refused",
            Self::GenesisNotShipped { .. } => "genesis_not_shipped",
            Self::GenesisNotAnchored { .. } => "genesis_not_anchored",
            Self::Identity(_) => "identity_unknown",
            Self::SealerGone => "not_sealed",
        }
    }
}

impl Coded for EvidenceError {
    fn code(&self) -> &'static str {
        self.code()
    }
}
