//! Deadline and lease with nothing of ours running: only the server is left.

use std::time::Duration;

use mysql_async::prelude::*;
use powerpole_database::Dialect;

use crate::support::*;

/// A watch gives up this long after the end; no measure of speed, since the machine may be busy.
const PATIENCE_S: f64 = 30.0;

/// Runs an account until it ends by itself at `ends_at` (server's clock), and tells when the running query was cut, the login
/// refused, the account gone.
async fn watch(server: &Server, what: &str, ends_at: &str) {
    let from = "127.0.0.3";
    let ends_at: f64 = ends_at.parse().unwrap();
    // Taken before the server's clock is read, so that what follows never looks earlier than it was.
    let started = tokio::time::Instant::now();
    let began: f64 = server
        .owner()
        .await
        .query_first("SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) AS DOUBLE)")
        .await
        .unwrap()
        .unwrap();
    let after_end = move || began + started.elapsed().as_secs_f64() - ends_at;
    let mut running = server.login("alice", PASSWORD, from).await.unwrap();
    let query = tokio::spawn(async move {
        let answer: Result<Option<i64>, _> = running.query_first("SELECT SLEEP(120)").await;
        (after_end(), answer)
    });
    let idle = server.login("alice", PASSWORD, from).await.unwrap();
    let mut refused = None;
    let mut gone = None;
    while after_end() < PATIENCE_S && gone.is_none() {
        if refused.is_none() && server.login("alice", PASSWORD, from).await.is_err() {
            refused = Some(after_end());
        }
        if !server.exists("alice", from).await {
            gone = Some(after_end());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let gone = gone.expect("the account is still there");
    let refused = refused.unwrap_or(gone);
    let (cut, answer) = tokio::time::timeout(Duration::from_secs(30), query)
        .await
        .unwrap()
        .unwrap();
    drop(idle);
    println!(
        "{}: {what}: running query cut {cut:+.1} s, login refused {refused:+.1} s, account gone {gone:+.1} s after it",
        server.name,
    );
    // A killed SLEEP answers 1 or breaks; it never sleeps to its end.
    assert!(!matches!(answer, Ok(Some(0))));
    for at in [cut, refused, gone] {
        assert!(at >= 0.0, "{}: {at} s before its end", server.name);
    }
}

#[tokio::test]
async fn a_deadline_is_kept_by_the_server_alone() {
    on_each("deadline", |server| async move {
        let ticket = open(&server, "READ", "127.0.0.3").await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let mut arguments = own(&ticket);
        arguments.push((server.now().await + 4).into());
        let set = call(&mut grantor, "set_deadline", arguments).await.unwrap();
        drop(grantor);
        watch(&server, "a deadline of 4 s", &set["ends_at"]).await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let state = call(&mut grantor, "account_state", own(&ticket))
            .await
            .unwrap();
        assert_eq!(
            (state["state"].as_str(), state["close_reason"].as_str()),
            ("closed", "deadline")
        );
        // The running one and the idle one, and a look of this test that it met.
        let killed: u32 = state["connections_killed"].parse().unwrap();
        assert!(killed >= 2, "{killed}");
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_the_account() {
    on_each("lease", |server| async move {
        let mut owner = server.owner().await;
        owner
            .query_drop("UPDATE powerpole.settings SET value = '5' WHERE name = 'lease_s'")
            .await
            .unwrap();
        let ticket = open(&server, "READ", "127.0.0.3").await;
        let mut grantor = server.grantor("127.0.0.3").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let renewed = call(&mut grantor, "renew_lease", own(&ticket))
            .await
            .unwrap();
        watch(&server, "a lease of 5 s", &renewed["ends_at"]).await;
        let state = call(&mut grantor, "account_state", own(&ticket))
            .await
            .unwrap();
        assert_eq!(
            (state["state"].as_str(), state["close_reason"].as_str()),
            ("closed", "lease")
        );
    })
    .await;
}

#[tokio::test]
async fn an_account_that_cannot_be_dropped_blocks_no_other() {
    on_each("one that fails", |server| async move {
        let mut owner = server.owner().await;
        let stuck = open(&server, "READ", "127.0.0.3").await;
        let free = open(&server, "READ", "127.0.0.5").await;
        let made = "CREATE DEFINER = 'alice'@'127.0.0.3' PROCEDURE app_1.named_definer() SELECT 1";
        owner
            .query_drop("DROP PROCEDURE IF EXISTS app_1.named_definer")
            .await
            .unwrap();
        owner.query_drop(made).await.unwrap();
        owner
            .query_drop("UPDATE powerpole.accounts SET lease_until = 1 WHERE state = 'open'")
            .await
            .unwrap();
        let mut others = server.grantor("127.0.0.5").await;
        let mut state = call(&mut others, "account_state", own(&free))
            .await
            .unwrap();
        for _ in 0..300 {
            if state["state"] == "closed" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            state = call(&mut others, "account_state", own(&free))
                .await
                .unwrap();
        }
        assert_eq!(state["state"], "closed", "{}", server.name);
        assert!(!server.exists("alice", "127.0.0.5").await);
        let login = server.login("alice", PASSWORD, "127.0.0.3").await;
        let refused = code(&login.expect_err("locked or gone"));

        let mut grantor = server.grantor("127.0.0.3").await;
        let held = call(&mut grantor, "close_account", own(&stuck))
            .await
            .unwrap();
        println!(
            "{}: account named as DEFINER: {} {}, a login: {refused}",
            server.name, held["state"], held["last_error"]
        );
        let used = owner.query_drop("CALL app_1.named_definer()").await;
        owner
            .query_drop("DROP PROCEDURE app_1.named_definer")
            .await
            .unwrap();
        let closed = call(&mut grantor, "close_account", own(&stuck))
            .await
            .unwrap();
        assert_eq!(closed["state"], "closed");
        match server.dialect {
            Dialect::MySql => {
                assert!(refused.starts_with("3118 "), "locked, not gone: {refused}");
                for part in ["4006", "objects: procedure app_1.named_definer"] {
                    assert!(held["last_error"].contains(part), "{}", held["last_error"]);
                }
            }
            Dialect::MariaDb => {
                assert!(!refused.starts_with("4151 "), "gone, not locked: {refused}");
                assert_eq!(held["state"], "closed");
                let used = code(&used.expect_err("its definer is gone"));
                assert!(used.starts_with("1449 "), "{used}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_lock_that_others_can_take_does_not_stop_the_event() {
    on_each("locks of others", |server| async move {
        let ticket = open(&server, "ADMIN", "127.0.0.3").await;
        let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
        for lock in ["DO GET_LOCK('powerpole', 0)", "LOCK TABLES app_1.t WRITE"] {
            alice.query_drop(lock).await.unwrap();
        }
        server
            .owner()
            .await
            .query_drop("UPDATE powerpole.accounts SET lease_until = 1 WHERE state = 'open'")
            .await
            .unwrap();
        for _ in 0..300 {
            if !server.exists("alice", "127.0.0.3").await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(
            !server.exists("alice", "127.0.0.3").await,
            "{}",
            server.name
        );
        let mut grantor = server.grantor("127.0.0.3").await;
        assert_eq!(
            call(&mut grantor, "close_account", own(&ticket))
                .await
                .unwrap()["state"],
            "closed"
        );
    })
    .await;
}
