//! A set that forgets nothing and sometimes says yes to what it never saw: 1 MiB, made when it is needed.

use crate::digest::Hash;

const BYTES: usize = 1 << 20;

/// Heads that were let go.
#[derive(Default)]
pub(super) struct Filter {
    bits: Vec<u8>,
    /// How many were put in.
    pub(super) count: u64,
}

impl Filter {
    pub(super) fn insert(&mut self, hash: &Hash) {
        self.count += 1;
        if self.bits.is_empty() {
            self.bits = vec![0; BYTES];
        }
        for (byte, bit) in places(hash) {
            if let Some(value) = self.bits.get_mut(byte) {
                *value |= bit;
            }
        }
    }

    /// Never false for one that was put in.
    pub(super) fn may_hold(&self, hash: &Hash) -> bool {
        !self.bits.is_empty()
            && places(hash)
                .iter()
                .all(|(byte, bit)| self.bits.get(*byte).is_some_and(|value| value & bit != 0))
    }
}

fn places(hash: &Hash) -> [(usize, u8); 4] {
    let mut places = [(0, 0); 4];
    for (slot, chunk) in places.iter_mut().zip(hash.as_chunks::<4>().0) {
        let place = u32::from_be_bytes(*chunk) as usize;
        *slot = ((place >> 3) % BYTES, 1 << (place & 7));
    }
    places
}
