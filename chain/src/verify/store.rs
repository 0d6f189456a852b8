//! The window: one small node for each line of late, found by its hash.
//!
//! Lines that join the chain when they arrive and lines that do not are kept apart, so that a flood
//! of foreign lines cannot push out what is needed. What was pushed out unproven is remembered in a
//! filter of 1 MiB: a record found missing later is then "could not check", never a wrong verdict.
//!
//! Lines that come in their order need no table. Each follows the line before it, so that its node goes behind the
//! last one and is *unlisted*: no other unlisted node can have its head, since heads make no circle. The first line
//! that follows another one has all unlisted nodes listed before anything is looked up. Nodes are listed once, so the
//! most that a hostile order costs is what a table of every node would.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    ops::RangeInclusive,
};

use hashbrown::HashTable;

use crate::{digest::Hash, gap::Gap};

use super::{
    filter::Filter,
    node::{Control, Node},
    ring::{Overwritten, Ring},
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
    pub(super) attached: bool,
    pub(super) count: u64,
}

/// Nodes, controls and what was pushed out.
pub(super) struct Store {
    spread: Spread,
    table: HashTable<u32>,
    attached: Ring<ATTACHED>,
    detached: Ring<WINDOW>,
    /// Attached nodes from this count on are not in the table.
    unlisted: u64,
    /// The last attached node's head.
    tail: Option<Hash>,
    /// From this count on each attached node follows the one before it.
    run: u64,
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
            attached: Ring::new(),
            detached: Ring::new(),
            unlisted: 0,
            tail: None,
            run: 0,
            control_table: HashTable::new(),
            controls: VecDeque::new(),
            controls_from: 0,
            by_epoch: BTreeSet::new(),
            gaps: HashMap::new(),
            evicted: Filter::default(),
        }
    }

    /// Does a line that follows this head follow the last attached node?
    #[inline]
    pub(super) fn is_tail(&self, head: &Hash) -> bool {
        self.tail.as_ref() == Some(head)
    }

    /// Is a node with this head here? Only for one that follows the tail, which no unlisted node does.
    #[inline]
    pub(super) fn has_listed(&self, hash: &Hash) -> bool {
        !self.table.is_empty() && self.listed_index(hash).is_some()
    }

    /// Puts a node behind the tail that it follows. It stays unlisted.
    #[inline]
    pub(super) fn follow(&mut self, node: &Node) -> Place {
        let count = self.attached.count;
        let old = self.attached.push(node);
        self.tail = Some(node.hash);
        if let Some(old) = old {
            self.overwritten(&old, true);
        }
        Place {
            attached: true,
            count,
        }
    }

    /// Puts every node into the table.
    pub(super) fn list_all(&mut self) {
        if self.unlisted == self.attached.count {
            return;
        }
        let (spread, detached, attached) = (self.spread, &self.detached, &self.attached);
        let waiting = (attached.count - self.unlisted) as usize;
        self.table.reserve(waiting, |index| {
            slot_hash(detached, attached, *index, spread)
        });
        for count in self.unlisted..attached.count {
            let Some(node) = attached.at(count) else {
                continue;
            };
            let index = (attached.slot_of(count) + WINDOW) as u32;
            self.table
                .insert_unique(spread.of(&node.hash), index, |index| {
                    slot_hash(detached, attached, *index, spread)
                });
        }
        self.unlisted = self.attached.count;
    }

    fn listed_index(&self, hash: &Hash) -> Option<usize> {
        let (detached, attached) = (&self.detached, &self.attached);
        let index = self.table.find(self.spread.of(hash), |index| {
            slot(detached, attached, *index).is_some_and(|node| node.hash == *hash)
        })?;
        Some(*index as usize)
    }

    /// Where this head is. Lists all nodes.
    pub(super) fn find(&mut self, hash: &Hash) -> Option<Place> {
        self.list_all();
        let index = self.listed_index(hash)?;
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
    pub(super) fn find_before(&mut self, hash: &Hash, place: Place) -> Option<Place> {
        let guess = place
            .count
            .checked_sub(1)
            .map(|count| Place { count, ..place });
        guess
            .filter(|guess| self.at(*guess).is_some_and(|node| node.hash == *hash))
            .or_else(|| self.find(hash))
    }

    /// The counts behind `from` up to `to`, when each of these attached nodes is here and follows the one before it.
    pub(super) fn run(&self, from: Place, to: Place) -> Option<RangeInclusive<u64>> {
        let first = from.count + 1;
        let connected = from.attached
            && to.attached
            && from.count >= self.run
            && first <= to.count
            && self.attached.holds(first)
            && self.attached.holds(to.count);
        connected.then_some(first..=to.count)
    }

    pub(super) fn at(&self, place: Place) -> Option<&Node> {
        if place.attached {
            self.attached.at(place.count)
        } else {
            self.detached.at(place.count)
        }
    }

    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut Node> {
        if place.attached {
            self.attached.at_mut(place.count)
        } else {
            self.detached.at_mut(place.count)
        }
    }

    /// Asks for the numbers of an attached node that will be needed soon.
    #[inline]
    pub(super) fn ask_for(&self, count: u64) {
        self.attached.ask_for(count);
    }

    pub(super) fn node(&mut self, hash: &Hash) -> Option<&Node> {
        let place = self.find(hash)?;
        self.at(place)
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

    /// The number that [`Store::nodes`] gives a node. Only after [`Store::list_all`].
    pub(super) fn number_of(&self, hash: &Hash) -> Option<usize> {
        debug_assert_eq!(self.unlisted, self.attached.count);
        self.listed_index(hash)
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

    /// True when a line that follows this head may have been pushed out. Never false for one that was.
    pub(super) fn may_have_evicted_after(&self, head: &Hash) -> bool {
        self.evicted.may_hold_after(head)
    }

    /// Takes a node whose head was looked for in vain. It is listed, as all others are.
    pub(super) fn insert(&mut self, node: &Node, attached: bool) -> Place {
        debug_assert_eq!(self.unlisted, self.attached.count);
        let (count, index, old) = if attached {
            if self.tail != Some(node.previous) {
                self.run = self.attached.count;
            }
            self.tail = Some(node.hash);
            self.unlisted += 1;
            let count = self.attached.count;
            let index = self.attached.slot_of(count) + WINDOW;
            (count, index as u32, self.attached.push(node))
        } else {
            let count = self.detached.count;
            let index = self.detached.slot_of(count);
            (count, index as u32, self.detached.push(node))
        };
        let place = Place { attached, count };
        if let Some(old) = old {
            self.overwritten(&old, attached);
        }
        let (spread, detached, attached) = (self.spread, &self.detached, &self.attached);
        self.table
            .insert_unique(spread.of(&node.hash), index, |index| {
                slot_hash(detached, attached, *index, spread)
            });
        place
    }

    /// A node was overwritten: it leaves the table, and what nothing has proven is remembered.
    fn overwritten(&mut self, old: &Overwritten, attached: bool) {
        if attached && old.count >= self.unlisted {
            self.unlisted = old.count + 1;
        } else {
            self.unlist(&old.hash, attached, old.count);
        }
        if old.gap {
            self.gaps.remove(&old.hash);
        }
        if !old.proven {
            self.evicted.insert_line(&old.hash, &old.previous);
        }
    }

    /// Takes a place out of the table. The node there may be another one already.
    fn unlist(&mut self, hash: &Hash, attached: bool, count: u64) {
        let index = if attached {
            self.attached.slot_of(count) + WINDOW
        } else {
            self.detached.slot_of(count)
        };
        let entry = self
            .table
            .find_entry(self.spread.of(hash), |other| *other as usize == index);
        if let Ok(entry) = entry {
            entry.remove();
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
        let (hash, previous) = (old.hash, old.previous);
        let (epoch, place) = (old.epoch, old.place);
        let number = self.controls_from as u32;
        let entry = self
            .control_table
            .find_entry(self.spread.of(&hash), |index| *index == number);
        if let Ok(entry) = entry {
            entry.remove();
        }
        self.by_epoch.remove(&(epoch, self.controls_from));
        self.controls.pop_front();
        self.controls_from += 1;
        let Some(place) = place.filter(|place| self.at(*place).is_some_and(|node| !node.proven()))
        else {
            return;
        };
        self.list_all();
        self.unlist(&hash, place.attached, place.count);
        self.evicted.insert_line(&hash, &previous);
        if let Some(node) = self.at_mut(place) {
            node.set_gone();
        }
        if place.attached {
            self.run = self.run.max(place.count + 1);
            self.tail = self.tail.filter(|tail| *tail != hash);
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

fn slot<'a>(
    detached: &'a Ring<WINDOW>,
    attached: &'a Ring<ATTACHED>,
    index: u32,
) -> Option<&'a Node> {
    match (index as usize).checked_sub(WINDOW) {
        None => detached.slots.get(index as usize),
        Some(index) => attached.slots.get(index),
    }
}

fn slot_hash(
    detached: &Ring<WINDOW>,
    attached: &Ring<ATTACHED>,
    index: u32,
    spread: Spread,
) -> u64 {
    slot(detached, attached, index).map_or(0, |node| spread.of(&node.hash))
}

fn control_at(controls: &VecDeque<Control>, from: u64, index: u32) -> Option<&Control> {
    controls.get(index.wrapping_sub(from as u32) as usize)
}
