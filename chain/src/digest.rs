//! The three hashes of the chain. All integers are big-endian, all tags 16 bytes.
//!
//! ```text
//! pd_i = SHA256("powerpole/1/pay\0" ‖ salt 16 ‖ payload)
//! h_0  = SHA256("powerpole/1/gen\0" ‖ salt 16 ‖ genesis TLV)
//! h_i  = SHA256("powerpole/1/lnk\0" ‖ h_{i-1} 32 ‖ pd_i 32 ‖ seq u64 ‖ t_us u64
//!               ‖ kind u8 ‖ flags u8 = 0 ‖ session u32 ‖ len u32)          106 bytes: two blocks
//! ```

use sha2::block_api::compress256;

use crate::{
    kind::Kind,
    sha::{Block, START, to_hash},
};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

const TAG_PAYLOAD: &[u8; 16] = b"powerpole/1/pay\0";
const TAG_GENESIS: &[u8; 16] = b"powerpole/1/gen\0";
pub(crate) const TAG_LINK: &[u8; 16] = b"powerpole/1/lnk\0";
/// Domain of a checkpoint's signature.
pub(crate) const TAG_CHECKPOINT: &[u8; 16] = b"powerpole/1/ckp\0";
/// Domain of a seal's signature.
pub(crate) const TAG_SEAL: &[u8; 16] = b"powerpole/1/sea\0";
/// Domain of a redaction's signature.
pub(crate) const TAG_REDACTION: &[u8; 16] = b"powerpole/1/red\0";

/// Digest of one payload under its salt: independent of every other record.
pub fn payload_digest(salt: &[u8; 16], payload: &[u8]) -> Hash {
    let mut space = [[0; 64]; FEW_BLOCKS];
    let Some(blocks) = short_payload(&mut space, salt, payload) else {
        return salted(TAG_PAYLOAD, salt, payload);
    };
    let mut state = START;
    compress256(&mut state, blocks);
    to_hash(state)
}

/// Longer payloads are hashed where they lie.
const FEW_BLOCKS: usize = 4;

/// A payload that fits, padded.
fn short_payload<'a>(
    space: &'a mut [Block; FEW_BLOCKS],
    salt: &[u8; 16],
    payload: &[u8],
) -> Option<&'a [Block]> {
    let blocks = space.get_mut(..payload_blocks(payload.len()))?;
    fill_payload_blocks(blocks, payload.len(), |to, space| {
        *to = *salt;
        space.get_mut(..payload.len())?.copy_from_slice(payload);
        Some(())
    })?;
    Some(blocks)
}

/// The head after a record with this payload; what `link` names as its digest is not looked at.
pub(crate) fn record_hash(salt: &[u8; 16], payload: &[u8], link: &Link<'_>) -> Hash {
    #[cfg(target_arch = "x86_64")]
    if let Some(instructions) = crate::vector::ShaNi::detect() {
        let mut space = [[0; 64]; FEW_BLOCKS];
        if let Some(blocks) = short_payload(&mut space, salt, payload) {
            return instructions.record(blocks, link);
        }
    }
    let digest = &payload_digest(salt, payload);
    Link { digest, ..*link }.hash()
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
    let link = Link {
        previous,
        digest,
        seq,
        t_us,
        kind,
        session,
        len,
    };
    link.hash()
}

/// What [`link_hash`] hashes.
#[derive(Clone, Copy)]
pub(crate) struct Link<'a> {
    pub(crate) previous: &'a Hash,
    pub(crate) digest: &'a Hash,
    pub(crate) seq: u64,
    pub(crate) t_us: u64,
    pub(crate) kind: Kind,
    pub(crate) session: u32,
    pub(crate) len: u32,
}

impl Link<'_> {
    pub(crate) fn hash(&self) -> Hash {
        let mut state = START;
        compress256(&mut state, &self.blocks());
        to_hash(state)
    }

    /// As bytes, padded.
    fn blocks(&self) -> [Block; 2] {
        const BITS: u64 = 106 * 8;
        let mut blocks = [[0; 64]; 2];
        let mut rest = blocks.as_flattened_mut();
        put(&mut rest, TAG_LINK);
        put(&mut rest, self.previous);
        put(&mut rest, self.digest);
        put(&mut rest, &self.seq.to_be_bytes());
        put(&mut rest, &self.t_us.to_be_bytes());
        put(&mut rest, &[self.kind.byte(), 0]);
        put(&mut rest, &self.session.to_be_bytes());
        put(&mut rest, &self.len.to_be_bytes());
        put(&mut rest, &[0x80]);
        if let Some(size) = rest.last_chunk_mut::<8>() {
            *size = BITS.to_be_bytes();
        }
        blocks
    }

    /// Two hashes at once.
    #[inline]
    pub(crate) fn hash_pair(one: &Link<'_>, two: &Link<'_>) -> [Hash; 2] {
        #[cfg(target_arch = "x86_64")]
        if let Some(instructions) = crate::vector::ShaNi::detect() {
            return instructions.link_pair(one, two);
        }
        [one.hash(), two.hash()]
    }
}

/// Blocks that tag, salt and a payload of this length take with their padding.
pub(crate) fn payload_blocks(length: usize) -> usize {
    (length + 32 + 9).div_ceil(64)
}

/// Puts what [`payload_digest`] hashes into exactly [`payload_blocks`] blocks, padded. `write` fills in salt and payload
/// and may write zeros behind it; its answer is this function's.
#[inline]
pub(crate) fn fill_payload_blocks(
    blocks: &mut [Block],
    length: usize,
    write: impl FnOnce(&mut [u8; 16], &mut [u8]) -> Option<()>,
) -> Option<()> {
    // The padding reaches into the last two blocks at most.
    for block in blocks.iter_mut().rev().take(2) {
        *block = [0; 64];
    }
    let (tag, rest) = blocks.as_flattened_mut().split_first_chunk_mut::<16>()?;
    *tag = *TAG_PAYLOAD;
    let (salt, rest) = rest.split_first_chunk_mut::<16>()?;
    write(salt, rest)?;
    let padding = rest.get_mut(length..)?;
    *padding.first_mut()? = 0x80;
    *padding.last_chunk_mut::<8>()? = ((length as u64 + 32) * 8).to_be_bytes();
    Some(())
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
    to_hash(state)
}

#[inline]
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
            let mut blocks = vec![[0xff; 64]; payload_blocks(length)];
            let filled = fill_payload_blocks(&mut blocks, length, |salt, space| {
                *salt = [5; 16];
                space[..length].copy_from_slice(&bytes[..length]);
                Some(())
            });
            assert_eq!(filled, Some(()));
            crate::sha::hash_each(std::iter::once(blocks.as_slice()), &[], |_, hash| {
                assert_eq!(hash, payload_digest(&[5; 16], &bytes[..length]), "{length}");
            });
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

    #[test]
    fn a_record_is_hashed_at_once_as_its_payload_and_its_link_are_one_by_one() {
        let bytes: Vec<u8> = (0..700u32).map(|n| (n * 3) as u8).collect();
        for length in 0..bytes.len() {
            let (salt, payload) = ([length as u8; 16], &bytes[..length]);
            let link = Link {
                previous: &[9; 32],
                digest: &payload_digest(&salt, payload),
                seq: 0x0102_0304_0506_0708,
                t_us: length as u64,
                kind: Kind::Input,
                session: 0x8765_4321,
                len: length as u32,
            };
            let unknown = Link {
                digest: &[0; 32],
                ..link
            };
            assert_eq!(record_hash(&salt, payload, &unknown), link.hash());
        }
    }

    #[test]
    fn links_hashed_in_pairs_are_the_links_hashed_alone() {
        let numbers = [0, 1, 0x0102_0304_0506_0708, i64::MAX as u64];
        for (place, seq) in numbers.into_iter().enumerate() {
            for (t_us, kind) in numbers.into_iter().zip(Kind::ALL) {
                let one = Link {
                    previous: &std::array::from_fn(|n| n as u8 ^ 0x31),
                    digest: &std::array::from_fn(|n| (n * 5) as u8),
                    seq,
                    t_us,
                    kind,
                    session: [0, 1, 0x8765_4321, u32::MAX][place],
                    len: [0, 1, 0x7654, 0x8000][place],
                };
                let two = Link {
                    previous: one.digest,
                    digest: one.previous,
                    seq: t_us,
                    t_us: seq,
                    ..one
                };
                assert_eq!(Link::hash_pair(&one, &two), [one.hash(), two.hash()]);
            }
        }
    }
}
