//! The only file that talks to STS: who this bastion is to AWS.

use aws_config::SdkConfig;
use aws_sdk_sts::Client;
use aws_sdk_sts::error::DisplayErrorContext;

/// This bastion's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallerIdentity {
    /// `${aws:userid}`: role id and instance id, `AROA…:i-…`.
    pub(crate) user_id: String,
    /// AWS account id.
    pub(crate) account: String,
}

/// The identity is not known.
#[derive(Debug, thiserror::Error)]
#[error("STS GetCallerIdentity: {0}")]
pub(crate) struct IdentityError(pub(crate) String);

/// Asks STS who the bearer of these credentials is.
///
/// # Errors
/// When STS does not answer, or answers without a user id.
pub(crate) async fn caller_identity(config: &SdkConfig) -> Result<CallerIdentity, IdentityError> {
    let answer = Client::new(config)
        .get_caller_identity()
        .send()
        .await
        .map_err(|e| IdentityError(DisplayErrorContext(&e).to_string()))?;
    match (answer.user_id, answer.account) {
        (Some(user_id), Some(account)) if !user_id.contains('/') => {
            Ok(CallerIdentity { user_id, account })
        }
        _ => Err(IdentityError(
            "the answer names no user id or account".to_owned(),
        )),
    }
}
