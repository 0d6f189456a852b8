//! One more record is proven: is it what its place demands, and what does it add?

use std::ops::RangeInclusive;

use crate::{checkpoint::Counts, kind::Kind};

use super::{
    intake::Verifier,
    node::Node,
    report::{Known, Report, Rule, SessionTally},
    store::Place,
};

/// Slack on the policy's silence: a checkpoint may be this late before it is noted.
const SILENCE_SLACK_US: u64 = 5_000_000;
const SESSIONS: usize = 4096;
/// So many nodes ahead what will be proven is asked for: an epoch is longer than what the near caches hold.
const AHEAD: u64 = 16;

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
            position.place = place;
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

    /// Proves the records at these counts that only have to be counted, up to the first that asks for more. Gives the
    /// number of records that it proved.
    pub(super) fn apply_plain(&mut self, run: RangeInclusive<u64>) -> u64 {
        let Some(position) = &mut self.position else {
            return 0;
        };
        let longest = self.policy.idle_us.saturating_add(SILENCE_SLACK_US);
        let quiet = self.quiet.0..self.quiet.1;
        let mut last = None;
        let mut proven = 0;
        for count in run {
            let place = Place {
                attached: true,
                count,
            };
            self.store.ask_for(count + AHEAD);
            let Some(node) = self.store.at_mut(place) else {
                break;
            };
            let mut login = self.login.as_mut();
            if node.session == 0 {
                login = None;
            } else if login.as_ref().is_none_or(|login| login.0 != node.session) {
                break;
            }
            if !node.is_plain()
                || node.seq != position.seq.saturating_add(1)
                || node.t_us < position.t_us
                || node.t_us - position.t_us > longest
                || !quiet.contains(&node.seq)
            {
                break;
            }
            node.set_proven();
            count_record(
                &mut self.report,
                &mut self.proven_bytes,
                position.tally.as_mut(),
                node,
            );
            if let Some((_, _, session)) = login {
                session.add(node);
            }
            position.seq = node.seq;
            position.t_us = node.t_us;
            last = Some(place);
            proven += 1;
        }
        if let Some(place) = last
            && let Some(node) = self.store.at(place)
        {
            position.hash = node.hash;
            position.place = last;
            self.report.last_us = node.t_us;
            self.report.reached = Some(node.seq);
            self.report.reached_head = Some(node.hash);
            if !self.holed {
                self.report.proven_to = Some(node.seq);
            }
        }
        proven
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
        if (self.quiet.0..self.quiet.1).contains(&seq) {
            return;
        }
        let from = self.heads.partition_point(|known| known.seq < seq);
        let next = self.heads.get(from..).unwrap_or_default().iter();
        let next = next.map(|known| known.seq).find(|next| *next > seq);
        self.quiet = (seq.saturating_add(1), next.unwrap_or(u64::MAX));
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
        let tally = self
            .position
            .as_mut()
            .and_then(|position| position.tally.as_mut());
        count_record(&mut self.report, &mut self.proven_bytes, tally, node);
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
        self.close_login();
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

    /// Puts the open login's tally where the report keeps it.
    pub(super) fn close_login(&mut self) {
        if let Some((_, key, tally)) = self.login.take() {
            self.report.sessions.insert(key, tally);
        }
    }

    fn open_login(&mut self, session: u32) -> &mut SessionTally {
        if self
            .login
            .as_ref()
            .is_none_or(|(open, _, _)| *open != session)
        {
            self.close_login();
            let sessions = &mut self.report.sessions;
            let known = sessions.contains_key(&session) || sessions.len() < SESSIONS;
            let key = if known { session } else { u32::MAX };
            let tally = sessions.entry(key).or_default().clone();
            self.login = Some((session, key, tally));
        }
        &mut self
            .login
            .get_or_insert_with(|| (session, session, SessionTally::default()))
            .2
    }

    fn tally_session(&mut self, node: &Node) {
        if node.session == 0 {
            return;
        }
        let session = self.open_login(node.session);
        session.add(node);
    }
}

/// Counts a proven record in its chain and its epoch.
#[inline]
fn count_record(
    report: &mut Report,
    proven_bytes: &mut u64,
    epoch: Option<&mut (Counts<u32>, u64)>,
    node: &Node,
) {
    let bytes = u64::from(node.len);
    report.records += 1;
    *proven_bytes = proven_bytes.saturating_add(bytes);
    if let Some(count) = report.kinds.get_mut(node.kind.index()) {
        *count += 1;
    }
    if let Some((counts, total)) = epoch
        && !node.is_end()
    {
        if let Some(count) = counts.get_mut(node.kind.index()) {
            *count = count.saturating_add(1);
        }
        *total = total.saturating_add(bytes);
    }
}

impl SessionTally {
    /// One more proven record of this login.
    #[inline]
    fn add(&mut self, node: &Node) {
        if self.records == 0 {
            self.first_us = node.t_us;
            self.first_seq = node.seq;
        }
        self.last_us = node.t_us;
        self.last_seq = node.seq;
        self.started |= node.kind == Kind::SessionStart;
        self.ended |= node.kind == Kind::SessionEnd;
        self.records += 1;
        self.bytes += u64::from(node.len);
        self.statements += u64::from(node.kind == Kind::Statement);
        self.withheld += u64::from(node.withheld());
        match node.kind {
            Kind::Output => self.output_bytes += u64::from(node.len),
            Kind::Input => self.input_bytes += u64::from(node.len),
            _ => {}
        }
    }
}
