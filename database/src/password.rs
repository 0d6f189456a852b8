//! A password as the server stores it. Only this form ever travels in SQL, so that no audit log, process
//! list, general log or binlog holds a password.
//!
//! MySQL: `caching_sha2_password`, the only built-in plugin of MySQL 9. MariaDB: `mysql_native_password`,
//! which every client speaks; ed25519 needs a plugin on the client's side that many builds lack. Its
//! unsalted double SHA-1 is no weakness here: the password is random, long and short-lived, and the
//! stored hash alone does not log in (that takes SHA1(password), sent only within TLS).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::{Dialect, crypt::sha256_crypt};

const ROUNDS: u32 = 5000;
const SALT_LEN: usize = 20;

/// The authentication string of one account. It is a hash; it may appear in logs of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authentication {
    dialect: Dialect,
    text: String,
}

impl Authentication {
    /// Hashes `password` for the server's plugin. The salt is derived from the password and `context`
    /// (unique per account: a ticket's nonce), so that a repeated call is the same call. The password
    /// must be random: a derived salt tells two equal passwords of one context apart from nothing.
    pub fn of(dialect: Dialect, password: &[u8], context: &[u8]) -> Self {
        let text = match dialect {
            Dialect::MySql => {
                let salt = derived_salt(password, context);
                let digest = sha256_crypt(password, &salt, ROUNDS);
                format!("$A$005${}{digest}", String::from_utf8_lossy(&salt))
            }
            Dialect::MariaDb => {
                let twice = Sha1::digest(Sha1::digest(password));
                format!("*{}", data_encoding::HEXUPPER.encode(&twice))
            }
        };
        Self { dialect, text }
    }

    /// A well-formed string that no password is known for, for accounts nobody logs in to.
    pub fn impossible(dialect: Dialect) -> Self {
        let text = match dialect {
            Dialect::MySql => format!("$A$005${}{}", "x".repeat(SALT_LEN), ".".repeat(43)),
            Dialect::MariaDb => format!("*{}", "0".repeat(40)),
        };
        Self { dialect, text }
    }

    /// As `open_account` takes it: hexadecimal on MySQL, `*` and 40 digits on MariaDB.
    pub fn argument(&self) -> String {
        match self.dialect {
            Dialect::MySql => data_encoding::HEXLOWER.encode(self.text.as_bytes()),
            Dialect::MariaDb => self.text.clone(),
        }
    }

    /// The clause of a CREATE USER or ALTER USER.
    pub fn identified(&self) -> String {
        match self.dialect {
            Dialect::MySql => {
                format!(
                    "IDENTIFIED WITH caching_sha2_password AS 0x{}",
                    self.argument()
                )
            }
            Dialect::MariaDb => {
                format!("IDENTIFIED VIA mysql_native_password USING '{}'", self.text)
            }
        }
    }

    /// The string as the server stores it.
    pub fn stored(&self) -> &str {
        &self.text
    }
}

/// 20 bytes of `[./0-9A-Za-z]`: the plugin refuses NUL and `$`.
fn derived_salt(password: &[u8], context: &[u8]) -> [u8; SALT_LEN] {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut salt = [b'.'; SALT_LEN];
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(password) {
        mac.update(b"powerpole salt 1");
        mac.update(context);
        for (to, from) in salt.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = ALPHABET
                .get(usize::from(from & 63))
                .copied()
                .unwrap_or(b'.');
        }
    }
    salt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_hash_is_the_same_and_another_context_is_not() {
        let of = |context: &[u8]| Authentication::of(Dialect::MySql, b"correct horse", context);
        assert_eq!(of(b"1"), of(b"1"));
        assert_ne!(of(b"1"), of(b"2"));
        assert_eq!(of(b"1").argument().len(), 140);
    }

    /// `SELECT PASSWORD('secret')` on MariaDB 10.11.
    #[test]
    fn the_native_hash_is_the_servers() {
        assert_eq!(
            Authentication::of(Dialect::MariaDb, b"secret", b"").stored(),
            "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"
        );
    }
}
