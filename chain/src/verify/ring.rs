//! The last nodes of one sort, in the order of their arrival.

use crate::{digest::Hash, kind::Kind};

use super::node::Node;

/// So many nodes ahead what will be overwritten is asked for: by then it has long left the caches.
const AHEAD: u64 = 8;

/// From so many nodes on there is room for all.
const FEW: usize = 1024;

/// The last nodes of one sort, the oldest overwritten first. The limit is the type's: dividing by a number that the
/// compiler knows costs nothing.
pub(super) struct Ring<const LIMIT: usize> {
    pub(super) slots: Vec<Node>,
    /// How many were ever put in.
    pub(super) count: u64,
}

/// What an overwritten node leaves to be done.
pub(super) struct Overwritten {
    pub(super) hash: Hash,
    pub(super) previous: Hash,
    pub(super) count: u64,
    pub(super) proven: bool,
    pub(super) gap: bool,
}

impl<const LIMIT: usize> Ring<LIMIT> {
    pub(super) fn new() -> Ring<LIMIT> {
        Ring {
            slots: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn slot_of(&self, count: u64) -> usize {
        (count % LIMIT as u64) as usize
    }

    pub(super) fn holds(&self, count: u64) -> bool {
        count < self.count && count + LIMIT as u64 >= self.count
    }

    /// The count of what lies in this slot now.
    pub(super) fn count_of(&self, slot: usize) -> u64 {
        let limit = LIMIT as u64;
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
    pub(super) fn ask_for(&self, count: u64) {
        if let Some(node) = self.slots.get(self.slot_of(count)) {
            prefetch(&node.seq);
        }
    }

    #[inline]
    pub(super) fn push(&mut self, node: &Node) -> Option<Overwritten> {
        let count = self.count;
        self.count += 1;
        if self.slots.len() < LIMIT {
            let length = self.slots.len();
            if length == self.slots.capacity() {
                // Twice as much each time for a short stream, then all that there will ever be: room that nothing was
                // written to is no memory yet, and nothing has to be moved again.
                let more = if length < FEW { length.max(64) } else { LIMIT };
                self.slots.reserve_exact(more.min(LIMIT - length));
            }
            self.slots.push(*node);
            return None;
        }
        if let Some(soon) = self.slots.get(self.slot_of(count + AHEAD)) {
            prefetch(soon);
        }
        let slot = self.slot_of(count);
        let old = self.slots.get_mut(slot)?;
        let overwritten = (!old.is_gone()).then(|| Overwritten {
            hash: old.hash,
            previous: old.previous,
            count: count - LIMIT as u64,
            proven: old.proven(),
            gap: old.kind == Kind::Gap,
        });
        *old = *node;
        overwritten
    }
}

#[inline]
fn prefetch<T>(node: &T) {
    #[cfg(target_arch = "x86_64")]
    crate::vector::prefetch(node);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = node;
}
