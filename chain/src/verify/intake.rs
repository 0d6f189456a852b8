//! Lines in: remember each, and go forward whenever a signed checkpoint can be reached.

use std::collections::{BTreeSet, VecDeque};

use crate::{checkpoint::Counts, digest::Hash, genesis::EpochPolicy};

use super::{
    facts::{Anchored, Inputs, KnownHead},
    filter::Filter,
    judge,
    node::{Node, Special},
    reduce::{Reduced, Reducer},
    report::{AnchorTally, Finding, Report, Rule, SessionTally, Verdict},
    store::{Place, Store},
};

/// The place up to which the chain is known.
pub(super) struct Position {
    pub(super) hash: Hash,
    /// Where its node is; none where a hole ends.
    pub(super) place: Option<Place>,
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
    /// Where the target is, if it is still there.
    pub(super) start: Option<Place>,
    pub(super) path: Vec<Place>,
    pub(super) needs: Hash,
}

impl Walk {
    pub(super) fn from(target: Hash, start: Option<Place>) -> Walk {
        Walk {
            target,
            start,
            path: Vec::new(),
            needs: target,
        }
    }
}

/// The end of an epoch that is behind, and the key that signed it.
pub(super) struct ClosedEpoch {
    pub(super) epoch: u32,
    pub(super) key: [u8; 32],
    pub(super) end: Hash,
}

/// A verification in progress.
pub struct Verifier {
    pub(super) inputs: Inputs,
    /// By number.
    pub(super) heads: Vec<KnownHead>,
    /// Numbers below this and not below the other have no known head.
    pub(super) quiet: (u64, u64),
    anchored: Anchored,
    pub(super) expected: Option<Hash>,
    pub(super) store: Store,
    pub(super) genesis: Option<Hash>,
    pub(super) policy: EpochPolicy,
    pub(super) strange_genesis: bool,
    pub(super) position: Option<Position>,
    pub(super) walk: Option<Walk>,
    /// Anchored heads that are here and lie ahead.
    pub(super) ready: BTreeSet<(u64, Hash)>,
    /// The end whose signature was found good under the current key.
    pub(super) signed_end: Option<Hash>,
    pub(super) holed: bool,
    pub(super) sealed: bool,
    pub(super) totals_known: bool,
    pub(super) proven_bytes: u64,
    /// By epoch.
    pub(super) closed: VecDeque<ClosedEpoch>,
    pub(super) given_up: Filter,
    pub(super) record_lines: u64,
    reducer: Reducer,
    spare: Reduced,
    /// The login of the last proven record, its key in the report, and its tally, which is not in the report yet.
    pub(super) login: Option<(u32, u32, SessionTally)>,
    pub(super) report: Report,
}

impl Verifier {
    /// Takes everything that is known besides the lines.
    pub fn new(inputs: Inputs) -> Verifier {
        let heads = inputs.heads();
        let mut report = empty_report();
        report.findings = inputs.contradictions();
        report.last_known = heads.last().map(|known| (known.seq, known.source));
        report.anchors.given = inputs.anchors.as_ref().map_or(0, |list| list.len() as u64);
        Verifier {
            expected: inputs.genesis_head(),
            inputs,
            anchored: Anchored::new(&heads),
            heads,
            quiet: (0, 0),
            store: Store::new(),
            genesis: None,
            policy: EpochPolicy::default(),
            strange_genesis: false,
            position: None,
            walk: None,
            ready: BTreeSet::new(),
            signed_end: None,
            holed: false,
            sealed: false,
            totals_known: true,
            proven_bytes: 0,
            closed: VecDeque::new(),
            given_up: Filter::default(),
            record_lines: 0,
            reducer: Reducer::new(),
            spare: Reduced::default(),
            login: None,
            report,
        }
    }

    /// One line without its newline. `timestamp_ms` is the log event's time where it is known.
    pub fn line(&mut self, line: &[u8], timestamp_ms: Option<i64>) {
        self.reducer.line(line, timestamp_ms);
        let mut reduced = self.reducer.finish(std::mem::take(&mut self.spare));
        self.take(&mut reduced);
        self.spare = reduced;
    }

    /// Lines that were reduced elsewhere, in their order.
    pub(super) fn take(&mut self, reduced: &mut Reduced) {
        let specials = std::mem::take(&mut reduced.specials);
        let mut nodes = reduced.nodes().iter();
        let mut taken = 0;
        for (place, special) in specials {
            for node in nodes.by_ref().take(place - taken) {
                self.record(node);
            }
            if let Some(node) = nodes.next() {
                self.special_record(node, special);
            }
            taken = place + 1;
        }
        for node in nodes {
            self.record(node);
        }
        self.unreadable(reduced.unreadable);
        self.report.unsealed += reduced.frames;
        self.report.unsealed_bytes += reduced.frame_bytes;
    }

    /// Lines that could not be read at all, such as those that are too long.
    pub fn unreadable(&mut self, lines: u64) {
        self.report.unreadable += lines;
    }

    /// The verdict.
    pub fn finish(mut self) -> Report {
        self.advance();
        self.settle_all();
        self.close_login();
        judge::judge(self)
    }

    /// A record whose payload is nothing to the verifier.
    #[inline(always)]
    fn record(&mut self, node: &Node) {
        if self.keep(node).is_some() {
            self.go_on(node);
        }
    }

    fn special_record(&mut self, node: &Node, special: Special) {
        let Some(place) = self.keep(node) else { return };
        match special {
            Special::Genesis(signed) => self.consider_genesis(node, place, *signed),
            Special::Control(mut control) => {
                control.hash = node.hash;
                control.place = Some(place);
                self.store.insert_control(control);
                self.consider_end(node.hash);
            }
            Special::Gap(gap) => self.store.insert_gap(node.hash, gap),
        }
        self.go_on(node);
    }

    /// Keeps what was not here yet.
    #[inline(always)]
    fn keep(&mut self, node: &Node) -> Option<Place> {
        self.record_lines += 1;
        let follows = self.store.is_tail(&node.previous)
            && !self.store.has_listed(&node.hash)
            && !self.given_up.may_hold(&node.hash);
        let place = if follows {
            self.store.follow(node)
        } else {
            self.out_of_order(node)?
        };
        if self.anchored.holds(&node.hash) {
            self.ready.insert((node.seq, node.hash));
        }
        Some(place)
    }

    /// Goes on with a walk that waited for this very record.
    #[inline(always)]
    fn go_on(&mut self, node: &Node) {
        let awaited = self.walk.as_ref().map(|walk| &walk.needs);
        if awaited == Some(&node.hash) {
            self.advance();
        }
    }

    /// Keeps a line that does not follow the last one that joined the chain, unless it is here already.
    fn out_of_order(&mut self, node: &Node) -> Option<Place> {
        if let Some(place) = self.store.find(&node.hash) {
            self.repeated(node, place);
            return None;
        }
        if self.given_up.may_hold(&node.hash) {
            self.give_up("a record lay out of place by more than the window");
            return None;
        }
        let attached = self.joins(node);
        if !attached && self.store.is_full() {
            self.settle_for_room();
        }
        self.store.list_all();
        Some(self.store.insert(node, attached))
    }

    /// A line came again. A full line is preferred to its withheld twin.
    fn repeated(&mut self, node: &Node, place: Place) {
        if let Some(known) = self.store.at_mut(place)
            && !node.withheld()
            && known.withheld()
        {
            known.set_full();
            if known.proven() {
                self.untally_withheld(node);
            }
        }
        self.report.duplicates += 1;
    }

    /// Does this line follow one that joins the chain?
    fn joins(&mut self, node: &Node) -> bool {
        self.store
            .find(&node.previous)
            .is_some_and(|place| self.store.joins(place))
            || self
                .position
                .as_ref()
                .is_some_and(|position| position.hash == node.previous)
            || Some(node.hash) == self.expected
    }

    pub(super) fn give_up(&mut self, why: &str) {
        self.report
            .could_not_check
            .get_or_insert_with(|| why.to_owned());
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
