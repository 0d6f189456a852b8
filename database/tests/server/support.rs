//! Real servers, named by POWERPOLE_TEST_MYSQL and POWERPOLE_TEST_MARIADB (URLs of an owner's login, with an IPv4 address).
//! The `powerpole` schema is one a server, so tests on one server take turns.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use mysql_async::{Conn, Opts, OptsBuilder, Params, Row, SslOpts, Value, prelude::*};
use powerpole_database::{
    Authentication, Dialect, Grantor, InstallOptions, install_statements, ticket::schema_list,
    ticket_key_statement,
};
use powerpole_protocol::{level::AccessLevel, ticket::Ticket};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

pub const KEY: [u8; 32] = [42; 32];
pub const GRANTOR: &str = "pp_test_grantor";
pub const GRANTOR_PASSWORD: &str = "grantor-password-of-the-tests";
/// Where the tests' bastion is, as the server sees it.
pub const BASTION: &str = "127.0.0.3";
pub const PASSWORD: &str = "q7Zt0vPb3mXw9LrKc2YsHd8N";

static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub struct Server {
    pub name: &'static str,
    pub dialect: Dialect,
    pub owner: Opts,
    pub serial: std::sync::atomic::AtomicU64,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

/// Runs `test` on each server that the environment names; says loudly which it does not.
pub async fn on_each<F, Fut>(title: &str, test: F)
where
    F: Fn(std::sync::Arc<Server>) -> Fut,
    Fut: Future<Output = ()>,
{
    for (name, variable) in [
        ("MySQL", "POWERPOLE_TEST_MYSQL"),
        ("MariaDB", "POWERPOLE_TEST_MARIADB"),
    ] {
        let Ok(url) = std::env::var(variable) else {
            eprintln!("SKIPPED: {title} on {name}: {variable} is not set");
            continue;
        };
        let turn = TURN.lock().await;
        let owner = options(Opts::from_url(&url).unwrap());
        let mut conn = Conn::new(owner.clone()).await.unwrap();
        let version: String = conn.query_first("SELECT VERSION()").await.unwrap().unwrap();
        let server = Server {
            name,
            dialect: Dialect::of_version(&version).unwrap(),
            owner,
            serial: 0.into(),
            _turn: turn,
        };
        server.install(&mut conn, server.install_options()).await;
        conn.query_drop("UPDATE powerpole.accounts SET lease_until = 0")
            .await
            .unwrap();
        conn.query_drop("CALL powerpole.sweep()").await.unwrap();
        drop(conn);
        test(std::sync::Arc::new(server)).await;
    }
}

pub fn options(opts: Opts) -> Opts {
    OptsBuilder::from_opts(opts)
        .prefer_socket(false)
        .ssl_opts(SslOpts::default().with_danger_accept_invalid_certs(true))
        .into()
}

impl Server {
    pub fn install_options(&self) -> InstallOptions {
        InstallOptions {
            schemas: ["app_1", "billing"].map(String::from).to_vec(),
            grantor: Some(Grantor {
                name: GRANTOR.into(),
                host: "%".into(),
                authentication: Some(Authentication::of(
                    self.dialect,
                    GRANTOR_PASSWORD.as_bytes(),
                    b"grantor",
                )),
            }),
            // Most thieves here come in twos and threes.
            grantor_connections: 0,
            ..InstallOptions::default()
        }
    }

    pub async fn install(&self, conn: &mut Conn, options: InstallOptions) {
        for schema in ["app_1", "appx1", "billing"] {
            conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {schema}"))
                .await
                .unwrap();
            conn.query_drop(format!(
                "CREATE TABLE IF NOT EXISTS {schema}.t (id INT PRIMARY KEY, v INT)"
            ))
            .await
            .unwrap();
            conn.query_drop(format!(
                "INSERT IGNORE INTO {schema}.t VALUES (1, 1), (2, 2)"
            ))
            .await
            .unwrap();
        }
        for statement in install_statements(self.dialect, &options).unwrap() {
            if let Err(error) = conn.query_drop(&statement).await {
                panic!("{}: {error}\n{statement}", self.name);
            }
        }
        conn.query_drop(ticket_key_statement("k1", &KEY).unwrap())
            .await
            .unwrap();
        conn.query_drop("SET GLOBAL event_scheduler = ON")
            .await
            .unwrap();
        self.wait_for_event(conn).await;
    }

    pub async fn wait_for_event(&self, conn: &mut Conn) {
        for _ in 0..100 {
            let age: i64 = conn
                .query_first("SELECT UNIX_TIMESTAMP() - ran_at FROM powerpole.heartbeat")
                .await
                .unwrap()
                .unwrap();
            if age < 3 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{}: the event does not run", self.name);
    }

    pub async fn owner(&self) -> Conn {
        Conn::new(self.owner.clone()).await.unwrap()
    }

    /// A login seen by the server as coming from `from` (a loopback address).
    pub async fn login(
        &self,
        user: &str,
        password: &str,
        from: &str,
    ) -> Result<Conn, mysql_async::Error> {
        login_at(address(&self.owner), user, password, from).await
    }

    pub async fn grantor(&self, from: &str) -> Conn {
        self.login(GRANTOR, GRANTOR_PASSWORD, from).await.unwrap()
    }

    pub fn authentication(&self) -> String {
        Authentication::of(self.dialect, PASSWORD.as_bytes(), b"test").argument()
    }

    pub async fn now(&self) -> u64 {
        self.owner()
            .await
            .query_first("SELECT UNIX_TIMESTAMP()")
            .await
            .unwrap()
            .unwrap()
    }

    /// A request id nobody used before.
    pub async fn request(&self) -> String {
        let serial = self
            .serial
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let micros: u64 = self
            .owner()
            .await
            .query_first("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)")
            .await
            .unwrap()
            .unwrap();
        format!("req-{:026}", micros * 100 + serial % 100)
    }

    /// A ticket for [`BASTION`] to open `account` in `app_1`.
    pub async fn ticket(&self, account: &str, level: &str, valid_s: u64) -> Ticket {
        self.ticket_for(BASTION, account, level, valid_s).await
    }

    /// The same for a bastion elsewhere.
    pub async fn ticket_for(
        &self,
        bastion: &str,
        account: &str,
        level: &str,
        valid_s: u64,
    ) -> Ticket {
        let request = self.request().await;
        self.unsigned(&request, account, level, &["app_1"], valid_s)
            .await
            .signed(&KEY, bastion.parse().unwrap())
    }

    pub async fn unsigned(
        &self,
        request: &str,
        account: &str,
        level: &str,
        schemas: &[&str],
        valid_s: u64,
    ) -> Ticket {
        Ticket {
            key_id: "k1".into(),
            request: request.parse().unwrap(),
            account: account.parse().unwrap(),
            level: AccessLevel::parse(level).unwrap(),
            schemas: schemas.iter().map(|s| s.parse().unwrap()).collect(),
            not_after: self.now().await + valid_s,
            nonce: format!("000000{}", &self.request().await[4..]),
            mac: String::new(),
        }
    }

    pub async fn exists(&self, account: &str, host: &str) -> bool {
        let found: u64 = self
            .owner()
            .await
            .exec_first(
                "SELECT COUNT(*) FROM mysql.user WHERE User = ? AND Host = ?",
                (account, host),
            )
            .await
            .unwrap()
            .unwrap();
        found > 0
    }
}

/// Where a URL's server listens.
pub fn address(opts: &Opts) -> SocketAddr {
    SocketAddr::new(opts.ip_or_hostname().parse().unwrap(), opts.tcp_port())
}

/// A login on whichever server listens there.
pub async fn login_at(
    server: SocketAddr,
    user: &str,
    password: &str,
    from: &str,
) -> Result<Conn, mysql_async::Error> {
    let near = forward(from, server).await;
    let opts = OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(near)
        .user(Some(user))
        .pass(Some(password));
    Conn::new(options(opts.into())).await
}

pub fn open_arguments(ticket: &Ticket, last: impl Into<Value>) -> Vec<Value> {
    vec![
        ticket.key_id.clone().into(),
        ticket.request.to_string().into(),
        ticket.account.to_string().into(),
        ticket.level.to_string().into(),
        schema_list(ticket).into(),
        ticket.not_after.into(),
        ticket.nonce.clone().into(),
        ticket.mac.clone().into(),
        last.into(),
    ]
}

/// The first row of the procedure's answer by column, or the code it refused with.
pub async fn call(
    conn: &mut Conn,
    procedure: &str,
    arguments: Vec<Value>,
) -> Result<HashMap<String, String>, String> {
    let marks = vec!["?"; arguments.len()].join(", ");
    let params = if arguments.is_empty() {
        Params::Empty
    } else {
        Params::Positional(arguments)
    };
    let row: Result<Option<Row>, _> = conn
        .exec_first(format!("CALL powerpole.{procedure}({marks})"), params)
        .await;
    match row {
        Ok(Some(row)) => {
            let names: Vec<String> = row
                .columns_ref()
                .iter()
                .map(|c| c.name_str().into_owned())
                .collect();
            let values = row.unwrap();
            Ok(names
                .into_iter()
                .zip(values.into_iter().map(text))
                .collect())
        }
        Ok(None) => Ok(HashMap::new()),
        Err(error) => Err(code(&error)),
    }
}

fn text(value: Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
        Value::Int(number) => number.to_string(),
        Value::UInt(number) => number.to_string(),
        Value::NULL => String::new(),
        other => format!("{other:?}"),
    }
}

pub fn code(error: &mysql_async::Error) -> String {
    match error {
        mysql_async::Error::Server(e) if e.code == 1644 => e
            .message
            .strip_prefix("powerpole ")
            .and_then(|m| m.split_once(':'))
            .map_or(e.message.clone(), |m| m.0.to_owned()),
        mysql_async::Error::Server(e) => format!("{} {}", e.code, e.message),
        other => other.to_string(),
    }
}

/// Opens as `alice` from `from` and returns the ticket.
pub async fn open(server: &Server, level: &str, from: &str) -> Ticket {
    let ticket = server.ticket_for(from, "alice", level, 600).await;
    let mut grantor = server.grantor(from).await;
    call(
        &mut grantor,
        "open_account",
        open_arguments(&ticket, server.authentication()),
    )
    .await
    .unwrap();
    ticket
}

pub fn own(ticket: &Ticket) -> Vec<Value> {
    vec![
        ticket.request.to_string().into(),
        ticket.nonce.clone().into(),
    ]
}

pub async fn forward(from: &str, to: SocketAddr) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let from: SocketAddr = format!("{from}:0").parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(from).unwrap();
            let mut far: TcpStream = socket.connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    port
}
