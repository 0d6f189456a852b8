//! A secret sealed to control's public key: HPKE (RFC 9180), base mode, X25519, HKDF-SHA256, ChaCha20-Poly1305.
//!
//! ```text
//! base64( enc (32 bytes) ‖ ciphertext ‖ tag (16 bytes) ),  info = "powerpole/v1/password",  aad = <request>/<attempt>
//! ```

use crate::id::{Attempt, RequestId};
use crate::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem as KemTrait, X25519HkdfSha256};
use hpke::{Deserializable as _, OpModeR, OpModeS, Serializable as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

const INFO: &[u8] = b"powerpole/v1/password";
const ENCAPPED_LEN: usize = 32;

/// A sealed secret: whoever lacks control's private key sees only its length.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SealedSecret(String);

/// Control's private key for sealed secrets.
pub struct OpeningKey(<X25519HkdfSha256 as KemTrait>::PrivateKey);

/// Sealing or opening failed.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// A key is not 32 bytes of base64.
    #[error("the key is not 32 bytes of base64")]
    Key,
    /// The ciphertext does not open with this key for this request.
    #[error("the sealed secret does not open")]
    Open,
    /// The system gave no randomness.
    #[error("the secret could not be sealed")]
    Seal,
}

impl OpeningKey {
    /// Reads a private key of 32 bytes.
    ///
    /// # Errors
    /// When the bytes are not a private key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SealedError> {
        <X25519HkdfSha256 as KemTrait>::PrivateKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| SealedError::Key)
    }

    /// The public key in standard base64, as the boot document carries it.
    #[must_use]
    pub fn public_text(&self) -> String {
        STANDARD.encode(X25519HkdfSha256::sk_to_pk(&self.0).to_bytes())
    }
}

impl SealedSecret {
    /// Seals a secret for control.
    ///
    /// # Errors
    /// When the key is not one, or the system gives no randomness.
    pub fn seal(
        secret: &Secret,
        control: &str,
        request: &RequestId,
        attempt: Attempt,
    ) -> Result<Self, SealedError> {
        let key = STANDARD.decode(control).map_err(|_| SealedError::Key)?;
        let key = <X25519HkdfSha256 as KemTrait>::PublicKey::from_bytes(&key)
            .map_err(|_| SealedError::Key)?;
        let (encapped, ciphertext) =
            hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &key,
                INFO,
                secret.expose().as_bytes(),
                &aad(request, attempt),
            )
            .map_err(|_| SealedError::Seal)?;
        Ok(Self(STANDARD.encode(
            [encapped.to_bytes().as_slice(), &ciphertext].concat(),
        )))
    }

    /// Opens a secret with control's private key.
    ///
    /// # Errors
    /// When it was sealed to another key, for another request or attempt, or was changed.
    pub fn open(
        &self,
        key: &OpeningKey,
        request: &RequestId,
        attempt: Attempt,
    ) -> Result<Secret, SealedError> {
        let bytes = STANDARD.decode(&self.0).map_err(|_| SealedError::Open)?;
        let (encapped, ciphertext) = bytes
            .split_at_checked(ENCAPPED_LEN)
            .ok_or(SealedError::Open)?;
        let encapped = <X25519HkdfSha256 as KemTrait>::EncappedKey::from_bytes(encapped)
            .map_err(|_| SealedError::Open)?;
        let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key.0,
            &encapped,
            INFO,
            ciphertext,
            &aad(request, attempt),
        )
        .map_err(|_| SealedError::Open)?;
        String::from_utf8(plain).map(Secret::new).map_err(|error| {
            error.into_bytes().zeroize();
            SealedError::Open
        })
    }
}

fn aad(request: &RequestId, attempt: Attempt) -> Vec<u8> {
    format!("{request}/{attempt}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_controls_key_and_the_same_request_open_it() {
        let key = OpeningKey::from_bytes(&[9; 32]).unwrap();
        let request = RequestId::from_parts(1, [1; 10]);
        let password = Secret::new("one-time".to_owned());
        let sealed =
            SealedSecret::seal(&password, &key.public_text(), &request, Attempt(1)).unwrap();
        assert_eq!(
            sealed.open(&key, &request, Attempt(1)).unwrap().expose(),
            "one-time"
        );
        assert!(sealed.open(&key, &request, Attempt(2)).is_err());
        assert!(
            sealed
                .open(
                    &OpeningKey::from_bytes(&[8; 32]).unwrap(),
                    &request,
                    Attempt(1)
                )
                .is_err()
        );
        assert!(
            SealedSecret("AAAA".to_owned())
                .open(&key, &request, Attempt(1))
                .is_err()
        );
    }
}
