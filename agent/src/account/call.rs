//! One call of a procedure on one connection, bounded in time, its failures sorted.

use super::error::refusal;
use super::{AccountError, DatabaseTarget, Grantor};
use crate::clock;
use mysql_async::{
    Conn, DriverError, Error as SqlError, IoError, Opts, OptsBuilder, Params, Row, SslOpts, Value,
    prelude::Queryable,
};
use powerpole_protocol::secret::Secret;
use rand::TryRng as _;
use rand::rngs::SysRng;
use std::time::Duration;

/// How long the grantor's connection is waited for while other bastions have it: their calls take well under a second.
const BUSY_LIMIT: Duration = Duration::from_secs(20);
/// Mean pause between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How long one connection or one call may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Options for a login on `target`: TLS with a checked certificate, TCP only.
pub(super) fn options(target: &DatabaseTarget, user: &str, password: &Secret) -> Opts {
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

/// The first row that a procedure answers with.
pub(super) struct Answer {
    procedure: &'static str,
    row: Row,
}

impl Answer {
    pub(super) fn text(&self, column: &'static str) -> Result<String, AccountError> {
        self.value(column)
    }

    pub(super) fn number(&self, column: &'static str) -> Result<u64, AccountError> {
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

/// Logs in as the grantor, whose connections all bastions of the cluster share: waits while others have them.
pub(super) async fn connect_grantor(
    target: &DatabaseTarget,
    grantor: &Grantor,
) -> Result<Conn, AccountError> {
    let began = clock::boottime();
    loop {
        let options = options(target, &grantor.username, &grantor.password);
        let source = match within(target, Conn::new(options)).await? {
            Ok(conn) => return Ok(conn),
            Err(source) => source,
        };
        if is_access_denied(&source) {
            return Err(AccountError::GrantorRefused(source));
        }
        if !is_busy(&source) {
            return Err(failed(target, "connect", source));
        }
        if clock::boottime().since(began) >= BUSY_LIMIT {
            return Err(AccountError::GrantorBusy(source));
        }
        tokio::time::sleep(some_of(BUSY_PAUSE)).await;
    }
}

/// Between half and one and a half of `mean`, so that bastions that wait do not meet again and again.
fn some_of(mean: Duration) -> Duration {
    let mut random = [128];
    // Without randomness all wait equally long, which is slower and nothing else.
    let _ = SysRng.try_fill_bytes(&mut random);
    mean.mul_f64(0.5 + f64::from(random[0]) / 255.0)
}

/// 1226: the account's own bound on connections, 1203: the server's bound on those of one user.
fn is_busy(error: &SqlError) -> bool {
    matches!(error, SqlError::Server(server) if matches!(server.code, 1203 | 1226))
}

/// Calls a procedure.
pub(super) async fn call(
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

/// Gives a step [`CALL_LIMIT`].
pub(super) async fn within<T>(
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

/// A login that may work a moment later: refused as if the account were not there, or still locked, as it is while
/// it is made. 3118 is MySQL's word for locked, 4151 MariaDB's.
pub(super) fn is_not_yet(error: &SqlError) -> bool {
    is_access_denied(error)
        || matches!(error, SqlError::Server(server) if matches!(server.code, 3118 | 4151))
}

/// What a failure of `procedure` means.
pub(super) fn failed(
    target: &DatabaseTarget,
    procedure: &'static str,
    source: SqlError,
) -> AccountError {
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
