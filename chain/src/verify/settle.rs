//! Going forward: a walk back that met the proven place proves all that it passed. A walk that can
//! not meet it proves what it passed and shows a hole.

use crate::digest::Hash;

use super::{
    intake::{Verifier, Walk},
    report::{Missing, Rule},
    store::Place,
};

impl Verifier {
    /// Goes forward as far as signed checkpoints and the lines at hand reach.
    pub(super) fn advance(&mut self) {
        while let Some(mut walk) = self.walk.take() {
            let Some((goal, place)) = self
                .position
                .as_ref()
                .map(|position| (position.hash, position.place))
            else {
                return;
            };
            if self.apply_run(place, &walk) {
                self.look_for_signed();
                continue;
            }
            if !self.extend(&mut walk, &goal) {
                continue;
            }
            if walk.needs != goal {
                self.walk = Some(walk);
                return;
            }
            self.apply_path(&walk.path);
            self.look_for_signed();
        }
    }

    /// Proves a target that was only just found, when all that arrived since the position follows it one by one.
    fn apply_run(&mut self, position: Option<Place>, walk: &Walk) -> bool {
        let (Some(from), Some(to), []) = (position, walk.start, walk.path.as_slice()) else {
            return false;
        };
        let Some(run) = self.store.run(from, to) else {
            return false;
        };
        let (mut next, last) = run.into_inner();
        while next <= last {
            next += self.apply_plain(next..=last);
            if next <= last {
                let count = next;
                self.apply(Some(Place { count, ..to }));
                next += 1;
            }
        }
        true
    }

    /// At the end nothing else comes: what is not here is missing.
    pub(super) fn settle_all(&mut self) {
        loop {
            if let Some(walk) = self.walk.take() {
                self.settle_hole(walk);
            } else if !self.settle_anchored() {
                return;
            }
            self.advance();
        }
    }

    /// The window is full: what a walk waits for lies further away than lines may be out of place.
    pub(super) fn settle_for_room(&mut self) {
        if let Some(walk) = self.walk.take() {
            self.settle_hole(walk);
            self.advance();
        } else if self.settle_anchored() {
            self.advance();
        }
    }

    /// An anchored head proves like a signature where no signed checkpoint can be reached.
    fn settle_anchored(&mut self) -> bool {
        let Some(position) = &self.position else {
            return false;
        };
        let Some(goal) = (!self.sealed).then_some(position.hash) else {
            return false;
        };
        let seq = position.seq;
        while self.ready.first().is_some_and(|(first, _)| *first <= seq) {
            self.ready.pop_first();
        }
        let Some((_, target)) = self.ready.pop_first() else {
            return false;
        };
        let start = self.store.find(&target);
        let mut walk = Walk::from(target, start);
        if self.extend(&mut walk, &goal) && !walk.path.is_empty() {
            if walk.needs == goal {
                self.apply_path(&walk.path);
                self.look_for_signed();
            } else {
                self.settle_hole_of(walk, true);
            }
        }
        true
    }

    /// Follows the walk while its lines are here; false when it ended in a contradiction.
    fn extend(&mut self, walk: &mut Walk, goal: &Hash) -> bool {
        while walk.needs != *goal {
            let found = match walk.path.last() {
                Some(place) => self.store.find_before(&walk.needs, *place),
                None => walk
                    .start
                    .filter(|place| self.store.at(*place).is_some())
                    .or_else(|| self.store.find(&walk.needs)),
            };
            let Some((place, node)) = found.and_then(|place| Some((place, self.store.at(place)?)))
            else {
                return true;
            };
            let (seq, previous) = (node.seq, node.previous);
            if node.proven() {
                self.find(
                    Rule::Fork,
                    seq.saturating_add(1),
                    "a signed or anchored line follows a record that has another successor",
                );
                return false;
            }
            walk.path.push(place);
            walk.needs = previous;
        }
        true
    }

    fn settle_hole(&mut self, walk: Walk) {
        self.settle_hole_of(walk, false);
    }

    fn settle_hole_of(&mut self, walk: Walk, may_hide_checkpoints: bool) {
        if self.store.may_have_evicted(&walk.needs) {
            self.give_up(
                "a record that is missing may have lain out of place by more than the window",
            );
            return;
        }
        let lowest = walk
            .path
            .last()
            .and_then(|place| self.store.at(*place))
            .copied();
        let (Some(lowest), Some(position)) = (lowest, &mut self.position) else {
            return;
        };
        let from = position.seq;
        let last = lowest.seq.saturating_sub(1);
        position.tally = None;
        if may_hide_checkpoints {
            position.opened = None;
        }
        if last <= from {
            self.find(
                Rule::Sequence,
                lowest.seq,
                "a proven record repeats a number",
            );
            return;
        }
        let tree = self.tree();
        if let Some(seq) = self.contender(&tree, last, &walk.needs) {
            self.find(
                Rule::RecordAltered,
                seq,
                "the line with this number is not the sealed one",
            );
        }
        let first = tree.end.min(last.saturating_sub(1)).saturating_add(1);
        self.report.unproven += tree.up_to(last);
        self.miss(first, last);
        self.given_up.insert(&walk.needs);
        self.holed = true;
        self.totals_known = false;
        if let Some(position) = &mut self.position {
            position.seq = last;
            position.hash = walk.needs;
            position.place = None;
        }
        self.apply_path(&walk.path);
        self.look_for_signed();
    }

    pub(super) fn miss(&mut self, first: u64, last: u64) {
        if self.report.missing.len() < 64 {
            self.report.missing.push(Missing { first, last });
        }
        let count = last.saturating_sub(first).saturating_add(1);
        self.report.missing_records = self.report.missing_records.saturating_add(count);
    }

    fn apply_path(&mut self, path: &[Place]) {
        for place in path.iter().rev() {
            self.apply(Some(*place));
        }
    }
}
