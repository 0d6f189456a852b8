//! What follows from the proven place, one by one, proven by nothing yet.

use crate::{digest::Hash, kind::Kind};

use super::{intake::Verifier, node::Node};

/// A root that is not in the store has this number.
const ROOT: u32 = u32::MAX;
/// Lines of one number from which another one's altered twin is looked for.
const TIPS: usize = 16;

/// Lines that follow from a proven place.
pub(super) struct Tree {
    /// Store number and record number of each line, sorted.
    members: Vec<(u32, u64)>,
    /// The highest record number in it, or the root's.
    pub(super) end: u64,
    /// Number that a line should have that follows a member under another number.
    relabelled: Option<u64>,
}

impl Tree {
    pub(super) fn len(&self) -> u64 {
        self.members.len() as u64
    }

    pub(super) fn up_to(&self, last: u64) -> u64 {
        self.members.iter().filter(|(_, seq)| *seq <= last).count() as u64
    }

    pub(super) fn holds_number(&self, number: usize) -> bool {
        u32::try_from(number).is_ok_and(|number| {
            self.members
                .binary_search_by_key(&number, |(member, _)| *member)
                .is_ok()
        })
    }
}

impl Verifier {
    pub(super) fn holds(&self, tree: &Tree, head: &Hash) -> bool {
        self.store
            .number_of(head)
            .is_some_and(|number| tree.holds_number(number))
    }

    /// What follows from the position.
    pub(super) fn tree(&mut self) -> Tree {
        self.store.list_all();
        let mut tree = Tree {
            members: Vec::new(),
            end: 0,
            relabelled: None,
        };
        let Some(position) = &self.position else {
            return tree;
        };
        tree.end = position.seq;
        let mut seqs = vec![0; self.store.capacity()];
        let mut links = Vec::new();
        for (number, node) in self.store.nodes() {
            if node.proven() || node.kind == Kind::Genesis {
                continue;
            }
            let parent = if node.previous == position.hash {
                Some(ROOT)
            } else {
                let parent = self.store.number_of(&node.previous);
                parent.and_then(|parent| u32::try_from(parent).ok())
            };
            if let (Some(parent), Ok(child)) = (parent, u32::try_from(number)) {
                links.push((parent, child));
                if let Some(seq) = seqs.get_mut(number) {
                    *seq = node.seq;
                }
            }
        }
        links.sort_unstable();
        let mut open = vec![(ROOT, position.seq)];
        while let Some((parent, seq)) = open.pop() {
            let next = seq.saturating_add(1);
            let from = links.partition_point(|(other, _)| *other < parent);
            let children = links.get(from..).unwrap_or_default();
            for (_, child) in children.iter().take_while(|(other, _)| *other == parent) {
                if seqs.get(*child as usize) == Some(&next) {
                    tree.members.push((*child, next));
                    tree.end = tree.end.max(next);
                    open.push((*child, next));
                } else {
                    let lowest = tree.relabelled.map_or(next, |old| old.min(next));
                    tree.relabelled = Some(lowest);
                }
            }
        }
        tree.members.sort_unstable();
        tree
    }

    /// Does another line stand where record `seq` with this head should be?
    pub(super) fn contender(&self, tree: &Tree, seq: u64, head: &Hash) -> Option<u64> {
        if tree.members.iter().any(|(_, number)| *number == seq) {
            return Some(seq);
        }
        if tree.relabelled.is_some() {
            return tree.relabelled;
        }
        let position = self.position.as_ref()?;
        let before = seq.checked_sub(1)?;
        let mut tips: Vec<Hash> = Vec::new();
        if position.seq == before {
            tips.push(position.hash);
        }
        for (number, node) in self.store.nodes() {
            if tips.len() >= TIPS {
                break;
            }
            if node.seq == before && tree.holds_number(number) {
                tips.push(node.hash);
            }
        }
        let same = |node: &Node| tips.iter().any(|tip| node.linked(tip, seq) == *head);
        self.store
            .nodes()
            .any(|(_, node)| !node.proven() && node.seq == seq && same(node))
            .then_some(seq)
    }
}
