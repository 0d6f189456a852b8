//! What goes over the wire, as a service reads it that checks the signature.

use super::*;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_cloudwatchlogs::config::Credentials;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;

const SECRET: &str = "a secret";

struct Heard {
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// Answers calls with these statuses, one after the other; returns its address and what it heard.
fn service(statuses: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<Heard>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let hearing = std::thread::spawn(move || {
        let answer = |status: &&str| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let mut headers = BTreeMap::new();
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            assert_eq!(line, "POST / HTTP/1.1\r\n");
            loop {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let Some((name, value)) = line.split_once(':') else {
                    break;
                };
                headers.insert(name.to_lowercase(), value.trim().to_owned());
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            reader.read_exact(&mut body).unwrap();
            write!(
                connection,
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
            )
            .unwrap();
            Heard { headers, body }
        };
        statuses.iter().map(answer).collect()
    });
    (address, hearing)
}

async fn stream(endpoint: &str) -> CloudWatchStream {
    let credentials = Credentials::new("AKIATRIAL", SECRET, None, None, "trial");
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(credentials)
        .endpoint_url(endpoint)
        .load()
        .await;
    CloudWatchStream::new(&config, "/power/pole", "a \"stream\"")
}

fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x36))
        .chain_update(text);
    Sha256::new()
        .chain_update(block.map(|byte| byte ^ 0x5c))
        .chain_update(inner.finalize())
        .finalize()
        .into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signature that these headers and this body need (AWS Signature Version 4), and the one that they have.
fn signatures(heard: &Heard) -> (String, String) {
    let authorization = &heard.headers["authorization"];
    let part = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}=")).unwrap();
        rest.split(',').next().unwrap()
    };
    let signed = part("SignedHeaders");
    let headers: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", heard.headers[name]))
        .collect();
    let payload = hex(&Sha256::digest(&heard.body));
    let canonical = format!("POST\n/\n\n{headers}\n{signed}\n{payload}");
    let (_, scope) = part("Credential").split_once('/').unwrap();
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        heard.headers["x-amz-date"],
        hex(&Sha256::digest(canonical))
    );
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for step in scope.split('/') {
        key = hmac(&key, step.as_bytes()).to_vec();
    }
    let needed = hex(&hmac(&key, text.as_bytes()));
    (needed, part("Signature").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_out_as_it_is_and_signed_also_when_it_is_tried_again() {
    let messages = [
        String::new(),
        r#"{"v":1,"s":1,"d":"aGVsbG8="}"#.to_owned(),
        (0..=0x17f).filter_map(char::from_u32).collect(),
        "\u{2028}\u{1f512}\u{ffff}".to_owned(),
        "x".repeat(200_000),
    ];
    let events: Vec<LogEvent> = messages
        .iter()
        .zip(0u64..)
        .map(|(message, n)| LogEvent {
            t_ms: 1_764_000_000_000 + n,
            message: message.clone(),
        })
        .collect();
    let (address, hearing) = service(&["500 Internal Server Error", "200 OK"]);
    let stream = stream(&address).await;
    assert_eq!(stream.put(&events).await.unwrap(), Rejected::default());

    let heard = hearing.join().unwrap();
    assert_eq!(heard.len(), 2);
    for heard in heard {
        assert_eq!(heard.headers["x-amz-target"], "Logs_20140328.PutLogEvents");
        let (needed, given) = signatures(&heard);
        assert_eq!(needed, given);
        let body: serde_json::Value = serde_json::from_slice(&heard.body).unwrap();
        let log_events: Vec<_> = events
            .iter()
            .map(|e| serde_json::json!({"timestamp": e.t_ms, "message": e.message}))
            .collect();
        let expected = serde_json::json!({
            "logGroupName": "/power/pole",
            "logStreamName": "a \"stream\"",
            "logEvents": log_events,
        });
        assert_eq!(body, expected);
    }
}
