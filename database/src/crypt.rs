//! SHA-crypt with SHA-256 (U. Drepper's specification), as `caching_sha2_password` stores it: 5,000 rounds
//! and a salt of 20 bytes, which crypt(3) would cut to 16 and MySQL does not.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The 43 characters of the digest, without `$5$`, rounds or salt.
pub fn sha256_crypt(password: &[u8], salt: &[u8], rounds: u32) -> String {
    let alternate: [u8; 32] = Sha256::new()
        .chain_update(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize()
        .into();

    let mut first = Sha256::new().chain_update(password).chain_update(salt);
    first.update(repeated(&alternate, password.len()));
    let mut length = password.len();
    while length > 0 {
        if length & 1 == 1 {
            first.update(alternate);
        } else {
            first.update(password);
        }
        length >>= 1;
    }
    let mut digest: [u8; 32] = first.finalize().into();

    let mut of_password = Sha256::new();
    for _ in 0..password.len() {
        of_password.update(password);
    }
    let password_bytes = repeated(&of_password.finalize(), password.len());

    let mut of_salt = Sha256::new();
    for _ in 0..16 + usize::from(digest.first().copied().unwrap_or_default()) {
        of_salt.update(salt);
    }
    let salt_bytes = repeated(&of_salt.finalize(), salt.len());

    for round in 0..rounds {
        let mut next = Sha256::new();
        if round & 1 == 1 {
            next.update(&password_bytes)
        } else {
            next.update(digest)
        }
        if round % 3 != 0 {
            next.update(&salt_bytes);
        }
        if round % 7 != 0 {
            next.update(&password_bytes);
        }
        if round & 1 == 1 {
            next.update(digest)
        } else {
            next.update(&password_bytes)
        }
        digest = next.finalize().into();
    }
    encode(&digest)
}

fn repeated(block: &[u8], length: usize) -> Vec<u8> {
    block.iter().copied().cycle().take(length).collect()
}

/// crypt's base64: triples of bytes in the specification's order, least significant six bits first.
fn encode(digest: &[u8; 32]) -> String {
    const ORDER: [[usize; 3]; 10] = [
        [0, 10, 20],
        [21, 1, 11],
        [12, 22, 2],
        [3, 13, 23],
        [24, 4, 14],
        [15, 25, 5],
        [6, 16, 26],
        [27, 7, 17],
        [18, 28, 8],
        [9, 19, 29],
    ];
    let at = |index: usize| u32::from(digest.get(index).copied().unwrap_or_default());
    let mut text = String::with_capacity(43);
    let mut push = |mut bits: u32, characters: usize| {
        for _ in 0..characters {
            text.push(char::from(
                ALPHABET.get((bits & 63) as usize).copied().unwrap_or(b'.'),
            ));
            bits >>= 6;
        }
    };
    for [a, b, c] in ORDER {
        push(at(a) << 16 | at(b) << 8 | at(c), 4);
    }
    push(at(31) << 8 | at(30), 3);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as `openssl passwd -5 -salt SALT PASSWORD` prints it.
    #[test]
    fn another_implementation_agrees() {
        for (salt, password, expected) in [
            (
                "saltstring",
                "Hello world!",
                "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            ),
            (
                "toolongsaltstrin",
                "This is just a test",
                "Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5",
            ),
            (
                "abcdefghijklmnop",
                "a very much longer text to encrypt, longer than one block of the hash function, that is 64 bytes",
                "yDSFMk6n6ue4Ft2YQG1BXV/wqVoGzIwPoplv85XrdW4",
            ),
        ] {
            assert_eq!(
                sha256_crypt(password.as_bytes(), salt.as_bytes(), 5000),
                expected
            );
        }
    }
}
