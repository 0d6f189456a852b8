//! What became of statements, before real servers: told of the right one, whatever the client makes of the numbers.

use super::raw::{ASKED, RawClient, USER};
use super::*;
use crate::sql::packet::Packet;
use serde_json::{Value, json};

/// CLIENT_DEPRECATE_EOF, CLIENT_OPTIONAL_RESULTSET_METADATA, and all that MariaDB has above 32 bits: reports of progress,
/// executions in bulk, long definitions, definitions that are left out the second time.
const MORE: [u64; 5] = [0, 1 << 24, 1 << 25, 1 << 24 | 1 << 25, 1 << 24 | 0x1f << 32];
const NO_TABLE: &[u8] = b"\x03SELECT * FROM no_such_table";

async fn behind(trial: &Trial, setting: &Setting, asked: u64) -> RawClient {
    let address = trial.endpoint.address;
    let (client, answer) = RawClient::log_in_asking(address, asked, USER, &setting.user).await;
    assert_eq!(answer.payload.first(), Some(&0), "{answer:?}");
    client
}

fn packets(payloads: &[&[u8]]) -> Vec<u8> {
    let packet = |payload: &&[u8]| {
        let payload = payload.to_vec();
        Packet { seq: 0, payload }.bytes()
    };
    payloads.iter().flat_map(packet).collect()
}

/// Reads until the error that the last statement comes to.
async fn until_no_table(client: &mut RawClient) {
    loop {
        let packet = client.read().await.unwrap();
        if packet.payload.starts_with(b"\xff\x7a\x04") {
            return;
        }
    }
}

/// Statement and outcome, of the last connection that any is told of.
fn outcomes(trial: &Trial) -> Vec<(u64, String)> {
    let results = told(&trial.spool, Kind::StatementResult);
    let last = results.last().unwrap()["connection"].clone();
    results
        .iter()
        .filter(|result| result["connection"] == last)
        .map(|result| {
            let outcome = match &result["error"] {
                Value::Null => result["outcome"].as_str().unwrap().to_owned(),
                error => error.to_string(),
            };
            (result["statement"].as_u64().unwrap(), outcome)
        })
        .collect()
}

fn expected(outcomes: &[&str]) -> Vec<(u64, String)> {
    (1..)
        .zip(outcomes)
        .map(|(n, outcome)| (n, (*outcome).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_whose_number_comes_round_to_1_are_nobody_elses_answer() {
    let name = "rows_whose_number_comes_round_to_1_are_nobody_elses_answer";
    let Some(setting) = setting(name).await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        for more in MORE {
            for rows in (249..=255).chain([600]) {
                let many = format!(
                    "\x03WITH RECURSIVE c AS (SELECT 1 n UNION ALL SELECT n+1 FROM c WHERE n<{rows}) SELECT '' FROM c"
                );
                let mut client = behind(&trial, &setting, ASKED | more).await;
                let all = [many.as_bytes(), b"\x03DO 1", many.as_bytes(), NO_TABLE];
                client.send_bytes(&packets(&all)).await;
                until_no_table(&mut client).await;
                let right = expected(&["rows", "ok", "rows", "1146"]);
                assert_eq!(outcomes(&trial), right, "{server} {more:x} {rows}");
            }
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_data_and_long_commands_shift_no_answer() {
    let Some(setting) = setting("local_data_and_long_commands_shift_no_answer").await else {
        return;
    };
    for (server, takes_data) in setting.servers.iter().zip([false, true]) {
        let trial = trial_for(*server, &setting, USER).await;
        let mut client = behind(&trial, &setting, ASKED).await;
        // Two packets, so that the answer has number 2.
        let long = format!("\x03DO '{}'", "x".repeat(0xff_ffff - 6));
        let bytes = [
            &[0xff, 0xff, 0xff, 0][..],
            long.as_bytes(),
            &[0, 0, 0, 1],
            &packets(&[NO_TABLE]),
        ];
        client.send_bytes(&bytes.concat()).await;
        until_no_table(&mut client).await;
        let right = expected(&["ok", "1146"]);
        assert_eq!(outcomes(&trial), right, "{server}");

        if takes_data {
            let mut client = behind(&trial, &setting, ASKED).await;
            client.query("CREATE TEMPORARY TABLE t (a TEXT)").await;
            let request = client
                .query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t")
                .await;
            assert_eq!((request.seq, request.payload[0]), (1, 0xfb));
            // So many that the server's OK has number 1.
            for seq in 2..=255 {
                client.send(seq, b"row\n").await;
            }
            client
                .send_bytes(&[&[0, 0, 0, 0][..], &packets(&[NO_TABLE])].concat())
                .await;
            until_no_table(&mut client).await;
            let told = outcomes(&trial);
            let of = |n| told.iter().filter(move |(statement, _)| *statement == n);
            let loaded: Vec<_> = of(2).map(|(_, outcome)| outcome.as_str()).collect();
            assert_eq!(loaded, ["asks_for_data", "ok"]);
            let refused: Vec<_> = of(3).map(|(_, outcome)| outcome.as_str()).collect();
            assert_eq!(refused, ["1146"]);
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_an_answer_that_a_server_answers_is_refused() {
    let name = "a_command_without_an_answer_that_a_server_answers_is_refused";
    let Some(setting) = setting(name).await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        for short in [&b"\x19"[..], b"\x19\x01\0\0", b"\x18", b"\x18\x01\0\0\0\0"] {
            let mut client = behind(&trial, &setting, ASKED).await;
            let all = packets(&[short, b"\x03DO 1", NO_TABLE]);
            client.send_bytes(&all).await;
            while client.read().await.is_ok() {}
            let last = refusals(&trial.spool).pop().unwrap();
            assert_eq!(last["code"], "sql_protocol", "{server} {short:?}");
        }
        trial.endpoint.stop().await;
    }
}

/// Every command that a client may say, one behind the other and all at once.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_told_of_by_its_own_answer() {
    let Some(setting) = setting("every_command_is_told_of_by_its_own_answer").await else {
        return;
    };
    let schema = [b"\x02", setting.user.as_bytes()].concat();
    let commands: [(&[u8], &str); 16] = [
        (b"\x0e", "ok"),
        (&schema, "ok"),
        (b"\x09", "ok"),
        (b"\x03SELECT 1; DO 1; SELECT 2", "rows"),
        (b"\x03SELECT 1 WHERE 1=0", "rows"),
        (b"\x1b\x01\0", "ok"),
        (b"\x16SELECT no_such_column", "1054"),
        (b"\x16SELECT ?, ? UNION SELECT 3, 4", "ok"),
        (b"\x16DO 1", "ok"),
        (b"", "1047"),
        (b"\x1a\x63\0\0\0", "1243"),
        (b"\x17\x63\0\0\0\0\x01\0\0\0", "1243"),
        (b"\x1c\x63\0\0\0\x01\0\0\0", "1243"),
        (b"\x03SELECT 1 UNION SELECT NULL", "rows"),
        (b"\x1f", "ok"),
        (NO_TABLE, "1146"),
    ];
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        for more in MORE {
            let mut client = behind(&trial, &setting, ASKED | more).await;
            let all: Vec<&[u8]> = commands.iter().map(|(command, _)| *command).collect();
            client.send_bytes(&packets(&all)).await;
            until_no_table(&mut client).await;
            let right = commands.map(|(_, outcome)| outcome);
            assert_eq!(outcomes(&trial), expected(&right), "{server} {more:x}");
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn which_text_an_execution_ran_is_told() {
    let Some(setting) = setting("which_text_an_execution_ran_is_told").await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        for more in MORE {
            let mut client = behind(&trial, &setting, ASKED | more).await;
            // Ids are counted by more than a client's own commands.
            client.query("PREPARE p FROM 'SELECT 1'").await;
            client.send(0, b"\x16SELECT 1 UNION SELECT 2").await;
            let prepared = client.read().await.unwrap();
            let id: [u8; 4] = prepared.payload[1..5].try_into().unwrap();
            // With a cursor, one row, and both.
            let execute = [b"\x17", &id[..], b"\x01\x01\0\0\0"].concat();
            let fetch = [b"\x1c", &id[..], b"\x01\0\0\0"].concat();
            let close = [b"\x19", &id[..]].concat();
            // A plain result is no cursor's while one is open.
            let select = b"\x03SELECT 7";
            let all = [
                &execute,
                &fetch,
                &select[..],
                &fetch,
                &close,
                &execute,
                NO_TABLE,
            ];
            client.send_bytes(&packets(&all)).await;
            until_no_table(&mut client).await;
            let results = told(&trial.spool, Kind::StatementResult);
            let ours = &results[results.len() - 8..];
            assert_eq!(ours[0].get("prepared"), None);
            assert_eq!(
                ours[1]["prepared"],
                json!(u32::from_le_bytes(id)),
                "{server}"
            );
            let kinds: Vec<_> = ours[2..6].iter().map(|r| r["outcome"].clone()).collect();
            assert_eq!(kinds, ["rows"; 4], "{server} {more:x}");
            assert_eq!(ours[6]["error"], json!(1243), "{server}");
            assert_eq!(ours[7]["error"], json!(1146), "{server}");
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_commands_at_once_than_answers_are_waited_for_are_all_told_of() {
    let name = "more_commands_at_once_than_answers_are_waited_for_are_all_told_of";
    let Some(setting) = setting(name).await else {
        return;
    };
    const PINGS: usize = 40_000;
    let server = setting.servers[1];
    let trial = trial_for(server, &setting, USER).await;
    let mut client = behind(&trial, &setting, ASKED).await;
    let pings = packets(&[&b"\x0e"[..]; 1000]);
    // Reading lets the server go on.
    let mut read = 0;
    for _ in 0..PINGS / 1000 {
        client.send_bytes(&pings).await;
        while read + 5000 < trial.endpoint.statements() {
            client.read().await.unwrap();
            read += 1;
        }
    }
    client.send_bytes(&packets(&[NO_TABLE])).await;
    until_no_table(&mut client).await;
    let mut right = vec!["ok"; PINGS];
    right.push("1146");
    assert!(outcomes(&trial) == expected(&right));
    trial.endpoint.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_every_shape_are_followed_to_their_end() {
    let Some(setting) = setting("answers_of_every_shape_are_followed_to_their_end").await else {
        return;
    };
    for (server, other) in setting.servers.iter().zip(["MySQL", "MariaDB"]) {
        let trial = trial_for(*server, &setting, USER).await;
        for (number, more) in MORE.into_iter().enumerate() {
            let mut client = behind(&trial, &setting, ASKED | more).await;
            let table = format!("shapes{number}");
            // MariaDB takes no such number.
            let most = if other == "MySQL" { "65535" } else { "1231" };
            let broken_off = format!("rows {most}");
            let quiet = if other == "MySQL" && more & 1 << 25 != 0 {
                "SET resultset_metadata=NONE"
            } else {
                "DO 1"
            };
            let texts = [
                (
                    format!("DROP TABLE IF EXISTS {table}; DROP PROCEDURE IF EXISTS {table}p"),
                    "ok",
                ),
                (format!("CREATE TABLE {table} (a INT)"), "ok"),
                (format!("INSERT INTO {table} VALUES (1), (2), (3)"), "ok"),
                (
                    format!(
                        "CREATE PROCEDURE {table}p(OUT x INT) BEGIN SELECT 1; SELECT 2, 3; SET x=4; END"
                    ),
                    "ok",
                ),
                (format!("CALL {table}p(@x)"), "rows"),
                (
                    format!("SELECT a, (SELECT a FROM {table} t WHERE t.a <= o.a) FROM {table} o"),
                    "rows 1242",
                ),
                (format!("CHECK TABLE {table}"), "rows"),
                ("SHOW WARNINGS".to_owned(), "rows"),
                (format!("ALTER TABLE {table} ADD b INT"), "ok"),
                (
                    "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO=65535".to_owned(),
                    most,
                ),
                (
                    "SELECT 1; SELECT 2; SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO=65535; SELECT 3"
                        .to_owned(),
                    broken_off.as_str(),
                ),
                ("KILL QUERY CONNECTION_ID()".to_owned(), "1317"),
                (quiet.to_owned(), "ok"),
                ("SELECT 1, NULL; SELECT 1".to_owned(), "rows"),
                (format!("DROP TABLE {table}"), "ok"),
            ];
            let commands: Vec<Vec<u8>> = texts
                .iter()
                .map(|(text, _)| [b"\x03", text.as_bytes()].concat())
                .collect();
            let mut all: Vec<&[u8]> = commands.iter().map(Vec::as_slice).collect();
            let call = format!("\x16CALL {table}p(?)");
            all.extend([call.as_bytes(), b"\x16SELECT ?, 2", NO_TABLE]);
            client.send_bytes(&packets(&all)).await;
            until_no_table(&mut client).await;
            let mut right: Vec<(u64, String)> = (1..)
                .zip(texts.iter())
                .flat_map(|(n, (_, outcomes))| {
                    outcomes
                        .split(' ')
                        .map(move |outcome| (n, outcome.to_owned()))
                })
                .collect();
            right.extend([(16, "ok"), (17, "ok"), (18, "1146")].map(|(n, o)| (n, o.to_owned())));
            assert_eq!(outcomes(&trial), right, "{server} {more:x}");
            let prepared: Vec<Value> = told(&trial.spool, Kind::StatementResult)
                .into_iter()
                .filter_map(|result| result.get("prepared").cloned())
                .collect();
            // Twice each, so that definitions may be left out, with the OUT parameter's result behind the others.
            let mut more_commands = Vec::new();
            for id in &prepared[prepared.len() - 2..] {
                let id = u32::try_from(id.as_u64().unwrap()).unwrap().to_le_bytes();
                let execute = [b"\x17", &id[..], b"\0\x01\0\0\0\x01\x01\x06\0"].concat();
                more_commands.extend([execute.clone(), execute]);
            }
            let mut all: Vec<&[u8]> = more_commands.iter().map(Vec::as_slice).collect();
            all.push(NO_TABLE);
            client.send_bytes(&packets(&all)).await;
            until_no_table(&mut client).await;
            let told = outcomes(&trial);
            let last = ["rows", "rows", "rows", "rows", "1146"];
            let last = (19..).zip(last).map(|(n, o)| (n, o.to_owned()));
            assert!(
                told.ends_with(&last.collect::<Vec<_>>()),
                "{server} {more:x} {told:?}"
            );
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_progress_are_no_answers() {
    let Some(setting) = setting("reports_of_progress_are_no_answers").await else {
        return;
    };
    let trial = trial_for(setting.servers[1], &setting, USER).await;
    let mut client = behind(&trial, &setting, ASKED | 1 << 32).await;
    let all: [&[u8]; 5] = [
        b"\x03DROP TABLE IF EXISTS progress",
        b"\x03CREATE TABLE progress ENGINE=Aria SELECT seq a, REPEAT('x', 50) b FROM seq_1_to_1500000",
        b"\x03SET progress_report_time=1",
        b"\x03ALTER TABLE progress ADD c INT, ALGORITHM=COPY",
        b"\x03DROP TABLE progress",
    ];
    client.send_bytes(&packets(&all)).await;
    client.send_bytes(&packets(&[NO_TABLE])).await;
    let mut reports = 0;
    loop {
        let packet = client.read().await.unwrap();
        match packet.payload.as_slice() {
            [0xff, 0xff, 0xff, ..] => reports += 1,
            [0xff, ..] => break,
            _ => {}
        }
    }
    assert_ne!(reports, 0);
    let right = expected(&["ok", "ok", "ok", "ok", "ok", "1146"]);
    assert_eq!(outcomes(&trial), right);
    trial.endpoint.stop().await;
}

/// An empty packet of number 0 is the end of data to the server, and a command to who has not heard its request.
#[tokio::test(flavor = "multi_thread")]
async fn data_that_looks_like_a_command_makes_no_answer_anothers() {
    let name = "data_that_looks_like_a_command_makes_no_answer_anothers";
    let Some(setting) = setting(name).await else {
        return;
    };
    let trial = trial_for(setting.servers[1], &setting, USER).await;
    let mut client = behind(&trial, &setting, ASKED).await;
    client.query("CREATE TEMPORARY TABLE t (a TEXT)").await;
    let load = b"\x03WITH RECURSIVE c AS (SELECT 1 n UNION ALL SELECT n+1 FROM c WHERE n<250) SELECT n FROM c; \
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
    client.send_bytes(&packets(&[load, b""])).await;
    loop {
        let packet = client.read().await.unwrap();
        if packet.seq == 1 && packet.payload.first() == Some(&0) {
            break;
        }
    }
    client.send_bytes(&packets(&[NO_TABLE, b"\x03DO 1"])).await;
    until_no_table(&mut client).await;
    client.read().await.unwrap();
    let right = expected(&["ok", "rows", "unknown", "unknown", "unknown"]);
    assert_eq!(outcomes(&trial), right);
    trial.endpoint.stop().await;
}
