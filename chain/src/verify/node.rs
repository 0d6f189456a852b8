//! What is kept of a line: a node, and what the payload of a few records says besides.

use crate::{
    checkpoint::CheckpointBody,
    digest::{Hash, Link},
    gap::Gap,
    genesis::SignedGenesis,
    kind::Kind,
    scan::Scanned,
};

use super::store::Place;

/// A record without its payload: 120 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) hash: Hash,
    pub(super) previous: Hash,
    /// The payload's digest; zeros in a genesis.
    pub(super) digest: Hash,
    pub(super) seq: u64,
    pub(super) t_us: u64,
    pub(super) session: u32,
    pub(super) len: u16,
    pub(super) kind: Kind,
    marks: u8,
}

const WITHHELD: u8 = 1;
const RETIMED: u8 = 2;
const PROVEN: u8 = 4;
const GONE: u8 = 8;

impl Node {
    /// A node of nothing.
    pub(super) const BLANK: Node = Node {
        hash: [0; 32],
        previous: [0; 32],
        digest: [0; 32],
        seq: 0,
        t_us: 0,
        session: 0,
        len: 0,
        kind: Kind::Event,
        marks: 0,
    };

    /// Takes a record's numbers, field by field: a node that is made elsewhere and copied waits for its own stores.
    /// The hashes stay what they were.
    #[inline(always)]
    pub(super) fn set_numbers(&mut self, scanned: &Scanned<'_>, len: u16, retimed: bool) {
        self.seq = scanned.number;
        self.t_us = scanned.t_us;
        self.session = scanned.session;
        self.len = len;
        self.kind = scanned.kind;
        self.marks = if retimed { RETIMED } else { 0 };
    }

    fn marked(&self, mark: u8) -> bool {
        self.marks & mark != 0
    }
    pub(super) fn withheld(&self) -> bool {
        self.marked(WITHHELD)
    }
    pub(super) fn retimed(&self) -> bool {
        self.marked(RETIMED)
    }
    pub(super) fn proven(&self) -> bool {
        self.marked(PROVEN)
    }
    pub(super) fn is_gone(&self) -> bool {
        self.marked(GONE)
    }
    pub(super) fn set_withheld(&mut self) {
        self.marks |= WITHHELD;
    }
    pub(super) fn set_full(&mut self) {
        self.marks &= !WITHHELD;
    }
    pub(super) fn set_proven(&mut self) {
        self.marks |= PROVEN;
    }
    pub(super) fn set_gone(&mut self) {
        self.marks |= GONE;
    }
    pub(super) fn is_end(&self) -> bool {
        matches!(self.kind, Kind::Checkpoint | Kind::Seal)
    }

    /// No mark and no kind that asks for more than being counted.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.marks & (WITHHELD | RETIMED | PROVEN | GONE) == 0
            && !matches!(
                self.kind,
                Kind::Checkpoint | Kind::Seal | Kind::Genesis | Kind::Gap
            )
    }

    /// What this record's head is the hash of.
    #[inline]
    pub(super) fn link(&self) -> Link<'_> {
        Link {
            previous: &self.previous,
            digest: &self.digest,
            seq: self.seq,
            t_us: self.t_us,
            kind: self.kind,
            session: self.session,
            len: u32::from(self.len),
        }
    }

    /// The head of this record if it followed `previous` under the number `seq`.
    pub(super) fn linked(&self, previous: &Hash, seq: u64) -> Hash {
        Link {
            previous,
            seq,
            ..self.link()
        }
        .hash()
    }
}

/// What the payload of some records says to the verifier.
pub(super) enum Special {
    Genesis(Box<SignedGenesis>),
    Control(Control),
    Gap(Gap),
}

/// A checkpoint or seal as it stands in its line.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) hash: Hash,
    /// Where its node is, once it has one.
    pub(super) place: Option<Place>,
    pub(super) previous: Hash,
    pub(super) salt: [u8; 16],
    pub(super) seq: u64,
    pub(super) t_us: u64,
    pub(super) epoch: u32,
    pub(super) kind: Kind,
    pub(super) payload: Box<[u8]>,
}

impl Control {
    /// The payload, which was read once already.
    pub(super) fn body(&self) -> Option<CheckpointBody> {
        CheckpointBody::decode(self.kind, &self.payload).map(|(body, _)| body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_small() {
        assert_eq!(size_of::<Node>(), 120);
    }
}
