//! What each level may do, statement class by statement class, expected and seen.

use mysql_async::prelude::*;

use crate::support::*;

const READ: u8 = 1;
const WRITE: u8 = 2;
const ADMIN: u8 = 4;
const NONE: u8 = 0;

/// Class, who may, statements that make it ready (as the owner), the statement.
const CLASSES: [(&str, u8, &str, &str); 32] = [
    ("SELECT", READ | WRITE | ADMIN, "", "SELECT * FROM app_1.t"),
    (
        "SHOW CREATE VIEW",
        READ | WRITE | ADMIN,
        "",
        "SHOW CREATE VIEW app_1.a_view",
    ),
    (
        "EXPLAIN",
        READ | WRITE | ADMIN,
        "",
        "EXPLAIN SELECT * FROM app_1.t",
    ),
    (
        "INSERT",
        WRITE | ADMIN,
        "DELETE FROM app_1.t WHERE id = 77",
        "INSERT INTO app_1.t VALUES (77, 1)",
    ),
    (
        "UPDATE",
        WRITE | ADMIN,
        "",
        "UPDATE app_1.t SET v = 5 WHERE id = 2",
    ),
    (
        "DELETE",
        WRITE | ADMIN,
        "",
        "DELETE FROM app_1.t WHERE id = 77",
    ),
    ("CALL", WRITE | ADMIN, "", "CALL app_1.a_procedure()"),
    (
        "TEMPORARY TABLE",
        WRITE | ADMIN,
        "",
        "CREATE TEMPORARY TABLE app_1.temporary_one (id INT)",
    ),
    (
        "CREATE TABLE",
        ADMIN,
        "DROP TABLE IF EXISTS app_1.made",
        "CREATE TABLE app_1.made (id INT)",
    ),
    (
        "ALTER TABLE",
        ADMIN,
        "",
        "ALTER TABLE app_1.changed COMMENT = 'x'",
    ),
    (
        "CREATE INDEX",
        ADMIN,
        "DROP INDEX IF EXISTS by_v ON app_1.changed",
        "CREATE INDEX by_v ON app_1.changed (v)",
    ),
    (
        "REFERENCES",
        ADMIN,
        "DROP TABLE IF EXISTS app_1.child",
        "CREATE TABLE app_1.child (id INT, FOREIGN KEY (id) REFERENCES app_1.t (id))",
    ),
    ("LOCK TABLES", ADMIN, "", "LOCK TABLES app_1.t READ"),
    ("TRUNCATE", ADMIN, "", "TRUNCATE app_1.changed"),
    (
        "DROP TABLE",
        ADMIN,
        "CREATE TABLE IF NOT EXISTS app_1.dropped (id INT)",
        "DROP TABLE app_1.dropped",
    ),
    (
        "CREATE VIEW",
        NONE,
        "",
        "CREATE VIEW app_1.own_view AS SELECT 1",
    ),
    (
        "CREATE TRIGGER",
        NONE,
        "",
        "CREATE TRIGGER app_1.own_trigger BEFORE INSERT ON app_1.t FOR EACH ROW SET NEW.v = 1",
    ),
    (
        "CREATE PROCEDURE",
        NONE,
        "",
        "CREATE PROCEDURE app_1.own_procedure() SELECT 1",
    ),
    (
        "CREATE FUNCTION",
        NONE,
        "",
        "CREATE FUNCTION app_1.own_function() RETURNS INT DETERMINISTIC RETURN 1",
    ),
    (
        "CREATE EVENT",
        NONE,
        "",
        "CREATE EVENT app_1.own_event ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    ),
    (
        "ALTER PROCEDURE",
        NONE,
        "",
        "ALTER PROCEDURE app_1.a_procedure COMMENT 'x'",
    ),
    (
        "GRANT",
        NONE,
        "",
        "GRANT SELECT ON app_1.* TO 'alice'@'127.0.0.3'",
    ),
    ("CREATE USER", NONE, "", "CREATE USER mallory"),
    ("CREATE DATABASE", NONE, "", "CREATE DATABASE another"),
    ("another schema", NONE, "", "SELECT * FROM billing.t"),
    ("appx1", NONE, "", "SELECT * FROM appx1.t"),
    ("mysql.user", NONE, "", "SELECT * FROM mysql.user"),
    ("powerpole", NONE, "", "SELECT * FROM powerpole.accounts"),
    ("powerpole CALL", NONE, "", "CALL powerpole.sweep()"),
    (
        "INTO OUTFILE",
        NONE,
        "",
        "SELECT 1 INTO OUTFILE '/tmp/powerpole-test-outfile'",
    ),
    ("KILL others", NONE, "", "KILL {other}"),
    ("SET GLOBAL", NONE, "", "SET GLOBAL event_scheduler = OFF"),
];

#[tokio::test]
async fn each_level_may_do_its_statements_and_no_other() {
    on_each("levels", |server| async move {
        let mut owner = server.owner().await;
        for statement in [
            "CREATE OR REPLACE VIEW app_1.a_view AS SELECT 1",
            "DROP PROCEDURE IF EXISTS app_1.a_procedure",
            "CREATE PROCEDURE app_1.a_procedure() SELECT 1",
            "DROP TABLE IF EXISTS app_1.child, app_1.made, app_1.dropped",
            "CREATE TABLE IF NOT EXISTS app_1.changed (id INT, v INT)",
        ] {
            owner.query_drop(statement).await.unwrap();
        }
        let other: u64 = owner
            .query_first("SELECT CONNECTION_ID()")
            .await
            .unwrap()
            .unwrap();
        let mut seen = vec![String::new(); CLASSES.len()];
        let mut wrong = Vec::new();
        for (level, bit) in [("READ", READ), ("WRITE", WRITE), ("ADMIN", ADMIN)] {
            let ticket = open(&server, level, "127.0.0.3").await;
            for (index, (class, who, before, statement)) in CLASSES.iter().enumerate() {
                if !before.is_empty() {
                    // The index may not be there yet; MySQL has no IF EXISTS for it.
                    let ready = owner.query_drop(*before).await;
                    if ready.is_err() {
                        let _ = owner
                            .query_drop("ALTER TABLE app_1.changed DROP INDEX by_v")
                            .await;
                    }
                }
                let statement = statement.replace("{other}", &other.to_string());
                let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
                let answer = alice.query_drop(&statement).await;
                let allowed = answer.is_ok();
                if let Err(mysql_async::Error::Server(error)) = &answer {
                    assert_ne!(error.code, 1064, "{}: {error}", server.name);
                }
                drop(alice);
                let expected = who & bit != 0;
                seen[index].push_str(match (expected, allowed) {
                    (true, true) => "  yes  ",
                    (false, false) => "  no   ",
                    (true, false) => " *NO*  ",
                    (false, true) => " *YES* ",
                });
                if expected != allowed {
                    wrong.push(format!(
                        "{level} {class}: expected {expected}, seen {allowed}"
                    ));
                }
            }
            let mut grantor = server.grantor("127.0.0.3").await;
            call(&mut grantor, "close_account", own(&ticket))
                .await
                .unwrap();
        }
        println!(
            "{:<20} {:<17}  READ   WRITE  ADMIN",
            server.name, "statement class"
        );
        for ((class, ..), row) in CLASSES.iter().zip(&seen) {
            println!("{:<20} {class:<17} {row}", server.name);
        }
        assert!(wrong.is_empty(), "{}: {wrong:#?}", server.name);
    })
    .await;
}

#[tokio::test]
async fn rights_reach_only_the_schema_of_that_very_name() {
    on_each("app_1 is not appx1", |server| async move {
        let ticket = open(&server, "ADMIN", "127.0.0.3").await;
        let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
        let schemas: Vec<String> = alice.query("SHOW DATABASES").await.unwrap();
        assert!(schemas.contains(&"app_1".to_owned()));
        for schema in ["appx1", "billing", "powerpole", "mysql"] {
            assert!(
                !schemas.contains(&schema.to_owned()),
                "{}: {schema}",
                server.name
            );
        }
        let mut grantor = server.grantor("127.0.0.3").await;
        call(&mut grantor, "close_account", own(&ticket))
            .await
            .unwrap();
        if server.dialect == powerpole_database::Dialect::MySql {
            partial_revokes(&server).await;
        }
    })
    .await;
}

/// With partial revokes on, `_` is literal and an escape would be part of the name.
async fn partial_revokes(server: &Server) {
    let mut owner = server.owner().await;
    owner
        .query_drop("SET GLOBAL partial_revokes = ON")
        .await
        .unwrap();
    server.install(&mut owner, server.install_options()).await;
    let ticket = open(server, "READ", "127.0.0.3").await;
    let mut alice = server.login("alice", PASSWORD, "127.0.0.3").await.unwrap();
    let own_schema = alice.query_drop("SELECT * FROM app_1.t").await;
    let alike = alice.query_drop("SELECT * FROM appx1.t").await;
    let mut grantor = server.grantor("127.0.0.3").await;
    call(&mut grantor, "close_account", own(&ticket))
        .await
        .unwrap();
    owner
        .query_drop("SET GLOBAL partial_revokes = OFF")
        .await
        .unwrap();
    assert!(
        own_schema.is_ok() && alike.is_err(),
        "{own_schema:?} {alike:?}"
    );
}
