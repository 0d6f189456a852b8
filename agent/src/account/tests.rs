use super::*;

use crate::clock;
use crate::failure::Coded as _;
use futures_util::future::join_all;
use mysql_async::{Opts, prelude::Query};
use powerpole_database::{InstallOptions, install_statements, ticket_key_statement};
use powerpole_protocol::grantor::DatabaseEndpoint;
use powerpole_protocol::level::AccessLevel;
use std::sync::Arc;
use tokio::sync::{MutexGuard, watch};

const KEY: [u8; 32] = [42; 32];

/// The installation is one a server: tests take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// A server of the environment with PowerPole installed: URL in `variable`, its CA in POWERPOLE_TEST_CA.
pub(crate) async fn server(variable: &str) -> Option<(DatabaseTarget, Conn)> {
    let (Ok(url), Ok(ca)) = (std::env::var(variable), std::env::var("POWERPOLE_TEST_CA")) else {
        eprintln!("SKIPPED: {variable} or POWERPOLE_TEST_CA is not set");
        return None;
    };
    let url = Opts::from_url(&url).unwrap();
    let target = DatabaseTarget {
        host: url.ip_or_hostname().to_owned(),
        port: url.tcp_port(),
        ca_pem: Some(std::fs::read_to_string(ca).unwrap()),
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

/// A cluster of one.
fn alone(target: &DatabaseTarget) -> Servers {
    Servers::trial(target, &[], None)
}

/// A server where nobody listens.
pub(crate) fn nowhere(target: &DatabaseTarget) -> DatabaseEndpoint {
    DatabaseEndpoint {
        host: target.host.clone(),
        port: 1,
    }
}

pub(crate) fn grantor() -> Grantor {
    Grantor {
        username: "pp_agent_grantor".into(),
        password: Secret::new("of the agent's tests".into()),
    }
}

pub(crate) async fn ticket(owner: &mut Conn) -> Ticket {
    let micros = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS UNSIGNED)";
    let micros: u64 = owner.query_first(micros).await.unwrap().unwrap();
    let here: String = owner
        .query_first("SELECT SUBSTRING_INDEX(USER(), '@', -1)")
        .await
        .unwrap()
        .unwrap();
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
    .signed(&KEY, here.parse().unwrap())
}

#[tokio::test]
async fn an_account_lives_from_open_to_close_on_real_servers() {
    let _turn = turn().await;
    for variable in ["POWERPOLE_TEST_MYSQL", "POWERPOLE_TEST_MARIADB"] {
        let Some((target, mut owner)) = server(variable).await else {
            continue;
        };
        let servers = alone(&target);
        let password = Secret::new("vN3pR8sW1xZ5bD7fH0jL2kM4".into());
        let ticket = ticket(&mut owner).await;
        let mut forged = ticket.clone();
        forged.level = AccessLevel::Admin;
        let refused = Account::open(&servers, grantor(), &forged, &password)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), "ticket_refused");

        let account = Account::open(&servers, grantor(), &ticket, &password)
            .await
            .unwrap();
        let again = Account::open(&servers, grantor(), &ticket, &password)
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
        let reused = Account::open(&servers, grantor(), &ticket, &password)
            .await
            .unwrap_err();
        assert_eq!(reused.code(), "ticket_used");
        let refused = account.prove(&password).await.unwrap_err();
        assert_eq!(refused.code(), "login_failed");
    }
}

#[tokio::test]
async fn each_way_a_server_cannot_be_used_has_its_code() {
    let _turn = turn().await;
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
        let error = Account::open(&alone(target), grantor, &ticket, &password)
            .await
            .unwrap_err();
        assert_eq!(error.code(), code);
    }
}

#[tokio::test]
async fn a_bastion_waits_while_another_one_has_the_grantors_connection() {
    let _turn = turn().await;
    for variable in ["POWERPOLE_TEST_MYSQL", "POWERPOLE_TEST_MARIADB"] {
        let Some((target, mut owner)) = server(variable).await else {
            continue;
        };
        let password = Secret::new("vN3pR8sW1xZ5bD7fH0jL2kM4".into());
        let ticket = ticket(&mut owner).await;
        let taken = call::connect_grantor(&target, &grantor()).await.unwrap();
        let others_call = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            taken.disconnect().await
        });
        let account = Account::open(&alone(&target), grantor(), &ticket, &password)
            .await
            .unwrap();
        assert!(others_call.is_finished(), "{variable}");
        // Many at once come one after the other.
        let renewals = (0..8).map(|_| account.renew());
        for renewed in join_all(renewals).await {
            renewed.unwrap();
        }
        account.close().await.unwrap();
    }
}

#[tokio::test]
async fn closing_ends_what_lives_on_a_reader_and_says_which_reader_it_did_not_reach() {
    let _turn = turn().await;
    let Ok(reader) = std::env::var("POWERPOLE_TEST_PAIR_READER") else {
        eprintln!("SKIPPED: POWERPOLE_TEST_PAIR_READER is not set");
        return;
    };
    let reader = Opts::from_url(&reader).unwrap();
    let Some((target, mut owner)) = server("POWERPOLE_TEST_PAIR_WRITER").await else {
        return;
    };
    let reader = DatabaseEndpoint {
        host: reader.ip_or_hostname().to_owned(),
        port: reader.tcp_port(),
    };
    let readers = [nowhere(&target), reader.clone()];
    let servers = Servers::trial(&target, &readers, Some(&reader));
    let password = Secret::new("vN3pR8sW1xZ5bD7fH0jL2kM4".into());
    let ticket = ticket(&mut owner).await;
    let account = Account::open(&servers, grantor(), &ticket, &password)
        .await
        .unwrap();
    let opened = clock::boottime();
    account.prove(&password).await.unwrap();
    let usable = clock::boottime().since(opened);

    // What an operator left running: a query, and a connection that does nothing.
    let on_reader = options(servers.session(), "erin", &password);
    let mut idle = Conn::new(on_reader.clone()).await.unwrap();
    let mut running = Conn::new(on_reader.clone()).await.unwrap();
    let running = tokio::spawn(async move {
        let answer: Result<Option<i64>, _> = running.query_first("SELECT SLEEP(60)").await;
        (clock::boottime(), answer)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let account = Arc::new(account);
    let (over, give_up) = watch::channel(false);
    let began = clock::boottime();
    let ending = tokio::spawn({
        let account = Arc::clone(&account);
        async move { account.end_on_readers(give_up).await }
    });
    let closed = account.close().await.unwrap();
    let dropped = clock::boottime().since(began);
    let (cut, answer) = running.await.unwrap();
    // A killed SLEEP answers 1 or breaks; it never sleeps to its end.
    assert!(!matches!(answer, Ok(Some(0))));
    assert!("SELECT 1".ignore(&mut idle).await.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    over.send_replace(true);
    let ends = ending.await.unwrap();
    let [unreachable, done] = &ends[..] else {
        panic!("{ends:?}")
    };
    assert_eq!(
        unreachable.ended.as_ref().unwrap_err().code(),
        "database_unreachable"
    );
    assert_eq!(*done.ended.as_ref().unwrap(), 2, "{done:?}");
    assert_eq!(closed.connections_killed, 0, "none was on the writer");
    assert!(Conn::new(on_reader).await.is_err());

    let (_over, give_up) = watch::channel(true);
    let again = account.end_on_readers(give_up).await;
    assert!(
        again.iter().all(|end| end.ended.is_err()),
        "given up at once: {again:?}"
    );
    println!(
        "MySQL reader: closed by the agent: usable there {:.2} s after opening, a running query cut {:.2} s and the drop \
         read back on the writer {:.2} s after the closing began, seen gone on the reader after {:.2} s with 2 connections \
         ended; a reader that could not be reached was named",
        usable.as_secs_f64(),
        cut.since(began).as_secs_f64(),
        dropped.as_secs_f64(),
        done.took.as_secs_f64(),
    );
}
