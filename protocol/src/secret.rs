//! Secrets as types: they cannot be printed, cloned or serialised by accident, and are wiped when dropped.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serializer};
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

/// A secret text. Its bytes are reached by [`Secret::expose`] only.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into custody.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Every call is a place to look at in a review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Serialises a secret field on purpose: `#[serde(serialize_with = "expose")]`.
///
/// # Errors
/// The serializer's own.
pub fn expose<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// A random bearer token of 256 bits. The ledger holds only its digest.
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// Makes a token of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The token as it travels: 43 characters of URL-safe base64.
    #[must_use]
    pub fn expose(&self) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(self.0.as_slice()))
    }

    /// A second copy, wiped on its own.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Reads a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let token = <[u8; 32]>::try_from(bytes.as_slice())
            .ok()
            .map(Self::from_random);
        bytes.zeroize();
        token
    }

    /// SHA-256 of the token in lower-case hexadecimal: what may be stored.
    #[must_use]
    pub fn digest(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.0.as_slice()))
    }

    /// Whether the stored digest is this token's, in constant time.
    #[must_use]
    pub fn matches(&self, digest: &str) -> bool {
        self.digest().as_bytes().ct_eq(digest.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a token is 43 characters of URL-safe base64"))
    }
}

/// Serialises a token field on purpose: `#[serde(serialize_with = "expose_token")]`.
///
/// # Errors
/// The serializer's own.
pub fn expose_token<S: Serializer>(token: &Token, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(token.expose().expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        assert_eq!(format!("{:?}", Token::from_random([7; 32])), "Token(…)");
    }

    #[test]
    fn a_token_survives_its_spelling_and_matches_only_its_digest() {
        let token = Token::from_random([7; 32]);
        let again = Token::parse(token.expose().expose()).unwrap();
        assert!(again.matches(&token.digest()));
        assert!(!Token::from_random([8; 32]).matches(&token.digest()));
        assert!(Token::parse("short").is_none());
    }
}
