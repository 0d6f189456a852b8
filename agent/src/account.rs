//! The account on the database, opened and closed through PowerPole's procedures.
//!
//! Owns: every connection that the agent makes as the grantor, and the proof that the account works.
//! Trusts: the server whose certificate it checked, and what the procedures answer.
//! Never: sends the account's password in SQL (its hash goes), talks without TLS, or decides when.
//!
//! Every call is made on a connection of its own, so nothing depends on one surviving, and every call may
//! be repeated: what happened but was not answered is the same call again.

use crate::failure::Coded;
use mysql_async::{
    Conn, DriverError, Error as SqlError, IoError, Opts, OptsBuilder, Params, Row, SslOpts, Value,
    prelude::Queryable,
};
use powerpole_database::{Authentication, Dialect, DialectError, ticket::schema_list};
use powerpole_protocol::{handoff::DatabaseTarget, secret::Secret, ticket::Ticket};
use std::time::Duration;

/// How long one connection or one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A reader learns of an account within its replica lag; a login is tried this often before it is refused.
const LOGIN_TRIES: u32 = 20;
const LOGIN_PAUSE: Duration = Duration::from_millis(250);
/// Closing is asked again while connections or the account are still there.
const CLOSE_TRIES: u32 = 10;
const CLOSE_PAUSE: Duration = Duration::from_millis(500);

/// Who calls the procedures: the cluster's grantor credential.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Grantor {
    /// User name.
    pub(crate) username: String,
    /// Password.
    pub(crate) password: Secret,
}

/// The account of this grant, open on the server.
#[derive(Debug)]
pub(crate) struct Account {
    target: DatabaseTarget,
    grantor: Grantor,
    request: String,
    nonce: String,
    user: String,
    name_host: String,
    schemas: Vec<String>,
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

impl Account {
    /// Opens the account that the ticket permits, from this machine's own address.
    ///
    /// May be repeated with the same ticket and password until it answers.
    pub(crate) async fn open(
        target: &DatabaseTarget,
        grantor: Grantor,
        ticket: &Ticket,
        password: &Secret,
    ) -> Result<Self, AccountError> {
        const PROCEDURE: &str = "open_account";
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
            target: target.clone(),
            grantor,
            request: ticket.request.to_string(),
            nonce: ticket.nonce.clone(),
            name_host: format!("'{user}'@'{host}'"),
            user,
            schemas: ticket.schemas.iter().map(ToString::to_string).collect(),
        })
    }

    /// Logs in as the account over TLS and sees that every schema of the grant is there.
    ///
    /// A refused login (1045) is tried again: a reader learns of the account a little later.
    pub(crate) async fn prove(&self, password: &Secret) -> Result<(), AccountError> {
        let mut tries = 0;
        let mut conn = loop {
            tries += 1;
            let options = options(&self.target, &self.user, password);
            match within(&self.target, Conn::new(options)).await? {
                Ok(conn) => break conn,
                Err(source) if is_access_denied(&source) && tries < LOGIN_TRIES => {
                    tokio::time::sleep(LOGIN_PAUSE).await;
                }
                Err(source)
                    if matches!(source, SqlError::Server(_)) || is_access_denied(&source) =>
                {
                    return Err(AccountError::LoginFailed {
                        name_host: self.name_host.clone(),
                        source,
                    });
                }
                Err(source) => return Err(failed(&self.target, "login", source)),
            }
        };
        for schema in &self.schemas {
            // Schemas without any right for the account are not listed to it.
            let seen = conn.exec_first::<String, _, _>(
                "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?",
                (schema,),
            );
            match within(&self.target, seen).await? {
                Ok(Some(_)) => {}
                Ok(None) => {
                    return Err(AccountError::RightsMissing {
                        name_host: self.name_host.clone(),
                        schema: schema.clone(),
                    });
                }
                Err(source) => return Err(failed(&self.target, "prove", source)),
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

    /// Locks the account, ends its connections, drops it and reads back that it is gone. May be repeated.
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
        let mut conn = connect_grantor(&self.target, &self.grantor).await?;
        let mut arguments = self.own();
        arguments.extend(more);
        call(&self.target, &mut conn, procedure, arguments).await
    }
}

/// Options for a login on `target`: TLS with a checked certificate, TCP only.
pub(crate) fn options(target: &DatabaseTarget, user: &str, password: &Secret) -> Opts {
    let mut tls = SslOpts::default();
    if let Some(pem) = &target.ca_pem {
        tls = tls
            .with_root_certs(vec![pem.clone().into_bytes().into()])
            .with_disable_built_in_roots(true);
    }
    OptsBuilder::default()
        .ip_or_hostname(target.host.clone())
        .tcp_port(target.port)
        .user(Some(user))
        .pass(Some(password.expose()))
        .prefer_socket(false)
        .ssl_opts(tls)
        .connect_attribute("program_name", "powerpole-agent")
        .into()
}

struct Answer {
    procedure: &'static str,
    row: Row,
}

impl Answer {
    fn text(&self, column: &'static str) -> Result<String, AccountError> {
        self.value(column)
    }

    fn number(&self, column: &'static str) -> Result<u64, AccountError> {
        self.value(column)
    }

    fn value<T: mysql_async::prelude::FromValue>(
        &self,
        column: &'static str,
    ) -> Result<T, AccountError> {
        self.row
            .get_opt::<T, _>(column)
            .and_then(Result::ok)
            .ok_or(AccountError::Answer {
                procedure: self.procedure,
                column,
            })
    }
}

async fn connect_grantor(target: &DatabaseTarget, grantor: &Grantor) -> Result<Conn, AccountError> {
    let options = options(target, &grantor.username, &grantor.password);
    within(target, Conn::new(options)).await?.map_err(|source| {
        if is_access_denied(&source) {
            AccountError::GrantorRefused(source)
        } else {
            failed(target, "connect", source)
        }
    })
}

async fn call(
    target: &DatabaseTarget,
    conn: &mut Conn,
    procedure: &'static str,
    arguments: Vec<Value>,
) -> Result<Answer, AccountError> {
    let marks = vec!["?"; arguments.len()].join(", ");
    let statement = format!("CALL powerpole.{procedure}({marks})");
    let row = within(
        target,
        conn.exec_first(statement, Params::Positional(arguments)),
    )
    .await?;
    match row {
        Ok(Some(row)) => Ok(Answer { procedure, row }),
        Ok(None) => Err(AccountError::Answer {
            procedure,
            column: "a row",
        }),
        Err(source) => Err(failed(target, procedure, source)),
    }
}

async fn within<T>(
    target: &DatabaseTarget,
    step: impl Future<Output = T>,
) -> Result<T, AccountError> {
    tokio::time::timeout(CALL_LIMIT, step)
        .await
        .map_err(|_| AccountError::Timeout {
            host: target.host.clone(),
        })
}

/// 1045: user or password; 1044 and 1698 do not come up for plain logins. MySQL answers for a user that does not exist
/// as if it had one, with a plugin drawn by the name, which may be one that the client does not speak.
fn is_access_denied(error: &SqlError) -> bool {
    match error {
        SqlError::Server(server) => server.code == 1045,
        SqlError::Driver(DriverError::UnknownAuthPlugin { .. }) => true,
        _ => false,
    }
}

fn failed(target: &DatabaseTarget, procedure: &'static str, source: SqlError) -> AccountError {
    let host = target.host.clone();
    match &source {
        _ if is_tls(&source) => AccountError::Tls { host, source },
        SqlError::Io(_) | SqlError::Driver(_) | SqlError::Url(_) | SqlError::Other(_) => {
            AccountError::Unreachable {
                host,
                port: target.port,
                source,
            }
        }
        SqlError::Server(server) => match (server.code, refusal(&server.message)) {
            (1644, Some((code, detail))) => AccountError::Refused {
                procedure,
                code,
                detail,
            },
            // Unknown database or procedure, no right to call it.
            (1049 | 1305 | 1370, _) => AccountError::NotInstalled(source),
            _ => AccountError::Server { procedure, source },
        },
    }
}

/// The handshake's errors come wrapped in an I/O error.
fn is_tls(error: &SqlError) -> bool {
    match error {
        SqlError::Io(IoError::Tls(_))
        | SqlError::Driver(DriverError::NoClientSslFlagFromServer) => true,
        SqlError::Io(IoError::Io(error)) => error
            .get_ref()
            .is_some_and(|inner| inner.is::<tokio_rustls::rustls::Error>()),
        _ => false,
    }
}

/// Reads `powerpole <code>: <detail>`.
fn refusal(message: &str) -> Option<(&'static str, String)> {
    let (code, detail) = message.strip_prefix("powerpole ")?.split_once(": ")?;
    let code = REFUSALS.into_iter().find(|known| *known == code)?;
    Some((code, detail.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use mysql_async::prelude::Query;
    use powerpole_database::{InstallOptions, install_statements, ticket_key_statement};
    use powerpole_protocol::level::AccessLevel;

    const KEY: [u8; 32] = [42; 32];

    /// The installation is one a server: tests take turns.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// A server of the environment with PowerPole installed: URL in `variable`, its CA in POWERPOLE_TEST_CA.
    async fn server(variable: &str) -> Option<(DatabaseTarget, Conn)> {
        let (Ok(url), Ok(ca)) = (std::env::var(variable), std::env::var("POWERPOLE_TEST_CA"))
        else {
            eprintln!("SKIPPED: {variable} or POWERPOLE_TEST_CA is not set");
            return None;
        };
        let url = Opts::from_url(&url).unwrap();
        let target = DatabaseTarget {
            host: url.ip_or_hostname().to_owned(),
            port: url.tcp_port(),
            ca_pem: Some(std::fs::read_to_string(ca).unwrap()),
            grantor_secret: "grantor".into(),
        };
        let password = Secret::new(url.pass().unwrap().to_owned());
        let mut owner = Conn::new(options(&target, url.user().unwrap(), &password))
            .await
            .unwrap();
        let version: String = owner
            .query_first("SELECT VERSION()")
            .await
            .unwrap()
            .unwrap();
        let dialect = Dialect::of_version(&version).unwrap();
        "CREATE DATABASE IF NOT EXISTS app_1"
            .ignore(&mut owner)
            .await
            .unwrap();
        let grantor = powerpole_database::Grantor {
            name: "pp_agent_grantor".into(),
            host: "%".into(),
            authentication: Some(Authentication::of(dialect, b"of the agent's tests", b"")),
        };
        let install = InstallOptions {
            schemas: vec!["app_1".into()],
            grantor: Some(grantor),
            ..InstallOptions::default()
        };
        for statement in install_statements(dialect, &install).unwrap() {
            statement.ignore(&mut owner).await.unwrap();
        }
        ticket_key_statement("k1", &KEY)
            .unwrap()
            .ignore(&mut owner)
            .await
            .unwrap();
        "SET GLOBAL event_scheduler = ON"
            .ignore(&mut owner)
            .await
            .unwrap();
        for _ in 0..50 {
            let fresh = "SELECT ran_at >= UNIX_TIMESTAMP() - 2 FROM powerpole.heartbeat";
            if owner.query_first(fresh).await.unwrap() == Some(true) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some((target, owner))
    }

    fn grantor() -> Grantor {
        Grantor {
            username: "pp_agent_grantor".into(),
            password: Secret::new("of the agent's tests".into()),
        }
    }

    async fn ticket(owner: &mut Conn) -> Ticket {
        let micros = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)";
        let micros: u64 = owner.query_first(micros).await.unwrap().unwrap();
        Ticket {
            key_id: "k1".into(),
            request: format!("req-{micros:026}").parse().unwrap(),
            account: "erin".parse().unwrap(),
            level: AccessLevel::Read,
            schemas: vec!["app_1".parse().unwrap()],
            not_after: micros / 1_000_000 + 600,
            nonce: format!("{micros:032}"),
            mac: String::new(),
        }
        .signed(&KEY)
    }

    #[tokio::test]
    async fn an_account_lives_from_open_to_close_on_real_servers() {
        let _turn = TURN.lock().await;
        for variable in ["POWERPOLE_TEST_MYSQL", "POWERPOLE_TEST_MARIADB"] {
            let Some((target, mut owner)) = server(variable).await else {
                continue;
            };
            let password = Secret::new("vN3pR8sW1xZ5bD7fH0jL2kM4".into());
            let ticket = ticket(&mut owner).await;
            let mut forged = ticket.clone();
            forged.level = AccessLevel::Admin;
            let refused = Account::open(&target, grantor(), &forged, &password)
                .await
                .unwrap_err();
            assert_eq!(refused.code(), "ticket_refused");

            let account = Account::open(&target, grantor(), &ticket, &password)
                .await
                .unwrap();
            let again = Account::open(&target, grantor(), &ticket, &password)
                .await
                .unwrap();
            let here: String = owner
                .query_first("SELECT SUBSTRING_INDEX(USER(), '@', -1)")
                .await
                .unwrap()
                .unwrap();
            assert_eq!(account.name_host(), format!("'erin'@'{here}'"));
            assert_eq!(again.name_host(), account.name_host());
            account.prove(&password).await.unwrap();
            let lease = account.renew().await.unwrap();
            account.set_deadline(lease).await.unwrap();
            let later = account
                .set_deadline(ticket.not_after + 1)
                .await
                .unwrap_err();
            assert_eq!(later.code(), "deadline_refused");

            let mut left_behind = Conn::new(options(&target, "erin", &password))
                .await
                .unwrap();
            let closed = account.close().await.unwrap();
            assert_eq!(
                (closed.connections_killed, closed.reason.as_str()),
                (1, "asked")
            );
            assert!("SELECT 1".ignore(&mut left_behind).await.is_err());
            assert_eq!(account.close().await.unwrap(), closed);
            assert_eq!(
                account.renew().await.unwrap_err().code(),
                "account_not_open"
            );
            let reused = Account::open(&target, grantor(), &ticket, &password)
                .await
                .unwrap_err();
            assert_eq!(reused.code(), "ticket_used");
            let refused = account.prove(&password).await.unwrap_err();
            assert_eq!(refused.code(), "login_failed");
        }
    }

    #[tokio::test]
    async fn each_way_a_server_cannot_be_used_has_its_code() {
        let _turn = TURN.lock().await;
        let Some((target, mut owner)) = server("POWERPOLE_TEST_MYSQL").await else {
            return;
        };
        let password = Secret::new("x".into());
        let ticket = ticket(&mut owner).await;
        let nobody = DatabaseTarget {
            port: 1,
            ..target.clone()
        };
        let untrusted = DatabaseTarget {
            ca_pem: None,
            ..target.clone()
        };
        let wrong = Grantor {
            password: Secret::new("wrong".into()),
            ..grantor()
        };
        for (target, grantor, code) in [
            (&nobody, grantor(), "database_unreachable"),
            (&untrusted, grantor(), "database_tls_failed"),
            (&target, wrong, "grantor_refused"),
        ] {
            let error = Account::open(target, grantor, &ticket, &password)
                .await
                .unwrap_err();
            assert_eq!(error.code(), code);
        }
    }

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
