//! Objects that have an account of ours as their DEFINER, which only an administrator can bring about: named one by one, and
//! the account is of no use to anybody.

use std::time::Duration;

use mysql_async::{Error, prelude::Queryable as _};
use powerpole_database::Dialect;

use crate::owner::{Server, on_each};

const ACCOUNT: &str = "'left'@'10.9.9.9'";

const OBJECTS: [(&str, &str, &str); 5] = [
    (
        "PROCEDURE app_1.left_procedure",
        "PROCEDURE app_1.left_procedure() SELECT 1",
        "CALL app_1.left_procedure()",
    ),
    (
        "FUNCTION app_1.left_function",
        "FUNCTION app_1.left_function() RETURNS INT DETERMINISTIC RETURN 1",
        "SELECT app_1.left_function()",
    ),
    (
        "VIEW app_1.left_view",
        "VIEW app_1.left_view AS SELECT * FROM app_1.t",
        "SELECT * FROM app_1.left_view",
    ),
    (
        "TRIGGER app_1.left_trigger",
        "TRIGGER app_1.left_trigger BEFORE INSERT ON app_1.left_table FOR EACH ROW SET NEW.id = NEW.id + 1",
        "INSERT INTO app_1.left_table VALUES (1)",
    ),
    (
        "EVENT app_1.left_event",
        "EVENT app_1.left_event ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
        "",
    ),
];

async fn drop_all(server: &mut Server) {
    for (name, ..) in OBJECTS {
        let (kind, name) = name.split_once(' ').unwrap();
        server
            .run(&[&format!("DROP {kind} IF EXISTS {name}")])
            .await;
    }
}

async fn state(server: &mut Server) -> (String, String) {
    server
        .conn
        .query_first(
            "SELECT state, COALESCE(last_error, '') FROM powerpole.accounts WHERE account = 'left'",
        )
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn an_account_that_is_a_definer_is_locked_or_gone_and_every_object_is_named() {
    on_each(async |server| {
        server.install();
        server
            .run(&["CREATE TABLE IF NOT EXISTS app_1.left_table (id INT)"])
            .await;
        drop_all(server).await;
        server
            .run(&[
                &format!("DROP USER IF EXISTS {ACCOUNT}"),
                &format!("CREATE USER {ACCOUNT} IDENTIFIED BY 'vN3pR8sW1xZ5bD7f' REQUIRE SSL"),
                r"GRANT SELECT, INSERT, EXECUTE ON `app\_1`.* TO 'left'@'10.9.9.9'",
            ])
            .await;
        for (_, body, _) in OBJECTS {
            server
                .run(&[&format!("CREATE DEFINER = {ACCOUNT} {body}")])
                .await;
        }
        server
            .run(&[
                "INSERT INTO powerpole.accounts (id, request, account, host, level, schema_names, state, nonce, key_id, \
                 authentication, opened_by, opened_at, not_after, lease_until) VALUES (18446744073709551001, \
                 'req-00000000000000000000000001', 'left', '10.9.9.9', 'WRITE', 'app_1', 'open', REPEAT('0', 32), 'k1', \
                 REPEAT('0', 64), 'a test', 1, 1, 1)",
            ])
            .await;
        for _ in 0..100 {
            let (state, error) = state(server).await;
            if state == "closed" || !error.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (closing, error) = state(server).await;
        let found = server.check();
        let named: Vec<&str> = found["definer_left_behind"]
            .iter()
            .map(|said| said[1].as_str())
            .collect();
        for (object, ..) in OBJECTS {
            assert!(
                named.iter().any(|what| what.starts_with(object)),
                "{}: {object} in {named:?}",
                server.name
            );
        }
        let mut fails_with = Vec::new();
        for (object, _, used) in OBJECTS.iter().filter(|(.., used)| !used.is_empty()) {
            let answer = server.conn.query_drop(*used).await;
            match answer {
                Ok(()) => {}
                Err(Error::Server(error)) => fails_with.push(format!("{object}: {}", error.code)),
                Err(error) => panic!("{error}"),
            }
        }
        match server.dialect {
            Dialect::MySql => {
                assert_eq!(closing, "closing");
                for part in ["4006", "procedure app_1.left_procedure", "view app_1.left_view"] {
                    assert!(error.contains(part), "{part} in {error}");
                }
                assert!(found.contains_key("account_stuck"), "{found:?}");
                let made: String = server
                    .conn
                    .query_first(format!("SHOW CREATE USER {ACCOUNT}"))
                    .await
                    .unwrap()
                    .unwrap();
                assert!(made.contains("ACCOUNT LOCK"), "{made}");
                let grants: Vec<String> = server
                    .conn
                    .query(format!("SHOW GRANTS FOR {ACCOUNT}"))
                    .await
                    .unwrap();
                assert_eq!(grants, ["GRANT USAGE ON *.* TO `left`@`10.9.9.9`"]);
                println!("MySQL: an account named as DEFINER stays locked, without rights: {error}");
            }
            Dialect::MariaDb => {
                assert_eq!(closing, "closed");
                let all_1449 = fails_with.iter().all(|failure| failure.ends_with("1449"));
                assert!(all_1449 && !fails_with.is_empty(), "{fails_with:?}");
                println!("MariaDB: an account named as DEFINER is dropped all the same, its objects then fail with 1449");
            }
        }
        println!("{}: check names {} objects; used, they fail: {}", server.name, named.len(), fails_with.join(", "));

        // With another definer, or without the objects, MySQL's event finishes by itself.
        drop_all(server).await;
        let found = server.check_until("account_stuck", false).await;
        assert!(!found.contains_key("definer_left_behind"), "{found:?}");
        assert_eq!(state(server).await.0, "closed", "{}", server.name);
        server
            .run(&[
                "DELETE FROM powerpole.accounts WHERE account = 'left'",
                "DROP TABLE app_1.left_table",
            ])
            .await;
    })
    .await;
}
