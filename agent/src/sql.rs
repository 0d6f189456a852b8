//! The recorder's own MySQL endpoint: the only way from the operator's shell to the database.
//!
//! Owns the listening socket and both legs of every connection, with TLS on each. Passes the login through, so the
//! account's password is the client's and the server's affair and is in no record. Records every packet that a
//! server could take for a command, before it is passed on. Never lets a connection without TLS or with compression
//! through, nobody but the operator's uid, and no other account than the grant's.
//!
//! Passed as they are: LOAD DATA LOCAL (its data is recorded like a statement), prepared statements, multiple
//! statements, large packets. Taken out of the server's greeting: compression, query attributes, so that a
//! statement's record begins with its text, and connection attributes, from which a statement could be made. The wish for
//! TLS, by which a server reads the login, is the endpoint's own. Not passed: XA PREPARE, whose branch would outlive the
//! account, packets whose number the server would not take, and forms that servers read in different ways. Of
//! COM_CHANGE_USER all but the secret is passed, for which the server then asks.

mod answer;
mod answers;
mod broken;
mod change_user;
mod client_stream;
mod command;
mod connection;
mod login;
mod packet;
mod peer;
mod piece;
mod sock_diag;
mod tls;
mod xa;

use crate::account::DatabaseTarget;
use crate::config::Config;
use crate::evidence::{Gate, Recorder};
use crate::failure::Coded;
use broken::Broken;
use connection::Trouble;
use peer::Client;
use powerpole_chain::Kind;
use serde_json::json;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use tls::TlsError;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Connections that may be open at once.
const MAX_CONNECTIONS: usize = 64;

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SqlError {
    /// The port cannot be had.
    #[error("cannot listen at {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS for the database endpoint")]
    Tls(#[from] TlsError),
    /// The image has no such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// The kernel does not tell whose a connection is.
    #[error("cannot learn whose a connection is")]
    Peers(#[source] io::Error),
}

impl Coded for SqlError {
    fn code(&self) -> &'static str {
        match self {
            Self::Listen { .. } => "sql_listen",
            Self::Tls(_) => "sql_tls",
            Self::NoUser(_) => "user_missing",
            Self::Peers(_) => "sql_peers",
        }
    }
}

/// What this endpoint does not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SqlRefusal {
    /// The server refused the connection itself.
    ByServer,
    /// The server offers no TLS.
    ServerWithoutTls,
    /// The client asked for no TLS.
    ClientWithoutTls,
    /// The client asked for what was taken out of the greeting.
    Capability,
    /// The client's login has a form that is not read here.
    OldLogin,
    /// The client is not the operator's process.
    OtherUser(Option<u32>),
    /// The client is a process of the operator that belongs to no login.
    NoLogin,
    /// The client breaks the protocol, or wants what is not passed.
    Broken(Broken),
}

impl SqlRefusal {
    fn code(&self) -> &'static str {
        match self {
            Self::ByServer => "sql_by_server",
            Self::ServerWithoutTls => "sql_server_without_tls",
            Self::ClientWithoutTls => "sql_client_without_tls",
            Self::Capability => "sql_capability",
            Self::OldLogin => "sql_old_login",
            Self::OtherUser(_) => "sql_other_user",
            Self::NoLogin => "sql_no_login",
            Self::Broken(broken) => broken.code(),
        }
    }

    /// The refusal's record.
    fn record(&self, connection: u32, uid: Option<u32>) -> serde_json::Value {
        let broken = if let Self::Broken(broken) = self {
            Some(broken)
        } else {
            None
        };
        let user = if let Some(Broken::OtherAccount { asked, .. }) = broken {
            Some(asked)
        } else {
            None
        };
        json!({
            "code": self.code(),
            "connection": connection,
            "uid": uid,
            "why": broken.map(ToString::to_string),
            "user": user,
        })
    }
}

impl fmt::Display for SqlRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Whose connections are served, as which account, and how the client of one is found.
#[derive(Debug, Clone)]
struct Clients {
    operator_uid: u32,
    /// The grant's account: no other one is passed, whatever its password.
    account: String,
    find: fn(SocketAddr, SocketAddr) -> io::Result<Option<Client>>,
}

impl Clients {
    /// The login that made a connection; who is not in one is refused.
    fn login(&self, client: &TcpStream, peer: SocketAddr) -> Result<u32, SqlRefusal> {
        let found = client.local_addr().and_then(|own| (self.find)(peer, own));
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the kernel does not say whose a connection is");
                None
            }
        };
        match found {
            Some(client) if client.uid == self.operator_uid => {
                client.login.ok_or(SqlRefusal::NoLogin)
            }
            other => Err(SqlRefusal::OtherUser(other.map(|client| client.uid))),
        }
    }
}

/// What every connection needs.
struct Endpoint {
    recorder: Recorder,
    gate: watch::Receiver<Gate>,
    target: DatabaseTarget,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    server_name: ServerName<'static>,
    clients: Clients,
    statements: AtomicU64,
    connections: AtomicU32,
}

/// The endpoint, serving until it is stopped.
pub(crate) struct SqlEndpoint {
    endpoint: Arc<Endpoint>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl SqlEndpoint {
    /// Listens for the operator's clients, which may log in as this account alone.
    ///
    /// # Errors
    /// When the port or TLS cannot be had.
    pub(crate) async fn start(
        config: &Config,
        target: &DatabaseTarget,
        account: &str,
        recorder: Recorder,
        gate: watch::Receiver<Gate>,
    ) -> Result<Self, SqlError> {
        let operator_uid = nix::unistd::User::from_name(&config.operator_user)
            .ok()
            .flatten()
            .map(|user| user.uid.as_raw())
            .ok_or_else(|| SqlError::NoUser(config.operator_user.clone()))?;
        peer::probe().map_err(SqlError::Peers)?;
        let clients = Clients {
            operator_uid,
            account: account.to_owned(),
            find: peer::client_of,
        };
        Self::start_for(config.sql_listen, clients, target, recorder, gate).await
    }

    async fn start_for(
        listen: SocketAddr,
        clients: Clients,
        target: &DatabaseTarget,
        recorder: Recorder,
        gate: watch::Receiver<Gate>,
    ) -> Result<Self, SqlError> {
        let (connector, server_name) = tls::connector(target)?;
        let acceptor = tls::acceptor()?;
        let failed = |source| SqlError::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let endpoint = Arc::new(Endpoint {
            recorder,
            gate,
            target: target.clone(),
            acceptor,
            connector,
            server_name,
            clients,
            statements: AtomicU64::new(0),
            connections: AtomicU32::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(serve(Arc::clone(&endpoint), listener, stopped));
        Ok(Self {
            endpoint,
            address,
            stop,
            serving,
        })
    }

    /// The line that opens the database from the operator's shell, without the password.
    pub(crate) fn mysql_line(&self, account: impl fmt::Display) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!("mysql -h {host} -P {port} -u {account} -p --ssl")
    }

    /// Statements recorded so far.
    pub(crate) fn statements(&self) -> u64 {
        self.endpoint.statements.load(Ordering::Relaxed)
    }

    /// Ends every connection and listens no more. Returns how many statements there were.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_secs(3), self.serving).await;
        if ended.is_err() {
            tracing::error!("the database endpoint did not end in time");
        }
        self.endpoint.statements.load(Ordering::Relaxed)
    }
}

async fn serve(endpoint: Arc<Endpoint>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (client, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "the database endpoint's socket failed");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        // Without room the client is told nothing but the end of its connection.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let endpoint = Arc::clone(&endpoint);
        open.spawn(async move {
            endpoint.attend(client, peer).await;
            drop(permit);
        });
    }
    // Dropping their tasks closes both legs of every connection.
    open.shutdown().await;
}

impl Endpoint {
    async fn attend(&self, client: TcpStream, peer: SocketAddr) {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let login = self.clients.login(&client, peer);
        let session = *login.as_ref().unwrap_or(&0);
        let uid = match login {
            Err(SqlRefusal::OtherUser(uid)) => uid,
            _ => Some(self.clients.operator_uid),
        };
        let outcome = match login {
            Ok(session) => {
                connection::serve(self, connection::Whose { number, session }, client).await
            }
            Err(refusal) => Err(Trouble::Refused(refusal)),
        };
        let recorded = match &outcome {
            Ok(()) => self.note(number, session, "sql_closed", None),
            Err(Trouble::Recorded) => Ok(()),
            Err(Trouble::Refused(refusal)) => self.record_refusal(number, session, uid, refusal),
            Err(trouble) => self.note(number, session, "sql_closed", Some(trouble.to_string())),
        };
        if let Err(error) = recorded {
            tracing::error!(code = error.code(), %error, "a connection's end was not recorded");
        }
    }

    /// Records why a connection of the operator's is refused.
    fn refuse(
        &self,
        whose: connection::Whose,
        refusal: &SqlRefusal,
    ) -> Result<(), crate::evidence::EvidenceError> {
        let uid = Some(self.clients.operator_uid);
        self.record_refusal(whose.number, whose.session, uid, refusal)
    }

    fn record_refusal(
        &self,
        number: u32,
        session: u32,
        uid: Option<u32>,
        refusal: &SqlRefusal,
    ) -> Result<(), crate::evidence::EvidenceError> {
        let code = refusal.code();
        tracing::warn!(connection = number, code, ?uid, "connection refused");
        let record = refusal.record(number, uid);
        self.recorder.record_json(Kind::Refusal, session, &record)
    }

    fn note(
        &self,
        number: u32,
        session: u32,
        event: &str,
        why: Option<String>,
    ) -> Result<(), crate::evidence::EvidenceError> {
        let event = json!({"event": event, "connection": number, "why": why});
        self.recorder.record_json(Kind::Event, session, &event)
    }
}

#[cfg(test)]
mod tests;
