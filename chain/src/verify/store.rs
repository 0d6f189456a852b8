//! The window: one small node for each line of late, found by its hash.
//!
//! Lines that join the chain when they arrive and lines that do not are kept apart, so that a flood
//! of foreign lines cannot push out what is needed. What was pushed out unproven is remembered in a
//! filter of 1 MiB: a record found missing later is then "could not check", never a wrong verdict.

use std::collections::{HashMap, VecDeque};

use crate::{checkpoint::CheckpointBody, digest::Hash, gap::Gap, kind::Kind};

/// Lines may be out of place by this many lines.
pub const WINDOW: usize = 65_536;
const ATTACHED: usize = 49_152;
const CONTROLS: usize = 16_384;
const FILTER_BYTES: usize = 1 << 20;

/// A line, reduced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) previous: Hash,
    pub(super) digest: Hash,
    pub(super) seq: u64,
    pub(super) t_us: u64,
    pub(super) session: u32,
    pub(super) len: u32,
    pub(super) kind: Kind,
    pub(super) withheld: bool,
    pub(super) retimed: bool,
    pub(super) proven: bool,
    pub(super) attached: bool,
}

/// A checkpoint or seal as it stands in its line.
#[derive(Clone, Debug)]
pub(super) struct Control {
    pub(super) body: CheckpointBody,
    pub(super) signature: [u8; 64],
    pub(super) salt: [u8; 16],
    pub(super) previous: Hash,
    pub(super) seq: u64,
    pub(super) t_us: u64,
}

/// Nodes, controls and what was pushed out.
pub(super) struct Store {
    nodes: HashMap<Hash, Node>,
    attached: VecDeque<Hash>,
    detached: VecDeque<Hash>,
    controls: HashMap<Hash, Control>,
    control_order: VecDeque<Hash>,
    by_epoch: HashMap<u32, Vec<Hash>>,
    gaps: HashMap<Hash, Gap>,
    filter: Vec<u8>,
    /// Unproven nodes that were pushed out.
    pub(super) evicted: u64,
}

impl Store {
    pub(super) fn new() -> Store {
        Store {
            nodes: HashMap::new(),
            attached: VecDeque::new(),
            detached: VecDeque::new(),
            controls: HashMap::new(),
            control_order: VecDeque::new(),
            by_epoch: HashMap::new(),
            gaps: HashMap::new(),
            filter: Vec::new(),
            evicted: 0,
        }
    }

    pub(super) fn node(&self, hash: &Hash) -> Option<&Node> {
        self.nodes.get(hash)
    }

    pub(super) fn node_mut(&mut self, hash: &Hash) -> Option<&mut Node> {
        self.nodes.get_mut(hash)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Hash, &Node)> {
        self.nodes.iter()
    }

    pub(super) fn control(&self, hash: &Hash) -> Option<&Control> {
        self.controls.get(hash)
    }

    pub(super) fn controls_of(&self, epoch: u32) -> Vec<Hash> {
        self.by_epoch.get(&epoch).cloned().unwrap_or_default()
    }

    pub(super) fn gap(&self, hash: &Hash) -> Option<Gap> {
        self.gaps.get(hash).copied()
    }

    /// True when the next detached node would push another one out.
    pub(super) fn is_full(&self) -> bool {
        self.detached.len() >= WINDOW
    }

    pub(super) fn insert(&mut self, hash: Hash, node: Node) {
        let queue = if node.attached {
            &mut self.attached
        } else {
            &mut self.detached
        };
        queue.push_back(hash);
        let limit = if node.attached { ATTACHED } else { WINDOW };
        let pushed = if queue.len() > limit {
            queue.pop_front()
        } else {
            None
        };
        self.nodes.insert(hash, node);
        if let Some(old) = pushed {
            self.evict(&old);
        }
    }

    pub(super) fn insert_control(&mut self, hash: Hash, control: Control) {
        self.by_epoch
            .entry(control.body.epoch)
            .or_default()
            .push(hash);
        self.controls.insert(hash, control);
        self.control_order.push_back(hash);
        if self.control_order.len() > CONTROLS
            && let Some(old) = self.control_order.pop_front()
        {
            self.drop_control(&old);
        }
    }

    pub(super) fn insert_gap(&mut self, hash: Hash, gap: Gap) {
        if self.gaps.len() < 4096 {
            self.gaps.insert(hash, gap);
        }
    }

    /// True when this hash may have been pushed out. Never false for one that was.
    pub(super) fn may_have_evicted(&self, hash: &Hash) -> bool {
        !self.filter.is_empty()
            && filter_bits(hash)
                .iter()
                .all(|(byte, bit)| self.filter.get(*byte).is_some_and(|value| value & bit != 0))
    }

    fn evict(&mut self, hash: &Hash) {
        let Some(node) = self.nodes.remove(hash) else {
            return;
        };
        self.gaps.remove(hash);
        if !node.proven {
            self.remember(hash);
        }
    }

    /// A checkpoint line whose contents are dropped can no longer be used: its node goes too.
    fn drop_control(&mut self, hash: &Hash) {
        let Some(control) = self.controls.remove(hash) else {
            return;
        };
        if let Some(list) = self.by_epoch.get_mut(&control.body.epoch) {
            list.retain(|other| other != hash);
            if list.is_empty() {
                self.by_epoch.remove(&control.body.epoch);
            }
        }
        if self.nodes.get(hash).is_none_or(|node| !node.proven) {
            self.nodes.remove(hash);
            self.remember(hash);
        }
    }

    fn remember(&mut self, hash: &Hash) {
        self.evicted += 1;
        if self.filter.is_empty() {
            self.filter = vec![0; FILTER_BYTES];
        }
        for (byte, bit) in filter_bits(hash) {
            if let Some(value) = self.filter.get_mut(byte) {
                *value |= bit;
            }
        }
    }
}

fn filter_bits(hash: &Hash) -> [(usize, u8); 4] {
    let mut bits = [(0, 0); 4];
    for (slot, chunk) in bits.iter_mut().zip(hash.as_chunks::<4>().0) {
        let place = u32::from_be_bytes(*chunk) as usize;
        *slot = ((place >> 3) % FILTER_BYTES, 1 << (place & 7));
    }
    bits
}
