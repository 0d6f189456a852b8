//! The key of one epoch: signs one checkpoint or the seal, then it is gone.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroize;

/// An Ed25519 key made from 32 bytes of fresh randomness. Wiped when dropped, cannot be copied,
/// prints its public half only.
pub struct EpochKey(Box<SigningKey>);

impl EpochKey {
    /// Takes the seed and wipes the copy that it was given. The caller wipes its own.
    pub fn from_seed(mut seed: [u8; 32]) -> EpochKey {
        let key = EpochKey(Box::new(SigningKey::from_bytes(&seed)));
        seed.zeroize();
        key
    }

    /// The public half, which the genesis or the previous checkpoint announces.
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpochKey(public ")?;
        for byte in self.public().iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_seed() {
        let shown = format!("{:?}", EpochKey::from_seed([7; 32]));
        assert!(!shown.contains("0707"), "{shown}");
        assert!(shown.len() < 40);
    }
}
