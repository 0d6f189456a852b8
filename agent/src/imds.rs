//! Instance metadata: who this machine is, and its boot document. IMDSv2 only, by the SDK's own client.

use crate::clock;
use crate::failure::Coded;
use aws_config::imds::client::Client;
use powerpole_protocol::boot::{BootDocument, BootError};
use powerpole_protocol::id::{IdError, InstanceId};
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// What the metadata service says of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// Instance id.
    pub(crate) instance: InstanceId,
    /// AWS account.
    pub(crate) account: String,
    /// Region.
    pub(crate) region: String,
    /// Image the instance was launched from.
    pub(crate) image: String,
    /// Its private address.
    pub(crate) address: IpAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityDocument {
    instance_id: String,
    account_id: String,
    region: String,
    image_id: String,
    private_ip: IpAddr,
}

/// Metadata that cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImdsError {
    /// The service did not answer.
    #[error("the metadata service did not give {path}")]
    Unreachable {
        /// What was asked for.
        path: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The identity document is not of its form.
    #[error("the instance identity document cannot be read")]
    Identity(#[source] serde_json::Error),
    /// It names no instance.
    #[error("the instance identity document names no instance")]
    Instance(#[source] IdError),
    /// The user data is not a boot document.
    #[error(transparent)]
    Boot(BootError),
}

impl Coded for ImdsError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "metadata_unreachable",
            Self::Identity(_) | Self::Instance(_) => "identity_malformed",
            Self::Boot(_) => "boot_document_malformed",
        }
    }
}

/// Asks who this machine is.
///
/// # Errors
/// When the service does not answer or its document is not of its form.
pub(crate) async fn identity(client: &Client) -> Result<Identity, ImdsError> {
    let text = fetch(client, "/latest/dynamic/instance-identity/document").await?;
    let document: IdentityDocument = serde_json::from_str(&text).map_err(ImdsError::Identity)?;
    Ok(Identity {
        instance: InstanceId::parse(&document.instance_id).map_err(ImdsError::Instance)?,
        account: document.account_id,
        region: document.region,
        image: document.image_id,
        address: document.private_ip,
    })
}

/// Reads the boot document from the user data, which is never executed.
///
/// # Errors
/// When the service does not answer or the user data is not a boot document.
pub(crate) async fn boot_document(client: &Client) -> Result<BootDocument, ImdsError> {
    let text = fetch(client, "/latest/user-data").await?;
    BootDocument::parse(&text).map_err(ImdsError::Boot)
}

/// Asks again for a while: a machine that has just booted may be ahead of its network.
async fn fetch(client: &Client, path: &'static str) -> Result<String, ImdsError> {
    const LIMIT: Duration = Duration::from_secs(20);
    const PAUSE: Duration = Duration::from_millis(250);
    let start = clock::boottime();
    loop {
        match client.get(path).await {
            Ok(text) => return Ok(text.into()),
            Err(_) if clock::boottime().since(start) < LIMIT => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                return Err(ImdsError::Unreachable {
                    path,
                    source: Box::new(error),
                });
            }
        }
    }
}
