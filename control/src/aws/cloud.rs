//! The launcher's port to EC2, Secrets Manager, SSM and KMS, and its adapter over the files beside it.

use super::{ec2, kms, secrets, ssm};
use futures_util::future::BoxFuture;
use powerpole_protocol::id::{Attempt, InstanceId, RequestId};
use powerpole_protocol::secret::Secret;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What one instance is to be.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The request.
    pub request: &'a RequestId,
    /// The try.
    pub attempt: Attempt,
    /// The same for every repetition of this launch, and for no other.
    pub client_token: &'a str,
    /// Image id.
    pub image: &'a str,
    /// Instance type.
    pub instance_type: &'a str,
    /// Subnet.
    pub subnet: &'a str,
    /// Security groups.
    pub security_groups: &'a [String],
    /// Instance profile's name.
    pub instance_profile: &'a str,
    /// Further tags.
    pub tags: &'a BTreeMap<String, String>,
    /// User data in clear.
    pub user_data: &'a Secret,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceState {
    /// Pending or running.
    Alive,
    /// Shutting down or stopping.
    Ending,
    /// Terminated or stopped: nothing runs on it.
    Gone,
}

/// An instance that a client token has launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub instance: InstanceId,
    /// How it stands.
    pub state: InstanceState,
    /// The subnet that it was launched into; EC2 forgets it when the instance has ended.
    pub subnet: Option<String>,
}

/// AWS did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// No capacity, address or quota: another place or time may have it. Nothing was launched.
    #[error("{operation}: no capacity ({code})")]
    Capacity {
        /// Which call.
        operation: &'static str,
        /// AWS's own code.
        code: String,
    },
    /// AWS refuses, and will refuse again. Nothing happened.
    #[error("{operation}: refused ({code}): {message}")]
    Refused {
        /// Which call.
        operation: &'static str,
        /// AWS's own code.
        code: String,
        /// AWS's own words.
        message: String,
    },
    /// No answer, throttled, or a fault on AWS's side: it may have happened.
    #[error("{operation}: no usable answer: {detail}")]
    Unavailable {
        /// Which call.
        operation: &'static str,
        /// What went wrong.
        detail: String,
    },
}

impl CloudError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Capacity { .. } => "no_capacity",
            Self::Refused { .. } => "aws_refused",
            Self::Unavailable { .. } => "aws_unavailable",
        }
    }
}

/// What the launcher needs of AWS.
///
/// Contract: every call is idempotent. `launch` with the same client token and subnet gives the same instance; `find` sees it
/// by that token moments later. `put_handoff` of a name that
/// exists writes the same value again. `terminate` and `delete_handoff` of what is gone succeed.
pub trait Cloud: Send + Sync {
    /// The image id that an SSM parameter names.
    fn image<'a>(&'a self, parameter: &'a str) -> BoxFuture<'a, Result<String, CloudError>>;
    /// Launches one instance, or gives the one that this client token has launched.
    fn launch<'a>(
        &'a self,
        launch: &'a Launch<'a>,
    ) -> BoxFuture<'a, Result<InstanceId, CloudError>>;
    /// The instances that were launched with this client token, by id: none when there never was one, when it was launched
    /// a moment ago, or when it has been gone for long; and several when somebody who saw the token used it in other zones.
    fn find<'a>(&'a self, client_token: &'a str) -> BoxFuture<'a, Result<Vec<Found>, CloudError>>;
    /// An instance's private address; it has one from its launch to its end.
    fn address<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Ipv4Addr, CloudError>>;
    /// Ends an instance.
    fn terminate<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<(), CloudError>>;
    /// Writes a handoff that one instance alone may read, in its session of the role of this id.
    fn put_handoff<'a>(
        &'a self,
        name: &'a str,
        value: &'a Secret,
        put_token: &'a str,
        reader: (&'a str, &'a InstanceId),
    ) -> BoxFuture<'a, Result<(), CloudError>>;
    /// Deletes a handoff without a recovery window.
    fn delete_handoff<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), CloudError>>;
    /// HMAC-SHA256 of a message of at most 4096 bytes under a key of KMS.
    fn mac<'a>(
        &'a self,
        key: &'a str,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<[u8; 32], CloudError>>;
}

/// AWS through its SDK.
pub struct Aws {
    ec2: aws_sdk_ec2::Client,
    kms: aws_sdk_kms::Client,
    secrets: aws_sdk_secretsmanager::Client,
    ssm: aws_sdk_ssm::Client,
}

impl Aws {
    /// Takes the SDK's settings.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig) -> Self {
        Self {
            ec2: aws_sdk_ec2::Client::new(settings),
            kms: aws_sdk_kms::Client::new(settings),
            secrets: aws_sdk_secretsmanager::Client::new(settings),
            ssm: aws_sdk_ssm::Client::new(settings),
        }
    }
}

impl Cloud for Aws {
    fn image<'a>(&'a self, parameter: &'a str) -> BoxFuture<'a, Result<String, CloudError>> {
        Box::pin(ssm::parameter(&self.ssm, parameter))
    }
    fn launch<'a>(
        &'a self,
        launch: &'a Launch<'a>,
    ) -> BoxFuture<'a, Result<InstanceId, CloudError>> {
        Box::pin(ec2::launch(&self.ec2, launch))
    }
    fn find<'a>(&'a self, client_token: &'a str) -> BoxFuture<'a, Result<Vec<Found>, CloudError>> {
        Box::pin(ec2::find(&self.ec2, client_token))
    }
    fn address<'a>(
        &'a self,
        instance: &'a InstanceId,
    ) -> BoxFuture<'a, Result<Ipv4Addr, CloudError>> {
        Box::pin(ec2::address(&self.ec2, instance))
    }
    fn terminate<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(ec2::terminate(&self.ec2, instance))
    }
    fn put_handoff<'a>(
        &'a self,
        name: &'a str,
        value: &'a Secret,
        put_token: &'a str,
        reader: (&'a str, &'a InstanceId),
    ) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(secrets::put(&self.secrets, name, value, put_token, reader))
    }
    fn delete_handoff<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), CloudError>> {
        Box::pin(secrets::delete(&self.secrets, name))
    }
    fn mac<'a>(
        &'a self,
        key: &'a str,
        message: &'a [u8],
    ) -> BoxFuture<'a, Result<[u8; 32], CloudError>> {
        Box::pin(kms::mac(&self.kms, key, message))
    }
}

/// Sorts an SDK error by what it means for a repetition.
pub(super) fn sort<E, R>(
    operation: &'static str,
    error: &aws_sdk_ec2::error::SdkError<E, R>,
) -> CloudError
where
    E: aws_sdk_ec2::error::ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + HttpStatus,
{
    let detail = || aws_sdk_ec2::error::DisplayErrorContext(error).to_string();
    let Some(raw) = error.raw_response() else {
        return CloudError::Unavailable {
            operation,
            detail: detail(),
        };
    };
    let code = error
        .as_service_error()
        .and_then(|e| e.code())
        .unwrap_or("no code")
        .to_owned();
    let message = error
        .as_service_error()
        .and_then(|e| e.message())
        .unwrap_or("no message")
        .to_owned();
    let capacity = ["Capacity", "LimitExceeded", "InsufficientFreeAddresses"]
        .iter()
        .any(|w| code.contains(w));
    let passing = [
        "Throttl",
        "RequestLimitExceeded",
        "TooManyRequests",
        "Unavailable",
        "Internal",
    ]
    .iter()
    .any(|w| code.contains(w));
    if passing || code == "no code" || raw.status() >= 500 && !capacity {
        CloudError::Unavailable {
            operation,
            detail: format!("{code}: {message}"),
        }
    } else if capacity {
        CloudError::Capacity { operation, code }
    } else {
        CloudError::Refused {
            operation,
            code,
            message,
        }
    }
}

/// A raw answer's HTTP status.
pub(super) trait HttpStatus {
    /// The status.
    fn status(&self) -> u16;
}

impl HttpStatus for aws_sdk_ec2::config::http::HttpResponse {
    fn status(&self) -> u16 {
        Self::status(self).as_u16()
    }
}
