//! The last nodes of one sort, in the order of their arrival.

use crate::{digest::Hash, kind::Kind};

use super::node::Node;

/// The last `limit` nodes of one sort, the oldest overwritten first.
pub(super) struct Ring {
    pub(super) slots: Vec<Node>,
    limit: usize,
    /// How many were ever put in.
    pub(super) count: u64,
}

/// What an overwritten node leaves to be done.
pub(super) struct Overwritten {
    pub(super) hash: Hash,
    pub(super) count: u64,
    pub(super) proven: bool,
    pub(super) gap: bool,
}

impl Ring {
    pub(super) fn new(limit: usize) -> Ring {
        Ring {
            slots: Vec::new(),
            limit,
            count: 0,
        }
    }

    pub(super) fn slot_of(&self, count: u64) -> usize {
        (count % self.limit as u64) as usize
    }

    pub(super) fn holds(&self, count: u64) -> bool {
        count < self.count && count + self.limit as u64 >= self.count
    }

    /// The count of what lies in this slot now.
    pub(super) fn count_of(&self, slot: usize) -> u64 {
        let limit = self.limit as u64;
        let last = self.count.saturating_sub(1);
        last - (last % limit + limit - slot as u64) % limit
    }

    pub(super) fn at(&self, count: u64) -> Option<&Node> {
        let node = self.slots.get(self.slot_of(count))?;
        (self.holds(count) && !node.is_gone()).then_some(node)
    }

    pub(super) fn at_mut(&mut self, count: u64) -> Option<&mut Node> {
        let (slot, held) = (self.slot_of(count), self.holds(count));
        let node = self.slots.get_mut(slot)?;
        (held && !node.is_gone()).then_some(node)
    }

    #[inline]
    pub(super) fn push(&mut self, node: &Node) -> Option<Overwritten> {
        let count = self.count;
        self.count += 1;
        if self.slots.len() < self.limit {
            // Room for all of them at once: pages that are never reached are never taken.
            self.slots.reserve_exact(self.limit - self.slots.len());
            self.slots.push(*node);
            return None;
        }
        let slot = self.slot_of(count);
        let old = self.slots.get_mut(slot)?;
        let overwritten = (!old.is_gone()).then(|| Overwritten {
            hash: old.hash,
            count: count - self.limit as u64,
            proven: old.proven(),
            gap: old.kind == Kind::Gap,
        });
        *old = *node;
        overwritten
    }
}
