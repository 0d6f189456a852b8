//! What can go wrong around the hub.

use std::path::{Path, PathBuf};

/// Why the hub, or something in it, could not be made, found or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    #[error(
        "{name:?} is no stage name: 1 to 24 of a-z, 0-9 and -, with a letter or digit at both ends"
    )]
    StageName { name: String },
    #[error("{text:?} is no instance id")]
    InstanceId { text: String },
    #[error(
        "a stage named {name} already runs from {dir}: take it down there, or choose another --stage"
    )]
    NameTaken { name: String, dir: String },
    #[error("the stage needs root: it makes network namespaces, mounts and machines")]
    NotRoot,
    #[error("the hub {namespace} does not exist: bring the stage up first")]
    NoHub { namespace: String },
    #[error("cannot {action} {}", path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot start {program}")]
    Start {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{program} failed: {said}")]
    Failed { program: String, said: String },
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        port: u16,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} did not come up within {waited_s} s: see {}", log.display())]
    NotUp {
        name: String,
        waited_s: u64,
        log: PathBuf,
    },
    #[error("process {pid} does not end, even by SIGKILL")]
    Unkillable { pid: i32 },
}

impl HubError {
    /// A stable word for scripts and tests.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::StageName { .. } => "stage-name",
            Self::InstanceId { .. } => "instance-id",
            Self::NameTaken { .. } => "name-taken",
            Self::NotRoot => "not-root",
            Self::NoHub { .. } => "no-hub",
            Self::File { .. } => "file",
            Self::Start { .. } => "start",
            Self::Failed { .. } => "failed",
            Self::Listen { .. } => "listen",
            Self::NotUp { .. } => "not-up",
            Self::Unkillable { .. } => "unkillable",
        }
    }

    /// For `map_err`: which action on which path failed.
    pub(crate) fn file(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }
}
