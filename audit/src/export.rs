//! The form of an export: LINES.jsonl, LEDGER.json and ANCHORS.jsonl in one directory.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::error::CheckError;

/// The messages with their CloudWatch times.
pub(crate) const LINES: &str = "LINES.jsonl";
/// The ledger item.
pub(crate) const LEDGER: &str = "LEDGER.json";
/// The anchors.
pub(crate) const ANCHORS: &str = "ANCHORS.jsonl";
/// Redaction manifests.
pub(crate) const REDACTIONS: &str = "REDACTIONS.jsonl";

/// Refuses a directory that has one of the files already, before any of them is made.
pub(crate) fn ensure_new(directory: &Path) -> Result<(), CheckError> {
    for name in [LEDGER, ANCHORS, LINES] {
        let path = directory.join(name);
        if path.exists() {
            return Err(CheckError::Exists { path });
        }
    }
    Ok(())
}

/// A file that is being written and never replaces another one.
pub(crate) struct NewFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl NewFile {
    pub(crate) fn create(directory: &Path, name: impl AsRef<Path>) -> Result<NewFile, CheckError> {
        let path = directory.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        match file {
            Ok(file) => Ok(NewFile {
                path,
                file: BufWriter::new(file),
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(CheckError::Exists { path })
            }
            Err(source) => Err(CheckError::Write { path, source }),
        }
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), CheckError> {
        writeln!(self.file, "{text}").map_err(|source| CheckError::Write {
            path: self.path.clone(),
            source,
        })
    }

    /// On disk before anybody is told so.
    pub(crate) fn finish(self) -> Result<(), CheckError> {
        let path = self.path;
        let wrong = |source| CheckError::Write {
            path: path.clone(),
            source,
        };
        let file = self
            .file
            .into_inner()
            .map_err(|error| wrong(error.into_error()))?;
        file.sync_all().map_err(wrong)
    }
}

/// One line of LINES.jsonl.
pub(crate) fn event_line(timestamp: i64, message: &str) -> String {
    format!(
        "{{\"timestamp\":{timestamp},\"message\":{}}}",
        json!(message)
    )
}
