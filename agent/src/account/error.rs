//! How a call fails, and which refusals of the procedures are known.

use super::call::CALL_LIMIT;
use crate::failure::Coded;
use mysql_async::Error as SqlError;
use powerpole_database::DialectError;

/// What a person is told; [`AccountError::code`] is for machines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// No connection, or one that broke.
    #[error("database {host}:{port} was not reached")]
    Unreachable {
        /// Endpoint.
        host: String,
        /// Its port.
        port: u16,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// The server offers no TLS or its certificate is not trusted.
    #[error("TLS with database {host} failed")]
    Tls {
        /// Endpoint.
        host: String,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// No answer in time; what was asked may have happened.
    #[error("database {host} did not answer within {} s", CALL_LIMIT.as_secs())]
    Timeout {
        /// Endpoint.
        host: String,
    },
    /// The grantor credential was not accepted.
    #[error("the grantor credential was refused")]
    GrantorRefused(#[source] SqlError),
    /// Other bastions, or somebody else, held every connection that the grantor may have.
    #[error("the grantor's connections were all taken")]
    GrantorBusy(#[source] SqlError),
    /// The procedures are not installed, or the grantor may not call them.
    #[error("PowerPole's procedures cannot be called: the owner runs `powerpole database check`")]
    NotInstalled(#[source] SqlError),
    /// A server that the installation is not written for.
    #[error("the server cannot be used")]
    Unsupported(#[source] DialectError),
    /// A procedure said no; nothing was done.
    #[error("the database refused {procedure}: {detail}")]
    Refused {
        /// Which procedure.
        procedure: &'static str,
        /// The procedure's own code, e.g. `ticket_refused`.
        code: &'static str,
        /// The procedure's own words.
        detail: String,
    },
    /// Any other error of the server.
    #[error("the database failed in {procedure}")]
    Server {
        /// Which procedure or step.
        procedure: &'static str,
        /// What it said.
        #[source]
        source: SqlError,
    },
    /// The account was opened but nobody can log in to it.
    #[error("a login as {name_host} failed")]
    LoginFailed {
        /// The account.
        name_host: String,
        /// The last try.
        #[source]
        source: SqlError,
    },
    /// The login works but a right of the grant is missing.
    #[error("{name_host} has no rights in schema {schema}")]
    RightsMissing {
        /// The account.
        name_host: String,
        /// The schema.
        schema: String,
    },
    /// It was asked to go and is still there; the database's event goes on trying.
    #[error("{name_host} is not gone: {detail}")]
    NotGone {
        /// The account.
        name_host: String,
        /// What is left.
        detail: String,
    },
    /// The answer has not the shape that the installed version gives.
    #[error("{procedure} answered without {column}")]
    Answer {
        /// Which procedure.
        procedure: &'static str,
        /// Which column.
        column: &'static str,
    },
}

/// Codes that the procedures refuse with.
const REFUSALS: [&str; 12] = [
    "argument_refused",
    "schema_refused",
    "ticket_refused",
    "ticket_used",
    "deadline_refused",
    "event_not_running",
    "audit_off",
    "host_refused",
    "account_exists",
    "account_not_ours",
    "account_not_open",
    "open_failed",
];

impl AccountError {
    /// Whether the same call may succeed later; anything else is the database's last word.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::Timeout { .. }
                | Self::GrantorBusy(_)
                | Self::Server { .. }
        )
    }
}

impl Coded for AccountError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "database_unreachable",
            Self::Tls { .. } => "database_tls_failed",
            Self::Timeout { .. } => "database_timeout",
            Self::GrantorRefused(_) => "grantor_refused",
            Self::GrantorBusy(_) => "grantor_busy",
            Self::NotInstalled(_) => "database_not_installed",
            Self::Unsupported(error) => error.code(),
            Self::Refused { code, .. } => code,
            Self::Server { .. } => "database_failed",
            Self::LoginFailed { .. } => "login_failed",
            Self::RightsMissing { .. } => "rights_missing",
            Self::NotGone { .. } => "account_not_gone",
            Self::Answer { .. } => "database_answer_unknown",
        }
    }
}

/// Reads `powerpole <code>: <detail>`.
pub(super) fn refusal(message: &str) -> Option<(&'static str, String)> {
    let (code, detail) = message.strip_prefix("powerpole ")?.split_once(": ")?;
    let code = REFUSALS.into_iter().find(|known| *known == code)?;
    Some((code, detail.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_from_the_procedures_words() {
        assert_eq!(
            refusal("powerpole ticket_refused: the MAC does not match"),
            Some(("ticket_refused", "the MAC does not match".to_owned()))
        );
        assert_eq!(refusal("powerpole something_new: x"), None);
        assert_eq!(refusal("Access denied"), None);
    }
}
