use mysql_async::prelude::*;
use powerpole_protocol::{level::AccessLevel, ticket::Ticket};

use crate::support::*;

fn flip_last(mac: &mut String) {
    let last = if mac.ends_with('0') { "1" } else { "0" };
    mac.replace_range(63..64, last);
}

#[tokio::test]
async fn an_account_opens_renews_gets_its_deadline_and_closes() {
    on_each("open to close", |server| async move {
        let ticket = open(&server, "READ", "127.0.0.3").await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let again = call(
            &mut grantor,
            "open_account",
            open_arguments(&ticket, server.authentication()),
        )
        .await;
        assert_eq!(
            again.unwrap()["host"],
            "127.0.0.3",
            "a repeated call is the same call"
        );

        let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
        let v: i32 = alice
            .query_first("SELECT v FROM app_1.t WHERE id = 1")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(v, 1);

        call(&mut grantor, "renew_lease", own(&ticket))
            .await
            .unwrap();
        let now = server.now().await;
        let mut deadline = own(&ticket);
        deadline.push((now + 300).into());
        assert_eq!(
            call(&mut grantor, "set_deadline", deadline.clone())
                .await
                .unwrap()["deadline"],
            (now + 300).to_string()
        );
        call(&mut grantor, "set_deadline", deadline.clone())
            .await
            .unwrap();
        for (refused, why) in [
            (now + 301, "later"),
            (now + 10_000, "beyond the ticket"),
            (1, "past"),
            (u64::MAX, "absurd"),
        ] {
            deadline[2] = refused.into();
            let answer = call(&mut grantor, "set_deadline", deadline.clone()).await;
            assert!(answer.is_err(), "{why}: {answer:?}");
        }
        deadline[2] = mysql_async::Value::NULL;
        assert_eq!(
            call(&mut grantor, "set_deadline", deadline).await,
            Err("deadline_refused".into())
        );

        let extension = server
            .unsigned(ticket.request.as_str(), "alice", "READ", &["app_1"], 900)
            .await
            .signed_extension(&KEY, BASTION.parse().unwrap());
        let extended = call(
            &mut grantor,
            "extend_account",
            open_arguments(&extension, now + 800),
        )
        .await
        .unwrap();
        assert_eq!(extended["deadline"], (now + 800).to_string());
        call(
            &mut grantor,
            "extend_account",
            open_arguments(&extension, now + 800),
        )
        .await
        .unwrap();
        assert_eq!(
            call(
                &mut grantor,
                "extend_account",
                open_arguments(&extension, now + 850)
            )
            .await,
            Err("ticket_used".into())
        );

        let closed = call(&mut grantor, "close_account", own(&ticket))
            .await
            .unwrap();
        assert_eq!(
            (
                closed["state"].as_str(),
                closed["account_exists"].as_str(),
                closed["connections"].as_str()
            ),
            ("closed", "0", "0")
        );
        assert_eq!(closed["connections_killed"], "1");
        assert!(
            alice.query_drop("SELECT 1").await.is_err(),
            "the open connection is gone"
        );
        assert!(server.login("alice", PASSWORD, "127.0.0.3").await.is_err());
        let repeated = call(&mut grantor, "close_account", own(&ticket))
            .await
            .unwrap();
        assert_eq!(repeated["state"], "closed");
        assert_eq!(
            call(&mut grantor, "renew_lease", own(&ticket)).await,
            Err("account_not_open".into())
        );
        assert_eq!(
            call(
                &mut grantor,
                "open_account",
                open_arguments(&ticket, server.authentication())
            )
            .await,
            Err("ticket_used".into())
        );
    })
    .await;
}

#[tokio::test]
async fn a_ticket_changed_in_any_field_opens_nothing() {
    on_each("forged tickets", |server| async move {
        let good = server.ticket("alice", "READ", 600).await;
        let mut grantor = server.grantor("127.0.0.3").await;
        type Change = Box<dyn Fn(&mut Ticket)>;
        let changed: Vec<(&str, Change)> = vec![
            ("request", Box::new(|t| t.request = "req-00000000000000000000000000".parse().unwrap())),
            ("account", Box::new(|t| t.account = "bob".parse().unwrap())),
            ("level", Box::new(|t| t.level = AccessLevel::Admin)),
            ("schemas", Box::new(|t| t.schemas.push("billing".parse().unwrap()))),
            ("not after", Box::new(|t| t.not_after += 1)),
            ("nonce", Box::new(|t| t.nonce.replace_range(0..1, "f"))),
            ("mac", Box::new(|t| flip_last(&mut t.mac))),
            ("key id", Box::new(|t| t.key_id = "k2".into())),
            ("key", Box::new(|t| *t = t.clone().signed(&[43; 32], BASTION.parse().unwrap()))),
            ("purpose", Box::new(|t| *t = t.clone().signed_extension(&KEY, BASTION.parse().unwrap()))),
        ];
        for (field, change) in changed {
            let mut forged = good.clone();
            change(&mut forged);
            let answer = call(&mut grantor, "open_account", open_arguments(&forged, server.authentication())).await;
            assert_eq!(answer, Err("ticket_refused".into()), "{}: {field}", server.name);
        }
        assert!(!server.exists("alice", "127.0.0.3").await);
        let noted: u64 = server.owner().await
            .exec_first("SELECT COUNT(*) FROM powerpole.calls WHERE request = ? AND outcome = 'ticket_refused'", (good.request.as_str(),))
            .await.unwrap().unwrap();
        assert!(noted >= 7, "each refused call is in the registry: {noted}");
    })
    .await;
}

/// The attack: whoever has the grantor's credential and reads a handoff before its bastion does is there first.
#[tokio::test]
async fn a_good_ticket_opens_nothing_from_another_address_and_stays_its_bastions() {
    on_each("stolen tickets", |server| async move {
        let ticket = server.ticket("alice", "READ", 600).await;
        let mut thief = server.grantor("127.0.0.4").await;
        let arguments = open_arguments(&ticket, server.authentication());
        let stolen = call(&mut thief, "open_account", arguments.clone()).await;
        assert_eq!(stolen, Err("ticket_refused".into()), "{}", server.name);
        for host in ["127.0.0.3", "127.0.0.4"] {
            assert!(!server.exists("alice", host).await, "{host}");
        }

        let mut bastion = server.grantor(BASTION).await;
        let opened = call(&mut bastion, "open_account", arguments).await.unwrap();
        assert_eq!(opened["host"], BASTION, "the ticket was not spent");

        // Nor does an extension work from elsewhere, even where the thief's address had an account of its own.
        let extension = server
            .unsigned(ticket.request.as_str(), "alice", "READ", &["app_1"], 900)
            .await
            .signed_extension(&KEY, BASTION.parse().unwrap());
        let arguments = open_arguments(&extension, extension.not_after);
        let stolen = call(&mut thief, "extend_account", arguments).await;
        assert_eq!(stolen, Err("ticket_refused".into()), "{}", server.name);

        let noted: Vec<(String, String, String)> = server
            .owner()
            .await
            .exec(
                "SELECT called, called_by, detail FROM powerpole.calls \
                 WHERE request = ? AND outcome = 'ticket_refused' ORDER BY called DESC",
                (ticket.request.as_str(),),
            )
            .await
            .unwrap();
        let called: Vec<&str> = noted.iter().map(|(called, ..)| called.as_str()).collect();
        assert_eq!(called, ["open_account", "extend_account"]);
        for (_, by, detail) in &noted {
            assert_eq!(*by, format!("{GRANTOR}@127.0.0.4"));
            assert!(detail.contains("127.0.0.4"), "{detail}");
        }
        call(&mut bastion, "close_account", own(&ticket))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_callers_clock_cannot_revive_a_ticket() {
    on_each("SET timestamp", |server| async move {
        let request = server.request().await;
        let mut old = server
            .unsigned(&request, "alice", "READ", &["app_1"], 0)
            .await;
        old.not_after -= 100;
        let old = old.signed(&KEY, BASTION.parse().unwrap());
        for set in [
            "SET timestamp = 1700000000",
            "SET time_zone = '+13:00'",
            "SET time_zone = '-11:00'",
            "SET timestamp = DEFAULT",
        ] {
            let mut grantor = server.grantor("127.0.0.3").await;
            let _ = grantor.query_drop(set).await;
            let answer = call(
                &mut grantor,
                "open_account",
                open_arguments(&old, server.authentication()),
            )
            .await;
            assert_eq!(
                answer,
                Err("ticket_refused".into()),
                "{}: {set}",
                server.name
            );
        }
    })
    .await;
}

#[tokio::test]
async fn another_address_or_ticket_touches_nothing() {
    on_each("other host", |server| async move {
        let ticket = open(&server, "READ", "127.0.0.3").await;
        let mut elsewhere = server.grantor("127.0.0.4").await;
        for procedure in [
            "renew_lease",
            "close_account",
            "account_state",
            "end_connections",
        ] {
            assert_eq!(
                call(&mut elsewhere, procedure, own(&ticket)).await,
                Err("account_not_ours".into()),
                "{procedure}"
            );
        }
        let replayed = call(
            &mut elsewhere,
            "open_account",
            open_arguments(&ticket, server.authentication()),
        )
        .await;
        assert_eq!(replayed, Err("ticket_refused".into()));
        let mut here = server.grantor("127.0.0.3").await;
        let mut wrong_nonce = own(&ticket);
        wrong_nonce[1] = "00000000000000000000000000000000".into();
        assert_eq!(
            call(&mut here, "close_account", wrong_nonce).await,
            Err("account_not_ours".into())
        );
        let second = server.ticket("alice", "ADMIN", 600).await;
        let answer = call(
            &mut here,
            "open_account",
            open_arguments(&second, server.authentication()),
        )
        .await;
        assert_eq!(
            answer,
            Err("account_exists".into()),
            "one account of a name and host at a time"
        );
        assert!(server.exists("alice", "127.0.0.3").await);
        assert!(
            server.login("alice", PASSWORD, "127.0.0.4").await.is_err(),
            "the account is its bastion's"
        );
        call(&mut here, "close_account", own(&ticket))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_account_that_is_not_ours_is_refused_and_left_alone() {
    on_each("foreign account", |server| async move {
        let mut owner = server.owner().await;
        owner
            .query_drop("DROP USER IF EXISTS 'dave'@'127.0.0.3'")
            .await
            .unwrap();
        owner
            .query_drop("CREATE USER 'dave'@'127.0.0.3' IDENTIFIED BY 'his own'")
            .await
            .unwrap();
        let ticket = server.ticket("dave", "READ", 600).await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let answer = call(
            &mut grantor,
            "open_account",
            open_arguments(&ticket, server.authentication()),
        )
        .await;
        assert_eq!(answer, Err("account_exists".into()));
        call(&mut grantor, "sweep", vec![]).await.unwrap();
        assert!(server.exists("dave", "127.0.0.3").await);
        server.login("dave", "his own", "127.0.0.3").await.unwrap();
        owner
            .query_drop("DROP USER 'dave'@'127.0.0.3'")
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_grantor_can_call_its_procedures_and_nothing_else() {
    on_each("grantor's rights", |server| async move {
        let mut grantor = server.grantor("127.0.0.3").await;
        for statement in [
            "SELECT * FROM powerpole.accounts",
            "SELECT * FROM powerpole.ticket_keys",
            "DELETE FROM powerpole.nonces",
            "SELECT * FROM app_1.t",
            "CREATE USER mallory",
            "SELECT User FROM mysql.user",
            "CALL powerpole.attempt('CREATE USER mallory', @e)",
            "CALL powerpole.close_one(1, 'x')",
            "CALL powerpole.sweep_expired()",
            "CALL powerpole.kill_one(1)",
            "CALL powerpole.note('a', 'b', 'c', 'd')",
            "SHOW CREATE PROCEDURE powerpole.check_ticket",
            "DROP EVENT powerpole.expire",
            "SET GLOBAL event_scheduler = OFF",
        ] {
            match grantor.query::<mysql_async::Row, _>(statement).await {
                Err(_) => {}
                Ok(rows) => {
                    let body: Option<String> = rows
                        .first()
                        .and_then(|r| r.get_opt(2))
                        .and_then(Result::ok)
                        .flatten();
                    assert!(
                        statement.starts_with("SHOW CREATE") && body.is_none(),
                        "{}: {statement}",
                        server.name
                    );
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn nothing_opens_while_the_event_does_not_run() {
    on_each("event scheduler off", |server| async move {
        let mut owner = server.owner().await;
        owner
            .query_drop("SET GLOBAL event_scheduler = OFF")
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        owner
            .query_drop("UPDATE powerpole.heartbeat SET ran_at = ran_at - 11")
            .await
            .unwrap();
        let ticket = server.ticket("alice", "READ", 600).await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let refused = call(
            &mut grantor,
            "open_account",
            open_arguments(&ticket, server.authentication()),
        )
        .await;
        owner
            .query_drop("SET GLOBAL event_scheduler = ON")
            .await
            .unwrap();
        assert_eq!(refused, Err("event_not_running".into()));
        server.wait_for_event(&mut owner).await;
        call(
            &mut grantor,
            "open_account",
            open_arguments(&ticket, server.authentication()),
        )
        .await
        .unwrap();
        call(&mut grantor, "close_account", own(&ticket))
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_callers_session_settings_cannot_spoil_the_registry() {
    on_each("session settings", |server| async move {
        let mut owner = server.owner().await;
        for set in [
            "SET insert_id = 18446744073709551615",
            "SET SESSION auto_increment_increment = 65535, SESSION unique_checks = 0",
            "SET SESSION autocommit = 0, SESSION completion_type = 1",
            "SET SESSION sql_select_limit = 0, SESSION sql_safe_updates = 1",
            "SET SESSION sql_auto_is_null = 1, SESSION group_concat_max_len = 4",
            "START TRANSACTION",
        ] {
            let mut grantor = server.grantor("127.0.0.3").await;
            let ticket = server.ticket("alice", "READ", 600).await;
            let mut forged = ticket.clone();
            flip_last(&mut forged.mac);
            // What a server does not know cannot be abused there.
            let _ = grantor.query_drop(set).await;
            let arguments = open_arguments(&forged, server.authentication());
            assert_eq!(
                call(&mut grantor, "open_account", arguments).await,
                Err("ticket_refused".into()),
                "{}: {set}",
                server.name
            );
            let _ = grantor.query_drop("ROLLBACK").await;
            let _ = grantor.query_drop(set).await;
            let arguments = open_arguments(&ticket, server.authentication());
            call(&mut grantor, "open_account", arguments.clone())
                .await
                .unwrap();
            let _ = grantor.query_drop("ROLLBACK").await;
            let noted: Vec<String> = owner
                .exec(
                    "SELECT outcome FROM powerpole.calls WHERE request = ? ORDER BY outcome",
                    (ticket.request.as_str(),),
                )
                .await
                .unwrap();
            assert_eq!(
                noted,
                ["opened", "ticket_refused"],
                "{}: {set}",
                server.name
            );
            let mut plain = server.grantor("127.0.0.3").await;
            let closed = call(&mut plain, "close_account", own(&ticket))
                .await
                .unwrap();
            assert_eq!(closed["state"], "closed", "{}: {set}", server.name);
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_rotated_while_both_are_valid_and_the_old_one_ends() {
    on_each("key rotation", |server| async move {
        let mut owner = server.owner().await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let new_key = powerpole_database::ticket_key_statement("k2", &[9; 32]).unwrap();
        owner.query_drop(new_key).await.unwrap();
        for (key_id, key) in [("k1", KEY), ("k2", [9; 32])] {
            let request = server.request().await;
            let mut ticket = server
                .unsigned(&request, "alice", "READ", &["app_1"], 600)
                .await;
            ticket.key_id = key_id.into();
            let ticket = ticket.signed(&key, BASTION.parse().unwrap());
            let arguments = open_arguments(&ticket, server.authentication());
            call(&mut grantor, "open_account", arguments).await.unwrap();
            call(&mut grantor, "close_account", own(&ticket))
                .await
                .unwrap();
        }
        let retire = powerpole_database::retire_key_statement("k1").unwrap();
        owner.query_drop(retire).await.unwrap();
        let old = server.ticket("alice", "READ", 600).await;
        assert_eq!(
            call(
                &mut grantor,
                "open_account",
                open_arguments(&old, server.authentication())
            )
            .await,
            Err("ticket_refused".into())
        );
        let retire = powerpole_database::retire_key_statement("k2").unwrap();
        owner.query_drop(retire).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_newer_installation_is_left_alone() {
    on_each("downgrade", |server| async move {
        let mut owner = server.owner().await;
        let set = |version: &str| {
            format!("UPDATE powerpole.settings SET value = '{version}' WHERE name = 'version'")
        };
        owner.query_drop(set("99")).await.unwrap();
        let statements =
            powerpole_database::install_statements(server.dialect, &server.install_options())
                .unwrap();
        let mut refused = None;
        for statement in statements {
            if let Err(error) = owner.query_drop(&statement).await {
                refused = Some(code(&error));
                break;
            }
        }
        owner
            .query_drop("DROP PROCEDURE IF EXISTS powerpole.install_guard")
            .await
            .unwrap();
        let stamped: String = owner
            .query_first("SELECT value FROM powerpole.settings WHERE name = 'version'")
            .await
            .unwrap()
            .unwrap();
        let current = powerpole_database::SCHEMA_VERSION.to_string();
        owner.query_drop(set(&current)).await.unwrap();
        assert_eq!(
            (refused.as_deref(), stamped.as_str()),
            (Some("downgrade_refused"), "99")
        );
    })
    .await;
}

#[tokio::test]
async fn where_the_policy_demands_the_audit_log_nothing_opens_without_it() {
    on_each("audit demanded", |server| async move {
        let mut owner = server.owner().await;
        let options = powerpole_database::InstallOptions {
            require_audit: true,
            ..server.install_options()
        };
        server.install(&mut owner, options).await;
        let has_plugin = owner
            .query_drop("SET GLOBAL server_audit_logging = OFF")
            .await
            .is_ok();
        let ticket = server.ticket("alice", "READ", 600).await;
        let mut grantor = server.grantor("127.0.0.3").await;
        let arguments = open_arguments(&ticket, server.authentication());
        let without = call(&mut grantor, "open_account", arguments.clone()).await;
        assert_eq!(without, Err("audit_off".into()), "{}", server.name);
        if has_plugin {
            owner
                .query_drop("SET GLOBAL server_audit_logging = ON")
                .await
                .unwrap();
            let with = call(&mut grantor, "open_account", arguments).await;
            owner
                .query_drop("SET GLOBAL server_audit_logging = OFF")
                .await
                .unwrap();
            with.unwrap();
            call(&mut grantor, "close_account", own(&ticket))
                .await
                .unwrap();
        }
    })
    .await;
}
