//! Payloads of checkpoints, seals, the genesis and gaps, anchors and manifests: one spelling each.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powerpole_chain::{Anchor, CheckpointBody, Gap, Kind, Redaction, SignedGenesis};

fuzz_target!(|data: &[u8]| {
    for kind in [Kind::Checkpoint, Kind::Seal] {
        if let Some((body, signature)) = CheckpointBody::decode(kind, data) {
            assert_eq!([body.encode(), signature.to_vec()].concat(), data);
            assert_eq!(body.kind(), kind);
        }
    }
    assert!(CheckpointBody::decode(Kind::Output, data).is_none());
    if let Ok(signed) = SignedGenesis::decode(data) {
        assert_eq!(signed.encode().as_deref(), Ok(data));
    }
    if let Some(gap) = Gap::decode(data) {
        assert_eq!(gap.encode(), data);
    }
    if let Ok(anchor) = Anchor::parse(data) {
        assert_eq!(anchor.to_json().as_bytes(), data);
    }
    let _ = Redaction::parse(data);
});
