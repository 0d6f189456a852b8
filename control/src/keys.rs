//! Control's secrets: its own keys, the clusters' ticket keys that lie in files, Slack's token and signing secret.
//!
//! Owns reading and making key files and deriving a try's tokens. Nothing here prints, and everything is
//! wiped when dropped.
//!
//! Tokens are derived, not stored, so that a launch repeated after a crash gives EC2 the very same user
//! data under the same client token, while the ledger holds digests only:
//!
//! ```text
//! token = HMAC-SHA256(derivation key, purpose ‖ 00 ‖ request ‖ 00 ‖ attempt)
//! purpose = "powerpole/v1/" and one of boot-token, handoff-token, handoff-name, ticket-nonce, put-token, client-token
//! ```
//! The key of the ledger's seals ([`crate::seal`]) is derived in the same way, without request and attempt.

use crate::config::Config;
use crate::seal::SealKey;
use crate::tickets::TicketKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use hmac::{Hmac, Mac as _};
use powerpole_protocol::id::{Attempt, ClusterId, RequestId};
use powerpole_protocol::sealed::OpeningKey;
use powerpole_protocol::secret::{Secret, Token};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Names of the files that [`generate`] writes.
pub const KEY_FILES: [&str; 3] = ["signing.key", "sealing.key", "derivation.key"];

/// A key or secret that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Everybody on the machine may read it.
    #[error("{} may be read by everybody; chmod 600 it", .0.display())]
    Open(PathBuf),
    /// A ticket for one cluster could be spent on the other.
    #[error("{} holds the ticket key of another cluster; each needs its own", .0.display())]
    Shared(PathBuf),
    /// Not what is expected.
    #[error("{} does not hold {expected}", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What would have been right.
        expected: &'static str,
    },
    /// The system gave no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// Derives what must be the same at every repetition of a launch.
pub struct Derivation(Zeroizing<[u8; 32]>);

/// All of control's secrets.
pub struct Keys {
    /// Signs answers.
    pub signing: SigningKey,
    /// Opens sealed passwords.
    pub opening: OpeningKey,
    /// Derives tokens.
    pub derivation: Derivation,
    /// Makes and checks the ledger's seals.
    pub seals: SealKey,
    /// Ticket keys by cluster.
    pub tickets: BTreeMap<ClusterId, TicketKey>,
    /// Slack's bot token.
    pub slack_token: Secret,
    /// Slack's signing secret.
    pub slack_signing: Secret,
}

impl Derivation {
    /// Takes the key.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// Says `hello` and `failed` for one try.
    #[must_use]
    pub fn boot_token(&self, request: &RequestId, attempt: Attempt) -> Token {
        Token::from_random(self.derive("powerpole/v1/boot-token", request, attempt))
    }

    /// Redeemed by `hello`, once.
    #[must_use]
    pub fn handoff_token(&self, request: &RequestId, attempt: Attempt) -> Token {
        Token::from_random(self.derive("powerpole/v1/handoff-token", request, attempt))
    }

    /// The handoff's name, which nobody can tell before it is there. It ends with 32 hexadecimal digits.
    #[must_use]
    pub fn handoff_name(&self, request: &RequestId, attempt: Attempt) -> String {
        let bytes = self.derive("powerpole/v1/handoff-name", request, attempt);
        let name = data_encoding::HEXLOWER.encode(bytes.get(..16).unwrap_or(&bytes));
        format!("powerpole/handoff/{name}")
    }

    /// The ticket's nonce: 32 hexadecimal digits.
    #[must_use]
    pub fn ticket_nonce(&self, request: &RequestId, attempt: Attempt) -> String {
        let bytes = self.derive("powerpole/v1/ticket-nonce", request, attempt);
        data_encoding::HEXLOWER.encode(bytes.get(..16).unwrap_or(&bytes))
    }

    /// Secrets Manager's request token for the handoff's value: 32 hexadecimal digits.
    #[must_use]
    pub fn put_token(&self, request: &RequestId, attempt: Attempt) -> String {
        let bytes = self.derive("powerpole/v1/put-token", request, attempt);
        data_encoding::HEXLOWER.encode(bytes.get(..16).unwrap_or(&bytes))
    }

    /// EC2's client token for this try, the same for every repetition of the same launch: request, attempt and 24
    /// hexadecimal digits that nobody can tell before the launch. At most 64 characters, EC2's limit.
    #[must_use]
    pub fn client_token(&self, request: &RequestId, attempt: Attempt) -> String {
        let bytes = self.derive("powerpole/v1/client-token", request, attempt);
        let proof = data_encoding::HEXLOWER.encode(bytes.get(..12).unwrap_or(&bytes));
        format!("{request}-{attempt}-{proof}")
    }

    /// The key of the ledger's seals.
    #[must_use]
    pub fn seals(&self) -> SealKey {
        let mut mac = hmac(&self.0);
        mac.update(b"powerpole/v1/ledger-seals\0");
        SealKey::new(mac.finalize().into_bytes().into())
    }

    fn derive(&self, purpose: &str, request: &RequestId, attempt: Attempt) -> [u8; 32] {
        let mut mac = hmac(&self.0);
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        mac.update(request.as_str().as_bytes());
        mac.update(b"\0");
        mac.update(attempt.to_string().as_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// HMAC-SHA256 under a key of 32 bytes. Its own first step is done here, which takes a key of any length: a key that is
/// shorter than SHA-256's block is padded with zeros.
pub(crate) fn hmac(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Hmac<Sha256> as hmac::KeyInit>::new(&(*block).into())
}

impl Keys {
    /// Reads every secret that the configuration names.
    ///
    /// # Errors
    /// With all that is wrong at once.
    pub fn load(config: &Config) -> Result<Self, Vec<KeyError>> {
        let mut faults = Vec::new();
        let mut tickets: BTreeMap<ClusterId, TicketKey> = BTreeMap::new();
        for cluster in &config.clusters {
            if let Some(name) = &cluster.ticket_kms_key {
                tickets.insert(cluster.id.clone(), TicketKey::Kms(name.clone()));
            }
            let Some(file) = &cluster.ticket_key_file else {
                continue;
            };
            match read_hex(file) {
                Ok(key) if tickets.values().any(|other| other.is(&key)) => {
                    faults.push(KeyError::Shared(file.clone()));
                }
                Ok(key) => {
                    tickets.insert(cluster.id.clone(), TicketKey::Held(key));
                }
                Err(fault) => faults.push(fault),
            }
        }
        let mut keep =
            |result: Result<[u8; 32], KeyError>| result.map_err(|fault| faults.push(fault)).ok();
        let signing = keep(read_key(&config.keys.signing_file));
        let sealing = keep(read_key(&config.keys.sealing_file));
        let derivation = keep(read_key(&config.keys.derivation_file));
        let mut keep =
            |result: Result<Secret, KeyError>| result.map_err(|fault| faults.push(fault)).ok();
        let token = keep(read_text(&config.slack.bot_token_file));
        let secret = keep(read_text(&config.slack.signing_secret_file));
        let opening = sealing.and_then(|bytes| OpeningKey::from_bytes(&bytes).ok());
        match (signing, opening, derivation, token, secret) {
            (
                Some(signing),
                Some(opening),
                Some(derivation),
                Some(slack_token),
                Some(slack_signing),
            ) if faults.is_empty() => {
                let derivation = Derivation::new(derivation);
                Ok(Self {
                    signing: SigningKey::from_bytes(&signing),
                    opening,
                    seals: derivation.seals(),
                    derivation,
                    tickets,
                    slack_token,
                    slack_signing,
                })
            }
            _ => Err(faults),
        }
    }
}

/// Makes control's three keys in a folder, mode 0600; refuses to overwrite any.
///
/// # Errors
/// When the folder cannot be written, a file is there already, or there is no randomness.
pub fn generate(folder: &Path) -> Result<(), KeyError> {
    let write = |path: PathBuf, source| KeyError::Write { path, source };
    std::fs::create_dir_all(folder).map_err(|e| write(folder.to_owned(), e))?;
    for name in KEY_FILES {
        let path = folder.join(name);
        let text = Zeroizing::new(format!(
            "{}\n",
            STANDARD.encode(Zeroizing::new(random::<32>()?).as_slice())
        ));
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(|e| write(path, e))?;
    }
    Ok(())
}

/// Random bytes of the operating system.
///
/// # Errors
/// When it gives none.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    use rand::TryRng as _;
    let mut bytes = [0; N];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<Secret, KeyError> {
    let read = |source| KeyError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = std::fs::metadata(path).map_err(read)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(KeyError::Open(path.to_owned()));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(read)?);
    if text.trim().is_empty() {
        return Err(KeyError::Form {
            path: path.to_owned(),
            expected: "any text",
        });
    }
    Ok(Secret::new(text.trim().to_owned()))
}

fn read_key(path: &Path) -> Result<[u8; 32], KeyError> {
    let text = read_text(path)?;
    STANDARD
        .decode(text.expose())
        .ok()
        .map(Zeroizing::new)
        .and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok())
        .ok_or(KeyError::Form {
            path: path.to_owned(),
            expected: "32 bytes in base64",
        })
}

fn read_hex(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let text = read_text(path)?;
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.expose().as_bytes())
        .ok()
        .map(Zeroizing::new)
        .filter(|key| key.len() == 32)
        .ok_or(KeyError::Form {
            path: path.to_owned(),
            expected: "64 hexadecimal digits",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_private_distinct_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path()).unwrap();
        let keys: Vec<_> = KEY_FILES
            .iter()
            .map(|n| read_key(&folder.path().join(n)).unwrap())
            .collect();
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        let mode = std::fs::metadata(folder.path().join("signing.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            generate(folder.path()),
            Err(KeyError::Write { .. })
        ));
    }

    #[test]
    fn a_key_file_that_everybody_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_text(&path), Err(KeyError::Open(_))));
    }

    #[test]
    fn a_client_token_is_the_same_at_every_repetition_fits_ec2_and_cannot_be_told_without_the_key()
    {
        let request = RequestId::from_parts(1, [1; 10]);
        let token =
            |key, attempt| Derivation::new([key; 32]).client_token(&request, Attempt(attempt));
        assert_eq!(token(5, 1), token(5, 1));
        assert!(token(5, 1).starts_with(&format!("{request}-1-")));
        assert_ne!(token(5, 1), token(6, 1));
        let proof = |token: String| token.rsplit('-').next().map(str::to_owned);
        assert_ne!(proof(token(5, 1)), proof(token(5, 2)));
        assert!((1..=64).contains(&token(5, 999).len()), "{}", token(5, 999));
        // EC2's filters read * and ? as more than themselves.
        assert!(
            token(5, 1)
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        );
    }

    #[test]
    fn tokens_are_the_same_at_every_repetition_and_differ_by_purpose_request_and_attempt() {
        let derivation = Derivation::new([5; 32]);
        let request = RequestId::from_parts(1, [1; 10]);
        let other = RequestId::from_parts(2, [1; 10]);
        let digest = |request, attempt| derivation.boot_token(request, Attempt(attempt)).digest();
        assert_eq!(digest(&request, 1), digest(&request, 1));
        let handoff = derivation.handoff_token(&request, Attempt(1)).digest();
        let all = [
            digest(&request, 1),
            digest(&request, 2),
            digest(&other, 1),
            handoff,
        ];
        assert_eq!(
            all.iter().collect::<std::collections::BTreeSet<_>>().len(),
            4
        );
        assert_eq!(derivation.ticket_nonce(&request, Attempt(1)).len(), 32);
        let name = |attempt| derivation.handoff_name(&request, Attempt(attempt));
        assert_eq!(name(1), name(1));
        assert_ne!(name(1), name(2));
        assert_eq!(name(1).len(), "powerpole/handoff/".len() + 32);
    }
}
