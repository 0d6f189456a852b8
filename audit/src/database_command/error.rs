//! Why the command could not do what it was asked for.

use powerpole_database::{DialectError, InstallError};
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error("cannot read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0} is missing: give it as an option or in --defaults-file")]
    Missing(&'static str),
    #[error("{0} is not a key: 32 bytes or 64 hexadecimal digits")]
    Key(PathBuf),
    #[error("no password could be read from the terminal")]
    Prompt(#[source] std::io::Error),
    #[error("cannot log in to {0}")]
    Connect(String, #[source] mysql_async::Error),
    #[error("the server refused: {statement}")]
    Statement {
        statement: String,
        #[source]
        source: mysql_async::Error,
    },
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Dialect(#[from] DialectError),
    #[error("{0} accounts are open; close them or use --force")]
    AccountsOpen(u64),
}

impl CommandError {
    /// Whether the server offers no TLS.
    pub(super) fn is_for_want_of_tls(&self) -> bool {
        use mysql_async::{DriverError, Error};
        matches!(
            self,
            Self::Connect(_, Error::Driver(DriverError::NoClientSslFlagFromServer))
        )
    }
}

/// An error and its causes in one line.
pub(super) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        // The driver's errors repeat their source.
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
