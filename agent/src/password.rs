//! The one-time password: 28 random characters, 160 bits or more, of four classes.

use powerpole_protocol::secret::Secret;
use rand::TryRng as _;
use rand::rngs::SysRng;
use zeroize::Zeroizing;

/// Without the pairs that people confuse (0 O, 1 l I), and without a character that a shell reads.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789-_.+:";
const LENGTH: usize = 28;

/// The system gave no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no randomness for a password")]
pub(crate) struct NoRandomness(#[source] rand::rngs::SysError);

/// Makes a password of lower and upper case letters, digits and punctuation.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn generate() -> Result<Secret, NoRandomness> {
    loop {
        let mut password = Zeroizing::new(String::with_capacity(LENGTH));
        while password.len() < LENGTH {
            let pool = random_bytes::<64>()?;
            for byte in pool.iter() {
                // 248 = 4 × 62: bytes above would favour the first letters.
                let fair = usize::from(*byte) < ALPHABET.len() * (256 / ALPHABET.len());
                if let (true, Some(letter)) =
                    (fair, ALPHABET.get(usize::from(*byte) % ALPHABET.len()))
                    && password.len() < LENGTH
                {
                    password.push(char::from(*letter));
                }
            }
        }
        if has_every_class(&password) {
            return Ok(Secret::new(std::mem::take(&mut password)));
        }
    }
}

/// Random bytes of the system, wiped when dropped.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn random_bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0u8; N]);
    SysRng.try_fill_bytes(&mut *bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

fn has_every_class(password: &str) -> bool {
    let has = |class: fn(&char) -> bool| password.chars().any(|c| class(&c));
    has(char::is_ascii_lowercase)
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_digit)
        && has(char::is_ascii_punctuation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_long_mixed_and_never_the_same() {
        let one = generate().unwrap();
        let two = generate().unwrap();
        assert_eq!(one.expose().len(), LENGTH);
        assert!(has_every_class(one.expose()));
        assert_ne!(one.expose(), two.expose());
        let bits = f64::from(u32::try_from(ALPHABET.len()).unwrap()).log2() * 28.0;
        assert!(bits > 160.0, "{bits}");
    }
}
