//! A thief of the grantor's credential against everybody else: whatever it calls, however its session is set and however it
//! stays or breaks off, the event runs, an account past its end goes, and others open, renew and close.

use std::time::Duration;

use mysql_async::{Conn, Value, prelude::*};
use powerpole_database::{Dialect, install::PUBLIC_PROCEDURES, install_statements};
use powerpole_protocol::ticket::Ticket;
use tokio::task::JoinHandle;

use crate::support::*;

const THIEF: &str = "127.0.0.4";
const OTHER: &str = "127.0.0.5";
const VICTIM: &str = "127.0.0.6";

/// Looks this often, a tenth of a second apart, before a thing counts as not happening.
const LOOKS: usize = 300;

/// A call of each public procedure: by somebody who has a ticket of their own, or by a mere thief.
struct Calls {
    ticket: Ticket,
    extension: Ticket,
    authentication: String,
}

impl Calls {
    /// Opens an account at the thief's own address.
    async fn of(server: &Server) -> Self {
        let ticket = open(server, "READ", THIEF).await;
        let extension = server
            .unsigned(ticket.request.as_str(), "alice", "READ", &["app_1"], 900)
            .await
            .signed_extension(&KEY, THIEF.parse().unwrap());
        Self {
            ticket,
            extension,
            authentication: server.authentication(),
        }
    }

    fn arguments(&self, procedure: &str, has_ticket: bool) -> Vec<Value> {
        let mut arguments = match procedure {
            "open_account" => open_arguments(&self.ticket, self.authentication.clone()),
            "extend_account" => open_arguments(&self.extension, self.extension.not_after - 1),
            "sweep" => Vec::new(),
            "set_deadline" => {
                let mut three = own(&self.ticket);
                three.push((self.ticket.not_after - 1).into());
                three
            }
            _ => own(&self.ticket),
        };
        if !has_ticket && !arguments.is_empty() {
            let last_text = if arguments.len() == 9 { 7 } else { 1 };
            arguments[last_text] = "0".repeat(64).into();
        }
        arguments
    }

    /// The same as one statement.
    fn text(&self, procedure: &str, has_ticket: bool) -> String {
        let arguments = self.arguments(procedure, has_ticket);
        let literals: Vec<String> = arguments.iter().map(|value| value.as_sql(false)).collect();
        format!("CALL powerpole.{procedure}({})", literals.join(", "))
    }
}

async fn number(owner: &mut Conn, statement: &str) -> i64 {
    owner.query_first(statement).await.unwrap().unwrap()
}

/// Looks until `statement` answers what `wanted` says.
async fn until(owner: &mut Conn, what: &str, statement: &str, wanted: impl Fn(i64) -> bool) {
    for _ in 0..LOOKS {
        if wanted(number(owner, statement).await) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: never");
}

/// What must go on whatever a thief does. Speaks in plain texts: no statement is prepared but by the procedures' callers.
async fn all_goes_on(server: &Server, what: &str) {
    let what = format!("{}: {what}", server.name);
    let mut owner = server.owner().await;
    let stamp = "SELECT ran_at FROM powerpole.heartbeat";
    let before = number(&mut owner, stamp).await;
    let goes_on = format!("{what}: the event's stamp goes on");
    until(&mut owner, &goes_on, stamp, |now| now > before + 1).await;

    let victim = open(server, "READ", VICTIM).await;
    let past = format!(
        "UPDATE powerpole.accounts SET lease_until = 1 WHERE request = '{}'",
        victim.request
    );
    owner.query_drop(past).await.unwrap();
    gone(&mut owner, &what, VICTIM).await;

    let other = open(server, "READ", OTHER).await;
    let mut grantor = server.grantor(OTHER).await;
    for procedure in ["renew_lease", "close_account"] {
        let answer = call(&mut grantor, procedure, own(&other)).await;
        assert!(answer.is_ok(), "{what}: {procedure}: {answer:?}");
    }
    gone(&mut owner, &what, OTHER).await;
}

async fn gone(owner: &mut Conn, what: &str, host: &str) {
    let left = format!("SELECT COUNT(*) FROM mysql.user WHERE User = 'alice' AND Host = '{host}'");
    for _ in 0..LOOKS {
        if number(owner, &left).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let registry = format!(
        "SELECT CONCAT_WS(' ', id, state, claimed_until, UNIX_TIMESTAMP(), last_error) FROM powerpole.accounts \
         WHERE host = '{host}' ORDER BY id DESC LIMIT 1"
    );
    let registry: Option<String> = owner.query_first(registry).await.unwrap();
    panic!("{what}: the account at {host} never goes: {registry:?}");
}

/// Transactions that any login of the grantor has open.
async fn held(owner: &mut Conn) -> i64 {
    let statement = format!(
        "SELECT COUNT(*) FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p \
         ON p.ID = t.trx_mysql_thread_id WHERE p.USER = '{GRANTOR}'"
    );
    number(owner, &statement).await
}

/// Waits until the grantor has no transaction open, for less time than the event gives one.
async fn lets_go(owner: &mut Conn, what: &str) {
    for _ in 0..30 {
        if held(owner).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: a login of the grantor has a transaction open");
}

/// Calls, reads nothing of the answer, and stays.
async fn stay_without_reading(mut conn: Conn, statement: String) -> JoinHandle<()> {
    let (called, answered) = tokio::sync::oneshot::channel();
    let stays = tokio::spawn(async move {
        let answer = conn.query_iter(statement).await;
        let _ = called.send(());
        std::future::pending::<()>().await;
        drop(answer);
    });
    answered.await.unwrap();
    stays
}

#[tokio::test]
async fn a_thief_who_stays_after_a_call_holds_up_nobody() {
    on_each("a thief stays", |server| async move {
        let mut owner = server.owner().await;
        for level in [
            "SERIALIZABLE",
            "REPEATABLE READ",
            "READ COMMITTED",
            "READ UNCOMMITTED",
        ] {
            let calls = Calls::of(&server).await;
            let (mut stay, mut unread) = (Vec::new(), Vec::new());
            for begin in [
                "SET autocommit = 0",
                "SET completion_type = 1",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT",
            ] {
                for procedure in PUBLIC_PROCEDURES {
                    for has_ticket in [false, true] {
                        if procedure == "close_account" && has_ticket {
                            continue;
                        }
                        let mut thief = server.grantor(THIEF).await;
                        let isolation = format!("SET SESSION TRANSACTION ISOLATION LEVEL {level}");
                        for set in [isolation.as_str(), begin] {
                            thief.query_drop(set).await.unwrap();
                        }
                        let answer = call(
                            &mut thief,
                            procedure,
                            calls.arguments(procedure, has_ticket),
                        )
                        .await;
                        // The extension is spent when the deadline was moved back after it.
                        let expected = has_ticket || procedure == "sweep";
                        // The extension is spent when the deadline was moved back after it.
                        if procedure != "extend_account" {
                            assert_eq!(
                                answer.is_ok(),
                                expected,
                                "{} {procedure}: {answer:?}",
                                server.name
                            );
                        }
                        stay.push(thief);
                    }
                }
                let mut thief = server.grantor(THIEF).await;
                for set in [
                    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                    begin,
                ] {
                    thief.query_drop(set).await.unwrap();
                }
                unread.push(stay_without_reading(thief, calls.text("sweep", true)).await);
            }
            lets_go(&mut owner, &format!("{}: {level}", server.name)).await;
            all_goes_on(&server, level).await;
            for mut thief in stay {
                assert!(
                    thief.ping().await.is_ok(),
                    "{}: nobody had to be ended",
                    server.name
                );
            }
            for thief in unread {
                thief.abort();
            }
            let mut thief = server.grantor(THIEF).await;
            call(&mut thief, "close_account", own(&calls.ticket))
                .await
                .unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn in_an_xa_branch_every_call_is_refused_before_it_reads_anything() {
    on_each("XA", |server| async move {
        let mut owner = server.owner().await;
        let calls = Calls::of(&server).await;
        let mut stay = Vec::new();
        for (at, procedure) in PUBLIC_PROCEDURES.into_iter().enumerate() {
            let mut thief = server.grantor(THIEF).await;
            let serializable = "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE";
            for set in [serializable, &format!("XA START 'thief-{at}'")] {
                thief.query_drop(set).await.unwrap();
            }
            let answer = thief.query_drop(calls.text(procedure, true)).await;
            let refused = code(&answer.expect_err(procedure));
            assert!(refused.starts_with("1399 "), "{procedure}: {refused}");
            stay.push(thief);
        }
        lets_go(&mut owner, server.name).await;
        all_goes_on(&server, "XA").await;
        drop(stay);
        let mut thief = server.grantor(THIEF).await;
        call(&mut thief, "close_account", own(&calls.ticket))
            .await
            .unwrap();
    })
    .await;
}

/// Each is set anew before every call. What a server does not know, or does not let a caller set, cannot be abused there.
const HOSTILE_SETTINGS: [&str; 32] = [
    "SET SESSION autocommit = 0",
    "SET SESSION completion_type = 1",
    "SET SESSION completion_type = 2",
    "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET SESSION TRANSACTION READ ONLY",
    "SET TRANSACTION READ ONLY",
    "START TRANSACTION READ ONLY",
    "START TRANSACTION WITH CONSISTENT SNAPSHOT",
    "SET SESSION max_error_count = 0",
    "SET SESSION lock_wait_timeout = 1, SESSION innodb_lock_wait_timeout = 1",
    "SET SESSION max_execution_time = 1",
    "SET SESSION max_join_size = 1",
    "SET SESSION sql_big_selects = 0, SESSION max_join_size = 1",
    "SET SESSION sql_select_limit = 0",
    "SET SESSION sql_safe_updates = 1",
    "SET SESSION sql_auto_is_null = 1",
    "SET SESSION group_concat_max_len = 4, SESSION max_sort_length = 4",
    "SET SESSION foreign_key_checks = 0, SESSION unique_checks = 0",
    "SET SESSION max_sp_recursion_depth = 0",
    "SET SESSION default_week_format = 7, SESSION div_precision_increment = 0",
    "SET SESSION tmp_table_size = 1024, SESSION max_heap_table_size = 16384, SESSION big_tables = 1",
    "SET SESSION tmp_memory_table_size = 0, SESSION tmp_disk_table_size = 1024",
    "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'",
    "SET SESSION default_regex_flags = 'EXTENDED,MULTILINE,UNGREEDY'",
    "SET SESSION collation_connection = 'utf8mb4_general_ci'",
    "SET SESSION time_zone = '+13:00'",
    "SET SESSION timestamp = 1",
    "SET SESSION use_secondary_engine = FORCED",
    "SET SESSION skip_replication = 1",
    "DO GET_LOCK('powerpole', 0)",
    "SET SESSION profiling = 1, SESSION optimizer_trace = 'enabled=on'",
];

#[tokio::test]
async fn no_setting_of_a_callers_session_changes_what_a_procedure_does() {
    on_each("hostile settings", |server| async move {
        let mut applied = 0;
        for set in HOSTILE_SETTINGS {
            let ticket = server.ticket_for(THIEF, "alice", "READ", 600).await;
            let calls = Calls {
                extension: server
                    .unsigned(ticket.request.as_str(), "alice", "READ", &["app_1"], 900)
                    .await
                    .signed_extension(&KEY, THIEF.parse().unwrap()),
                ticket,
                authentication: server.authentication(),
            };
            let mut thief = server.grantor(THIEF).await;
            if thief.query_drop(set).await.is_ok() {
                applied += 1;
            }
            for (procedure, has_ticket, expected) in [
                ("open_account", false, Err("ticket_refused")),
                ("account_state", true, Err("account_not_ours")),
                ("open_account", true, Ok(("host", THIEF))),
                ("open_account", true, Ok(("host", THIEF))),
                ("renew_lease", false, Err("account_not_ours")),
                ("renew_lease", true, Ok(("", ""))),
                ("set_deadline", true, Ok(("", ""))),
                ("extend_account", false, Err("ticket_refused")),
                ("extend_account", true, Ok(("", ""))),
                ("account_state", true, Ok(("state", "open"))),
                ("end_connections", true, Ok(("connections_left", "0"))),
                ("sweep", true, Ok(("accounts_left", "0"))),
                ("close_account", false, Err("account_not_ours")),
                ("close_account", true, Ok(("state", "closed"))),
                ("renew_lease", true, Err("account_not_open")),
                ("open_account", true, Err("ticket_used")),
            ] {
                let _ = thief.query_drop(set).await;
                let answer = call(&mut thief, procedure, calls.arguments(procedure, has_ticket)).await;
                let what = format!("{}: {set}: {procedure}", server.name);
                match (answer, expected) {
                    (Ok(answer), Ok((column, value))) => {
                        let seen = answer.get(column).map_or("", String::as_str);
                        assert_eq!(seen, value, "{what}: {answer:?}");
                    }
                    (answer, Err(code)) => assert_eq!(answer, Err(code.into()), "{what}"),
                    (Err(refused), Ok(_)) => panic!("{what}: {refused}"),
                }
            }
            let left: i64 = number(
                &mut server.owner().await,
                &format!("SELECT COUNT(*) FROM powerpole.accounts WHERE request = '{}' AND state <> 'closed'", calls.ticket.request),
            )
            .await;
            assert_eq!(left, 0, "{}: {set}", server.name);
        }
        println!("{}: {applied} of {} hostile settings could be set, none changed an outcome", server.name, HOSTILE_SETTINGS.len());
    })
    .await;
}

/// One login calls without end, another breaks its calls off wherever they are.
async fn break_off_without_end(server: &Server, set: &str, statement: &str) -> [JoinHandle<()>; 2] {
    let mut caller = server.grantor(THIEF).await;
    let mut killer = server.grantor(THIEF).await;
    let _ = caller.query_drop(set).await;
    let kill = format!("KILL QUERY {}", caller.id());
    let statement = statement.to_owned();
    let calls = tokio::spawn(async move {
        loop {
            let _ = caller.query_drop(&statement).await;
        }
    });
    let kills = tokio::spawn(async move {
        for pause in (0..7).cycle() {
            let _ = killer.query_drop(&kill).await;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    });
    [calls, kills]
}

/// A mere thief has only `sweep` to break off. Each broken call may have claimed what it meant to close: the event does not wait.
#[tokio::test]
async fn calls_that_are_broken_off_without_end_keep_no_account_alive() {
    on_each("broken off", |server| async move {
        let calls = Calls::of(&server).await;
        for (set, procedure) in [
            ("DO 1", "sweep"),
            ("SET SESSION max_statement_time = 0.002", "sweep"),
        ] {
            let thieves = break_off_without_end(&server, set, &calls.text(procedure, true)).await;
            all_goes_on(&server, procedure).await;
            for thief in thieves {
                thief.abort();
            }
        }
        let mut grantor = server.grantor(THIEF).await;
        call(&mut grantor, "close_account", own(&calls.ticket))
            .await
            .unwrap();
    })
    .await;
}

/// What a call that is broken off between BEGIN and COMMIT would leave, made with rights that the grantor does not have.
#[tokio::test]
async fn the_event_ends_a_grantor_that_sits_in_a_transaction_with_what_it_holds() {
    on_each("a grantor in a transaction", |server| async move {
        let mut owner = server.owner().await;
        let mut snapshot = server.grantor(THIEF).await;
        snapshot
            .query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            .await
            .unwrap();
        let rights = format!("GRANT SELECT, UPDATE ON powerpole.* TO '{GRANTOR}'@'%'");
        owner.query_drop(rights).await.unwrap();
        let mut locks = server.grantor(THIEF).await;
        for statement in [
            "START TRANSACTION",
            "SELECT * FROM powerpole.counter FOR UPDATE",
            "SELECT * FROM powerpole.heartbeat FOR UPDATE",
            "SELECT * FROM powerpole.accounts FOR UPDATE",
        ] {
            locks.query_drop(statement).await.unwrap();
        }
        let rights = format!("REVOKE SELECT, UPDATE ON powerpole.* FROM '{GRANTOR}'@'%'");
        owner.query_drop(rights).await.unwrap();
        let own = held(&mut owner).await;
        assert_eq!(own, 2, "{}", server.name);
        let stamp = "SELECT ran_at FROM powerpole.heartbeat";
        let before = number(&mut owner, stamp).await;
        let goes_on = format!("{}: the stamp goes on", server.name);
        until(&mut owner, &goes_on, stamp, |now| now > before + 1).await;
        all_goes_on(&server, "locks").await;
        lets_go(&mut owner, server.name).await;
        for mut ended in [snapshot, locks] {
            assert!(ended.ping().await.is_err(), "{}", server.name);
        }
    })
    .await;
}

#[tokio::test]
async fn a_thief_who_takes_every_prepared_statement_is_ended_by_the_event() {
    on_each("prepared statements", |server| async move {
        let mut owner = server.owner().await;
        let bound = number(&mut owner, "SELECT @@GLOBAL.max_prepared_stmt_count").await;
        owner
            .query_drop("SET GLOBAL max_prepared_stmt_count = 100")
            .await
            .unwrap();
        let mut thief = server.grantor(THIEF).await;
        let mut refused = String::new();
        for at in 0..200 {
            if let Err(error) = thief.query_drop(format!("PREPARE s{at} FROM 'DO 1'")).await {
                refused = code(&error);
                break;
            }
        }
        for _ in 0..LOOKS {
            if thief.query_drop("DO 1").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ended = thief.query_drop("DO 1").await.is_err();
        owner
            .query_drop(format!("SET GLOBAL max_prepared_stmt_count = {bound}"))
            .await
            .unwrap();
        // The event may have been there between two statements.
        assert!(
            refused.starts_with("1461 ") || ended,
            "{}: {refused}",
            server.name
        );
        assert!(ended, "{}", server.name);
        all_goes_on(&server, "prepared statements").await;
    })
    .await;
}

/// MySQL keeps a routine's metadata lock until the end of the transaction, for anybody who as much as asks for its text.
#[tokio::test]
async fn an_installation_that_somebody_holds_up_gives_up_soon_and_the_event_goes_on() {
    on_each("installation held up", |server| async move {
        let mut owner = server.owner().await;
        let mut thief = server.grantor(THIEF).await;
        thief.query_drop("XA START 'holds'").await.unwrap();
        for procedure in ["close_one", "sweep"] {
            let _ = thief
                .query_drop(format!("SHOW CREATE PROCEDURE powerpole.{procedure}"))
                .await;
        }
        let mut refused = None;
        let statements = install_statements(server.dialect, &server.install_options()).unwrap();
        for statement in &statements {
            if let Err(error) = owner.query_drop(statement).await {
                refused = Some(code(&error));
                break;
            }
        }
        match (server.dialect, refused) {
            (Dialect::MySql, Some(refused)) => {
                assert!(refused.starts_with("1205 "), "{refused}");
            }
            (Dialect::MariaDb, None) => {}
            (_, refused) => panic!("{}: {refused:?}", server.name),
        }
        all_goes_on(&server, "an installation that was held up").await;
        drop(thief);
        server.install(&mut owner, server.install_options()).await;
    })
    .await;
}
