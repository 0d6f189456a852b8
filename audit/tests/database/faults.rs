//! Everything that `check` looks for and that can be brought about on a running server: made true, found, mended.

use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use powerpole_database::Dialect;

use crate::owner::{GRANTOR, Server, on_each};

/// What makes it true, and what mends it.
struct Fault {
    code: &'static str,
    only: Option<Dialect>,
    make: Vec<String>,
    mend: Mend,
}

enum Mend {
    By(Vec<String>),
    Installing,
}

fn fault<const N: usize, const M: usize>(
    code: &'static str,
    make: [&str; N],
    mend: [&str; M],
) -> Fault {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Fault {
        code,
        only: None,
        make: owned(&make),
        mend: if M == 0 {
            Mend::Installing
        } else {
            Mend::By(owned(&mend))
        },
    }
}

fn only(dialect: Dialect, fault: Fault) -> Fault {
    Fault {
        only: Some(dialect),
        ..fault
    }
}

const ROW: &str = "INSERT INTO powerpole.accounts (id, request, account, host, level, schema_names, state, nonce, key_id, \
    authentication, opened_by, opened_at, not_after, lease_until) \
    VALUES (18446744073709551000, 'req-00000000000000000000000000', 'left', '10.9.9.9', 'READ', 'app_1', 'open', \
    REPEAT('0', 32), 'k1', REPEAT('0', 64), 'a test', 1, 1, 1)";

fn faults() -> Vec<Fault> {
    use Dialect::{MariaDb, MySql};
    let definer = "'powerpole_definer'@'localhost'";
    let without_tls = format!("ALTER USER '{GRANTOR}'@'%' REQUIRE NONE");
    let with_tls = format!("ALTER USER '{GRANTOR}'@'%' REQUIRE SSL");
    let take = |right: &str| format!("REVOKE {right} ON *.* FROM {definer}");
    let give = |right: &str| format!("GRANT {right} ON *.* TO {definer}");
    vec![
        fault(
            "event_scheduler_off",
            ["SET GLOBAL event_scheduler = OFF"],
            ["SET GLOBAL event_scheduler = ON"],
        ),
        fault(
            "event_not_running",
            [
                "SET GLOBAL event_scheduler = OFF",
                "DO SLEEP(2)",
                "UPDATE powerpole.heartbeat SET ran_at = ran_at - 60",
            ],
            ["SET GLOBAL event_scheduler = ON"],
        ),
        fault(
            "event_disabled",
            ["ALTER EVENT powerpole.expire DISABLE"],
            ["ALTER EVENT powerpole.expire ENABLE"],
        ),
        fault("event_missing", ["DROP EVENT powerpole.expire"], []),
        fault("procedure_missing", ["DROP PROCEDURE powerpole.sweep"], []),
        fault(
            "procedure_missing",
            ["DROP PROCEDURE powerpole.close_one"],
            [],
        ),
        fault(
            "read_only",
            ["SET GLOBAL read_only = ON"],
            ["SET GLOBAL read_only = OFF"],
        ),
        only(
            MySql,
            fault(
                "definer_cannot_kill",
                ["REVOKE CONNECTION_ADMIN ON *.* FROM 'powerpole_kill'@'localhost'"],
                ["GRANT CONNECTION_ADMIN ON *.* TO 'powerpole_kill'@'localhost'"],
            ),
        ),
        only(
            MySql,
            fault(
                "definer_role_missing",
                [&*format!("SET DEFAULT ROLE NONE TO {definer}")],
                [&*format!(
                    "SET DEFAULT ROLE 'powerpole_kill'@'localhost' TO {definer}"
                )],
            ),
        ),
        only(
            MySql,
            fault(
                "grantor_connections",
                [&*format!(
                    "ALTER USER '{GRANTOR}'@'%' WITH MAX_USER_CONNECTIONS 2"
                )],
                [&*format!(
                    "ALTER USER '{GRANTOR}'@'%' WITH MAX_USER_CONNECTIONS 1"
                )],
            ),
        ),
        only(
            MariaDb,
            fault(
                "definer_cannot_kill",
                [&*take("CONNECTION ADMIN")],
                [&*give("CONNECTION ADMIN")],
            ),
        ),
        fault("definer_rights", [&*take("PROCESS")], [&*give("PROCESS")]),
        fault("definer_missing", [&*format!("DROP USER {definer}")], []),
        fault(
            "definer_unlocked",
            [&*format!("ALTER USER {definer} ACCOUNT UNLOCK")],
            [&*format!("ALTER USER {definer} ACCOUNT LOCK")],
        ),
        fault(
            "definer_schema_rights",
            [&*format!(
                r"REVOKE GRANT OPTION ON `app\_1`.* FROM {definer}"
            )],
            [],
        ),
        only(
            MariaDb,
            fault(
                "audit_log_off",
                ["SET GLOBAL server_audit_logging = OFF"],
                ["SET GLOBAL server_audit_logging = ON"],
            ),
        ),
        only(
            MySql,
            fault(
                "partial_revokes_on",
                ["SET GLOBAL partial_revokes = ON"],
                ["SET GLOBAL partial_revokes = OFF"],
            ),
        ),
        only(
            MySql,
            fault(
                "mandatory_roles",
                [
                    "CREATE ROLE IF NOT EXISTS pp_role",
                    "SET GLOBAL mandatory_roles = 'pp_role'",
                ],
                ["SET GLOBAL mandatory_roles = ''", "DROP ROLE pp_role"],
            ),
        ),
        fault("grantor_without_tls", [&*without_tls], [&*with_tls]),
        // As the grantor may do itself: neither server can forbid it.
        fault(
            "grantor_password_changed",
            [&*format!(
                "ALTER USER '{GRANTOR}'@'%' IDENTIFIED BY 'another password'"
            )],
            [],
        ),
        fault("no_grantor", ["DELETE FROM powerpole.grantors"], []),
        fault("no_ticket_key", ["DELETE FROM powerpole.ticket_keys"], []),
        fault(
            "many_ticket_keys",
            ["INSERT INTO powerpole.ticket_keys VALUES ('k8', '', ''), ('k9', '', '')"],
            ["DELETE FROM powerpole.ticket_keys WHERE key_id IN ('k8', 'k9')"],
        ),
        fault(
            "schema_missing",
            ["INSERT INTO powerpole.schemas VALUES ('gone_1', 1)"],
            ["DELETE FROM powerpole.schemas WHERE name = 'gone_1'"],
        ),
        fault(
            "prepared_branch",
            [
                "XA START 'left'",
                "INSERT INTO app_1.t VALUES (18, 1)",
                "XA END 'left'",
                "XA PREPARE 'left'",
            ],
            // As the finding's mend says it.
            ["XA ROLLBACK X'6c656674',X'',1"],
        ),
        fault(
            "version_differs",
            ["UPDATE powerpole.settings SET value = '1' WHERE name = 'version'"],
            [],
        ),
        fault(
            "account_overdue",
            ["SET GLOBAL event_scheduler = OFF", "DO SLEEP(2)", ROW],
            [
                "DELETE FROM powerpole.accounts WHERE account = 'left'",
                "SET GLOBAL event_scheduler = ON",
            ],
        ),
    ]
}

#[tokio::test]
async fn each_fault_is_found_on_the_server_that_has_it_and_is_gone_when_it_is_mended() {
    on_each(async |server| {
        // Errors where there is no plugin, and then there is nothing to find on or off.
        let _ = server
            .conn
            .query_drop("SET GLOBAL server_audit_logging = ON")
            .await;
        server.install();
        let healthy = server.check();
        // MySQL has no free audit plugin: that alone is found on a server that is well.
        let known: Vec<&str> = match server.dialect {
            Dialect::MySql => vec!["audit_log_off"],
            Dialect::MariaDb => vec![],
        };
        assert_eq!(
            healthy.keys().collect::<Vec<_>>(),
            known,
            "{}: {healthy:?}",
            server.name
        );
        for fault in faults() {
            if fault.only.is_some_and(|only| only != server.dialect) {
                continue;
            }
            let make: Vec<&str> = fault.make.iter().map(String::as_str).collect();
            server.run(&make).await;
            let found = server.check_until(fault.code, true).await;
            let [severity, what, mend] = &found[fault.code][0];
            assert!(!mend.is_empty());
            println!(
                "{}: check finds {severity} {}: {what}",
                server.name, fault.code
            );
            match &fault.mend {
                Mend::By(statements) => {
                    let mend: Vec<&str> = statements.iter().map(String::as_str).collect();
                    server.run(&mend).await;
                }
                Mend::Installing => {
                    server.install();
                }
            }
            server.check_until(fault.code, false).await;
        }
        server.check_until("event_not_running", false).await;
        assert_eq!(
            server.check().keys().collect::<Vec<_>>(),
            known,
            "{}",
            server.name
        );
        if server.dialect == Dialect::MySql {
            without_tls(server).await;
        }
        let _ = server
            .conn
            .query_drop("SET GLOBAL server_audit_logging = OFF")
            .await;
    })
    .await;
}

/// MySQL can lose its certificate while it runs; MariaDB keeps the one that it has.
async fn without_tls(server: &mut Server) {
    let certificate: String = server
        .conn
        .query_first("SELECT @@GLOBAL.ssl_cert")
        .await
        .unwrap()
        .unwrap();
    let reload = "ALTER INSTANCE RELOAD TLS NO ROLLBACK ON ERROR";
    server
        .run(&["SET GLOBAL ssl_cert = '/nonexistent/server.pem'", reload])
        .await;
    let (code, said) = server.powerpole(&["check", "--json"]);
    let (refused, why) = server.install();
    let back = format!("SET GLOBAL ssl_cert = '{certificate}'");
    server.run(&[&back, "ALTER INSTANCE RELOAD TLS"]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("tls_off"), "{said}");
    assert_eq!(refused, 2, "{why}");
    println!(
        "{}: check finds error tls_off: the server offers no TLS",
        server.name
    );
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.check_until("tls_off", false).await;
}
