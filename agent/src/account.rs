//! The account on the database, opened and closed through PowerPole's procedures.
//!
//! Owns: every connection that the agent makes as the grantor, and the proof that the account works.
//! Trusts: the servers whose certificates it checked, and what the procedures answer.
//! Never: sends the account's password in SQL (its hash goes), talks without TLS, or decides when.
//!
//! Every call is made on a connection of its own, so nothing depends on one surviving, and every call may
//! be repeated: what happened but was not answered is the same call again.

mod call;
mod error;
mod readers;
mod servers;

pub(crate) use error::AccountError;
pub(crate) use readers::ReaderEnd;
pub(crate) use servers::{DatabaseTarget, NoReader, Servers};

use call::{Answer, call, connect_grantor, failed, is_not_yet, options, within};
use mysql_async::{Conn, Error as SqlError, Value, prelude::Queryable};
use powerpole_database::{Authentication, Dialect, ticket::schema_list};
use powerpole_protocol::{secret::Secret, ticket::Ticket};
use std::fmt;
use std::time::Duration;

/// A reader learns of an account within its replica lag; a login is tried this often before it is refused.
const LOGIN_TRIES: u32 = 20;
const LOGIN_PAUSE: Duration = Duration::from_millis(250);
/// Closing is asked again while connections or the account are still there.
const CLOSE_TRIES: u32 = 10;
const CLOSE_PAUSE: Duration = Duration::from_millis(500);

/// Who calls the procedures: the cluster's grantor credential.
#[derive(Debug)]
pub(crate) struct Grantor {
    /// User name.
    pub(crate) username: String,
    /// Password.
    pub(crate) password: Secret,
}

/// The account of this grant, open on the server.
pub(crate) struct Account {
    servers: Servers,
    grantor: Grantor,
    request: String,
    nonce: String,
    user: String,
    name_host: String,
    schemas: Vec<String>,
}

/// Without the nonce of its ticket, which stands for the grant at the server.
impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("request", &self.request)
            .field("name_host", &self.name_host)
            .finish_non_exhaustive()
    }
}

/// What closing found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Connections of the account that were ended.
    pub(crate) connections_killed: u64,
    /// Server's clock when it was gone, unix seconds.
    pub(crate) closed_at: u64,
    /// Why it was closed: `asked`, `deadline`, `lease`, `sweep`.
    pub(crate) reason: String,
}

impl Account {
    /// Opens the account that the ticket permits on the writer, from this machine's own address.
    ///
    /// May be repeated with the same ticket and password until it answers.
    pub(crate) async fn open(
        servers: &Servers,
        grantor: Grantor,
        ticket: &Ticket,
        password: &Secret,
    ) -> Result<Self, AccountError> {
        const PROCEDURE: &str = "open_account";
        let target = servers.writer();
        let mut conn = connect_grantor(target, &grantor).await?;
        let version =
            match within(target, conn.query_first::<String, _>("SELECT VERSION()")).await? {
                Ok(version) => version.unwrap_or_default(),
                Err(source) => return Err(failed(target, PROCEDURE, source)),
            };
        let dialect = Dialect::of_version(&version).map_err(AccountError::Unsupported)?;
        let authentication = Authentication::of(
            dialect,
            password.expose().as_bytes(),
            ticket.nonce.as_bytes(),
        );
        let answer = call(
            target,
            &mut conn,
            PROCEDURE,
            vec![
                ticket.key_id.as_str().into(),
                ticket.request.as_str().into(),
                ticket.account.as_str().into(),
                ticket.level.as_str().into(),
                schema_list(ticket).into(),
                ticket.not_after.into(),
                ticket.nonce.as_str().into(),
                ticket.mac.as_str().into(),
                authentication.argument().into(),
            ],
        )
        .await?;
        let user = answer.text("account")?;
        let host = answer.text("host")?;
        Ok(Self {
            servers: servers.clone(),
            grantor,
            request: ticket.request.to_string(),
            nonce: ticket.nonce.clone(),
            name_host: format!("'{user}'@'{host}'"),
            user,
            schemas: ticket.schemas.iter().map(ToString::to_string).collect(),
        })
    }

    /// Logs in as the account over TLS, where its sessions will, and sees that every schema of the grant is there.
    ///
    /// A refused login is tried again: a reader learns of the account, and of its unlocking, a little later.
    pub(crate) async fn prove(&self, password: &Secret) -> Result<(), AccountError> {
        let target = self.servers.session();
        let mut tries = 0;
        let mut conn = loop {
            tries += 1;
            let options = options(target, &self.user, password);
            match within(target, Conn::new(options)).await? {
                Ok(conn) => break conn,
                Err(source) if is_not_yet(&source) && tries < LOGIN_TRIES => {
                    tokio::time::sleep(LOGIN_PAUSE).await;
                }
                Err(source) if matches!(source, SqlError::Server(_)) || is_not_yet(&source) => {
                    return Err(AccountError::LoginFailed {
                        name_host: self.name_host.clone(),
                        source,
                    });
                }
                Err(source) => return Err(failed(target, "login", source)),
            }
        };
        for schema in &self.schemas {
            // Schemas without any right for the account are not listed to it.
            let seen = conn.exec_first::<String, _, _>(
                "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?",
                (schema,),
            );
            match within(target, seen).await? {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(AccountError::RightsMissing {
                        name_host: self.name_host.clone(),
                        schema: schema.clone(),
                    });
                }
                Err(source) => return Err(failed(target, "prove", source)),
            }
        }
        // The account works; how this connection ends changes nothing.
        let _ = conn.disconnect().await;
        Ok(())
    }

    /// Renews the lease; answers the unix second (server's clock) at which the account ends as things stand.
    pub(crate) async fn renew(&self) -> Result<u64, AccountError> {
        self.call("renew_lease", Vec::new())
            .await?
            .number("ends_at")
    }

    /// Sets the deadline, unix seconds: not later than the ticket allows, nor than one set before.
    pub(crate) async fn set_deadline(&self, unix_s: u64) -> Result<(), AccountError> {
        self.call("set_deadline", vec![unix_s.into()])
            .await
            .map(drop)
    }

    /// Locks the account, ends its connections on the writer, drops it and reads back that it is gone. May be
    /// repeated. Connections on readers are [`Account::end_on_readers`]'.
    pub(crate) async fn close(&self) -> Result<Closed, AccountError> {
        const PROCEDURE: &str = "close_account";
        let mut tries = 0;
        loop {
            tries += 1;
            let answer = self.call(PROCEDURE, Vec::new()).await?;
            let exists = answer.number("account_exists")?;
            let connections = answer.number("connections")?;
            if answer.text("state")? == "closed" && exists == 0 && connections == 0 {
                return Ok(Closed {
                    connections_killed: answer.number("connections_killed")?,
                    closed_at: answer.number("closed_at")?,
                    reason: answer.text("close_reason")?,
                });
            }
            if tries == CLOSE_TRIES {
                let detail = answer.text("last_error").unwrap_or_default();
                return Err(AccountError::NotGone {
                    name_host: self.name_host.clone(),
                    detail: format!("{connections} connections left; {detail}"),
                });
            }
            tokio::time::sleep(CLOSE_PAUSE).await;
        }
    }

    /// How many further instances the cluster has.
    pub(crate) fn readers(&self) -> usize {
        self.servers.readers().len()
    }

    /// As MySQL writes it: `'alice'@'10.77.64.5'`.
    pub(crate) fn name_host(&self) -> &str {
        &self.name_host
    }

    /// The account's user name.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    fn own(&self) -> Vec<Value> {
        vec![self.request.as_str().into(), self.nonce.as_str().into()]
    }

    async fn call(
        &self,
        procedure: &'static str,
        more: Vec<Value>,
    ) -> Result<Answer, AccountError> {
        let target = self.servers.writer();
        let mut conn = connect_grantor(target, &self.grantor).await?;
        let mut arguments = self.own();
        arguments.extend(more);
        call(target, &mut conn, procedure, arguments).await
    }
}

#[cfg(test)]
pub(crate) mod tests;
