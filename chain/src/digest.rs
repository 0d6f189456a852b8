//! The three hashes of the chain. All integers are big-endian, all tags 16 bytes.
//!
//! ```text
//! pd_i = SHA256("powerpole/1/pay\0" ‖ salt 16 ‖ payload)
//! h_0  = SHA256("powerpole/1/gen\0" ‖ salt 16 ‖ genesis TLV)
//! h_i  = SHA256("powerpole/1/lnk\0" ‖ h_{i-1} 32 ‖ pd_i 32 ‖ seq u64 ‖ t_us u64
//!               ‖ kind u8 ‖ flags u8 = 0 ‖ session u32 ‖ len u32)          106 bytes: two blocks
//! ```

use sha2::block_api::compress256;

use crate::kind::Kind;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

const TAG_PAYLOAD: &[u8; 16] = b"powerpole/1/pay\0";
const TAG_GENESIS: &[u8; 16] = b"powerpole/1/gen\0";
const TAG_LINK: &[u8; 16] = b"powerpole/1/lnk\0";
/// Domain of a checkpoint's signature.
pub(crate) const TAG_CHECKPOINT: &[u8; 16] = b"powerpole/1/ckp\0";
/// Domain of a seal's signature.
pub(crate) const TAG_SEAL: &[u8; 16] = b"powerpole/1/sea\0";
/// Domain of a redaction's signature.
pub(crate) const TAG_REDACTION: &[u8; 16] = b"powerpole/1/red\0";

/// SHA-256's first state (FIPS 180-4, 5.3.3).
const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// Digest of one payload under its salt: independent of every other record.
pub fn payload_digest(salt: &[u8; 16], payload: &[u8]) -> Hash {
    salted(TAG_PAYLOAD, salt, payload)
}

/// The head after record 0.
pub fn genesis_hash(salt: &[u8; 16], tlv: &[u8]) -> Hash {
    salted(TAG_GENESIS, salt, tlv)
}

/// The head after a record that follows `previous`.
pub fn link_hash(
    previous: &Hash,
    digest: &Hash,
    seq: u64,
    t_us: u64,
    kind: Kind,
    session: u32,
    len: u32,
) -> Hash {
    let mut tail = [0u8; 128];
    let mut rest = tail.as_mut_slice();
    put(&mut rest, TAG_LINK);
    put(&mut rest, previous);
    put(&mut rest, digest);
    put(&mut rest, &seq.to_be_bytes());
    put(&mut rest, &t_us.to_be_bytes());
    put(&mut rest, &[kind.byte(), 0]);
    put(&mut rest, &session.to_be_bytes());
    put(&mut rest, &len.to_be_bytes());
    finish(START, tail, 106, 106)
}

/// SHA-256 of tag, salt and bytes, which are compressed where they lie.
fn salted(tag: &[u8; 16], salt: &[u8; 16], bytes: &[u8]) -> Hash {
    let mut state = START;
    let mut tail = [0u8; 128];
    let mut rest = tail.as_mut_slice();
    let total = bytes.len() + 32;
    let Some((first, bytes)) = bytes.split_first_chunk::<32>() else {
        put(&mut rest, tag);
        put(&mut rest, salt);
        put(&mut rest, bytes);
        return finish(state, tail, total, total);
    };
    let mut block = [0u8; 64];
    let mut space = block.as_mut_slice();
    put(&mut space, tag);
    put(&mut space, salt);
    put(&mut space, first);
    compress256(&mut state, &[block]);
    let (blocks, left) = bytes.as_chunks::<64>();
    compress256(&mut state, blocks);
    put(&mut rest, left);
    finish(state, tail, left.len(), total)
}

/// Pads the last `length` bytes (fewer than 120) of a message of `total` bytes.
fn finish(mut state: [u32; 8], mut tail: [u8; 128], length: usize, total: usize) -> Hash {
    let count = (length + 9).div_ceil(64);
    if let Some(end) = tail.get_mut(length) {
        *end = 0x80;
    }
    let (blocks, _) = tail.as_chunks_mut::<64>();
    if let Some(size) = blocks
        .get_mut(count - 1)
        .and_then(|block| block.last_chunk_mut::<8>())
    {
        *size = (total as u64 * 8).to_be_bytes();
    }
    compress256(&mut state, blocks.get(..count).unwrap_or_default());
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

fn put(rest: &mut &mut [u8], part: &[u8]) {
    if let Some((head, tail)) = std::mem::take(rest).split_at_mut_checked(part.len()) {
        head.copy_from_slice(part);
        *rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn every_length_agrees_with_the_plain_hash() {
        let bytes: Vec<u8> = (0..700u32).map(|n| n as u8).collect();
        for length in 0..bytes.len() {
            let plain = Sha256::new()
                .chain_update(TAG_PAYLOAD)
                .chain_update([5; 16])
                .chain_update(&bytes[..length])
                .finalize();
            assert_eq!(
                payload_digest(&[5; 16], &bytes[..length]),
                plain[..],
                "{length}"
            );
        }
        let plain = Sha256::new()
            .chain_update(TAG_LINK)
            .chain_update([1; 32])
            .chain_update([2; 32])
            .chain_update(3u64.to_be_bytes())
            .chain_update(4u64.to_be_bytes())
            .chain_update(b"o\0")
            .chain_update(5u32.to_be_bytes())
            .chain_update(6u32.to_be_bytes())
            .finalize();
        assert_eq!(
            link_hash(&[1; 32], &[2; 32], 3, 4, Kind::Output, 5, 6),
            plain[..]
        );
    }
}
