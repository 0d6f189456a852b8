//! The window: one small node for each line of late, found by its hash.
//!
//! Lines that join the chain when they arrive and lines that do not are kept apart, so that a flood
//! of foreign lines cannot push out what is needed. What was pushed out unproven is remembered in a
//! filter of 1 MiB: a record found missing later is then "could not check", never a wrong verdict.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
};

use hashbrown::HashTable;

use crate::{digest::Hash, gap::Gap};

use super::{
    filter::Filter,
    reduce::{Control, Node},
};

/// Lines may be out of place by this many lines.
pub const WINDOW: usize = 65_536;
const ATTACHED: usize = 40_960;
const CONTROLS: usize = 4_096;
const GAPS: usize = 4096;

/// Spreads heads over a table. Whoever chooses heads does not know the two numbers, so they cannot
/// make a table slow.
#[derive(Clone, Copy)]
struct Spread(u64, u64);

impl Spread {
    fn new() -> Spread {
        let state = RandomState::new();
        Spread(state.hash_one(1), state.hash_one(2))
    }

    fn of(self, hash: &Hash) -> u64 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *hash;
        let one = u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ self.0;
        let two = u64::from_le_bytes([i, j, k, l, m, n, o, p]) ^ self.1;
        let product = u128::from(one) * u128::from(two);
        (product >> 64) as u64 ^ product as u64
    }
}

/// The place of a node for as long as it is there: which ring, and how many were put into it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    attached: bool,
    count: u64,
}

/// The last `limit` nodes of one sort, the oldest overwritten first.
struct Ring {
    slots: Vec<Node>,
    limit: usize,
    count: u64,
}

impl Ring {
    fn new(limit: usize) -> Ring {
        Ring {
            slots: Vec::new(),
            limit,
            count: 0,
        }
    }

    fn slot_of(&self, count: u64) -> usize {
        (count % self.limit as u64) as usize
    }

    fn holds(&self, count: u64) -> bool {
        count < self.count && count + self.limit as u64 >= self.count
    }

    /// The count of what lies in this slot now.
    fn count_of(&self, slot: usize) -> u64 {
        let limit = self.limit as u64;
        let last = self.count.saturating_sub(1);
        last - (last % limit + limit - slot as u64) % limit
    }
}

/// Nodes, controls and what was pushed out.
pub(super) struct Store {
    spread: Spread,
    table: HashTable<u32>,
    attached: Ring,
    detached: Ring,
    control_table: HashTable<u32>,
    controls: VecDeque<Control>,
    /// Arrival number of the first control that is still here.
    controls_from: u64,
    by_epoch: BTreeSet<(u32, u64)>,
    gaps: HashMap<Hash, Gap>,
    evicted: Filter,
}

impl Store {
    pub(super) fn new() -> Store {
        Store {
            spread: Spread::new(),
            table: HashTable::new(),
            attached: Ring::new(ATTACHED),
            detached: Ring::new(WINDOW),
            control_table: HashTable::new(),
            controls: VecDeque::new(),
            controls_from: 0,
            by_epoch: BTreeSet::new(),
            gaps: HashMap::new(),
            evicted: Filter::default(),
        }
    }

    fn slot(&self, index: u32) -> Option<&Node> {
        slot(&self.detached, &self.attached, index)
    }

    pub(super) fn find(&self, hash: &Hash) -> Option<Place> {
        let index = *self.table.find(self.spread.of(hash), |index| {
            self.slot(*index).is_some_and(|node| node.hash == *hash)
        })? as usize;
        Some(match index.checked_sub(WINDOW) {
            None => Place {
                attached: false,
                count: self.detached.count_of(index),
            },
            Some(index) => Place {
                attached: true,
                count: self.attached.count_of(index),
            },
        })
    }

    /// Where a head is that most often lies just before this place.
    pub(super) fn find_before(&self, hash: &Hash, place: Place) -> Option<Place> {
        let guess = place
            .count
            .checked_sub(1)
            .map(|count| Place { count, ..place });
        guess
            .filter(|guess| self.at(*guess).is_some_and(|node| node.hash == *hash))
            .or_else(|| self.find(hash))
    }

    pub(super) fn at(&self, place: Place) -> Option<&Node> {
        let ring = if place.attached {
            &self.attached
        } else {
            &self.detached
        };
        ring.slots
            .get(ring.slot_of(place.count))
            .filter(|node| ring.holds(place.count) && !node.is_gone())
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Node> {
        let ring = if place.attached {
            &mut self.attached
        } else {
            &mut self.detached
        };
        let slot = ring.slot_of(place.count);
        let held = ring.holds(place.count);
        ring.slots
            .get_mut(slot)
            .filter(|node| held && !node.is_gone())
    }

    pub(super) fn node(&self, hash: &Hash) -> Option<&Node> {
        self.at(self.find(hash)?)
    }

    /// True when lines that follow this place join the chain.
    pub(super) fn joins(&self, place: Place) -> bool {
        place.attached || self.at(place).is_some_and(Node::proven)
    }

    /// Every node that is here, with a number below [`Store::capacity`].
    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        let attached = self.attached.slots.iter().enumerate();
        self.detached
            .slots
            .iter()
            .enumerate()
            .chain(attached.map(|(index, node)| (index + WINDOW, node)))
            .filter(|(_, node)| !node.is_gone())
    }

    /// The number that [`Store::nodes`] gives a node.
    pub(super) fn number_of(&self, hash: &Hash) -> Option<usize> {
        let place = self.find(hash)?;
        Some(if place.attached {
            self.attached.slot_of(place.count) + WINDOW
        } else {
            self.detached.slot_of(place.count)
        })
    }

    pub(super) fn capacity(&self) -> usize {
        WINDOW + self.attached.slots.len()
    }

    /// True when the next detached node would push another one out.
    pub(super) fn is_full(&self) -> bool {
        self.detached.slots.len() >= WINDOW
    }

    /// How many unproven nodes were pushed out.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted.count
    }

    /// True when this hash may have been pushed out. Never false for one that was.
    pub(super) fn may_have_evicted(&self, hash: &Hash) -> bool {
        self.evicted.may_hold(hash)
    }

    pub(super) fn insert(&mut self, node: Node, attached: bool) -> Place {
        let ring = if attached {
            &mut self.attached
        } else {
            &mut self.detached
        };
        let place = Place {
            attached,
            count: ring.count,
        };
        let slot = ring.slot_of(ring.count);
        ring.count += 1;
        let old = match ring.slots.get_mut(slot) {
            None => {
                ring.slots.push(node);
                None
            }
            Some(place) => Some(*place),
        };
        if let Some(old) = old.filter(|old| !old.is_gone()) {
            self.forget(&old);
        }
        let (ring, base) = if attached {
            (&mut self.attached, WINDOW)
        } else {
            (&mut self.detached, 0)
        };
        if let Some(place) = ring.slots.get_mut(slot) {
            *place = node;
        }
        let (spread, detached, attached) = (self.spread, &self.detached, &self.attached);
        self.table
            .insert_unique(spread.of(&node.hash), (slot + base) as u32, |index| {
                slot_hash(detached, attached, *index, spread)
            });
        place
    }

    /// Takes a node out of the table; its slot is free.
    fn forget(&mut self, node: &Node) {
        let (detached, attached) = (&self.detached, &self.attached);
        let entry = self.table.find_entry(self.spread.of(&node.hash), |index| {
            slot(detached, attached, *index).is_some_and(|other| other.hash == node.hash)
        });
        if let Ok(entry) = entry {
            entry.remove();
        }
        self.gaps.remove(&node.hash);
        if !node.proven() {
            self.evicted.insert(&node.hash);
        }
    }

    pub(super) fn control(&self, hash: &Hash) -> Option<&Control> {
        let index = *self.control_table.find(self.spread.of(hash), |index| {
            self.control_at(*index).is_some_and(|c| c.hash == *hash)
        })?;
        self.control_at(index)
    }

    /// Controls are found by the low half of their arrival numbers; fewer than that are ever here.
    fn control_at(&self, index: u32) -> Option<&Control> {
        control_at(&self.controls, self.controls_from, index)
    }

    /// Ends of this epoch, in the order of their arrival.
    pub(super) fn controls_of(&self, epoch: u32) -> Vec<Hash> {
        self.by_epoch
            .range((epoch, 0)..=(epoch, u64::MAX))
            .filter_map(|(_, arrival)| self.control_at(*arrival as u32))
            .map(|control| control.hash)
            .collect()
    }

    pub(super) fn insert_control(&mut self, control: Control) {
        if self.controls.len() >= CONTROLS {
            self.drop_oldest_control();
        }
        let arrival = self.controls_from + self.controls.len() as u64;
        self.by_epoch.insert((control.epoch, arrival));
        let hash = control.hash;
        self.controls.push_back(control);
        let (spread, controls, from) = (self.spread, &self.controls, self.controls_from);
        self.control_table
            .insert_unique(spread.of(&hash), arrival as u32, |index| {
                control_at(controls, from, *index).map_or(0, |control| spread.of(&control.hash))
            });
    }

    /// A checkpoint line whose contents are dropped can no longer be used: its node goes too.
    fn drop_oldest_control(&mut self) {
        let Some(old) = self.controls.front() else {
            return;
        };
        let (hash, epoch) = (old.hash, old.epoch);
        let (controls, from) = (&self.controls, self.controls_from);
        let entry = self
            .control_table
            .find_entry(self.spread.of(&hash), |index| {
                control_at(controls, from, *index).is_some_and(|control| control.hash == hash)
            });
        if let Ok(entry) = entry {
            entry.remove();
        }
        self.by_epoch.remove(&(epoch, self.controls_from));
        self.controls.pop_front();
        self.controls_from += 1;
        let Some(place) = self.find(&hash) else {
            return;
        };
        let node = self.at(place).copied();
        if let Some(node) = node.filter(|node| !node.proven()) {
            self.forget(&node);
            if let Some(node) = self.at_mut(place) {
                node.set_gone();
            }
        }
    }

    pub(super) fn gap(&self, hash: &Hash) -> Option<Gap> {
        self.gaps.get(hash).copied()
    }

    pub(super) fn insert_gap(&mut self, hash: Hash, gap: Gap) {
        if self.gaps.len() < GAPS {
            self.gaps.insert(hash, gap);
        }
    }
}

fn slot<'a>(detached: &'a Ring, attached: &'a Ring, index: u32) -> Option<&'a Node> {
    match (index as usize).checked_sub(WINDOW) {
        None => detached.slots.get(index as usize),
        Some(index) => attached.slots.get(index),
    }
}

fn slot_hash(detached: &Ring, attached: &Ring, index: u32, spread: Spread) -> u64 {
    slot(detached, attached, index).map_or(0, |node| spread.of(&node.hash))
}

fn control_at(controls: &VecDeque<Control>, from: u64, index: u32) -> Option<&Control> {
    controls.get(index.wrapping_sub(from as u32) as usize)
}
