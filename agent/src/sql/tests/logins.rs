//! Logins that a server would read in another way than the record has them.

use super::raw::{ASKED, OTHER, RawClient, USER, head};
use super::*;
use crate::sql::packet::capability;

/// What the endpoint made of a login: who and where its client is by the server's word, and by the record.
async fn both_words(
    trial: &Trial,
    request: &[u8],
    login: &[u8],
) -> Option<((String, String), (String, String))> {
    let mut client = RawClient::over_tls(trial.endpoint.address, request).await;
    client.send(2, login).await;
    let answer = client.authenticate().await.ok()?;
    if answer.payload.first() != Some(&0) {
        return None;
    }
    let sql = "SELECT CONCAT(SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '/', IFNULL(DATABASE(), ''))";
    let value = client.value(sql).await;
    let (user, database) = value.split_once('/').unwrap();
    let events = told(&trial.spool, Kind::Event);
    let login = events.iter().rfind(|event| event["event"] == "sql_login");
    let said = |name: &str| login.unwrap()[name].as_str().unwrap().to_owned();
    let by_server = (user.to_owned(), database.to_owned());
    Some((by_server, (said("user"), said("database"))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_what_the_server_takes_it_for() {
    let Some(setting) = setting("a_login_is_what_the_server_takes_it_for").await else {
        return;
    };
    let schema = &setting.user;
    let asked = ASKED & !u64::from(capability::CONNECT_WITH_DB);
    let plain = [
        &head(asked)[..],
        USER.as_bytes(),
        b"\0\0mysql_native_password\0",
    ]
    .concat();
    // Who is at offset 5 of a login of protocol 4.0, which the SSLRequest asks for.
    let old = u64::from(capability::SSL | capability::SECURE_CONNECTION | 1);
    let mut two_names = plain.clone();
    two_names[5..5 + OTHER.len()].copy_from_slice(OTHER.as_bytes());
    let mut another_9 = plain.clone();
    another_9[9] = 1;
    // A schema's name that the login itself does not announce.
    let user = USER.as_bytes();
    let schema_too = [&head(asked)[..], user, b"\0\0", schema.as_bytes(), b"\0p\0"].concat();
    // MariaDB looks for the schema two bytes too early behind a length of three bytes.
    let lenenc = ASKED | u64::from(capability::AUTHENTICATION_LENENC);
    let long_length = [
        &head(lenenc)[..],
        user,
        b"\0\xfc\x14\0",
        &[b'x'; 18],
        b"t\0",
        schema.as_bytes(),
        b"\0p\0",
    ]
    .concat();
    let with_schema = [&head(ASKED)[..], user, b"\0\0", schema.as_bytes(), b"\0p\0"].concat();
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        let passes = [
            (head(asked), &plain, ""),
            (head(ASKED), &schema_too, ""),
            (head(asked), &with_schema, schema.as_str()),
            (head(capability::SSL.into()), &plain, ""),
        ];
        for (number, (request, login, database)) in passes.into_iter().enumerate() {
            let words = both_words(&trial, &request, login).await;
            let right = (USER.to_owned(), database.to_owned());
            assert_eq!(words, Some((right.clone(), right)), "{server} {number}");
        }
        let refused = [
            (head(old), &two_names),
            (head(asked), &another_9),
            (head(lenenc), &long_length),
        ];
        for (number, (request, login)) in refused.into_iter().enumerate() {
            let words = both_words(&trial, &request, login).await;
            assert_eq!(words, None, "{server} {number}");
            let last = refusals(&trial.spool).pop().unwrap();
            assert_eq!(last["code"], "sql_old_login", "{server} {number}");
        }
        trial.endpoint.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_has_no_attributes_whatever_the_client_asks_for() {
    let name = "a_query_has_no_attributes_whatever_the_client_asks_for";
    let Some(setting) = setting(name).await else {
        return;
    };
    let asked = ASKED | u64::from(capability::QUERY_ATTRIBUTES);
    for server in &setting.servers {
        let trial = trial_for(*server, &setting, USER).await;
        let address = trial.endpoint.address;
        let (mut client, answer) =
            RawClient::log_in_asking(address, asked, USER, &setting.user).await;
        assert_eq!(answer.payload.first(), Some(&0), "{answer:?}");
        // The server reads a query's text from its second byte on, as the record has it.
        assert_eq!(client.value("SELECT 42").await, "42");
        let with_attributes = client.query("\0\x01SELECT 42").await;
        assert_eq!(with_attributes.payload.first(), Some(&0xff), "{server}");
        trial.endpoint.stop().await;
    }
}
