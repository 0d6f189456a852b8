//! Installing, installing again, removing.

use mysql_async::{Row, prelude::Queryable as _};

use crate::owner::{DEFINER, GRANTOR, Server, on_each};

/// All that an installation is, but what changes by itself.
async fn installed(server: &mut Server) -> Vec<String> {
    let mut all = Vec::new();
    server.run(&["USE powerpole"]).await;
    for statement in [
        "SELECT * FROM powerpole.settings ORDER BY 1",
        "SELECT * FROM powerpole.schemas ORDER BY 1",
        "SELECT * FROM powerpole.levels ORDER BY 1",
        "SELECT * FROM powerpole.grantors ORDER BY 1, 2",
        "SELECT * FROM powerpole.ticket_keys ORDER BY 1",
        "SELECT * FROM powerpole.accounts ORDER BY 1",
        "SELECT ROUTINE_NAME, SHA2(ROUTINE_DEFINITION, 256), DEFINER, SECURITY_TYPE, SQL_MODE FROM information_schema.ROUTINES \
         WHERE ROUTINE_SCHEMA = 'powerpole' ORDER BY 1",
        "SELECT EVENT_NAME, STATUS, DEFINER FROM information_schema.EVENTS WHERE EVENT_SCHEMA = 'powerpole'",
        &format!("SHOW GRANTS FOR {DEFINER}"),
        &format!("SHOW GRANTS FOR '{GRANTOR}'@'%'"),
    ] {
        let rows: Result<Vec<Row>, _> = server.conn.query(statement).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error}: {statement}", server.name));
        all.push(format!(
            "{statement}: {:?}",
            rows.into_iter().map(Row::unwrap).collect::<Vec<_>>()
        ));
    }
    all
}

#[tokio::test]
async fn installing_twice_changes_nothing_and_removing_leaves_nothing() {
    on_each(async |server| {
        assert!(server.check().contains_key("not_installed"), "{}", server.name);
        let (code, said) = server.install();
        assert_eq!(code, 0, "{}: {said}", server.name);
        let first = installed(server).await;
        let (code, said) = server.install();
        assert_eq!(code, 0, "{}: {said}", server.name);
        assert_eq!(installed(server).await, first, "{}", server.name);
        println!("{}: install run twice: the second changed nothing", server.name);

        // A newer command was here: this one keeps its hands off.
        server.run(&["UPDATE powerpole.settings SET value = '99' WHERE name = 'version'"]).await;
        let (code, said) = server.install();
        assert_eq!(code, 2, "{}: {said}", server.name);
        assert!(said.contains("downgrade_refused"), "{}: {said}", server.name);
        println!("{}: a downgrade is refused", server.name);

        server.run(&["UPDATE powerpole.settings SET value = '1' WHERE name = 'version'"]).await;
        let (code, said) = server.install();
        assert_eq!(code, 0, "an older version is brought up: {said}");

        let (code, said) = server.powerpole(&["uninstall"]);
        assert_eq!(code, 0, "{}: {said}", server.name);
        let left: u64 = server
            .conn
            .query_first(format!(
                "SELECT (SELECT COUNT(*) FROM mysql.user WHERE User IN ('powerpole_definer', 'powerpole_kill', '{GRANTOR}')) \
                 + (SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'powerpole')"
            ))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(left, 0, "{}", server.name);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_rotated_by_the_command_and_never_shown() {
    on_each(async |server| {
        server.install();
        std::fs::write(server.path("new.key"), "3b".repeat(32)).unwrap();
        let (code, said) = server.powerpole(&[
            "install",
            "--schemas",
            "app_1",
            "--ticket-key-file",
            &server.path("new.key"),
            "--ticket-key-id",
            "k2",
        ]);
        assert_eq!(code, 0, "{said}");
        let keys = "SELECT key_id FROM powerpole.ticket_keys ORDER BY 1";
        let both: Vec<String> = server.conn.query(keys).await.unwrap();
        assert_eq!(both, ["k1", "k2"]);
        let (code, said) =
            server.powerpole(&["install", "--schemas", "app_1", "--retire-ticket-key", "k1"]);
        assert_eq!(code, 0, "{said}");
        let new: Vec<String> = server.conn.query(keys).await.unwrap();
        assert_eq!(new, ["k2"]);
        for text in ["3b3b", "2a2a"] {
            assert!(!said.contains(text));
        }
    })
    .await;
}
