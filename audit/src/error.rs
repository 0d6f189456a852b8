//! Why something could not be checked or written. None of these is a verdict.

use std::{error::Error, io, path::PathBuf};

use powerpole_protocol::ledger::State;

/// An operation that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not there: an export holds LINES.jsonl, LEDGER.json and ANCHORS.jsonl")]
    NoLines { path: PathBuf },
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} already exists; evidence is never overwritten")]
    Exists { path: PathBuf },
    #[error("{path} is not a ledger item in DynamoDB's typed JSON: {detail}")]
    Ledger { path: String, detail: String },
    #[error("object {key} cannot be used: {detail}")]
    Object { key: String, detail: String },
    #[error("redaction manifest or key cannot be used: {0}")]
    Redaction(String),
    #[error("AWS {operation} failed: {detail}")]
    Aws {
        operation: &'static str,
        detail: String,
    },
    #[error("the ledger table {table} has no item {request}")]
    NoItem { table: String, request: String },
    #[error("the ledger item has no {0}")]
    NoAttribute(&'static str),
    #[error("{}", no_bastion(.state))]
    NoBastion { state: String },
    #[error("the rolls are nothing to compare with: {0}")]
    Rolls(String),
    #[error(
        "there are more than {most} bastions' folders in the bucket: --search=N looks into up to N, a call each"
    )]
    TooMany { most: usize },
    #[error(
        "{instance} wrote so much into the bucket that nobody can tell which request's record it began first: there is no verdict with --search; without it the chain is judged by itself"
    )]
    Undecided { instance: String },
}

impl CheckError {
    /// Stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            CheckError::Usage(_) => "usage",
            CheckError::Read { .. } | CheckError::NoLines { .. } => "read",
            CheckError::Write { .. } => "write",
            CheckError::Exists { .. } => "exists",
            CheckError::Ledger { .. } => "ledger-form",
            CheckError::Object { .. } => "object-form",
            CheckError::Redaction(_) => "redaction-form",
            CheckError::Aws { .. } => "aws",
            CheckError::NoItem { .. } => "ledger-no-item",
            CheckError::NoAttribute(_) => "ledger-no-attribute",
            CheckError::NoBastion { .. } => "no-bastion",
            CheckError::Rolls(_) => "rolls",
            CheckError::TooMany { .. } => "search-too-many",
            CheckError::Undecided { .. } => "search-undecided",
        }
    }

    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, CheckError::Usage(_))
    }
}

/// A request that is still open may get one.
fn no_bastion(state: &str) -> String {
    match State::parse(state) {
        Some(state) if !state.is_final() => format!(
            "this request has no bastion yet (it is {state}): so far there is no evidence to export or verify"
        ),
        _ => format!(
            "this request never had a bastion (it is {state}): there is no evidence to export or verify"
        ),
    }
}

/// The error and its sources in one line.
pub(crate) fn chain(error: &CheckError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
