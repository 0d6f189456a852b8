//! The evidence: record bytes, hash chain, checkpoints, anchors and their verification.
//!
//! Owns the format that `docs/chain-format.md` specifies, version 1. Trusts its caller for salts,
//! key seeds and times, which are arguments: nothing here reads a clock, the network, a disk or a
//! source of randomness. Never hashes JSON: fixed big-endian bytes are hashed, and the JSON lines
//! are transport with exactly one spelling.

mod anchor;
mod base64;
mod checkpoint;
mod cursor;
mod digest;
mod gap;
mod genesis;
mod key;
mod kind;
mod line;
mod redaction;
mod roll;
mod scan;
mod sealer;
mod sha;
mod shape;
mod tlv;
#[cfg(target_arch = "x86_64")]
mod vector;
pub mod verify;

pub use anchor::{Anchor, AnchorError, AnchorKind};
pub use checkpoint::{CheckpointBody, Closing, Counts, SealReason};
pub use digest::{Hash, genesis_hash, link_hash, payload_digest};
pub use gap::{Gap, GapReason};
pub use genesis::{EpochPolicy, Genesis, GenesisError, MAX_TEXT, SignedGenesis};
pub use key::EpochKey;
pub use kind::Kind;
pub use line::{
    Content, Line, LineError, MAX_LINE, MAX_PAYLOAD, Parsed, Record, Unsealed, parse_line,
    unsealed_line, withheld_line,
};
pub use redaction::{Redaction, RedactionError};
pub use roll::{
    Ended, FinalHead, MAX_ROLL_ENTRIES, Outcome, Roll, RollCheck, RollError, RollFinding,
    RollReport, RollRule,
};
pub use sealer::{Head, MAX_EPOCH_RECORDS, SealError, Sealer};
