//! Whoever keeps Slack's endpoint waiting before it is known who they are.

use crate::fixture::Stage;
use powerpole_control::listener::{self, Bounds};
use powerpole_control::slack_api;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_promises_a_body_keeps_a_place_of_slacks_for_ten_seconds_and_no_longer() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bounds = Bounds {
        connections: 4,
        per_source: 4,
        ..Bounds::default()
    };
    let stop = CancellationToken::new();
    let routes = slack_api::routes(Arc::clone(&stage.service));
    tokio::spawn(listener::serve(listener, routes, bounds, stop.clone()));
    let mut silent = Vec::new();
    for path in ["commands", "interactions"] {
        for body in ["", "payload="] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST /slack/{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{body}"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            silent.push(stream);
        }
    }
    // All places are taken until then.
    let began = tokio::time::Instant::now();
    let mut slack = TcpStream::connect(address).await.unwrap();
    slack
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    slack.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let waited = began.elapsed().as_secs();
    assert!((8..20).contains(&waited), "{waited} s");
    for mut stream in silent {
        let mut rest = String::new();
        let _ = stream.read_to_string(&mut rest).await;
        assert!(rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
    stop.cancel();
}
