//! One line, reduced to what verification needs of it. Independent of every other line, so any thread may do it.

use crate::{
    checkpoint::CheckpointBody,
    digest::{Hash, genesis_hash, link_hash, payload_digest},
    gap::Gap,
    genesis::SignedGenesis,
    kind::Kind,
    line::{Body, MAX_LINE, decode_payload, scan},
};

/// A reduced line.
pub struct Reduced(pub(super) Reading);

impl Reduced {
    /// What is no line of the format.
    pub fn unreadable() -> Reduced {
        Reduced(Reading::Unreadable)
    }
}

pub(super) enum Reading {
    Unreadable,
    Frame { bytes: u64 },
    Record(Node, Option<Box<Special>>),
}

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

/// Reduces lines, one buffer for all of them.
#[derive(Default)]
pub struct Reducer {
    scratch: Vec<u8>,
}

impl Reducer {
    /// A reducer with an empty buffer.
    pub fn new() -> Reducer {
        Reducer::default()
    }

    /// One line without its newline. `timestamp_ms` is the log event's time where it is known.
    pub fn reduce(&mut self, line: &[u8], timestamp_ms: Option<i64>) -> Reduced {
        Reduced(self.read(line, timestamp_ms).unwrap_or(Reading::Unreadable))
    }

    fn read(&mut self, line: &[u8], timestamp_ms: Option<i64>) -> Option<Reading> {
        let scanned = (line.len() <= MAX_LINE).then(|| scan(line))??;
        let retimed = timestamp_ms.is_some_and(|ms| i64::try_from(scanned.t_us / 1000) != Ok(ms));
        let mut node = Node {
            hash: [0; 32],
            previous: [0; 32],
            digest: [0; 32],
            seq: scanned.number,
            t_us: scanned.t_us,
            session: scanned.session,
            len: 0,
            kind: scanned.kind,
            marks: if retimed { RETIMED } else { 0 },
        };
        let mut special = None;
        match scanned.body {
            Body::Frame { payload } => {
                let bytes = decode_payload(payload, &mut self.scratch)?.len() as u64;
                return Some(Reading::Frame { bytes });
            }
            Body::Withheld {
                previous,
                len,
                digest,
            } => {
                node.previous = previous;
                node.digest = digest;
                node.len = u16::try_from(len).ok()?;
                node.marks |= WITHHELD;
            }
            Body::Full {
                previous,
                salt,
                payload,
            } => {
                let payload = decode_payload(payload, &mut self.scratch)?;
                node.previous = previous;
                node.len = u16::try_from(payload.len()).ok()?;
                if node.kind == Kind::Genesis {
                    let signed = SignedGenesis::decode(payload).ok()?;
                    if signed.genesis.started_us != node.t_us {
                        return None;
                    }
                    node.hash = genesis_hash(&salt, payload);
                    special = Some(Box::new(Special::Genesis(Box::new(signed))));
                    return Some(Reading::Record(node, special));
                }
                node.digest = payload_digest(&salt, payload);
                special = read_special(&node, salt, payload)?;
            }
        }
        node.hash = linked(&node, &node.previous, node.seq);
        if let Some(Special::Control(control)) = special.as_deref_mut() {
            control.hash = node.hash;
        }
        Some(Reading::Record(node, special))
    }
}

/// The head of this record if it followed `previous` under the number `seq`.
pub(super) fn linked(node: &Node, previous: &Hash, seq: u64) -> Hash {
    link_hash(
        previous,
        &node.digest,
        seq,
        node.t_us,
        node.kind,
        node.session,
        u32::from(node.len),
    )
}

/// `None` when a checkpoint or seal has another form than its own.
#[allow(clippy::option_option)]
fn read_special(node: &Node, salt: [u8; 16], payload: &[u8]) -> Option<Option<Box<Special>>> {
    Some(match node.kind {
        Kind::Checkpoint | Kind::Seal => {
            let (body, _) = CheckpointBody::decode(node.kind, payload)?;
            Some(Box::new(Special::Control(Control {
                hash: node.hash,
                previous: node.previous,
                salt,
                seq: node.seq,
                t_us: node.t_us,
                epoch: body.epoch,
                kind: node.kind,
                payload: payload.into(),
            })))
        }
        Kind::Gap => Gap::decode(payload).map(|gap| Box::new(Special::Gap(gap))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_stays_small() {
        assert_eq!(size_of::<Node>(), 120);
    }
}
