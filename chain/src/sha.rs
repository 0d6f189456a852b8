//! SHA-256 of many padded messages at once: by `vector.rs` where the processor has the instructions, by the `sha2`
//! crate everywhere else. Both take the same messages and give the same hashes.

use sha2::block_api::compress256;

use crate::digest::Hash;

/// What SHA-256 takes at a time.
pub(crate) type Block = [u8; 64];

/// SHA-256's first state (FIPS 180-4, 5.3.3).
pub(crate) const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256's constants (FIPS 180-4, 4.2.2).
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(crate) const K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// Hashes padded messages. `put` gets the place of each in the list and its hash, in no particular order. `soon` is
/// what will be read next: hashing leaves the memory idle, so that it can be fetched meanwhile.
pub(crate) fn hash_each<'a>(
    messages: impl Iterator<Item = &'a [Block]>,
    soon: &[u8],
    put: impl FnMut(usize, Hash),
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = crate::vector::ShaNi::detect() {
        return instructions.each(messages, soon, put);
    }
    let _ = soon;
    hash_each_portably(messages, put);
}

/// The portable twin.
pub(crate) fn hash_each_portably<'a>(
    messages: impl Iterator<Item = &'a [Block]>,
    mut put: impl FnMut(usize, Hash),
) {
    for (place, blocks) in messages.enumerate() {
        let mut state = START;
        compress256(&mut state, blocks);
        put(place, to_hash(state));
    }
}

/// A state as bytes.
pub(crate) fn to_hash(state: [u32; 8]) -> Hash {
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(blocks: usize, name: u8) -> Vec<Block> {
        (0..blocks)
            .map(|block| {
                std::array::from_fn(|byte| (block * 61 + byte * 7) as u8 ^ name.wrapping_mul(89))
            })
            .collect()
    }

    fn hashes(messages: &[Vec<Block>], portably: bool) -> Vec<Option<Hash>> {
        let mut hashes = vec![None; messages.len()];
        let list = messages.iter().map(Vec::as_slice);
        let put = |place: usize, hash| assert_eq!(hashes[place].replace(hash), None);
        if portably {
            hash_each_portably(list, put);
        } else {
            hash_each(list, &[], put);
        }
        hashes
    }

    #[test]
    fn both_ways_agree_on_every_pairing_of_lengths() {
        #[cfg(target_arch = "x86_64")]
        if crate::vector::ShaNi::detect().is_none() {
            println!("SKIPPED (machine): this processor has no SHA instructions");
        }
        for one in 0..20 {
            for two in 0..20 {
                let pair = [message(one, 1), message(two, 2)];
                assert_eq!(hashes(&pair, false), hashes(&pair, true), "{one} {two}");
            }
        }
        let long = [message(600, 3), message(1, 4), message(513, 5)];
        assert_eq!(hashes(&long, false), hashes(&long, true));
    }

    #[test]
    fn both_ways_agree_on_lists_of_any_number() {
        for count in 0..40 {
            let list: Vec<_> = (0..count)
                .map(|n| message((n * n * 7 + count) % 9, n as u8))
                .collect();
            let hashes = hashes(&list, false);
            assert!(hashes.iter().all(Option::is_some), "{count}");
            assert_eq!(hashes, self::hashes(&list, true), "{count}");
        }
    }
}
