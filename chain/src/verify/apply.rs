//! One more record is proven: is it what its place demands, and what does it add?

use crate::kind::Kind;

use super::{
    intake::Verifier,
    reduce::Node,
    report::{Known, Rule},
    store::Place,
};

/// Slack on the policy's silence: a checkpoint may be this late before it is noted.
const SILENCE_SLACK_US: u64 = 5_000_000;
const SESSIONS: usize = 4096;

impl Verifier {
    /// The record at this place follows the position.
    pub(super) fn apply(&mut self, place: Option<Place>) {
        let Some(node) = place.and_then(|place| self.store.at_mut(place)) else {
            self.give_up(
                "an epoch did not fit the window: too many lines join the chain in one place",
            );
            return;
        };
        node.set_proven();
        let node = *node;
        self.check_order(&node);
        self.check_heads(&node);
        let end = if node.is_end() {
            self.check_end(&node)
        } else {
            None
        };
        self.tally(&node);
        if let Some(position) = &mut self.position {
            position.hash = node.hash;
            position.seq = node.seq;
            position.t_us = node.t_us;
        }
        if let Some(body) = end {
            self.next_epoch(&node, &body);
        }
        if !self.holed {
            self.report.proven_to = Some(node.seq);
        }
        self.report.reached = Some(node.seq);
        self.report.reached_head = Some(node.hash);
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

    fn check_heads(&mut self, node: &Node) {
        let seq = node.seq;
        let from = self.heads.partition_point(|known| known.seq < seq);
        for index in from..self.heads.len() {
            let Some(known) = self
                .heads
                .get(index)
                .copied()
                .filter(|known| known.seq == seq)
            else {
                break;
            };
            if known.head != node.hash {
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

    fn tally(&mut self, node: &Node) {
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
            && !node.is_end()
        {
            if let Some(count) = counts.get_mut(node.kind.index()) {
                *count = count.saturating_add(1);
            }
            *total = total.saturating_add(bytes);
        }
        self.report.last_us = node.t_us;
        self.report.retimed += u64::from(node.retimed());
        if node.withheld() {
            self.report.withheld += 1;
            let genesis = self.genesis.unwrap_or_default();
            if !self.inputs.is_authorised(&genesis, node.seq) {
                self.report.unauthorised += 1;
            }
        }
        if node.kind == Kind::Gap
            && let Some(gap) = self.store.gap(&node.hash)
            && self.report.gaps.len() < 64
        {
            self.report.gaps.push(gap);
        }
        self.tally_session(node);
    }

    /// The full line of a record that was proven by its withheld twin came after all.
    pub(super) fn untally_withheld(&mut self, node: &Node) {
        let genesis = self.genesis.unwrap_or_default();
        let report = &mut self.report;
        report.withheld = report.withheld.saturating_sub(1);
        if !self.inputs.is_authorised(&genesis, node.seq) {
            report.unauthorised = report.unauthorised.saturating_sub(1);
        }
        let session = if report.sessions.contains_key(&node.session) {
            node.session
        } else {
            u32::MAX
        };
        if let Some(session) = report.sessions.get_mut(&session) {
            session.withheld = session.withheld.saturating_sub(1);
        }
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
            session.first_seq = node.seq;
        }
        session.last_us = node.t_us;
        session.last_seq = node.seq;
        session.started |= node.kind == Kind::SessionStart;
        session.ended |= node.kind == Kind::SessionEnd;
        session.records += 1;
        session.bytes += u64::from(node.len);
        session.statements += u64::from(node.kind == Kind::Statement);
        session.withheld += u64::from(node.withheld());
        match node.kind {
            Kind::Output => session.output_bytes += u64::from(node.len),
            Kind::Input => session.input_bytes += u64::from(node.len),
            _ => {}
        }
    }
}
