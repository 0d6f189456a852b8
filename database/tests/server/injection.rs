//! Hostile text in every argument of every procedure, under each way a session can read it.

use mysql_async::{Value, prelude::*};

use crate::support::*;

const HOSTILE: [&str; 34] = [
    "",
    " ",
    "'",
    "''",
    "\"",
    "`",
    "\\",
    "\\'",
    "\\\\'",
    "'; DROP DATABASE billing; -- ",
    "' OR '1'='1",
    "alice'@'%",
    "alice'@'%' IDENTIFIED BY 'x",
    "%",
    "_",
    "app\\_1",
    "app_1`.* TO x; --",
    "app_1,mysql",
    "app_1,,billing",
    ",app_1",
    "app_1,",
    "app_1\n",
    "\napp_1",
    "READ\n",
    "read",
    "READ ",
    "ALL PRIVILEGES",
    "req-00000000000000000000000000\n",
    "a\0b",
    "\u{2019}",
    "\u{ff07}",
    "\u{bf}'",
    "é",
    "𝔞𝔩𝔦𝔠𝔢",
];

const MODES: [&str; 6] = [
    "",
    "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "SET SESSION sql_mode = 'ANSI_QUOTES'",
    "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT'",
    "SET SESSION sql_mode = '', SESSION group_concat_max_len = 4, SESSION autocommit = 0",
    "SET NAMES gbk",
];

async fn accounts(server: &Server) -> Vec<(String, String)> {
    server
        .owner()
        .await
        .query("SELECT User, Host FROM mysql.user ORDER BY 1, 2")
        .await
        .unwrap()
}

async fn schemas(server: &Server) -> Vec<String> {
    server.owner().await.query("SHOW DATABASES").await.unwrap()
}

#[tokio::test]
async fn hostile_arguments_change_nothing_anywhere() {
    on_each("injection", |server| async move {
        let before = (accounts(&server).await, schemas(&server).await);
        let mut tried = 0u32;
        // Each refusal is a committed row; only this test writes thousands of them.
        let mut owner = server.owner().await;
        for fast in ["SET GLOBAL innodb_flush_log_at_trx_commit = 2", "SET GLOBAL sync_binlog = 0"] {
            owner.query_drop(fast).await.unwrap();
        }
        let mut long: Vec<String> = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
        long.push("a".repeat(33));
        long.push("a".repeat(70_000));
        for mode in MODES {
            let mut grantor = server.grantor("127.0.0.3").await;
            if !mode.is_empty() && grantor.query_drop(mode).await.is_err() {
                println!("{}: not possible here: {mode}", server.name);
                continue;
            }
            let good = server.ticket("alice", "READ", 600).await;
            let open = open_arguments(&good, server.authentication());
            let extend = open_arguments(&good, good.not_after);
            let pair = own(&good);
            let mut three = pair.clone();
            three.push(good.not_after.into());
            for (procedure, arguments) in [
                ("open_account", &open), ("extend_account", &extend), ("renew_lease", &pair), ("set_deadline", &three),
                ("close_account", &pair), ("account_state", &pair), ("end_connections", &pair),
            ] {
                for at in 0..arguments.len() {
                    let numeric = !matches!(arguments[at], Value::Bytes(_));
                    let texts = long.iter().map(|text| Value::from(text.as_str())).chain([Value::NULL]);
                    for hostile in texts {
                        if numeric && mode.is_empty() && matches!(&hostile, Value::Bytes(b) if b.is_empty()) {
                            continue;
                        }
                        let mut arguments = arguments.clone();
                        arguments[at] = hostile.clone();
                        let answer = call(&mut grantor, procedure, arguments.clone()).await;
                        assert!(answer.is_err(), "{} {procedure} {at} {hostile:?}: {answer:?}", server.name);
                        // The same as text of the statement, so that the session's reading of quotes is in play.
                        if let Value::Bytes(_) = &hostile {
                            let literal: Vec<String> = arguments.iter().enumerate().map(|(i, value)| {
                                let text = match value { Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(), other => other.as_sql(false) };
                                if i == at { format!("'{text}'") } else { format!("'{}'", text.replace('\'', "''")) }
                            }).collect();
                            let statement = format!("CALL powerpole.{procedure}({})", literal.join(", "));
                            assert!(grantor.query_drop(&statement).await.is_err(), "{} {statement}", server.name);
                            tried += 1;
                        }
                        tried += 1;
                    }
                }
            }
        }
        for safe in ["SET GLOBAL innodb_flush_log_at_trx_commit = 1", "SET GLOBAL sync_binlog = 1"] {
            owner.query_drop(safe).await.unwrap();
        }
        println!("{}: {tried} hostile calls, 0 had an effect", server.name);
        assert_eq!((accounts(&server).await, schemas(&server).await), before);
        let opened: u64 = server.owner().await
            .query_first("SELECT COUNT(*) FROM powerpole.accounts WHERE state IN ('opening', 'open', 'closing')")
            .await.unwrap().unwrap();
        assert_eq!(opened, 0);
    })
    .await;
}

#[tokio::test]
async fn a_validly_signed_ticket_for_a_system_schema_or_a_wrong_name_is_refused_too() {
    on_each("signed but wrong", |server| async move {
        let mut grantor = server.grantor("127.0.0.3").await;
        let good = server.ticket("alice", "READ", 600).await;
        for (at, text) in [
            (4, "mysql"),
            (4, "MySQL"),
            (4, "powerpole"),
            (4, "sys"),
            (4, "app_1,performance_schema"),
            (4, "appx1"),
            (4, "app%"),
            (2, "root"),
            (2, "powerpole_definer"),
            (2, "mysql.sys"),
            (2, "rdsadmin"),
            (2, "a'b"),
            (2, ""),
            (2, "abcdefghijklmnopqrstuvwxyz0123456"),
            (3, "OWNER"),
            (3, "ALL"),
        ] {
            let mut arguments = open_arguments(&good, server.authentication());
            arguments[at] = text.into();
            let lines: Vec<String> = arguments[..7]
                .iter()
                .map(|value| match value {
                    Value::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
                    other => other.as_sql(false),
                })
                .collect();
            let mut lines = lines;
            lines.insert(3, BASTION.to_owned());
            let input = format!("powerpole-ticket-v2\n{}\n", lines.join("\n"));
            arguments[7] = hmac(input.as_bytes()).into();
            let answer = call(&mut grantor, "open_account", arguments).await;
            assert!(
                matches!(
                    answer.as_ref().map_err(String::as_str),
                    Err("argument_refused" | "schema_refused")
                ),
                "{} {text}: {answer:?}",
                server.name
            );
        }
        for (beyond, code) in [(13 * 3600, "deadline_refused")] {
            let mut far = server
                .unsigned(&server.request().await, "alice", "READ", &["app_1"], beyond)
                .await;
            far = far.signed(&KEY, BASTION.parse().unwrap());
            let answer = call(
                &mut grantor,
                "open_account",
                open_arguments(&far, server.authentication()),
            )
            .await;
            assert_eq!(answer, Err(code.into()));
        }
    })
    .await;
}

fn hmac(input: &[u8]) -> String {
    use hmac::{Hmac, KeyInit, Mac};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&KEY).unwrap();
    mac.update(input);
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}
