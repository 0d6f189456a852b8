//! What can go wrong while the outside parts are started or stopped.

use crate::hub::HubError;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A failure of one step; `code` is stable, the text is for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartsError {
    #[error(transparent)]
    Stage(#[from] HubError),
    #[error("no cache folder: POWERPOLE_CACHE, XDG_CACHE_HOME and HOME are all unset")]
    NoCache,
    #[error("{part} is not installed ({reason}); run stage/install/all.sh")]
    NotInstalled { part: String, reason: String },
    #[error("could not {operation} {}: {source}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not what it should be: {source}", path.display())]
    Record {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("could not run {program}: {source}")]
    Spawn {
        program: String,
        source: std::io::Error,
    },
    #[error("{program} failed: {output}")]
    Command { program: String, output: String },
    #[error("{part} ended while starting; its log ends with:\n{log}")]
    Died { part: &'static str, log: String },
    #[error("{part} did not answer within {} s; its log ends with:\n{log}", waited.as_secs())]
    NotReady {
        part: &'static str,
        waited: Duration,
        log: String,
    },
    #[error("{part} (process {pid}) did not end")]
    WouldNotEnd { part: &'static str, pid: i32 },
    #[error("there is no network namespace {name}: bring the stage's hub up first")]
    NoNamespace { name: String },
}

impl PartsError {
    /// The stable code of this failure.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Stage(_) => "stage",
            Self::NoCache => "no_cache",
            Self::NotInstalled { .. } => "part_not_installed",
            Self::File { .. } => "file",
            Self::Record { .. } => "record",
            Self::Spawn { .. } => "spawn",
            Self::Command { .. } => "command",
            Self::Died { .. } => "part_died",
            Self::NotReady { .. } => "part_not_ready",
            Self::WouldNotEnd { .. } => "part_would_not_end",
            Self::NoNamespace { .. } => "no_namespace",
        }
    }

    /// For `map_err` on what touches a file.
    pub(crate) fn file<'a>(
        operation: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(std::io::Error) -> Self + 'a {
        move |source| Self::File {
            operation,
            path: path.to_owned(),
            source,
        }
    }
}
