//! An account made on the writer and used on a reader: a MySQL replica of POWERPOLE_TEST_MYSQL, named by
//! POWERPOLE_TEST_MYSQL_REPLICA.

use std::{net::SocketAddr, time::Duration};

use mysql_async::{Opts, prelude::*};
use powerpole_database::Dialect;

use crate::support::*;

const FROM: &str = "127.0.0.3";

/// Tries until the login's outcome is `wanted`; seconds that it took.
async fn login_until(reader: SocketAddr, wanted: bool) -> f64 {
    let started = tokio::time::Instant::now();
    for _ in 0..150 {
        if login_at(reader, "alice", PASSWORD, FROM).await.is_ok() == wanted {
            return started.elapsed().as_secs_f64();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("a login on the reader never became {wanted}");
}

#[tokio::test]
async fn on_a_reader_logins_end_with_the_drop_and_connections_with_their_own_kill() {
    let Ok(reader) = std::env::var("POWERPOLE_TEST_MYSQL_REPLICA") else {
        eprintln!("SKIPPED: POWERPOLE_TEST_MYSQL_REPLICA is not set");
        return;
    };
    let reader = address(&Opts::from_url(&reader).unwrap());
    on_each("a reader", |server| async move {
        if server.dialect != Dialect::MySql {
            return;
        }
        let ticket = open(&server, "READ", FROM).await;
        let usable = login_until(reader, true).await;
        let mut live = login_at(reader, "alice", PASSWORD, FROM).await.unwrap();
        live.query_drop("SELECT * FROM app_1.t").await.unwrap();
        let mut grantor = server.grantor(FROM).await;
        let closed = call(&mut grantor, "close_account", own(&ticket)).await.unwrap();
        assert_eq!(closed["state"], "closed");
        let refused = login_until(reader, false).await;

        let outlives = live.query_drop("SELECT 1").await.is_ok();
        assert!(outlives, "if this fails, readers kill by themselves: better than docs/database.md says");
        let mut there = login_at(reader, GRANTOR, GRANTOR_PASSWORD, FROM).await.unwrap();
        let ended = call(&mut there, "end_connections", own(&ticket)).await.unwrap();
        assert_eq!((ended["connections_killed"].as_str(), ended["connections_left"].as_str()), ("1", "0"));
        assert!(live.query_drop("SELECT 1").await.is_err());
        let mut elsewhere = login_at(reader, GRANTOR, GRANTOR_PASSWORD, "127.0.0.4").await.unwrap();
        assert!(call(&mut elsewhere, "end_connections", own(&ticket)).await.is_err());
        println!(
            "MySQL reader: usable {usable:.1} s after opening, login refused {refused:.1} s after the drop, \
             a live connection outlived the drop until end_connections there"
        );
    })
    .await;
}
