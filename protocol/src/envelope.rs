//! The envelope: a message signed with Ed25519, so that its truth does not rest on the transport.
//!
//! ```text
//! {"body":"<the message's JSON, as text>","signature":"<64 bytes, standard base64>"}
//! signature = Ed25519( "powerpole/v1" ‖ 00 ‖ DOMAIN ‖ 00 ‖ body )
//! ```
//! The signed bytes are the body's own, so no JSON is ever spelled a second time to be checked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A message that may travel in an envelope. The domain keeps one kind from being taken for another.
pub trait Message: Serialize + DeserializeOwned {
    /// Name of the kind; unique among all messages.
    const DOMAIN: &'static str;
}

/// A signed message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The message's JSON.
    pub body: String,
    /// Signature in standard base64.
    pub signature: String,
}

/// An envelope that is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// The signature is not 64 bytes of base64, or does not fit key, domain and body.
    #[error("the signature does not fit")]
    Signature,
    /// Signed by the right key, but not a message of this kind.
    #[error("the signed message cannot be read")]
    Body(#[source] serde_json::Error),
    /// A key is not 32 bytes of base64, or not a point of the curve.
    #[error("the key is not an Ed25519 public key")]
    Key,
}

impl Envelope {
    /// Signs a message.
    ///
    /// # Errors
    /// When the message does not serialise.
    pub fn sign<M: Message>(message: &M, key: &SigningKey) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_string(message)?;
        let signature = key.sign(&signed_bytes(M::DOMAIN, &body));
        Ok(Self {
            body,
            signature: STANDARD.encode(signature.to_bytes()),
        })
    }

    /// Checks the signature and reads the message.
    ///
    /// # Errors
    /// When the signature does not fit or the body is not a message of this kind.
    pub fn open<M: Message>(&self, key: &VerifyingKey) -> Result<M, EnvelopeError> {
        let bytes = STANDARD
            .decode(&self.signature)
            .map_err(|_| EnvelopeError::Signature)?;
        let signature = Signature::from_slice(&bytes).map_err(|_| EnvelopeError::Signature)?;
        key.verify_strict(&signed_bytes(M::DOMAIN, &self.body), &signature)
            .map_err(|_| EnvelopeError::Signature)?;
        serde_json::from_str(&self.body).map_err(EnvelopeError::Body)
    }

    /// SHA-256 of the body in lower-case hexadecimal; an answer names what it answers by it.
    #[must_use]
    pub fn digest(&self) -> String {
        body_digest(&self.body)
    }
}

/// SHA-256 of a body in lower-case hexadecimal.
#[must_use]
pub fn body_digest(body: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(body.as_bytes()))
}

/// A public key's spelling: 32 bytes in standard base64.
#[must_use]
pub fn key_text(key: &VerifyingKey) -> String {
    STANDARD.encode(key.as_bytes())
}

/// Reads a public key.
///
/// # Errors
/// When it is not 32 bytes of base64 that name a point of the curve.
pub fn parse_key(text: &str) -> Result<VerifyingKey, EnvelopeError> {
    let bytes = STANDARD.decode(text).map_err(|_| EnvelopeError::Key)?;
    let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| EnvelopeError::Key)?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| EnvelopeError::Key)
}

fn signed_bytes(domain: &str, body: &str) -> Vec<u8> {
    [b"powerpole/v1\0", domain.as_bytes(), b"\0", body.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Note {
        text: String,
    }
    impl Message for Note {
        const DOMAIN: &'static str = "note";
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        text: String,
    }
    impl Message for Order {
        const DOMAIN: &'static str = "order";
    }

    fn signed() -> (Envelope, SigningKey) {
        let key = SigningKey::from_bytes(&[3; 32]);
        (
            Envelope::sign(
                &Note {
                    text: "hello".to_owned(),
                },
                &key,
            )
            .unwrap(),
            key,
        )
    }

    #[test]
    fn a_signed_message_opens_with_its_key() {
        let (envelope, key) = signed();
        let note: Note = envelope.open(&key.verifying_key()).unwrap();
        assert_eq!(note.text, "hello");
    }

    #[test]
    fn another_kind_another_key_and_another_body_are_refused() {
        let (envelope, key) = signed();
        assert!(envelope.open::<Order>(&key.verifying_key()).is_err());
        assert!(
            envelope
                .open::<Note>(&SigningKey::from_bytes(&[4; 32]).verifying_key())
                .is_err()
        );
        let changed = Envelope {
            body: envelope.body.replace("hello", "hullo"),
            ..envelope
        };
        assert!(changed.open::<Note>(&key.verifying_key()).is_err());
    }
}
