//! What a verification says, for people and programs.

use std::collections::BTreeMap;

use crate::{checkpoint::SealReason, digest::Hash, gap::Gap, genesis::Genesis};

/// The verdict on a whole chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Sealed, complete, anchored from genesis to seal.
    Valid,
    /// Valid but for payloads that were withheld.
    Withheld,
    /// Sealed and complete, but no anchor that the auditor fetched says so.
    Unanchored,
    /// No seal, and nobody knows of one: a crash.
    Unsealed,
    /// Records are missing that the chain or an anchor proves to have been.
    Incomplete,
    /// Records are missing, and lines that nobody can read are there.
    Malformed,
    /// A contradiction.
    Tampered,
}

impl Verdict {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Valid => "VALID",
            Verdict::Withheld => "WITHHELD",
            Verdict::Unanchored => "UNANCHORED",
            Verdict::Unsealed => "UNSEALED",
            Verdict::Incomplete => "INCOMPLETE",
            Verdict::Malformed => "MALFORMED",
            Verdict::Tampered => "TAMPERED",
        }
    }
}

/// The rule that a record broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A line stands where the chain needs another one.
    RecordAltered,
    /// The genesis that is known is not there, another one of the same name is.
    GenesisAltered,
    /// Numbers of proven records do not follow each other.
    Sequence,
    /// Time goes backwards.
    Time,
    /// A checkpoint's or seal's signature is not its epoch's.
    Signature,
    /// A signed checkpoint or seal says something that its records contradict.
    CheckpointBody,
    /// Two different checkpoints or seals of one epoch carry its signature.
    Fork,
    /// A head differs from the anchor's.
    AnchorDiffers,
    /// A head differs from the ledger's.
    LedgerHeadDiffers,
    /// Ledger and genesis differ.
    LedgerDiffers,
    /// An anchor is another chain's.
    AnchorIdentity,
    /// Two sources outside the stream contradict each other.
    KnownHeadsDiffer,
    /// A head after the seal is known.
    AfterSeal,
}

impl Rule {
    /// Stable code.
    pub fn code(self) -> &'static str {
        match self {
            Rule::RecordAltered => "record-altered",
            Rule::GenesisAltered => "genesis-altered",
            Rule::Sequence => "sequence",
            Rule::Time => "time",
            Rule::Signature => "signature",
            Rule::CheckpointBody => "checkpoint-body",
            Rule::Fork => "fork",
            Rule::AnchorDiffers => "anchor-differs",
            Rule::LedgerHeadDiffers => "ledger-head-differs",
            Rule::LedgerDiffers => "ledger-differs",
            Rule::AnchorIdentity => "anchor-identity",
            Rule::KnownHeadsDiffer => "known-heads-differ",
            Rule::AfterSeal => "after-seal",
        }
    }
}

/// A contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// The record.
    pub seq: u64,
    /// What contradicts what.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(rule: Rule, seq: u64, detail: String) -> Finding {
        Finding { rule, seq, detail }
    }
}

/// Who knows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// The anchored genesis.
    GenesisAnchor,
    /// An anchored head.
    HeadAnchor,
    /// The anchored seal.
    SealAnchor,
    /// The ledger's genesis head.
    LedgerGenesis,
    /// The ledger's latest head.
    LedgerLatest,
    /// The ledger's final head.
    LedgerFinal,
}

impl Known {
    /// The words for people and for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Known::GenesisAnchor => "genesis anchor",
            Known::HeadAnchor => "head anchor",
            Known::SealAnchor => "seal anchor",
            Known::LedgerGenesis => "ledger's genesis head",
            Known::LedgerLatest => "ledger's latest head",
            Known::LedgerFinal => "ledger's final head",
        }
    }

    /// True for what lies in the object-locked bucket.
    pub fn is_anchor(self) -> bool {
        matches!(
            self,
            Known::GenesisAnchor | Known::HeadAnchor | Known::SealAnchor
        )
    }
}

/// A stretch of records that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// First missing record.
    pub first: u64,
    /// Last missing record.
    pub last: u64,
}

/// How the chain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealSummary {
    /// Number of the seal.
    pub seq: u64,
    /// Final head.
    pub head: Hash,
    /// Time of the seal.
    pub t_us: u64,
    /// Why.
    pub reason: SealReason,
}

/// What can be said of one login by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionVerdict {
    /// It began and ended, and all in between is there and proven.
    Proven,
    /// The same, but payloads are withheld.
    Withheld,
    /// It has no proven end, or a hole or a contradiction lies before its end.
    Incomplete,
}

impl SessionVerdict {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            SessionVerdict::Proven => "PROVEN",
            SessionVerdict::Withheld => "WITHHELD",
            SessionVerdict::Incomplete => "INCOMPLETE",
        }
    }
}

/// What was proven of one login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionTally {
    /// Proven records.
    pub records: u64,
    /// Proven payload bytes.
    pub bytes: u64,
    /// Statements among them.
    pub statements: u64,
    /// Bytes that the screen showed.
    pub output_bytes: u64,
    /// Payload bytes of input records.
    pub input_bytes: u64,
    /// Withheld payloads among them.
    pub withheld: u64,
    /// Its start is proven.
    pub started: bool,
    /// Its end is proven.
    pub ended: bool,
    /// First proven record.
    pub first_seq: u64,
    /// Last proven record.
    pub last_seq: u64,
    /// Time of the first proven record.
    pub first_us: u64,
    /// Time of the last proven record.
    pub last_us: u64,
}

/// What became of the anchors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnchorTally {
    /// Given.
    pub given: u64,
    /// Found in the proven chain.
    pub matched: u64,
    /// The anchored genesis was found.
    pub genesis: bool,
    /// The anchored seal was found.
    pub seal: bool,
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The verdict; meaningless when `could_not_check` is set.
    pub verdict: Verdict,
    /// Why no verdict could be reached.
    pub could_not_check: Option<String>,
    /// The genesis, once it is known to be this chain's.
    pub genesis: Option<Genesis>,
    /// h_0.
    pub genesis_head: Option<Hash>,
    /// The last record up to which every record is there and proven by a signature or an anchor.
    pub proven_to: Option<u64>,
    /// The last record that is proven at all: what a hole precedes counts too.
    pub reached: Option<u64>,
    /// The head after `reached`.
    pub reached_head: Option<Hash>,
    /// Proven records, genesis, checkpoints and seal included.
    pub records: u64,
    /// Proven records by kind, in the order of [`crate::Kind::ALL`].
    pub kinds: [u64; 15],
    /// Epochs that a checkpoint or the seal closed.
    pub epochs: u64,
    /// Lines that join the proven chain and that nothing proves.
    pub unproven: u64,
    /// Lines of other chains or of none.
    pub foreign: u64,
    /// Lines repeated to the byte.
    pub duplicates: u64,
    /// Lines in no known spelling.
    pub unreadable: u64,
    /// Frames that were shipped without a key.
    pub unsealed: u64,
    /// Payload bytes of those frames.
    pub unsealed_bytes: u64,
    /// Withheld payloads.
    pub withheld: u64,
    /// Withheld payloads that no trusted manifest covers.
    pub unauthorised: u64,
    /// Missing stretches, the first 64.
    pub missing: Vec<Missing>,
    /// Missing records in all.
    pub missing_records: u64,
    /// Gaps that the chain itself recorded, the first 64.
    pub gaps: Vec<Gap>,
    /// Contradictions, the first 64 in the order in which they were found.
    pub findings: Vec<Finding>,
    /// The latest head that anybody outside the stream knows.
    pub last_known: Option<(u64, Known)>,
    /// How the chain ended.
    pub seal: Option<SealSummary>,
    /// Anchors.
    pub anchors: AnchorTally,
    /// What was proven by login; logins after the 4,096th are counted under `u32::MAX`.
    pub sessions: BTreeMap<u32, SessionTally>,
    /// Silences between two proven records that are longer than the policy allows, and the longest:
    /// the record before it and its microseconds.
    pub silences: u64,
    /// The longest silence.
    pub longest_silence: Option<(u64, u64)>,
    /// Proven lines whose log event has another time than the record.
    pub retimed: u64,
    /// Time of the first and last proven record.
    pub first_us: u64,
    /// Time of the last proven record.
    pub last_us: u64,
}

impl Report {
    /// 0 for VALID and an authorised WITHHELD, 1 for every other verdict, 2 when it could not be
    /// checked. `strict` also turns lines that are not the chain's into 1.
    pub fn exit_code(&self, strict: bool) -> u8 {
        if self.could_not_check.is_some() {
            return 2;
        }
        let good = match self.verdict {
            Verdict::Valid => true,
            Verdict::Withheld => self.unauthorised == 0,
            Verdict::Unanchored
            | Verdict::Unsealed
            | Verdict::Incomplete
            | Verdict::Malformed
            | Verdict::Tampered => false,
        };
        let strange = self.foreign + self.unreadable + self.unsealed > 0;
        u8::from(!good || (strict && strange))
    }

    /// What can be said of one login, whatever becomes of the rest of the chain.
    pub fn session_verdict(&self, session: &SessionTally) -> SessionVerdict {
        let proven = session.started
            && session.ended
            && self.proven_to.is_some_and(|seq| session.last_seq <= seq);
        match (proven, session.withheld) {
            (false, _) => SessionVerdict::Incomplete,
            (true, 0) => SessionVerdict::Proven,
            (true, _) => SessionVerdict::Withheld,
        }
    }

    /// The first record that is wrong: the lowest finding or missing record.
    pub fn first_bad(&self) -> Option<u64> {
        let finding = self.findings.iter().map(|finding| finding.seq).min();
        let missing = self.missing.first().map(|missing| missing.first);
        finding.into_iter().chain(missing).min()
    }
}
