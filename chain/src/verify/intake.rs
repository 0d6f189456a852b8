//! Lines in: parse, reduce, remember, and go forward whenever a signed checkpoint can be reached.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use crate::{
    checkpoint::{CheckpointBody, Counts, is_signed_by},
    digest::Hash,
    gap::Gap,
    genesis::{EpochPolicy, SignedGenesis},
    kind::Kind,
    line::{Content, Parsed, Record, parse_line},
};

use super::{
    facts::{Inputs, KnownHead},
    judge,
    report::{AnchorTally, Finding, Report, Rule, Verdict},
    store::{Control, Node, Store},
};

const CLOSED_EPOCHS: usize = 65_536;

/// The place up to which the chain is known.
pub(super) struct Position {
    pub(super) hash: Hash,
    pub(super) seq: u64,
    pub(super) t_us: u64,
    pub(super) epoch: u32,
    /// Key of the current epoch; unknown after a hole that may have held a checkpoint.
    pub(super) key: Option<[u8; 32]>,
    /// First record of the current epoch and the checkpoint before it; unknown after such a hole.
    pub(super) opened: Option<(u64, Hash)>,
    /// Records of the current epoch so far; `None` after a hole in it.
    pub(super) tally: Option<(Counts<u32>, u64)>,
}

/// A walk back from a checkpoint that has not yet met the position.
pub(super) struct Walk {
    pub(super) target: Hash,
    pub(super) path: Vec<Hash>,
    pub(super) needs: Hash,
}

/// A verification in progress.
pub struct Verifier {
    pub(super) inputs: Inputs,
    pub(super) heads: Vec<KnownHead>,
    pub(super) heads_at: HashMap<u64, Vec<usize>>,
    pub(super) anchored: HashSet<Hash>,
    pub(super) expected: Option<Hash>,
    pub(super) store: Store,
    pub(super) genesis: Option<Hash>,
    pub(super) policy: EpochPolicy,
    pub(super) strange_genesis: bool,
    pub(super) position: Option<Position>,
    pub(super) walk: Option<Walk>,
    /// Anchored heads that are here and lie ahead.
    pub(super) ready: BTreeSet<(u64, Hash)>,
    pub(super) holed: bool,
    pub(super) sealed: bool,
    pub(super) totals_known: bool,
    pub(super) proven_bytes: u64,
    pub(super) closed: HashMap<u32, ([u8; 32], Hash)>,
    pub(super) closed_order: VecDeque<u32>,
    pub(super) given_up: HashSet<Hash>,
    pub(super) record_lines: u64,
    pub(super) report: Report,
}

impl Verifier {
    /// Takes everything that is known besides the lines.
    pub fn new(inputs: Inputs) -> Verifier {
        let heads = inputs.heads();
        let mut heads_at: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, known) in heads.iter().enumerate() {
            heads_at.entry(known.seq).or_default().push(index);
        }
        let anchored = heads
            .iter()
            .filter(|known| known.source.is_anchor())
            .map(|known| known.head)
            .collect();
        let mut report = empty_report();
        report.findings = inputs.contradictions();
        report.last_known = heads.last().map(|known| (known.seq, known.source));
        report.anchors.given = inputs.anchors.as_ref().map_or(0, |list| list.len() as u64);
        Verifier {
            expected: inputs.genesis_head(),
            inputs,
            heads,
            heads_at,
            anchored,
            store: Store::new(),
            genesis: None,
            policy: EpochPolicy::default(),
            strange_genesis: false,
            position: None,
            walk: None,
            ready: BTreeSet::new(),
            holed: false,
            sealed: false,
            totals_known: true,
            proven_bytes: 0,
            closed: HashMap::new(),
            closed_order: VecDeque::new(),
            given_up: HashSet::new(),
            record_lines: 0,
            report,
        }
    }

    /// One line without its newline. `timestamp_ms` is the log event's time where it is known.
    pub fn line(&mut self, line: &[u8], timestamp_ms: Option<i64>) {
        match parse_line(line) {
            Err(_) => self.report.unreadable += 1,
            Ok(Parsed::Unsealed(frame)) => {
                self.report.unsealed += 1;
                self.report.unsealed_bytes += frame.payload.len() as u64;
            }
            Ok(Parsed::Record(record)) => {
                let retimed =
                    timestamp_ms.is_some_and(|ms| i64::try_from(record.t_us / 1000) != Ok(ms));
                self.record(&record, retimed);
            }
        }
    }

    /// One line that was too long to be read at all.
    pub fn unreadable(&mut self) {
        self.report.unreadable += 1;
    }

    /// The verdict.
    pub fn finish(mut self) -> Report {
        self.advance();
        self.settle_all();
        judge::judge(self)
    }

    fn record(&mut self, record: &Record, retimed: bool) {
        self.record_lines += 1;
        let digest = record.digest();
        let hash = match record.kind {
            Kind::Genesis => record.hash(),
            _ => record.hash_with(&digest),
        };
        let withheld = matches!(record.content, Content::Withheld { .. });
        if let Some(known) = self.store.node_mut(&hash) {
            if !withheld && !known.proven {
                known.withheld = false;
            }
            self.report.duplicates += 1;
            return;
        }
        if self.given_up.contains(&hash) {
            self.report.could_not_check = Some(format!(
                "record {} lay out of place by more than the window",
                record.seq
            ));
            return;
        }
        if !self.read_special(record, hash) {
            return;
        }
        let attached = self
            .store
            .node(&record.previous)
            .is_some_and(|p| p.attached || p.proven)
            || self
                .position
                .as_ref()
                .is_some_and(|p| p.hash == record.previous)
            || Some(hash) == self.expected;
        if !attached && self.store.is_full() {
            self.settle_for_room();
        }
        let node = Node {
            previous: record.previous,
            digest,
            seq: record.seq,
            t_us: record.t_us,
            session: record.session,
            len: record.len(),
            kind: record.kind,
            withheld,
            retimed,
            proven: false,
            attached,
        };
        self.store.insert(hash, node);
        if self.anchored.contains(&hash) {
            self.ready.insert((record.seq, hash));
        }
        match record.kind {
            Kind::Genesis => self.consider_genesis(hash, record),
            Kind::Checkpoint | Kind::Seal => self.consider_control(hash),
            _ => {}
        }
        if self.walk.as_ref().is_some_and(|walk| walk.needs == hash) {
            self.advance();
        }
    }

    /// Reads what a structural record holds; false when its payload cannot be read.
    fn read_special(&mut self, record: &Record, hash: Hash) -> bool {
        let Content::Full { salt, payload } = &record.content else {
            return true;
        };
        match record.kind {
            Kind::Checkpoint | Kind::Seal => {
                let Some((body, signature)) = CheckpointBody::decode(record.kind, payload) else {
                    self.record_lines -= 1;
                    self.report.unreadable += 1;
                    return false;
                };
                let control = Control {
                    body,
                    signature,
                    salt: *salt,
                    previous: record.previous,
                    seq: record.seq,
                    t_us: record.t_us,
                };
                self.store.insert_control(hash, control);
                true
            }
            Kind::Gap => {
                if let Some(gap) = Gap::decode(payload) {
                    self.store.insert_gap(hash, gap);
                }
                true
            }
            Kind::Genesis => {
                let start = SignedGenesis::decode(payload).map(|signed| signed.genesis.started_us);
                if start != Ok(record.t_us) {
                    self.record_lines -= 1;
                    self.report.unreadable += 1;
                    return false;
                }
                true
            }
            _ => true,
        }
    }

    /// The genesis is the one whose head an anchor or the ledger knows. When nobody knows one, it is
    /// the first that is not another request's.
    fn consider_genesis(&mut self, hash: Hash, record: &Record) {
        let Content::Full { payload, .. } = &record.content else {
            return;
        };
        let Ok(signed) = SignedGenesis::decode(payload) else {
            return;
        };
        let genesis = signed.genesis;
        let (request, stream) = self.inputs.names();
        let named = request.is_some_and(|r| r == genesis.request)
            || stream.is_some_and(|s| s == genesis.log_stream);
        let chosen = match self.expected {
            Some(expected) => expected == hash,
            None => self.position.is_none() && (request.is_none() || named),
        };
        if !chosen {
            self.strange_genesis |= named;
            return;
        }
        if self.position.is_some() {
            return;
        }
        self.report.findings.extend(self.inputs.compare(&genesis));
        self.policy = genesis.policy;
        self.report.genesis = Some(genesis);
        self.report.genesis_head = Some(hash);
        self.report.first_us = record.t_us;
        self.genesis = Some(hash);
        self.position = Some(Position {
            hash: [0; 32],
            seq: 0,
            t_us: 0,
            epoch: 0,
            key: Some(signed.first_key),
            opened: Some((0, hash)),
            tally: Some(([0; 15], 0)),
        });
        self.apply(&hash);
        self.look_for_signed();
        self.advance();
    }

    /// Signature checks at arrival: the current epoch's end, or a second end of a closed epoch.
    fn consider_control(&mut self, hash: Hash) {
        let (Some(position), Some(control)) = (&self.position, self.store.control(&hash)) else {
            return;
        };
        let epoch = control.body.epoch;
        if epoch == position.epoch && !self.sealed {
            if position.key.is_some_and(|key| self.signed(&key, control)) {
                self.accept_signed(hash);
            }
            return;
        }
        if let Some((key, closed)) = self.closed.get(&epoch)
            && *closed != hash
            && self.signed(key, control)
        {
            let seq = control.seq;
            self.find(
                Rule::Fork,
                seq,
                "two different ends of one epoch carry its signature",
            );
        }
    }

    /// A good signature over this very line: the link is signed as the body's head. Without this, a copy
    /// of a checkpoint with another link would pass for a second end of its epoch.
    pub(super) fn signed(&self, key: &[u8; 32], control: &Control) -> bool {
        let Some(genesis) = &self.genesis else {
            return false;
        };
        let own = control.body.head == control.previous
            && control.body.last == control.seq.saturating_sub(1);
        own && is_signed_by(
            key,
            &control.body,
            &control.signature,
            genesis,
            control.seq,
            control.t_us,
            &control.salt,
        )
    }

    /// A checkpoint with a good signature: walk back from it.
    fn accept_signed(&mut self, hash: Hash) {
        if let Some(walk) = &self.walk {
            if walk.target != hash {
                let seq = self.store.control(&hash).map_or(0, |control| control.seq);
                self.find(
                    Rule::Fork,
                    seq,
                    "two different ends of one epoch carry its signature",
                );
            }
            return;
        }
        self.walk = Some(Walk {
            target: hash,
            path: Vec::new(),
            needs: hash,
        });
        self.advance();
    }

    /// After the position moved: is the end of the new epoch already here?
    pub(super) fn look_for_signed(&mut self) {
        let Some(position) = &self.position else {
            return;
        };
        let Some(key) = position.key else { return };
        if self.sealed || self.walk.is_some() {
            return;
        }
        for hash in self.store.controls_of(position.epoch) {
            let good = self
                .store
                .control(&hash)
                .is_some_and(|control| self.signed(&key, control));
            if !good {
                continue;
            }
            match &self.walk {
                None => {
                    self.walk = Some(Walk {
                        target: hash,
                        path: Vec::new(),
                        needs: hash,
                    });
                }
                Some(_) => {
                    let seq = self.store.control(&hash).map_or(0, |control| control.seq);
                    self.find(
                        Rule::Fork,
                        seq,
                        "two different ends of one epoch carry its signature",
                    );
                }
            }
        }
    }

    pub(super) fn remember_closed(&mut self, epoch: u32, key: [u8; 32], hash: Hash) {
        self.closed.insert(epoch, (key, hash));
        self.closed_order.push_back(epoch);
        if self.closed_order.len() > CLOSED_EPOCHS
            && let Some(old) = self.closed_order.pop_front()
        {
            self.closed.remove(&old);
        }
    }

    pub(super) fn find(&mut self, rule: Rule, seq: u64, detail: &str) {
        let known = self
            .report
            .findings
            .iter()
            .any(|old| old.rule == rule && old.seq == seq);
        if !known && self.report.findings.len() < 64 {
            self.report
                .findings
                .push(Finding::new(rule, seq, detail.to_owned()));
        }
    }
}

fn empty_report() -> Report {
    Report {
        verdict: Verdict::Incomplete,
        could_not_check: None,
        genesis: None,
        genesis_head: None,
        proven_to: None,
        reached: None,
        reached_head: None,
        records: 0,
        kinds: [0; 15],
        epochs: 0,
        unproven: 0,
        foreign: 0,
        duplicates: 0,
        unreadable: 0,
        unsealed: 0,
        unsealed_bytes: 0,
        withheld: 0,
        unauthorised: 0,
        missing: Vec::new(),
        missing_records: 0,
        gaps: Vec::new(),
        findings: Vec::new(),
        last_known: None,
        seal: None,
        anchors: AnchorTally::default(),
        sessions: std::collections::BTreeMap::new(),
        silences: 0,
        longest_silence: None,
        retimed: 0,
        first_us: 0,
        last_us: 0,
    }
}
