//! Checkpoints and the seal: the end of an epoch, signed with that epoch's key.
//!
//! ```text
//! body       = epoch u32 ‖ first u64 ‖ last u64 ‖ head 32 ‖ previous 32 ‖ counts 15 × u32 ‖ bytes u64
//! checkpoint = body ‖ next public key 32                         ‖ signature 64
//! seal       = body ‖ reason u8 ‖ totals 15 × u64 ‖ bytes u64    ‖ signature 64
//! signature over tag 16 ‖ h_0 32 ‖ seq u64 ‖ t_us u64 ‖ salt 16 ‖ all before the signature
//! ```
//! The salt is signed, so that no byte of the last line of a chain can change unseen.

use ed25519_dalek::{Signature, VerifyingKey};

use crate::{
    cursor::Cursor,
    digest::{Hash, TAG_CHECKPOINT, TAG_SEAL},
    key::EpochKey,
    kind::Kind,
};

/// Number of records of each kind, in the order of [`Kind::ALL`].
pub type Counts<T> = [T; 15];

/// Why a chain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SealReason {
    /// The deadline came.
    Deadline = 1,
    /// The operator or control ended it early.
    Finished = 2,
    /// The grant was withdrawn.
    Revoked = 3,
    /// Evidence could not be kept or shipped, so access ended.
    EvidenceLost = 4,
    /// The bastion failed.
    Failed = 5,
}

impl SealReason {
    /// The word for people and for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            SealReason::Deadline => "deadline",
            SealReason::Finished => "finished",
            SealReason::Revoked => "revoked",
            SealReason::EvidenceLost => "evidence-lost",
            SealReason::Failed => "failed",
        }
    }

    fn from_byte(byte: u8) -> Option<SealReason> {
        Some(match byte {
            1 => SealReason::Deadline,
            2 => SealReason::Finished,
            3 => SealReason::Revoked,
            4 => SealReason::EvidenceLost,
            5 => SealReason::Failed,
            _ => return None,
        })
    }
}

/// What comes after the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// Another epoch, with this public key.
    Next([u8; 32]),
    /// Nothing: the chain ends here.
    End {
        /// Why.
        reason: SealReason,
        /// Records of the whole chain before the seal, by kind.
        totals: Counts<u64>,
        /// Payload bytes of the whole chain before the seal.
        bytes: u64,
    },
}

/// What a checkpoint or seal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointBody {
    /// Number of the epoch that ends, from 0.
    pub epoch: u32,
    /// First record of the epoch.
    pub first: u64,
    /// Last record before this one; `first - 1` when the epoch is empty.
    pub last: u64,
    /// The head before this record.
    pub head: Hash,
    /// The head after the previous checkpoint, or h_0.
    pub previous: Hash,
    /// Records first..=last by kind.
    pub counts: Counts<u32>,
    /// Payload bytes of records first..=last.
    pub bytes: u64,
    /// Next key or end.
    pub closing: Closing,
}

impl CheckpointBody {
    /// The kind of record that carries it.
    pub fn kind(&self) -> Kind {
        match self.closing {
            Closing::Next(_) => Kind::Checkpoint,
            Closing::End { .. } => Kind::Seal,
        }
    }

    /// The payload without its signature.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(400);
        bytes.extend_from_slice(&self.epoch.to_be_bytes());
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.last.to_be_bytes());
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(&self.previous);
        for count in self.counts {
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes.extend_from_slice(&self.bytes.to_be_bytes());
        match &self.closing {
            Closing::Next(key) => bytes.extend_from_slice(key),
            Closing::End {
                reason,
                totals,
                bytes: total,
            } => {
                bytes.push(*reason as u8);
                for count in totals {
                    bytes.extend_from_slice(&count.to_be_bytes());
                }
                bytes.extend_from_slice(&total.to_be_bytes());
            }
        }
        bytes
    }

    /// Reads a payload of the given kind: the body and the signature after it.
    pub fn decode(kind: Kind, payload: &[u8]) -> Option<(CheckpointBody, [u8; 64])> {
        let mut c = Cursor(payload);
        let epoch = c.u32()?;
        let first = c.u64()?;
        let last = c.u64()?;
        let head = c.array()?;
        let previous = c.array()?;
        let mut counts = [0u32; 15];
        for count in &mut counts {
            *count = c.u32()?;
        }
        let bytes = c.u64()?;
        let closing = match kind {
            Kind::Checkpoint => Closing::Next(c.array()?),
            Kind::Seal => {
                let reason = SealReason::from_byte(c.u8()?)?;
                let mut totals = [0u64; 15];
                for count in &mut totals {
                    *count = c.u64()?;
                }
                Closing::End {
                    reason,
                    totals,
                    bytes: c.u64()?,
                }
            }
            _ => return None,
        };
        let signature = c.array()?;
        c.is_empty().then_some(())?;
        let body = CheckpointBody {
            epoch,
            first,
            last,
            head,
            previous,
            counts,
            bytes,
            closing,
        };
        Some((body, signature))
    }
}

fn message(
    kind: Kind,
    genesis: &Hash,
    seq: u64,
    t_us: u64,
    salt: &[u8; 16],
    body: &[u8],
) -> Vec<u8> {
    let tag = if kind == Kind::Seal {
        TAG_SEAL
    } else {
        TAG_CHECKPOINT
    };
    let mut bytes = Vec::with_capacity(80 + body.len());
    bytes.extend_from_slice(tag);
    bytes.extend_from_slice(genesis);
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.extend_from_slice(&t_us.to_be_bytes());
    bytes.extend_from_slice(salt);
    bytes.extend_from_slice(body);
    bytes
}

/// The whole payload: body and signature.
pub(crate) fn sign(
    body: &CheckpointBody,
    key: &EpochKey,
    genesis: &Hash,
    seq: u64,
    t_us: u64,
    salt: &[u8; 16],
) -> Vec<u8> {
    let mut payload = body.encode();
    let signature = key.sign(&message(body.kind(), genesis, seq, t_us, salt, &payload));
    payload.extend_from_slice(&signature);
    payload
}

/// True when the payload ends in the key's own signature, by the strict rules (no small-order points).
pub(crate) fn is_signed_by(
    public: &[u8; 32],
    kind: Kind,
    payload: &[u8],
    genesis: &Hash,
    seq: u64,
    t_us: u64,
    salt: &[u8; 16],
) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public) else {
        return false;
    };
    let Some((body, signature)) = payload.split_last_chunk::<64>() else {
        return false;
    };
    let message = message(kind, genesis, seq, t_us, salt, body);
    key.verify_strict(&message, &Signature::from_bytes(signature))
        .is_ok()
}
