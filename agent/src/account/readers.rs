//! The account's connections on the cluster's further instances.
//!
//! A drop on the writer is replicated and refuses new logins, but ends no connection that lives on a reader, and no
//! event runs there: only `end_connections`, called on that instance, does. The order on every instance is lock,
//! revoke, kill until none is left, drop, read back; all but the kill come from the writer. So a reader is done when it
//! shows the account gone *and* no connection: one that came in before the lock was replicated is met by the next look.

use super::call::{call, connect_grantor};
use super::{Account, AccountError, DatabaseTarget};
use crate::clock;
use futures_util::future::join_all;
use std::time::Duration;
use tokio::sync::watch;

/// Pause between two looks at one reader.
const PAUSE: Duration = Duration::from_millis(250);

/// What became of the account's connections on one reader.
#[derive(Debug)]
pub(crate) struct ReaderEnd {
    /// `host:port`.
    pub(crate) instance: String,
    /// Connections that were ended there, once the account was seen gone and none was left.
    pub(crate) ended: Result<u64, AccountError>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// One look at one reader.
struct Look {
    killed: u64,
    left: u64,
    exists: bool,
}

impl Account {
    /// Ends the account's connections on every reader until none is left and the account is seen gone there, or until
    /// `give_up` turns true. Each reader is on its own: one that cannot be reached holds up no other.
    pub(crate) async fn end_on_readers(&self, give_up: watch::Receiver<bool>) -> Vec<ReaderEnd> {
        let readers = self.servers.readers().iter();
        join_all(readers.map(|reader| self.end_on(reader, give_up.clone()))).await
    }

    async fn end_on(
        &self,
        reader: &DatabaseTarget,
        mut give_up: watch::Receiver<bool>,
    ) -> ReaderEnd {
        let start = clock::boottime();
        let mut killed = 0;
        let mut ended = Err(AccountError::Timeout {
            host: reader.host.clone(),
        });
        loop {
            let look = tokio::select! {
                look = self.look(reader) => look,
                _ = give_up.wait_for(|over| *over) => break,
            };
            ended = match look {
                Ok(look) => {
                    killed += look.killed;
                    if look.left == 0 && !look.exists {
                        ended = Ok(killed);
                        break;
                    }
                    Err(self.still_there(&look))
                }
                Err(error) => Err(error),
            };
            let over = give_up.wait_for(|over| *over);
            if tokio::time::timeout(PAUSE, over).await.is_ok() {
                break;
            }
        }
        ReaderEnd {
            instance: format!("{}:{}", reader.host, reader.port),
            ended,
            took: clock::boottime().since(start),
        }
    }

    /// Kills, then reads back. Both only read the registry, so they work where nothing can be written.
    async fn look(&self, reader: &DatabaseTarget) -> Result<Look, AccountError> {
        let mut conn = connect_grantor(reader, &self.grantor).await?;
        let ended = call(reader, &mut conn, "end_connections", self.own()).await?;
        // Existence is read before the connections are counted: without the account none can come in between.
        let state = call(reader, &mut conn, "account_state", self.own()).await?;
        Ok(Look {
            killed: ended.number("connections_killed")?,
            left: state.number("connections")?,
            exists: state.number("account_exists")? > 0,
        })
    }

    fn still_there(&self, look: &Look) -> AccountError {
        let account = if look.exists {
            "the account is still there"
        } else {
            "the account is gone"
        };
        AccountError::NotGone {
            name_host: self.name_host.clone(),
            detail: format!("{account}, {} connections left", look.left),
        }
    }
}
