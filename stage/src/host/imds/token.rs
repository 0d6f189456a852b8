//! Session tokens: a MAC over the caller's address and the end of the token's life, so nothing has to be remembered.
//!
//! The key lives in the stage's folder, and tokens outlive a restart of the instance host as they outlive anything in EC2.

use super::HostError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::net::Ipv4Addr;
use std::path::Path;

const END_BYTES: usize = 8;

/// What makes and checks tokens.
pub(crate) struct TokenKey(Vec<u8>);

impl TokenKey {
    pub(crate) fn load_or_make(path: &Path) -> Result<Self, HostError> {
        Ok(Self(super::load_or_make_key(path)?))
    }

    /// A token for one address until `end` (seconds since the epoch).
    pub(crate) fn issue(&self, caller: Ipv4Addr, end: u64) -> String {
        let mut bytes = end.to_be_bytes().to_vec();
        if let Some(mac) = self.mac(caller, &bytes) {
            bytes.extend_from_slice(&mac.finalize().into_bytes());
        }
        BASE64.encode(bytes)
    }

    /// The seconds that a token still has, none if it is not this caller's or over.
    pub(crate) fn check(&self, token: &str, caller: Ipv4Addr, now: u64) -> Option<u64> {
        let bytes = BASE64.decode(token).ok()?;
        let (end, tag) = bytes.split_at_checked(END_BYTES)?;
        self.mac(caller, end)?.verify_slice(tag).ok()?;
        let end = u64::from_be_bytes(end.try_into().ok()?);
        end.checked_sub(now).filter(|left| *left > 0)
    }

    fn mac(&self, caller: Ipv4Addr, end: &[u8]) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(&caller.octets());
        mac.update(end);
        Some(mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 64, 4);
    const THERE: Ipv4Addr = Ipv4Addr::new(10, 77, 64, 5);

    #[test]
    fn a_token_is_good_for_its_own_caller_until_its_end() {
        let key = TokenKey(vec![7; 32]);
        let token = key.issue(HERE, 1060);
        assert_eq!(key.check(&token, HERE, 1000), Some(60));
        assert_eq!(key.check(&token, HERE, 1060), None);
        assert_eq!(key.check(&token, THERE, 1000), None);
    }

    #[test]
    fn a_changed_cut_or_invented_token_is_refused() {
        let key = TokenKey(vec![7; 32]);
        let good = BASE64.decode(key.issue(HERE, 1060)).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 1;
            assert_eq!(
                key.check(&BASE64.encode(&bad), HERE, 1000),
                None,
                "{position}"
            );
            assert_eq!(
                key.check(&BASE64.encode(&good[..position]), HERE, 1000),
                None,
                "{position}"
            );
        }
        assert_eq!(key.check("not a token", HERE, 1000), None);
        assert_eq!(
            TokenKey(vec![8; 32]).check(&BASE64.encode(&good), HERE, 1000),
            None
        );
    }
}
