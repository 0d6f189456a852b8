//! The endpoint before real servers, named by `POWERPOLE_TEST_MYSQL` and `POWERPOLE_TEST_MARIADB` (URLs of an owner's login,
//! with an IPv4 address), whose certificate is signed by `POWERPOLE_TEST_CA` (PEM file). One of the tests runs `mariadb`,
//! the client. Without them these tests say that they skip.

mod attacks;
mod logins;
mod raw;
mod results;
mod xa_texts;

use super::piece::{DATA, HEADER, REDACTED};
use super::*;
use crate::evidence::trial;
use mysql_async::prelude::Queryable as _;
use mysql_async::{ChangeUserOpts, Conn, Opts, OptsBuilder, SslOpts};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

struct Setting {
    servers: Vec<SocketAddr>,
    ca: String,
    user: String,
    password: String,
}

/// Makes the account of these tests on each server: all rights on a schema of its name.
async fn setting(test: &str) -> Option<Setting> {
    let get = |name: &str| std::env::var(format!("POWERPOLE_TEST_{name}")).ok();
    let (Some(mysql), Some(mariadb), Some(ca)) = (get("MYSQL"), get("MARIADB"), get("CA")) else {
        eprintln!("SKIPPED {test}: POWERPOLE_TEST_MYSQL, _MARIADB, _CA are not all set");
        return None;
    };
    let setting = Setting {
        servers: [&mysql, &mariadb].map(|url| address(url)).to_vec(),
        ca: std::fs::read_to_string(ca).unwrap(),
        user: "pp_endpoint".to_owned(),
        password: "Tq4vX9nB2mK7wR5z".to_owned(),
    };
    let (user, password) = (&setting.user, &setting.password);
    for url in [mysql, mariadb] {
        let opts =
            OptsBuilder::from_opts(Opts::from_url(&url).unwrap()).ssl_opts(Some(untrusting()));
        let mut owner = Conn::new(opts).await.unwrap();
        for statement in [
            format!("CREATE DATABASE IF NOT EXISTS {user}"),
            format!("CREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{password}'"),
            format!("GRANT ALL PRIVILEGES ON {user}.* TO {user}"),
            // Its password is empty, so that home-made clients need no more than the protocol.
            format!(
                "CREATE USER IF NOT EXISTS {} IDENTIFIED BY '' REQUIRE SSL",
                raw::USER
            ),
            format!("GRANT ALL PRIVILEGES ON {user}.* TO {}", raw::USER),
            // The same with rights on nothing.
            format!(
                "CREATE USER IF NOT EXISTS {} IDENTIFIED BY '' REQUIRE SSL",
                raw::OTHER
            ),
        ] {
            owner.query_drop(statement).await.unwrap();
        }
    }
    Some(setting)
}

fn address(url: &str) -> SocketAddr {
    let opts = Opts::from_url(url).unwrap();
    SocketAddr::new(opts.ip_or_hostname().parse().unwrap(), opts.tcp_port())
}

fn untrusting() -> SslOpts {
    SslOpts::default()
        .with_danger_accept_invalid_certs(true)
        .with_danger_skip_domain_validation(true)
}

struct Trial {
    endpoint: SqlEndpoint,
    recorder: Recorder,
    spool: PathBuf,
    _temp: tempfile::TempDir,
}

/// These tests are no login's process, so the login is given.
fn ours_in_login_7(operator_uid: u32, account: &str) -> Clients {
    let find = |peer, own| {
        let found = peer::client_of(peer, own)?;
        Ok(found.map(|client| Client {
            login: Some(7),
            ..client
        }))
    };
    Clients {
        operator_uid,
        account: account.to_owned(),
        find,
    }
}

/// The endpoint before a server, for the account of these tests.
async fn trial_before(server: SocketAddr, setting: &Setting) -> Trial {
    trial_for(server, setting, &setting.user).await
}

async fn trial_for(server: SocketAddr, setting: &Setting, account: &str) -> Trial {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let recorder = trial::recorder(&spool);
    let target = DatabaseTarget {
        host: server.ip().to_string(),
        port: server.port(),
        ca_pem: Some(setting.ca.clone()),
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let gate = recorder.gate();
    let clients = ours_in_login_7(rustix::process::getuid().as_raw(), account);
    let endpoint = SqlEndpoint::start_for(listen, clients, &target, recorder.clone(), gate)
        .await
        .unwrap();
    Trial {
        endpoint,
        recorder,
        spool,
        _temp: temp,
    }
}

fn options(trial: &Trial, setting: &Setting) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(trial.endpoint.address.port())
        .user(Some(&setting.user))
        .pass(Some(&setting.password))
        .db_name(Some(&setting.user))
        .ssl_opts(Some(untrusting()))
}

/// Statements put together again: (connection, statement) → flags of the first piece and bytes.
fn statements(spool: &Path) -> BTreeMap<(u32, u64, u8), Vec<u8>> {
    let mut whole: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    for (kind, session, payload) in trial::recorded(spool) {
        assert_eq!(session, 7, "{kind:?} of a client in login 7");
        if kind == Kind::Statement {
            let connection = u32::from_be_bytes(payload[..4].try_into().unwrap());
            let statement = u64::from_be_bytes(payload[4..12].try_into().unwrap());
            let key = (connection, statement, payload[12] & (DATA | REDACTED));
            whole
                .entry(key)
                .or_default()
                .extend_from_slice(&payload[HEADER..]);
        }
    }
    whole
}

fn all_bytes(spool: &Path) -> Vec<u8> {
    trial::recorded(spool)
        .into_iter()
        .flat_map(|frame| frame.2)
        .collect()
}

/// What was refused, as it is in the record.
fn refusals(spool: &Path) -> Vec<serde_json::Value> {
    told(spool, Kind::Refusal)
}

/// Events and results of statements, as they are in the record.
fn told(spool: &Path, kind: Kind) -> Vec<serde_json::Value> {
    trial::recorded(spool)
        .into_iter()
        .filter(|(of, ..)| *of == kind)
        .map(|(_, _, record)| serde_json::from_slice(&record).unwrap())
        .collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_is_recorded_and_no_password_is() {
    let Some(setting) = setting("every_statement_is_recorded_and_no_password_is").await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_before(*server, &setting).await;
        let mut conn = Conn::new(Opts::from(options(&trial, &setting)))
            .await
            .unwrap();
        let sum: Option<u64> = conn.query_first("SELECT 40+2 /* plain */").await.unwrap();
        assert_eq!(sum, Some(42));
        let given: Option<u64> = conn
            .exec_first("SELECT ? /* prepared */", (43u64,))
            .await
            .unwrap();
        assert_eq!(given, Some(43));
        assert!(
            conn.query_drop("SELECT * FROM no_such_table")
                .await
                .is_err()
        );

        let opts = ChangeUserOpts::default()
            .with_user(Some(setting.user.clone()))
            .with_pass(Some(setting.password.clone()));
        conn.change_user(opts).await.unwrap();
        let after: Option<u64> = conn
            .query_first("SELECT 44 /* after change */")
            .await
            .unwrap();
        assert_eq!(after, Some(44));
        conn.disconnect().await.unwrap();

        let recorded = statements(&trial.spool);
        let seen: Vec<_> = recorded.values().collect();
        assert!(
            seen.iter()
                .any(|s| s.as_slice() == b"\x03SELECT 40+2 /* plain */"),
            "{server}"
        );
        assert!(
            seen.iter()
                .any(|s| s.as_slice() == b"\x16SELECT ? /* prepared */")
        );
        assert!(
            seen.iter()
                .any(|s| s.as_slice() == b"\x03SELECT 44 /* after change */")
        );
        let changed = [b"\x11".as_slice(), setting.user.as_bytes(), b"\0"].concat();
        assert!(
            recorded
                .iter()
                .any(|((_, _, flags), s)| *flags == REDACTED && s.starts_with(&changed))
        );
        let bytes = all_bytes(&trial.spool);
        assert!(!holds(&bytes, setting.password.as_bytes()));
        assert!(
            holds(&bytes, b"\"error\":1146"),
            "what became of it is told"
        );
        assert!(trial.endpoint.statements() >= 5);
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_20_mib_passes_and_is_recorded_whole() {
    let Some(setting) = setting("a_statement_of_20_mib_passes_and_is_recorded_whole").await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_before(*server, &setting).await;
        let options = options(&trial, &setting).max_allowed_packet(Some(64 << 20));
        let mut conn = Conn::new(Opts::from(options.clone())).await.unwrap();
        let allowed: Option<u64> = conn
            .query_first("SELECT @@max_allowed_packet")
            .await
            .unwrap();
        let length = if allowed.unwrap() > 21 << 20 {
            20 << 20
        } else {
            15 << 20
        };
        let blob: Vec<u8> = (0..length)
            .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let seen: Option<(u64, String)> = conn
            .exec_first("SELECT LENGTH(?), 'x'", (blob.clone(),))
            .await
            .unwrap();
        assert_eq!(seen.unwrap().0, u64::from(length));
        conn.disconnect().await.unwrap();
        let recorded = statements(&trial.spool);
        // Long parameters travel as COM_STMT_SEND_LONG_DATA: command, statement id u32, parameter u16, data.
        let sent: Vec<u8> = recorded
            .values()
            .filter(|statement| statement.first() == Some(&0x18))
            .flat_map(|statement| statement[7..].to_vec())
            .collect();
        // Shorter ones travel within COM_STMT_EXECUTE, behind a few dozen bytes.
        let within = |statement: &Vec<u8>| {
            (0..64).any(|at| statement.get(at..at + blob.len()) == Some(&blob))
        };
        assert!(
            sent == blob || recorded.values().any(within),
            "{server}: {} bytes",
            sent.len()
        );

        // One packet above 16 MiB, split by the protocol.
        if length > 16 << 20 {
            let mut conn = Conn::new(Opts::from(options)).await.unwrap();
            let text = format!("SELECT LENGTH('{}')", "z".repeat(17 << 20));
            let seen: Option<u64> = conn.query_first(text.as_str()).await.unwrap();
            assert_eq!(seen, Some(17 << 20));
            conn.disconnect().await.unwrap();
            let whole = [b"\x03", text.as_bytes()].concat();
            assert!(
                statements(&trial.spool)
                    .values()
                    .any(|statement| *statement == whole)
            );
        }
        trial.endpoint.stop().await;
    }
}

/// What `mariadb`, the client, says to a statement.
async fn client(
    address: SocketAddr,
    setting: &Setting,
    more: &[&str],
    sql: &str,
) -> std::process::Output {
    tokio::process::Command::new("mariadb")
        .args(["--no-defaults", "--ssl"])
        .args(["-h", &address.ip().to_string()])
        .args(["-P", &address.port().to_string()])
        .args(["-u", &setting.user])
        .arg(format!("-p{}", setting.password))
        .args(more)
        .args(["-N", "-B", "-e", sql])
        .output()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_tls_is_refused_and_compression_is_never_agreed() {
    let Some(setting) =
        setting("a_client_without_tls_is_refused_and_compression_is_never_agreed").await
    else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_before(*server, &setting).await;
        let without = options(&trial, &setting).ssl_opts(None::<SslOpts>);
        let error = Conn::new(Opts::from(without))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("insecure transport"), "{error}");

        let run = async |more: &[&str], sql: &str| {
            client(trial.endpoint.address, &setting, more, sql).await
        };
        let output = run(&["--compress"], "SHOW SESSION STATUS LIKE 'Compression'").await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{server} {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("OFF"), "{text}");
        assert!(holds(&all_bytes(&trial.spool), b"LIKE 'Compression'"));

        // LOAD DATA LOCAL: whatever the server thinks of it, the data is in the record before it is passed on.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "local-data-1\nlocal-data-2\n").unwrap();
        let sql = format!(
            "USE {}; CREATE TEMPORARY TABLE t (a TEXT); LOAD DATA LOCAL INFILE '{}' INTO TABLE t; SELECT COUNT(*) FROM t",
            setting.user,
            file.path().display()
        );
        let output = run(&["--local-infile=1"], &sql).await;
        if output.status.success() {
            assert!(holds(&all_bytes(&trial.spool), b"local-data-2"), "{server}");
        } else {
            eprintln!(
                "{server} takes no local data: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        trial.endpoint.stop().await;
    }
}

/// The owner's own connection to each server, past the endpoint.
async fn owners() -> Vec<Conn> {
    let mut owners = Vec::new();
    for name in ["POWERPOLE_TEST_MYSQL", "POWERPOLE_TEST_MARIADB"] {
        let opts = Opts::from_url(&std::env::var(name).unwrap()).unwrap();
        let opts = OptsBuilder::from_opts(opts).ssl_opts(Some(untrusting()));
        owners.push(Conn::new(opts).await.unwrap());
    }
    owners
}

#[tokio::test(flavor = "multi_thread")]
async fn no_xa_branch_is_left_prepared_however_it_is_spelt() {
    let Some(setting) = setting("no_xa_branch_is_left_prepared_however_it_is_spelt").await else {
        return;
    };
    for (server, mut owner) in setting.servers.iter().zip(owners().await) {
        let trial = trial_before(*server, &setting).await;
        for (number, spelling) in [
            "XA PREPARE 'pp'",
            "xa\n\tprepare 'pp'",
            "XA/* */PREPARE/* */'pp'",
            "/*! XA PREPARE 'pp' */",
            "XA -- x\nPREPARE 'pp'",
            "SELECT 1; XA PREPARE 'pp'",
            "XA /*!50000PREPARE*/ 'pp'",
            "/*!50000XA*/ PREPARE 'pp'",
            "/*!50000xa*//*!50000prepare*/ 'pp'",
            "/*!80000XA PREPARE 'pp'*/",
            "/*!100000XA*/ PREPARE 'pp'",
            "/*M!100000xa*/ /*M!prepare*/ 'pp'",
            "/*!XA*/ /*!99999PREPARE*/ 'pp'",
            "PREPARE s FROM 'XA PREPARE ''pp'''",
        ]
        .into_iter()
        .flat_map(|spelling| {
            [
                spelling.to_owned(),
                spelling.to_uppercase(),
                spelling.to_lowercase(),
            ]
        })
        .enumerate()
        {
            // By text, and by a prepared statement of the protocol.
            for prepared in [false, true] {
                // A name of its own: the server may not have ended the connection before.
                let xid = format!("pp{number}{prepared}");
                let spelling = spelling.replace("PP", "pp").replace("pp", &xid);
                let spelling = spelling.as_str();
                let mut conn = Conn::new(Opts::from(options(&trial, &setting)))
                    .await
                    .unwrap();
                for statement in [
                    "CREATE TABLE IF NOT EXISTS branches (id INT PRIMARY KEY)",
                    &format!("XA START '{xid}'"),
                    &format!(
                        "INSERT INTO branches VALUES ({number}{})",
                        u8::from(prepared)
                    ),
                    &format!("XA END '{xid}'"),
                ] {
                    conn.query_drop(statement).await.unwrap();
                }
                let answer = if prepared {
                    conn.exec_drop(spelling, ()).await
                } else {
                    conn.query_drop(spelling).await
                };
                assert!(answer.is_err(), "{server}: {spelling}");
                let next = conn.query_drop("SELECT 1").await;
                assert!(next.is_err(), "{server}: the connection must be over");
                let refused = refusals(&trial.spool);
                assert_eq!(refused.last().unwrap()["code"], "sql_xa_prepare");
                let left: Vec<mysql_async::Row> = owner.query("XA RECOVER").await.unwrap();
                assert_eq!(left.len(), 0, "{server}: {spelling}");
            }
        }
        owner
            .query_drop(format!("DROP TABLE {}.branches", setting.user))
            .await
            .unwrap();
        trial.endpoint.stop().await;
        assert!(holds(&all_bytes(&trial.spool), b"XA/* */PREPARE"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_of_a_connection_do_not_reach_the_server() {
    let Some(setting) = setting("attributes_of_a_connection_do_not_reach_the_server").await else {
        return;
    };
    // MariaDB's performance schema is off: MySQL alone tells what it was given.
    let sql = "SELECT COUNT(*) FROM performance_schema.session_account_connect_attrs \
        WHERE PROCESSLIST_ID = CONNECTION_ID()";
    let count = async |address| {
        let output = client(address, &setting, &[], sql).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count: u32 = text.trim().parse().unwrap_or_else(|_| panic!("{output:?}"));
        count
    };
    let trial = trial_before(setting.servers[0], &setting).await;
    assert!(
        count(setting.servers[0]).await > 1,
        "past the endpoint they are told"
    );
    assert_eq!(count(trial.endpoint.address).await, 0);
    trial.endpoint.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_endpoint_passes_no_statement_and_a_stopped_one_cuts_connections() {
    let Some(setting) = setting("a_frozen_endpoint_passes_no_statement").await else {
        return;
    };
    let trial = trial_before(setting.servers[0], &setting).await;
    let mut conn = Conn::new(Opts::from(options(&trial, &setting)))
        .await
        .unwrap();
    // The endpoint waits in a read that began while the gate was open: one statement goes through.
    trial.recorder.set_gate(Gate::Frozen);
    let _: Option<u64> = conn.query_first("SELECT 1").await.unwrap();
    let frozen = tokio::time::timeout(
        Duration::from_millis(500),
        conn.query_first::<u64, _>("SELECT 2"),
    )
    .await;
    assert!(frozen.is_err());
    assert!(!holds(&all_bytes(&trial.spool), b"SELECT 2"));
    let mut other = None;
    trial.recorder.set_gate(Gate::Open);
    if let Ok(conn) = Conn::new(Opts::from(options(&trial, &setting))).await {
        other = Some(conn);
    }
    trial.endpoint.stop().await;
    assert!(other.unwrap().query_drop("SELECT 3").await.is_err());
}

#[tokio::test]
async fn a_process_of_another_user_or_of_no_login_is_refused() {
    for (operator_uid, code) in [
        (65_533, "sql_other_user"),
        (rustix::process::getuid().as_raw(), "sql_no_login"),
    ] {
        // This test's process runs in no login's unit.
        let clients = Clients {
            operator_uid,
            account: "alice".to_owned(),
            find: peer::client_of,
        };
        is_refused(clients, code).await;
    }
}

async fn is_refused(clients: Clients, code: &str) {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let recorder = trial::recorder(&spool);
    let ca = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])
        .unwrap()
        .cert
        .pem();
    let target = DatabaseTarget {
        host: "127.0.0.1".to_owned(),
        port: 1,
        ca_pem: Some(ca),
    };
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let gate = recorder.gate();
    let endpoint = SqlEndpoint::start_for(listen, clients, &target, recorder, gate)
        .await
        .unwrap();
    assert_eq!(
        endpoint.mysql_line("alice"),
        format!(
            "mysql -h 127.0.0.1 -P {} -u alice -p --ssl",
            endpoint.address.port()
        )
    );
    let mut client = tokio::net::TcpStream::connect(endpoint.address)
        .await
        .unwrap();
    let mut byte = [0];
    assert_eq!(
        tokio::io::AsyncReadExt::read(&mut client, &mut byte)
            .await
            .unwrap(),
        0
    );
    endpoint.stop().await;
    assert!(
        trial::recorded(&spool)
            .iter()
            .any(|(kind, _, p)| { *kind == Kind::Refusal && holds(p, code.as_bytes()) })
    );
}
