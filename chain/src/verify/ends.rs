//! Where a chain begins and where its epochs end: which genesis, whose signature, which key comes next.

use crate::{
    checkpoint::{CheckpointBody, Closing, is_signed_by},
    digest::Hash,
    genesis::SignedGenesis,
};

use super::{
    intake::{ClosedEpoch, Position, Verifier, Walk},
    node::{Control, Node},
    report::{Rule, SealSummary},
    store::Place,
};

/// Second ends are looked for in this many epochs.
const CLOSED_EPOCHS: usize = 16_384;
const TWO_ENDS: &str = "two different ends of one epoch carry its signature";

impl Verifier {
    /// The genesis is the one whose head an anchor or the ledger knows. When nobody knows one, it is
    /// the first that is not another request's.
    pub(super) fn consider_genesis(&mut self, node: &Node, place: Place, signed: SignedGenesis) {
        let (hash, genesis) = (node.hash, signed.genesis);
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
        self.report.first_us = node.t_us;
        self.genesis = Some(hash);
        self.position = Some(Position {
            hash: [0; 32],
            place: None,
            seq: 0,
            t_us: 0,
            epoch: 0,
            key: Some(signed.first_key),
            opened: Some((0, hash)),
            tally: Some(([0; 15], 0)),
        });
        self.apply(Some(place));
        self.look_for_signed();
        self.advance();
    }

    /// Signature checks at arrival: the current epoch's end, or a second end of a closed epoch.
    pub(super) fn consider_end(&mut self, hash: Hash) {
        let (Some(position), Some(control)) = (&self.position, self.store.control(&hash)) else {
            return;
        };
        let (epoch, seq, place) = (control.epoch, control.seq, control.place);
        if epoch == position.epoch && !self.sealed {
            if position.key.is_some_and(|key| self.signed(&key, control)) {
                self.accept_signed(hash, place, seq);
                self.advance();
            }
            return;
        }
        let second = self
            .closed_epoch(epoch)
            .is_some_and(|closed| closed.end != hash && self.signed(&closed.key, control));
        if second {
            self.find(Rule::Fork, seq, TWO_ENDS);
        }
    }

    /// A good signature over this very line: the link is signed as the body's head. Without this, a copy
    /// of a checkpoint with another link would pass for a second end of its epoch.
    fn signed(&self, key: &[u8; 32], control: &Control) -> bool {
        let (Some(genesis), Some(body)) = (&self.genesis, control.body()) else {
            return false;
        };
        let own = body.head == control.previous && body.last == control.seq.saturating_sub(1);
        own && is_signed_by(
            key,
            control.kind,
            &control.payload,
            genesis,
            control.seq,
            control.t_us,
            &control.salt,
        )
    }

    /// An end with a good signature: walk back from it. A second one is a fork.
    fn accept_signed(&mut self, hash: Hash, place: Option<Place>, seq: u64) {
        match &self.walk {
            Some(walk) if walk.target != hash => self.find(Rule::Fork, seq, TWO_ENDS),
            Some(_) => {}
            None => {
                self.signed_end = Some(hash);
                self.walk = Some(Walk::from(hash, place));
            }
        }
    }

    /// After the position moved: is the end of the new epoch already here?
    pub(super) fn look_for_signed(&mut self) {
        let Some((key, epoch)) = self
            .position
            .as_ref()
            .and_then(|position| Some((position.key?, position.epoch)))
        else {
            return;
        };
        if self.sealed || self.walk.is_some() {
            return;
        }
        for hash in self.store.controls_of(epoch) {
            let control = self.store.control(&hash);
            let good = control.filter(|control| self.signed(&key, control));
            if let Some((place, seq)) = good.map(|control| (control.place, control.seq)) {
                self.accept_signed(hash, place, seq);
            }
        }
    }

    /// Does an end say what its records say, and who signed it?
    pub(super) fn check_end(&mut self, node: &Node) -> Option<CheckpointBody> {
        let control = self.store.control(&node.hash);
        let (Some((control, body)), Some(position)) = (
            control.and_then(|control| Some((control, control.body()?))),
            &self.position,
        ) else {
            self.give_up("a checkpoint did not fit the window");
            return None;
        };
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
            && self.totals_agree(&body);
        let signed = !same_epoch
            || position.key.is_some_and(|key| {
                self.signed_end == Some(node.hash) || self.signed(&key, control)
            });
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
        Some(body)
    }

    fn totals_agree(&self, body: &CheckpointBody) -> bool {
        match &body.closing {
            Closing::End { totals, bytes, .. } if self.totals_known => {
                *totals == self.report.kinds && *bytes == self.proven_bytes
            }
            Closing::End { .. } | Closing::Next(_) => true,
        }
    }

    /// The next epoch begins, or the chain has ended.
    pub(super) fn next_epoch(&mut self, node: &Node, body: &CheckpointBody) {
        let Some(position) = &mut self.position else {
            return;
        };
        let epoch = body.epoch;
        let old = if epoch == position.epoch {
            position.key
        } else {
            None
        };
        self.signed_end = None;
        self.report.epochs += 1;
        position.epoch = epoch.saturating_add(1);
        match body.closing {
            Closing::Next(key) => {
                position.key = Some(key);
                position.opened = Some((node.seq.saturating_add(1), node.hash));
                position.tally = Some(([0; 15], 0));
            }
            Closing::End { reason, .. } => {
                position.key = None;
                self.sealed = true;
                self.report.seal = Some(SealSummary {
                    seq: node.seq,
                    head: node.hash,
                    t_us: node.t_us,
                    reason,
                });
            }
        }
        let Some(key) = old else { return };
        self.remember_closed(ClosedEpoch {
            epoch,
            key,
            end: node.hash,
        });
        for other in self.store.controls_of(epoch) {
            let twin = self.store.control(&other).filter(|_| other != node.hash);
            let seq = twin
                .filter(|twin| self.signed(&key, twin))
                .map(|twin| twin.seq);
            if let Some(seq) = seq {
                self.find(Rule::Fork, seq, TWO_ENDS);
            }
        }
    }

    fn closed_epoch(&self, epoch: u32) -> Option<&ClosedEpoch> {
        let index = self
            .closed
            .binary_search_by_key(&epoch, |closed| closed.epoch)
            .ok()?;
        self.closed.get(index)
    }

    fn remember_closed(&mut self, closed: ClosedEpoch) {
        while self
            .closed
            .back()
            .is_some_and(|last| last.epoch >= closed.epoch)
        {
            self.closed.pop_back();
        }
        if self.closed.len() >= CLOSED_EPOCHS {
            self.closed.pop_front();
        }
        self.closed.push_back(closed);
    }
}
