//! Why a connection of the operator's ends: what its client did that is not passed.

/// A client that breaks the protocol, or wants what is not passed; its connection ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// An authentication that does not come to an end.
    #[error("the authentication exchange is too long")]
    LongExchange,
    /// A packet whose number the server would not take.
    #[error("packet number {0} is out of order")]
    OutOfOrder(u8),
    /// A command, or the local data that the server may have asked for by a number 255.
    #[error("packet number 0 is a command or local data, and nothing tells which")]
    Ambiguous,
    /// A command that one server answers and another does not.
    #[error("a command {0} that is so short is not passed on")]
    ShortCommand(u8),
    /// A COM_CHANGE_USER of a form that is not read here.
    #[error("a change of user of this form is not passed on")]
    ChangeUser,
    /// Another account than the grant's.
    #[error("this way to the database is for the account '{right}' alone")]
    OtherAccount {
        /// The grant's account.
        right: String,
        /// The one that was asked for, cut to a name's length.
        asked: String,
    },
    /// A branch of a distributed transaction that would outlive the account.
    #[error("XA PREPARE is not passed on: what it leaves would outlive the window")]
    XaPrepare,
}

impl Broken {
    /// A stable name, for the record and the log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::LongExchange
            | Self::OutOfOrder(_)
            | Self::Ambiguous
            | Self::ShortCommand(_)
            | Self::ChangeUser => "sql_protocol",
            Self::OtherAccount { .. } => "sql_other_account",
            Self::XaPrepare => "sql_xa_prepare",
        }
    }

    /// Refuses who is not the grant's account.
    pub(crate) fn unless_account(right: &str, asked: &[u8]) -> Result<(), Self> {
        const LONGEST_NAME: usize = 80;
        if asked == right.as_bytes() {
            return Ok(());
        }
        let asked = asked.get(..LONGEST_NAME).unwrap_or(asked);
        Err(Self::OtherAccount {
            right: right.to_owned(),
            asked: String::from_utf8_lossy(asked).into_owned(),
        })
    }
}
