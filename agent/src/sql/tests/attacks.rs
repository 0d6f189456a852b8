//! Clients that mean to have something executed that is in no record, or to be somebody else, before real servers.

use super::raw::{RawClient, USER};
use super::*;
use crate::sql::packet::Packet;

fn error_of(packet: &Packet) -> (u16, String) {
    let [0xff, low, high, rest @ ..] = packet.payload.as_slice() else {
        panic!("no error: {packet:?}");
    };
    let text = String::from_utf8_lossy(rest).into_owned();
    (u16::from_le_bytes([*low, *high]), text)
}

/// A home-made client behind the endpoint, logged in.
async fn behind(trial: &Trial, setting: &Setting) -> RawClient {
    let (client, answer) = RawClient::log_in(trial.endpoint.address, USER, &setting.user).await;
    assert_eq!(answer.payload.first(), Some(&0), "{answer:?}");
    client
}

/// Sends packets of local data from this number on, and the empty one that ends it; all payloads of it.
async fn send_data(client: &mut RawClient, first: u8, payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut seq = first;
    for payload in payloads {
        client.send(seq, payload).await;
        seq = seq.wrapping_add(1);
    }
    client.send(seq, b"").await;
    payloads.concat()
}

/// All data that is recorded, in one.
fn data(spool: &Path) -> Vec<u8> {
    statements(spool)
        .into_iter()
        .filter(|((_, _, flags), _)| *flags == DATA)
        .flat_map(|(_, bytes)| bytes)
        .collect()
}

/// Rows so that number 0 comes round and what follows looks like COM_CHANGE_USER and eight packets of its exchange.
fn rows_that_look_like_a_change_of_user(setting: &Setting, until_0: usize) -> Vec<Vec<u8>> {
    let mut rows = vec![b"plain\n".to_vec(); until_0];
    let database = &setting.user;
    rows.push(format!("\x11{USER}\0\0{database}\0\x2d\0SELECT 'hidden 0'\n").into_bytes());
    for n in 1..=8 {
        let long = "x".repeat(60_000);
        rows.push(format!("SELECT 'hidden {n}' /* {long} */\n").into_bytes());
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_look_like_a_change_of_user_are_recorded_to_the_last_byte() {
    let name = "rows_that_look_like_a_change_of_user_are_recorded_to_the_last_byte";
    let Some(setting) = setting(name).await else {
        return;
    };
    // MySQL takes no local data unless its owner switches it on.
    let trial = trial_for(setting.servers[1], &setting, USER).await;
    // The server's request has number 1, or comes behind a result of 249 rows, as number 254.
    let before = "WITH RECURSIVE c AS (SELECT 1 n UNION ALL SELECT n+1 FROM c WHERE n<249) SELECT n FROM c; ";
    for (before, number, until_0) in [("", 1, 254), (before, 254, 1)] {
        let mut client = behind(&trial, &setting).await;
        let made = client.query("CREATE TEMPORARY TABLE t (a TEXT)").await;
        assert_eq!(made.payload.first(), Some(&0), "{made:?}");
        let load = format!("{before}LOAD DATA LOCAL INFILE 'x' INTO TABLE t");
        let mut request = client.query(&load).await;
        while request.payload.first() != Some(&0xfb) {
            request = client.read().await.unwrap();
        }
        assert_eq!(request.seq, number);
        let rows = rows_that_look_like_a_change_of_user(&setting, until_0);
        let known = data(&trial.spool).len();
        let sent = send_data(&mut client, number + 1, &rows).await;
        let loaded = client.read().await.unwrap();
        assert_eq!(loaded.payload.first(), Some(&0), "{loaded:?}");
        let count = client.value("SELECT COUNT(*) FROM t").await;
        assert_eq!(count, rows.len().to_string());
        // The server executes what it was given as data; that is in the record.
        let ran = client
            .query("SET @s=(SELECT a FROM t WHERE a LIKE 'SELECT ''hidden 5%'); PREPARE p FROM @s; EXECUTE p")
            .await;
        assert_eq!(ran.payload.first(), Some(&0), "{ran:?}");
        assert!(data(&trial.spool)[known..] == sent, "every byte, in order");
    }
    assert_eq!(refusals(&trial.spool).len(), 0);
    trial.endpoint.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_data_that_begins_with_number_0_is_refused() {
    let name = "local_data_that_begins_with_number_0_is_refused";
    let Some(setting) = setting(name).await else {
        return;
    };
    let trial = trial_for(setting.servers[1], &setting, USER).await;
    let load = "WITH RECURSIVE c AS (SELECT 1 n UNION ALL SELECT n+1 FROM c WHERE n<250) SELECT n FROM c; \
        LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
    // After the request was heard, and before it can be: what is passed then is recorded, and goes on no further.
    for early in [false, true] {
        let mut client = behind(&trial, &setting).await;
        client.query("CREATE TEMPORARY TABLE t (a TEXT)").await;
        if early {
            client.send(0, &[b"\x03", load.as_bytes()].concat()).await;
        } else {
            let mut request = client.query(load).await;
            while request.payload.first() != Some(&0xfb) {
                request = client.read().await.unwrap();
            }
            assert_eq!(request.seq, 255);
        }
        let rows = rows_that_look_like_a_change_of_user(&setting, 0);
        send_data(&mut client, 0, &rows).await;
        let end = loop {
            match client.read().await {
                Ok(packet) if packet.payload.first() == Some(&0xff) => break packet,
                Ok(_) => {}
                Err(error) => panic!("not told: {error}"),
            }
        };
        assert!(
            error_of(&end).1.contains("PowerPole: packet number"),
            "{end:?}"
        );
        let refused = refusals(&trial.spool);
        assert_eq!(refused.last().unwrap()["code"], "sql_protocol");
        assert!(!holds(&all_bytes(&trial.spool), b"hidden 8"));
    }
    trial.endpoint.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_a_server_would_refuse_do_not_reach_it() {
    let Some(setting) = setting("packets_that_a_server_would_refuse_do_not_reach_it").await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        let change = format!("\x11{USER}\0\0{}\0\x2d\0", setting.user).into_bytes();
        let packet = |seq, payload: &[u8]| {
            let payload = payload.to_vec();
            Packet { seq, payload }.bytes()
        };
        let change = packet(0, &change);
        let cases = [
            (vec![packet(1, b"\x03SELECT 1")], "number 1"),
            (
                vec![packet(0, b"\x0e"), packet(2, b"data nobody asked for")],
                "number 2",
            ),
            (vec![change.clone(), packet(1, b"no gap")], "number 1"),
            (
                vec![change, packet(2, b""), packet(3, b"no gap")],
                "number 3",
            ),
        ];
        for (number, (packets, why)) in cases.into_iter().enumerate() {
            let mut client = behind(&trial, &setting).await;
            for packet in packets {
                client.send_bytes(&packet).await;
            }
            while client.read().await.is_ok() {}
            let refused = refusals(&trial.spool);
            assert_eq!(refused.len(), number + 1, "{server} {why}");
            let last = refused.last().unwrap();
            assert_eq!(last["code"], "sql_protocol");
            assert!(last["why"].as_str().unwrap().contains(why), "{last}");
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_are_sent_before_the_answers_came_still_pass() {
    let name = "commands_that_are_sent_before_the_answers_came_still_pass";
    let Some(setting) = setting(name).await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        let mut client = behind(&trial, &setting).await;
        let query = Packet {
            seq: 0,
            payload: b"\x03SELECT NULL".to_vec(),
        };
        client.send_bytes(&query.bytes().repeat(300)).await;
        // Each answer: count, column, end of columns, a row that begins with NULL, end.
        for n in 0..300 {
            for seq in 1..=5 {
                assert_eq!(client.read().await.unwrap().seq, seq, "{server} {n}");
            }
        }
        assert_eq!(trial.endpoint.statements(), 300);
        assert_eq!(refusals(&trial.spool).len(), 0);
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_account_but_the_grants_logs_in_or_is_changed_to() {
    let name = "no_account_but_the_grants_logs_in_or_is_changed_to";
    let Some(setting) = setting(name).await else {
        return;
    };
    for server in &setting.servers {
        let trial = trial_before(*server, &setting).await;
        // Its password is right: it is the account that is not.
        let (_, answer) = RawClient::log_in(trial.endpoint.address, USER, &setting.user).await;
        let (code, text) = error_of(&answer);
        assert_eq!((code, &text[..6]), (1045, "#28000"), "{text}");
        assert!(text.contains("'pp_endpoint'"), "{text}");
        let refused = refusals(&trial.spool);
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0]["code"], "sql_other_account");
        assert_eq!(refused[0]["user"], USER);

        let own = Opts::from(options(&trial, &setting));
        let mut conn = Conn::new(own).await.unwrap();
        let change = ChangeUserOpts::default()
            .with_user(Some(USER.to_owned()))
            .with_pass(Some(String::new()));
        let error = conn.change_user(change).await.unwrap_err();
        let mysql_async::Error::Server(error) = error else {
            panic!("{server}: {error}");
        };
        assert_eq!((error.code, error.state.as_str()), (1045, "28000"));
        assert!(error.message.contains("'pp_endpoint'"), "{error}");
        assert!(conn.query_drop("SELECT 1").await.is_err());
        let refused = refusals(&trial.spool);
        assert_eq!(refused.len(), 2);
        assert_eq!(refused[1]["code"], "sql_other_account");
        assert_eq!(refused[1]["user"], USER);
        trial.endpoint.stop().await;

        // Its own account, again and again, with statements between.
        let trial = trial_for(*server, &setting, USER).await;
        let mut client = behind(&trial, &setting).await;
        for n in 0..3 {
            let change = format!("\x11{USER}\0\x03abc{}\0\x2d\0p\0", setting.user);
            client.send(0, change.as_bytes()).await;
            let answer = client.authenticate().await.unwrap();
            assert_eq!(answer.payload.first(), Some(&0), "{server} {answer:?}");
            let user = client.value("SELECT SUBSTRING_INDEX(USER(), '@', 1)").await;
            assert_eq!(user, USER, "{server} {n}");
        }
        assert_eq!(refusals(&trial.spool).len(), 0);
        trial.endpoint.stop().await;
        let ok = all_bytes(&trial.spool);
        assert!(
            holds(&ok, b"\"outcome\":\"ok\",\"statement\":1}"),
            "{server}"
        );
    }
}
