//! Going forward: a walk back that met the proven place proves all that it passed. A walk that can
//! not meet it proves what it passed and shows a hole.

use std::collections::HashMap;

use crate::{
    checkpoint::Closing,
    digest::{Hash, link_hash},
    kind::Kind,
};

use super::{
    intake::{Verifier, Walk},
    report::{Known, Missing, Rule, SealSummary},
    store::Node,
};

/// Slack on the policy's silence: a checkpoint may be this late before it is noted.
const SILENCE_SLACK_US: u64 = 5_000_000;
const SESSIONS: usize = 4096;

/// Lines that follow from a proven place, one by one, proven by nothing yet.
pub(super) struct Tree {
    /// Each line with its number.
    pub(super) members: HashMap<Hash, u64>,
    /// The highest number in it, or the root's.
    pub(super) end: u64,
    /// Number that a line should have that follows a member under another number.
    pub(super) relabelled: Option<u64>,
}

impl Verifier {
    /// Goes forward as far as signed checkpoints and the lines at hand reach.
    pub(super) fn advance(&mut self) {
        while let Some(mut walk) = self.walk.take() {
            let Some(goal) = self.position.as_ref().map(|position| position.hash) else {
                return;
            };
            if !self.extend(&mut walk, &goal) {
                continue;
            }
            if walk.needs != goal {
                self.walk = Some(walk);
                return;
            }
            self.apply_path(&walk.path);
            self.look_for_signed();
        }
    }

    /// At the end nothing else comes: what is not here is missing.
    pub(super) fn settle_all(&mut self) {
        loop {
            if let Some(walk) = self.walk.take() {
                self.settle_hole(walk);
            } else if !self.settle_anchored() {
                return;
            }
            self.advance();
        }
    }

    /// The window is full: what a walk waits for lies further away than lines may be out of place.
    pub(super) fn settle_for_room(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.settle_hole(walk);
            self.advance();
        } else if self.settle_anchored() {
            self.advance();
        }
    }

    /// An anchored head proves like a signature where no signed checkpoint can be reached.
    fn settle_anchored(&mut self) -> bool {
        let Some(position) = &self.position else {
            return false;
        };
        let Some(goal) = (!self.sealed).then_some(position.hash) else {
            return false;
        };
        let seq = position.seq;
        while self.ready.first().is_some_and(|(first, _)| *first <= seq) {
            self.ready.pop_first();
        }
        let Some((_, target)) = self.ready.pop_first() else {
            return false;
        };
        let mut walk = Walk {
            target,
            path: Vec::new(),
            needs: target,
        };
        if self.extend(&mut walk, &goal) && !walk.path.is_empty() {
            if walk.needs == goal {
                self.apply_path(&walk.path);
                self.look_for_signed();
            } else {
                self.settle_hole_of(walk, true);
            }
        }
        true
    }

    /// Follows the walk while its lines are here; false when it ended in a contradiction.
    fn extend(&mut self, walk: &mut Walk, goal: &Hash) -> bool {
        while walk.needs != *goal {
            let Some(node) = self.store.node(&walk.needs).copied() else {
                return true;
            };
            if node.proven {
                self.find(
                    Rule::Fork,
                    node.seq.saturating_add(1),
                    "a signed or anchored line follows a record that has another successor",
                );
                return false;
            }
            walk.path.push(walk.needs);
            walk.needs = node.previous;
        }
        true
    }

    fn settle_hole(&mut self, walk: Walk) {
        self.settle_hole_of(walk, false);
    }

    fn settle_hole_of(&mut self, walk: Walk, may_hide_checkpoints: bool) {
        if self.store.may_have_evicted(&walk.needs) {
            self.give_up(
                "a record that is missing may have lain out of place by more than the window",
            );
            return;
        }
        let lowest = walk
            .path
            .last()
            .and_then(|hash| self.store.node(hash))
            .copied();
        let (Some(lowest), Some(position)) = (lowest, &mut self.position) else {
            return;
        };
        let from = position.seq;
        let last = lowest.seq.saturating_sub(1);
        position.tally = None;
        if may_hide_checkpoints {
            position.opened = None;
        }
        if last <= from {
            self.find(
                Rule::Sequence,
                lowest.seq,
                "a proven record repeats a number",
            );
            return;
        }
        let tree = self.tree();
        if let Some(seq) = self.contender(&tree, last, Some(walk.needs)) {
            self.find(
                Rule::RecordAltered,
                seq,
                "the line with this number is not the sealed one",
            );
        }
        let first = tree.end.min(last.saturating_sub(1)).saturating_add(1);
        self.report.unproven += tree.members.values().filter(|seq| **seq <= last).count() as u64;
        self.miss(first, last);
        self.given_up.insert(walk.needs);
        self.holed = true;
        self.totals_known = false;
        if let Some(position) = &mut self.position {
            position.seq = last;
            position.hash = walk.needs;
        }
        self.apply_path(&walk.path);
        self.look_for_signed();
    }

    pub(super) fn miss(&mut self, first: u64, last: u64) {
        if self.report.missing.len() < 64 {
            self.report.missing.push(Missing { first, last });
        }
        let count = last.saturating_sub(first).saturating_add(1);
        self.report.missing_records = self.report.missing_records.saturating_add(count);
    }

    pub(super) fn give_up(&mut self, why: &str) {
        self.report
            .could_not_check
            .get_or_insert_with(|| why.to_owned());
    }

    /// What follows from the position.
    pub(super) fn tree(&self) -> Tree {
        let mut tree = Tree {
            members: HashMap::new(),
            end: 0,
            relabelled: None,
        };
        let Some(position) = &self.position else {
            return tree;
        };
        tree.end = position.seq;
        let mut children: HashMap<Hash, Vec<(Hash, u64)>> = HashMap::new();
        for (hash, node) in self.store.nodes() {
            if !node.proven && node.kind != Kind::Genesis {
                children
                    .entry(node.previous)
                    .or_default()
                    .push((*hash, node.seq));
            }
        }
        let mut open = vec![(position.hash, position.seq)];
        while let Some((hash, seq)) = open.pop() {
            let next = seq.saturating_add(1);
            for (child, number) in children.remove(&hash).unwrap_or_default() {
                if number == next {
                    tree.members.insert(child, number);
                    tree.end = tree.end.max(number);
                    open.push((child, number));
                } else {
                    let lowest = tree.relabelled.map_or(next, |old| old.min(next));
                    tree.relabelled = Some(lowest);
                }
            }
        }
        tree
    }

    /// Does another line stand where record `seq` with head `head` should be?
    pub(super) fn contender(&self, tree: &Tree, seq: u64, head: Option<Hash>) -> Option<u64> {
        if tree.members.values().any(|number| *number == seq) {
            return Some(seq);
        }
        if tree.relabelled.is_some() {
            return tree.relabelled;
        }
        let (head, position) = (head?, self.position.as_ref()?);
        let before = seq.checked_sub(1)?;
        let mut tips: Vec<Hash> = tree
            .members
            .iter()
            .filter(|(_, n)| **n == before)
            .map(|(hash, _)| *hash)
            .collect();
        if position.seq == before {
            tips.push(position.hash);
        }
        let same = |node: &Node| {
            tips.iter().take(16).any(|tip| {
                let len = node.len;
                link_hash(
                    tip,
                    &node.digest,
                    seq,
                    node.t_us,
                    node.kind,
                    node.session,
                    len,
                ) == head
            })
        };
        let moved = self
            .store
            .nodes()
            .any(|(_, node)| !node.proven && node.seq == seq && same(node));
        moved.then_some(seq)
    }

    fn apply_path(&mut self, path: &[Hash]) {
        for hash in path.iter().rev() {
            self.apply(hash);
        }
    }

    /// One more record is proven.
    pub(super) fn apply(&mut self, hash: &Hash) {
        let Some(node) = self.store.node_mut(hash) else {
            self.give_up(
                "an epoch did not fit the window: too many lines join the chain in one place",
            );
            return;
        };
        node.proven = true;
        let node = *node;
        self.check_order(&node);
        self.check_heads(hash, node.seq);
        if matches!(node.kind, Kind::Checkpoint | Kind::Seal) {
            self.check_control(hash, &node);
        }
        self.tally(hash, &node);
        if let Some(position) = &mut self.position {
            position.hash = *hash;
            position.seq = node.seq;
            position.t_us = node.t_us;
        }
        if matches!(node.kind, Kind::Checkpoint | Kind::Seal) {
            self.next_epoch(hash, &node);
        }
        if !self.holed {
            self.report.proven_to = Some(node.seq);
        }
        self.report.reached = Some(node.seq);
        self.report.reached_head = Some(*hash);
    }

    fn check_order(&mut self, node: &Node) {
        let Some(position) = &self.position else {
            return;
        };
        if node.kind == Kind::Genesis {
            return;
        }
        let (seq, t_us) = (position.seq, position.t_us);
        if node.seq != seq.saturating_add(1) {
            self.find(
                Rule::Sequence,
                node.seq,
                "proven records do not follow each other",
            );
        }
        if node.t_us < t_us {
            self.find(
                Rule::Time,
                node.seq,
                "a proven record is earlier than the one before it",
            );
        }
        let silence = node.t_us.saturating_sub(t_us);
        if silence > self.policy.idle_us.saturating_add(SILENCE_SLACK_US) {
            self.report.silences += 1;
            if self
                .report
                .longest_silence
                .is_none_or(|(_, longest)| longest < silence)
            {
                self.report.longest_silence = Some((seq, silence));
            }
        }
    }

    fn check_heads(&mut self, hash: &Hash, seq: u64) {
        for index in self.heads_at.get(&seq).cloned().unwrap_or_default() {
            let Some(known) = self.heads.get(index).copied() else {
                continue;
            };
            if known.head != *hash {
                let rule = if known.source.is_anchor() {
                    Rule::AnchorDiffers
                } else {
                    Rule::LedgerHeadDiffers
                };
                self.find(
                    rule,
                    seq,
                    &format!("the {} names another head", known.source.word()),
                );
            } else if known.source.is_anchor() {
                self.report.anchors.matched += 1;
                self.report.anchors.genesis |= known.source == Known::GenesisAnchor;
                self.report.anchors.seal |= known.source == Known::SealAnchor;
            }
        }
    }

    /// Does a checkpoint say what its records say?
    fn check_control(&mut self, hash: &Hash, node: &Node) {
        let (Some(control), Some(position)) = (self.store.control(hash).cloned(), &self.position)
        else {
            self.give_up("a checkpoint did not fit the window");
            return;
        };
        let body = &control.body;
        let same_epoch = body.epoch == position.epoch;
        let consistent = body.head == node.previous
            && body.last == node.seq.saturating_sub(1)
            && position.opened.is_none_or(|(first, previous)| {
                same_epoch && body.first == first && body.previous == previous
            })
            && position
                .tally
                .is_none_or(|(counts, bytes)| body.counts == counts && body.bytes == bytes)
            && body.epoch >= position.epoch
            && self.totals_agree(body);
        let signed = !same_epoch || position.key.is_some_and(|key| self.signed(&key, &control));
        if !consistent {
            self.find(
                Rule::CheckpointBody,
                node.seq,
                "a checkpoint contradicts its records",
            );
        }
        if !signed {
            self.find(
                Rule::Signature,
                node.seq,
                "a checkpoint does not carry its epoch's signature",
            );
        }
    }

    fn totals_agree(&self, body: &crate::checkpoint::CheckpointBody) -> bool {
        match &body.closing {
            Closing::End { totals, bytes, .. } if self.totals_known => {
                *totals == self.report.kinds && *bytes == self.proven_bytes
            }
            Closing::End { .. } | Closing::Next(_) => true,
        }
    }

    fn next_epoch(&mut self, hash: &Hash, node: &Node) {
        let (Some(control), Some(position)) =
            (self.store.control(hash).cloned(), &mut self.position)
        else {
            return;
        };
        let epoch = control.body.epoch;
        let old = if epoch == position.epoch {
            position.key
        } else {
            None
        };
        self.report.epochs += 1;
        match control.body.closing {
            Closing::Next(key) => {
                position.epoch = epoch.saturating_add(1);
                position.key = Some(key);
                position.opened = Some((node.seq.saturating_add(1), *hash));
                position.tally = Some(([0; 15], 0));
            }
            Closing::End { reason, .. } => {
                position.epoch = epoch.saturating_add(1);
                position.key = None;
                self.sealed = true;
                let (seq, t_us) = (node.seq, node.t_us);
                self.report.seal = Some(SealSummary {
                    seq,
                    head: *hash,
                    t_us,
                    reason,
                });
            }
        }
        let Some(key) = old else { return };
        self.remember_closed(epoch, key, *hash);
        for other in self.store.controls_of(epoch) {
            let twin = self.store.control(&other).filter(|_| other != *hash);
            let seq = twin
                .filter(|twin| self.signed(&key, twin))
                .map(|twin| twin.seq);
            if let Some(seq) = seq {
                self.find(
                    Rule::Fork,
                    seq,
                    "two different ends of one epoch carry its signature",
                );
            }
        }
    }

    fn tally(&mut self, hash: &Hash, node: &Node) {
        let bytes = u64::from(node.len);
        self.report.records += 1;
        self.proven_bytes = self.proven_bytes.saturating_add(bytes);
        if let Some(count) = self.report.kinds.get_mut(node.kind.index()) {
            *count += 1;
        }
        let tally = self
            .position
            .as_mut()
            .and_then(|position| position.tally.as_mut());
        if let Some((counts, total)) = tally
            && !matches!(node.kind, Kind::Checkpoint | Kind::Seal)
        {
            if let Some(count) = counts.get_mut(node.kind.index()) {
                *count = count.saturating_add(1);
            }
            *total = total.saturating_add(bytes);
        }
        self.report.last_us = node.t_us;
        self.report.retimed += u64::from(node.retimed);
        if node.withheld {
            self.report.withheld += 1;
            let genesis = self.genesis.unwrap_or_default();
            if !self.inputs.is_authorised(&genesis, node.seq) {
                self.report.unauthorised += 1;
            }
        }
        if let Some(gap) = self.store.gap(hash)
            && self.report.gaps.len() < 64
        {
            self.report.gaps.push(gap);
        }
        self.tally_session(node);
    }

    fn tally_session(&mut self, node: &Node) {
        if node.session == 0 {
            return;
        }
        let sessions = &mut self.report.sessions;
        let known = sessions.contains_key(&node.session) || sessions.len() < SESSIONS;
        let session = sessions
            .entry(if known { node.session } else { u32::MAX })
            .or_default();
        if session.records == 0 {
            session.first_us = node.t_us;
        }
        session.last_us = node.t_us;
        session.records += 1;
        session.bytes += u64::from(node.len);
        session.statements += u64::from(node.kind == Kind::Statement);
        session.withheld += u64::from(node.withheld);
        if node.kind == Kind::Output {
            session.output_bytes += u64::from(node.len);
        }
    }
}
