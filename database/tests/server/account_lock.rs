//! MySQL's lock on accounts, and the one connection of the grantors that keeps a thief away from it.
//!
//! On MySQL (9.7.4) a login that changes its own password holds the server's cache of accounts; whoever says KILL of it then, and
//! has no role active, waits for that cache with the victim's own lock in hand, and both wait for ever: nobody logs in, no
//! event runs. Any two connections of one login can do it. MariaDB has no such lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mysql_async::{Conn, prelude::*};
use powerpole_database::{Dialect, InstallOptions};
use tokio::time::Instant;

use crate::support::*;

const THIEF: &str = "127.0.0.4";
const OTHER: &str = "127.0.0.5";
const VICTIM: &str = "127.0.0.6";

/// Connections of the thief that are ended while each changes its password without end.
const KILLS: u32 = 150;

/// A step that takes longer than this waits for ever.
const FROZEN: Duration = Duration::from_secs(20);

/// As an owner installs it who says nothing of connections.
async fn install_for_one_connection(server: &Server) -> Conn {
    let mut owner = server.owner().await;
    let options = InstallOptions {
        grantor_connections: InstallOptions::default().grantor_connections,
        ..server.install_options()
    };
    server.install(&mut owner, options).await;
    owner
}

async fn soon<T>(server: &Server, what: &str, step: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(FROZEN, step).await;
    done.unwrap_or_else(|_| panic!("{}: {what}: frozen", server.name))
}

/// Logs in again whenever it is ended, and sets the password that it has without end; `current` is its connection.
async fn change_own_password_without_end(server: Arc<Server>, current: Arc<AtomicU32>) {
    let statement = match server.dialect {
        Dialect::MySql => format!("SET PASSWORD = '{GRANTOR_PASSWORD}'"),
        Dialect::MariaDb => format!("SET PASSWORD = PASSWORD('{GRANTOR_PASSWORD}')"),
    };
    loop {
        let Ok(mut thief) = server.login(GRANTOR, GRANTOR_PASSWORD, THIEF).await else {
            continue;
        };
        current.store(thief.id(), Ordering::Relaxed);
        while thief.query_drop(&statement).await.is_ok() {}
    }
}

async fn event_goes_on(server: &Server, owner: &mut Conn) {
    let stamp = "SELECT ran_at FROM powerpole.heartbeat";
    let before: i64 = owner.query_first(stamp).await.unwrap().unwrap();
    let goes_on = async {
        while owner.query_first::<i64, _>(stamp).await.unwrap().unwrap() < before + 2 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon(server, "the event", goes_on).await;
}

/// Waits until another bastion has the grantor's connection.
async fn next_logs_in(server: &Server, what: &str) {
    let next = async {
        while server
            .login(GRANTOR, GRANTOR_PASSWORD, OTHER)
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    soon(server, what, next).await;
}

#[tokio::test]
async fn a_thief_has_one_connection_and_no_second_one() {
    on_each("one connection", |server| async move {
        install_for_one_connection(&server).await;
        let mut first = server.grantor(THIEF).await;
        for from in [THIEF, OTHER] {
            let second = server.login(GRANTOR, GRANTOR_PASSWORD, from).await;
            let refused = code(&second.err().unwrap());
            assert!(refused.starts_with("1226 "), "{}: {refused}", server.name);
        }
        first.query_drop("DO 1").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_ends_connections_waits_for_no_thread_that_changes_its_password() {
    on_each("ended while a password is changed", |server| async move {
        let mut owner = install_for_one_connection(&server).await;
        let current = Arc::new(AtomicU32::new(0));
        let thief = change_own_password_without_end(server.clone(), current.clone());
        let thief = tokio::spawn(thief);
        let began = Instant::now();
        let mut ended = 0;
        let mut last = 0;
        while ended < KILLS && began.elapsed() < 3 * FROZEN {
            let id = current.load(Ordering::Relaxed);
            if id != last {
                // Somewhere in the midst of one of its statements.
                tokio::time::sleep(Duration::from_millis(u64::from(ended % 8))).await;
                let kill = owner.query_drop(format!("CALL powerpole.kill_one({id})"));
                soon(&server, "ending a connection", kill).await.unwrap();
                (last, ended) = (id, ended + 1);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        event_goes_on(&server, &mut owner).await;
        soon(&server, "a login", server.owner()).await;
        thief.abort();
        assert!(ended > 0, "{}", server.name);
        println!(
            "{}: {ended} connections ended while they changed their password, and nothing waited for ever",
            server.name
        );
    })
    .await;
}

#[tokio::test]
async fn a_thief_that_changes_its_password_without_end_keeps_no_account_alive() {
    on_each("a password is changed without end", |server| async move {
        let mut owner = install_for_one_connection(&server).await;
        let victim = open(&server, "READ", VICTIM).await;
        let thief = change_own_password_without_end(server.clone(), Arc::default());
        let thief = tokio::spawn(thief);
        let past = format!(
            "UPDATE powerpole.accounts SET lease_until = 1 WHERE request = '{}'",
            victim.request
        );
        owner.query_drop(past).await.unwrap();
        let left =
            format!("SELECT COUNT(*) FROM mysql.user WHERE User = 'alice' AND Host = '{VICTIM}'");
        let gone = async {
            while owner.query_first::<i64, _>(&left).await.unwrap() != Some(0) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        soon(&server, "the victim's account", gone).await;
        thief.abort();
    })
    .await;
}

/// A call that never ends, and on MySQL a session whose clock, by which the server counts its idle time, lies ahead.
#[tokio::test]
async fn a_connection_is_ended_in_time_whatever_it_is_about() {
    on_each("a grantor that stays", |server| async move {
        let mut owner = install_for_one_connection(&server).await;
        for about in [
            "SELECT SLEEP(600)",
            "SET timestamp = UNIX_TIMESTAMP() + 100000",
        ] {
            let mut stays = server.grantor(THIEF).await;
            let stays = tokio::spawn(async move {
                let _ = stays.query_drop(about).await;
                tokio::time::sleep(3 * FROZEN).await;
                drop(stays);
            });
            let seen = "SELECT COUNT(*) FROM powerpole.grantor_logins";
            let noticed = async {
                while owner.query_first::<i64, _>(seen).await.unwrap() == Some(0) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            soon(&server, "the event's look", noticed).await;
            let refused = server.login(GRANTOR, GRANTOR_PASSWORD, OTHER).await;
            assert!(refused.is_err(), "{}: {about}", server.name);
            // Half a minute later.
            owner
                .query_drop("UPDATE powerpole.grantor_logins SET seen_at = seen_at - 31")
                .await
                .unwrap();
            next_logs_in(&server, about).await;
            stays.abort();
            let gone = async {
                while owner.query_first::<i64, _>(seen).await.unwrap() != Some(0) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            soon(&server, "what the event remembers", gone).await;
        }
    })
    .await;
}

/// A bastion that lost its power in a call says no goodbye: the server would keep its connection for hours.
#[tokio::test]
async fn a_connection_that_asks_nothing_is_ended_and_the_next_bastion_has_its_place() {
    on_each("an idle grantor", |server| async move {
        install_for_one_connection(&server).await;
        let mut idle = server.grantor(THIEF).await;
        next_logs_in(&server, "the next bastion").await;
        assert!(idle.ping().await.is_err(), "{}", server.name);
    })
    .await;
}
