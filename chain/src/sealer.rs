//! Makes the chain: one record after the other, one key an epoch.
//!
//! The sealer decides nothing about time and makes no randomness. A crash of its process loses the
//! current key with it: what was spooled and not sealed can then only be shipped as unsealed lines.

use crate::{
    checkpoint::{CheckpointBody, Closing, Counts, SealReason, sign},
    digest::{Hash, Link, record_hash},
    genesis::{EpochPolicy, Genesis, GenesisError, SignedGenesis},
    key::EpochKey,
    kind::Kind,
    line::{Content, Line, MAX_NUMBER, MAX_PAYLOAD, Record, full_line},
};

/// More records than this in one epoch are refused: the verifier's window holds a whole epoch.
pub const MAX_EPOCH_RECORDS: u32 = 32_768;

/// Where the chain stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Number of the last record.
    pub seq: u64,
    /// Hash after the last record.
    pub hash: Hash,
    /// Epoch that the next record belongs to.
    pub epoch: u32,
}

/// Why a record was not sealed. The chain is unchanged after any of them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The genesis cannot be spelled.
    #[error("genesis cannot be written")]
    Genesis(#[from] GenesisError),
    /// The payload is longer than [`MAX_PAYLOAD`].
    #[error("payload of {0} bytes is longer than {MAX_PAYLOAD}")]
    PayloadTooLong(usize),
    /// Genesis, checkpoints and seal are made by the sealer alone.
    #[error("records of kind {} are made by the sealer alone", .0.word())]
    Structural(Kind),
    /// The epoch holds [`MAX_EPOCH_RECORDS`] records: a checkpoint has to come first.
    #[error("epoch is full: a checkpoint has to come first")]
    EpochFull,
    /// A number left the range of the format.
    #[error("sequence number or time out of range")]
    OutOfRange,
}

impl SealError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            SealError::Genesis(error) => error.code(),
            SealError::PayloadTooLong(_) => "payload-too-long",
            SealError::Structural(_) => "kind-structural",
            SealError::EpochFull => "epoch-full",
            SealError::OutOfRange => "out-of-range",
        }
    }
}

/// A chain that is being written.
#[derive(Debug)]
pub struct Sealer {
    genesis: Hash,
    policy: EpochPolicy,
    head: Head,
    t_us: u64,
    key: EpochKey,
    previous_checkpoint: Hash,
    checkpoint_t_us: u64,
    epoch: Tally,
    totals: Counts<u64>,
    total_bytes: u64,
}

#[derive(Debug)]
struct Tally {
    first: u64,
    since_us: Option<u64>,
    counts: Counts<u32>,
    records: u32,
    bytes: u64,
}

impl Tally {
    fn new(first: u64) -> Tally {
        Tally {
            first,
            since_us: None,
            counts: [0; 15],
            records: 0,
            bytes: 0,
        }
    }
}

impl Sealer {
    /// Starts a chain. `first` signs epoch 0; its public half stands in the genesis.
    pub fn begin(
        genesis: &Genesis,
        first: EpochKey,
        salt: [u8; 16],
    ) -> Result<(Sealer, Line), SealError> {
        if genesis.started_us > MAX_NUMBER {
            return Err(SealError::OutOfRange);
        }
        let signed = SignedGenesis {
            genesis: genesis.clone(),
            first_key: first.public(),
        };
        let payload = signed.encode()?;
        let record = Record {
            seq: 0,
            t_us: genesis.started_us,
            kind: Kind::Genesis,
            session: 0,
            previous: [0; 32],
            content: Content::Full { salt, payload },
        };
        let hash = record.hash();
        let mut sealer = Sealer {
            genesis: hash,
            policy: genesis.policy,
            head: Head {
                seq: 0,
                hash,
                epoch: 0,
            },
            t_us: genesis.started_us,
            key: first,
            previous_checkpoint: hash,
            checkpoint_t_us: genesis.started_us,
            epoch: Tally::new(0),
            totals: [0; 15],
            total_bytes: 0,
        };
        sealer.count(record.kind, record.t_us, record.len());
        let line = Line {
            seq: 0,
            t_us: record.t_us,
            hash,
            epoch: 0,
            text: record.to_line(),
        };
        Ok((sealer, line))
    }

    /// Seals one record. A time before the previous record's is raised to it, so that threads which
    /// read the clock before they took the lock cannot break the chain; [`Line::t_us`] says which
    /// time was sealed. `session` is 0 for what belongs to no login.
    pub fn append(
        &mut self,
        t_us: u64,
        kind: Kind,
        session: u32,
        salt: [u8; 16],
        payload: &[u8],
    ) -> Result<Line, SealError> {
        if kind.is_structural() {
            return Err(SealError::Structural(kind));
        }
        if payload.len() > MAX_PAYLOAD {
            return Err(SealError::PayloadTooLong(payload.len()));
        }
        if self.epoch.records >= MAX_EPOCH_RECORDS {
            return Err(SealError::EpochFull);
        }
        self.link(t_us, kind, session, salt, payload)
    }

    /// Ends the epoch: signs with the current key, erases it, goes on with `next`.
    pub fn checkpoint(
        &mut self,
        t_us: u64,
        salt: [u8; 16],
        next: EpochKey,
    ) -> Result<Line, SealError> {
        let epoch = self
            .head
            .epoch
            .checked_add(1)
            .ok_or(SealError::OutOfRange)?;
        let line = self.close(t_us, salt, Closing::Next(next.public()))?;
        self.key = next;
        self.head.epoch = epoch;
        self.previous_checkpoint = self.head.hash;
        self.checkpoint_t_us = self.t_us;
        self.epoch = Tally::new(self.head.seq.saturating_add(1));
        Ok(line)
    }

    /// Ends the chain and erases the last key.
    pub fn seal(
        mut self,
        t_us: u64,
        salt: [u8; 16],
        reason: SealReason,
    ) -> Result<Line, SealError> {
        let closing = Closing::End {
            reason,
            totals: self.totals,
            bytes: self.total_bytes,
        };
        self.close(t_us, salt, closing)
    }

    /// Where the chain stands.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The head after record 0.
    pub fn genesis_hash(&self) -> Hash {
        self.genesis
    }

    /// True when the policy wants a checkpoint at this time.
    pub fn checkpoint_due(&self, now_us: u64) -> bool {
        self.epoch.records >= self.policy.records.clamp(1, MAX_EPOCH_RECORDS)
            || self.epoch.bytes >= u64::from(self.policy.bytes)
            || self
                .epoch
                .since_us
                .is_some_and(|since| now_us.saturating_sub(since) >= self.policy.active_us)
            || now_us.saturating_sub(self.checkpoint_t_us) >= self.policy.idle_us
    }

    fn close(&mut self, t_us: u64, salt: [u8; 16], closing: Closing) -> Result<Line, SealError> {
        let seq = self.next_seq()?;
        let t_us = self.next_time(t_us)?;
        let body = CheckpointBody {
            epoch: self.head.epoch,
            first: self.epoch.first,
            last: self.head.seq,
            head: self.head.hash,
            previous: self.previous_checkpoint,
            counts: self.epoch.counts,
            bytes: self.epoch.bytes,
            closing,
        };
        let payload = sign(&body, &self.key, &self.genesis, seq, t_us, &salt);
        self.link(t_us, body.kind(), 0, salt, &payload)
    }

    fn link(
        &mut self,
        t_us: u64,
        kind: Kind,
        session: u32,
        salt: [u8; 16],
        payload: &[u8],
    ) -> Result<Line, SealError> {
        let seq = self.next_seq()?;
        let t_us = self.next_time(t_us)?;
        let previous = self.head.hash;
        let len = u32::try_from(payload.len()).map_err(|_| SealError::OutOfRange)?;
        let link = Link {
            previous: &previous,
            digest: &[0; 32],
            seq,
            t_us,
            kind,
            session,
            len,
        };
        let hash = record_hash(&salt, payload, &link);
        let epoch = self.head.epoch;
        self.head = Head { seq, hash, epoch };
        self.t_us = t_us;
        self.count(kind, t_us, len);
        Ok(Line {
            seq,
            t_us,
            hash,
            epoch,
            text: full_line(seq, t_us, kind, session, &previous, &salt, payload),
        })
    }

    fn next_seq(&self) -> Result<u64, SealError> {
        self.head
            .seq
            .checked_add(1)
            .filter(|seq| *seq <= MAX_NUMBER)
            .ok_or(SealError::OutOfRange)
    }

    fn next_time(&self, t_us: u64) -> Result<u64, SealError> {
        Some(t_us.max(self.t_us))
            .filter(|t| *t <= MAX_NUMBER)
            .ok_or(SealError::OutOfRange)
    }

    fn count(&mut self, kind: Kind, t_us: u64, len: u32) {
        let bytes = u64::from(len);
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        if let Some(total) = self.totals.get_mut(kind.index()) {
            *total = total.saturating_add(1);
        }
        if let Some(count) = self.epoch.counts.get_mut(kind.index()) {
            *count = count.saturating_add(1);
        }
        self.epoch.bytes = self.epoch.bytes.saturating_add(bytes);
        self.epoch.records = self.epoch.records.saturating_add(1);
        self.epoch.since_us.get_or_insert(t_us);
    }
}
