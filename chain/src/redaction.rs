//! The manifest that makes a withheld payload an authorised one.
//!
//! ```text
//! {"v":1,"k":"redaction","d":"<base64 of body>","y":"<public key>","g":"<signature>"}
//! body = TLV: genesis hash 32, redactor, reason, at (RFC 3339), records (ascending seq u64 …)
//! signature = Ed25519 over "powerpole/1/red\0" ‖ body
//! ```
//! Whether a redactor's key is trusted is the auditor's decision: the verifier gets the keys.

use ::base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::{
    cursor::Cursor,
    digest::{Hash, TAG_REDACTION},
    key::EpochKey,
    tlv,
};

/// Who withheld which payloads of which chain, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// The chain: its h_0.
    pub genesis: Hash,
    /// Who.
    pub redactor: String,
    /// Why.
    pub reason: String,
    /// When, RFC 3339.
    pub at: String,
    /// Record numbers, ascending, at most 8,000.
    pub records: Vec<u64>,
    /// Public key of the redactor.
    pub key: [u8; 32],
}

/// Why a manifest was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedactionError {
    /// Not the one spelling.
    #[error("redaction manifest is not in the one spelling of version 1")]
    Spelling,
    /// The signature is not the key's.
    #[error("redaction manifest is not signed by the key that it names")]
    Signature,
}

impl RedactionError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            RedactionError::Spelling => "redaction-spelling",
            RedactionError::Signature => "redaction-signature",
        }
    }
}

impl Redaction {
    /// Signs a manifest; `self.key` is replaced by the key's public half. `None` when a field is
    /// too long or the records do not ascend.
    pub fn sign(&self, key: &EpochKey) -> Option<String> {
        let body = self.body()?;
        let signature = key.sign(&message(&body));
        Some(format!(
            "{{\"v\":1,\"k\":\"redaction\",\"d\":\"{}\",\"y\":\"{}\",\"g\":\"{}\"}}",
            STANDARD.encode(&body),
            STANDARD.encode(key.public()),
            STANDARD.encode(signature)
        ))
    }

    /// Reads a manifest and checks its signature against the key that it names.
    pub fn parse(text: &[u8]) -> Result<Redaction, RedactionError> {
        let (redaction, body, signature) = read(text).ok_or(RedactionError::Spelling)?;
        VerifyingKey::from_bytes(&redaction.key)
            .and_then(|key| key.verify_strict(&message(&body), &Signature::from_bytes(&signature)))
            .map_err(|_| RedactionError::Signature)?;
        Ok(redaction)
    }

    fn body(&self) -> Option<Vec<u8>> {
        let ascending = self
            .records
            .iter()
            .zip(self.records.iter().skip(1))
            .all(|(a, b)| a < b);
        if !ascending || self.records.len() > 8000 {
            return None;
        }
        let records: Vec<u8> = self
            .records
            .iter()
            .flat_map(|seq| seq.to_be_bytes())
            .collect();
        let mut writer = tlv::Writer::new();
        writer.field(&self.genesis);
        writer.field(self.redactor.as_bytes());
        writer.field(self.reason.as_bytes());
        writer.field(self.at.as_bytes());
        writer.field(&records);
        writer.finish()
    }
}

fn message(body: &[u8]) -> Vec<u8> {
    [TAG_REDACTION.as_slice(), body].concat()
}

fn read(text: &[u8]) -> Option<(Redaction, Vec<u8>, [u8; 64])> {
    let mut c = Cursor(text);
    c.literal(b"{\"v\":1,\"k\":\"redaction\",\"d\":\"")?;
    let body = STANDARD.decode(c.until_quote(360_000)?).ok()?;
    c.literal(b"\",\"y\":\"")?;
    let key = STANDARD.decode(c.until_quote(44)?).ok()?.try_into().ok()?;
    c.literal(b"\",\"g\":\"")?;
    let signature = STANDARD.decode(c.until_quote(88)?).ok()?.try_into().ok()?;
    c.literal(b"\"}")?;
    c.is_empty().then_some(())?;
    let mut r = tlv::Reader::new(&body);
    let genesis = r.array()?;
    let redactor = r.text()?;
    let reason = r.text()?;
    let at = r.text()?;
    let mut list = Cursor(r.field()?);
    r.end()?;
    let mut records = Vec::new();
    while !list.is_empty() {
        records.push(list.u64()?);
    }
    let redaction = Redaction {
        genesis,
        redactor,
        reason,
        at,
        records,
        key,
    };
    (redaction.body()? == body).then_some(())?;
    Some((redaction, body, signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_holds_only_with_its_own_signature() {
        let redaction = Redaction {
            genesis: [1; 32],
            redactor: "carol@example.com".to_owned(),
            reason: "a password was pasted".to_owned(),
            at: "2026-01-02T03:04:05Z".to_owned(),
            records: vec![4, 9],
            key: EpochKey::from_seed([5; 32]).public(),
        };
        let text = redaction.sign(&EpochKey::from_seed([5; 32])).unwrap();
        assert_eq!(Redaction::parse(text.as_bytes()), Ok(redaction.clone()));
        let other = Redaction {
            records: vec![4, 10],
            ..redaction
        }
        .sign(&EpochKey::from_seed([5; 32]))
        .unwrap();
        let splice = format!(
            "{}{}",
            other.split("\"g\"").next().unwrap(),
            text.split_once("\"g\"")
                .map(|(_, g)| format!("\"g\"{g}"))
                .unwrap()
        );
        assert_eq!(
            Redaction::parse(splice.as_bytes()),
            Err(RedactionError::Signature)
        );
    }
}
