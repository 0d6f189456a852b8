//! The boot document: an instance's user data. It is data, never executed, and holds no secret but a boot
//! token that can say `hello` and `failed` for its one request.

use crate::id::{Attempt, RequestId};
use crate::secret::{Token, expose_token};
use serde::{Deserialize, Serialize};

/// EC2 takes at most this much user data, in bytes before base64.
pub const USER_DATA_LIMIT: usize = 16 * 1024;

/// What a bastion is told before it can prove who it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootDocument {
    /// Version of this document: 1.
    pub v: u32,
    /// The request that this bastion serves.
    pub request: RequestId,
    /// Which try this is.
    pub attempt: Attempt,
    /// Name of the handoff in Secrets Manager.
    pub handoff: String,
    /// Release that the operating system is patched to: `latest`, or one that control pins.
    pub release: String,
    /// Where control listens and how it proves itself.
    pub control: ControlEndpoint,
    /// Lets the bearer say `hello` and `failed` for this request and nothing else.
    #[serde(serialize_with = "expose_token")]
    pub boot_token: Token,
}

/// Control, as a bastion sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlEndpoint {
    /// Base address, such as `https://powerpole.example.com`; paths of [`crate::callback`] are appended.
    pub url: String,
    /// Ed25519 public key that signs control's answers, 32 bytes in standard base64.
    pub signing_key: String,
    /// X25519 public key that the password is sealed to, 32 bytes in standard base64.
    pub sealing_key: String,
}

/// User data that is not a boot document.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The text is not the document's JSON.
    #[error("the user data is not a boot document")]
    Malformed(#[source] serde_json::Error),
    /// Another version.
    #[error("the boot document has version {0}; this agent reads version 1")]
    Version(u32),
}

impl BootDocument {
    /// Reads user data.
    ///
    /// # Errors
    /// When it is not JSON of exactly this form, or another version.
    pub fn parse(text: &str) -> Result<Self, BootError> {
        let document: Self = serde_json::from_str(text).map_err(BootError::Malformed)?;
        if document.v == 1 {
            Ok(document)
        } else {
            Err(BootError::Version(document.v))
        }
    }

    /// The document's text, to be given to EC2 as user data.
    ///
    /// # Errors
    /// Never in practice: every field serialises.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}
