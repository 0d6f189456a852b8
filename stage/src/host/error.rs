//! What can go wrong in the instance host.

use crate::hub::HubError;

/// Why the instance host, or one machine, could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("{action} was not answered by {endpoint}: {why}")]
    Unanswered {
        action: &'static str,
        endpoint: String,
        why: String,
    },
    #[error("{action} was refused: {code}: {message}")]
    Refused {
        action: &'static str,
        code: String,
        message: String,
    },
    #[error("{action} was answered by something that is not its response: {why}")]
    Unreadable { action: &'static str, why: String },
    #[error("images.json names no root for {image}")]
    NoImage { image: String },
    #[error("another instance host already serves this stage")]
    AlreadyServed,
    #[error("{instance} is already kept by another process")]
    AlreadyKept { instance: String },
    #[error("{instance} still has living processes: it is not booted a second time")]
    StillAlive { instance: String },
    #[error("there is no machine of {instance} in this stage")]
    NoMachine { instance: String },
    #[error("the metadata service cannot listen on {address}")]
    Metadata {
        address: std::net::SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

impl HostError {
    /// A stable word for scripts and tests.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Hub(error) => error.code(),
            Self::Unanswered { .. } => "unanswered",
            Self::Refused { .. } => "refused",
            Self::Unreadable { .. } => "unreadable",
            Self::NoImage { .. } => "no-image",
            Self::AlreadyServed => "already-served",
            Self::AlreadyKept { .. } => "already-kept",
            Self::StillAlive { .. } => "still-alive",
            Self::NoMachine { .. } => "no-machine",
            Self::Metadata { .. } => "metadata",
        }
    }
}
