//! Fetching the handoff: read it once, delete it, and go on only when it is gone. Then the grantor's secret.
//!
//! The only file of the agent that talks to Secrets Manager.

use crate::clock;
use crate::failure::{Coded, causes};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use powerpole_protocol::grantor::{GrantorError, GrantorSecret};
use powerpole_protocol::handoff::HandoffError;
use powerpole_protocol::id::{ClusterId, GrantorSecretName};
use powerpole_protocol::secret::Secret;
use std::time::Duration;

/// Wait between two looks, while a secret is not there yet or not gone yet.
const PAUSE: Duration = Duration::from_millis(250);

/// A secret that could not be had or be made to go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// Nothing under this name for the whole time: somebody else took it, or control never wrote it.
    #[error("the handoff was not there {} s after the patch: it is gone or was never written", .0.as_secs())]
    Gone(Duration),
    /// The service refused or could not be reached.
    #[error("Secrets Manager: cannot {what}: {message}")]
    Service {
        /// What was asked.
        what: &'static str,
        /// The service's error with its causes; never the secret.
        message: String,
    },
    /// It is still readable after it was deleted.
    #[error("the handoff is still readable {} s after it was deleted", .0.as_secs())]
    StillThere(Duration),
    /// What was read is not a handoff for this bastion.
    #[error(transparent)]
    Handoff(HandoffError),
    /// The grantor's secret cannot be used.
    #[error(transparent)]
    Grantor(GrantorError),
}

impl Coded for SecretError {
    fn code(&self) -> &'static str {
        match self {
            Self::Gone(_) => "handoff_gone",
            Self::Service { .. } => "secrets_unavailable",
            Self::StillThere(_) => "handoff_not_deleted",
            Self::Handoff(HandoffError::NotOurs { .. }) => "handoff_not_ours",
            Self::Handoff(HandoffError::Malformed { .. } | HandoffError::Version(_)) => {
                "handoff_malformed"
            }
            Self::Grantor(GrantorError::OtherCluster { .. }) => "grantor_of_another_cluster",
            Self::Grantor(_) => "grantor_malformed",
        }
    }
}

/// Reads the secret, waiting up to `limit` for it to appear and for the service to answer.
///
/// # Errors
/// [`SecretError::Gone`] when it is not there in time, the service's last error when it did not answer.
pub(crate) async fn fetch(
    client: &Client,
    name: &str,
    limit: Duration,
) -> Result<Secret, SecretError> {
    let start = clock::boottime();
    loop {
        let failure = match read(client, name).await {
            Ok(Some(secret)) => return Ok(secret),
            Ok(None) => SecretError::Gone(limit),
            Err(error) => error,
        };
        if clock::boottime().since(start) >= limit {
            return Err(failure);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Deletes the secret without a recovery window and waits until it cannot be read any more.
///
/// A crash before the deletion leaves a secret whose token was not redeemed; control deletes what is left.
///
/// # Errors
/// When the service refuses, or the secret is still readable after `limit`.
pub(crate) async fn delete(
    client: &Client,
    name: &str,
    limit: Duration,
) -> Result<(), SecretError> {
    let start = clock::boottime();
    loop {
        let deleted = client
            .delete_secret()
            .secret_id(name)
            .force_delete_without_recovery(true)
            .send()
            .await;
        if let Err(error) = deleted
            && error.code() != Some("ResourceNotFoundException")
            && error.code() != Some("InvalidRequestException")
        {
            return Err(service("delete the handoff", &error));
        }
        // The deletion is asynchronous: it counts when a read finds nothing.
        if read(client, name).await?.is_none() {
            return Ok(());
        }
        if clock::boottime().since(start) >= limit {
            return Err(SecretError::StillThere(limit));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads the grantor's secret of this cluster.
///
/// # Errors
/// When it cannot be read, is not of its form or is another cluster's.
pub(crate) async fn grantor(
    client: &Client,
    name: &GrantorSecretName,
    cluster: &ClusterId,
) -> Result<GrantorSecret, SecretError> {
    let secret = read(client, name.as_str())
        .await?
        .ok_or_else(|| SecretError::Service {
            what: "read the grantor's secret",
            message: format!("there is no secret {name}"),
        })?;
    GrantorSecret::parse(&secret, cluster).map_err(SecretError::Grantor)
}

async fn read(client: &Client, name: &str) -> Result<Option<Secret>, SecretError> {
    match client.get_secret_value().secret_id(name).send().await {
        Ok(output) => Ok(output.secret_string.map(Secret::new)),
        // A secret that is marked for deletion answers InvalidRequestException.
        Err(error)
            if error.code() == Some("ResourceNotFoundException")
                || error.code() == Some("InvalidRequestException") =>
        {
            Ok(None)
        }
        Err(error) => Err(service("read a secret", &error)),
    }
}

fn service(what: &'static str, error: &dyn std::error::Error) -> SecretError {
    SecretError::Service {
        what,
        message: causes(error),
    }
}
