//! The three hashes of the chain. All integers are big-endian, all tags 16 bytes.
//!
//! ```text
//! pd_i = SHA256("powerpole/1/pay\0" ‖ salt 16 ‖ payload)
//! h_0  = SHA256("powerpole/1/gen\0" ‖ salt 16 ‖ genesis TLV)
//! h_i  = SHA256("powerpole/1/lnk\0" ‖ h_{i-1} 32 ‖ pd_i 32 ‖ seq u64 ‖ t_us u64
//!               ‖ kind u8 ‖ flags u8 = 0 ‖ session u32 ‖ len u32)          106 bytes: two blocks
//! ```

use sha2::{Digest, Sha256};

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

/// Digest of one payload under its salt: independent of every other record.
pub fn payload_digest(salt: &[u8; 16], payload: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(TAG_PAYLOAD);
    sha.update(salt);
    sha.update(payload);
    sha.finalize().into()
}

/// The head after record 0.
pub fn genesis_hash(salt: &[u8; 16], tlv: &[u8]) -> Hash {
    let mut sha = Sha256::new();
    sha.update(TAG_GENESIS);
    sha.update(salt);
    sha.update(tlv);
    sha.finalize().into()
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
    let mut bytes = [0u8; 106];
    let mut rest = bytes.as_mut_slice();
    put(&mut rest, TAG_LINK);
    put(&mut rest, previous);
    put(&mut rest, digest);
    put(&mut rest, &seq.to_be_bytes());
    put(&mut rest, &t_us.to_be_bytes());
    put(&mut rest, &[kind.byte(), 0]);
    put(&mut rest, &session.to_be_bytes());
    put(&mut rest, &len.to_be_bytes());
    Sha256::digest(bytes).into()
}

fn put(rest: &mut &mut [u8], part: &[u8]) {
    if let Some((head, tail)) = std::mem::take(rest).split_at_mut_checked(part.len()) {
        head.copy_from_slice(part);
        *rest = tail;
    }
}
