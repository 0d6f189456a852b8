//! Sets that forget nothing and sometimes say yes to what they never saw: 1 MiB, made when it is needed.

use crate::digest::Hash;

const BYTES: usize = 1 << 20;

/// Heads that were let go, and heads that something let go follows.
#[derive(Default)]
pub(super) struct Filter {
    bits: Vec<u8>,
    /// How many lines were put in.
    pub(super) count: u64,
}

impl Filter {
    pub(super) fn insert(&mut self, hash: &Hash) {
        self.count += 1;
        self.set(hash);
    }

    /// A line that follows `previous`.
    pub(super) fn insert_line(&mut self, hash: &Hash, previous: &Hash) {
        self.insert(hash);
        self.set(&turned(previous));
    }

    fn set(&mut self, hash: &Hash) {
        if self.bits.is_empty() {
            self.bits = vec![0; BYTES];
        }
        for (byte, bit) in places(hash) {
            if let Some(value) = self.bits.get_mut(byte) {
                *value |= bit;
            }
        }
    }

    /// Never false for the head that a line follows which was put in.
    pub(super) fn may_hold_after(&self, previous: &Hash) -> bool {
        self.may_hold(&turned(previous))
    }

    /// Never false for one that was put in.
    pub(super) fn may_hold(&self, hash: &Hash) -> bool {
        !self.bits.is_empty()
            && places(hash)
                .iter()
                .all(|(byte, bit)| self.bits.get(*byte).is_some_and(|value| value & bit != 0))
    }
}

/// Other places for the same hash: two sets share the bits.
fn turned(hash: &Hash) -> Hash {
    hash.map(|byte| byte ^ 0x5a)
}

/// Eight bits of eight million: after 200,000 lines in both sets one answer in 10,000 is a wrong yes.
fn places(hash: &Hash) -> [(usize, u8); 8] {
    let mut places = [(0, 0); 8];
    for (slot, chunk) in places.iter_mut().zip(hash.as_chunks::<4>().0) {
        let place = u32::from_be_bytes(*chunk) as usize;
        *slot = ((place >> 3) % BYTES, 1 << (place & 7));
    }
    places
}
