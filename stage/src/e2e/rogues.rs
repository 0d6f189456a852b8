//! A rogue bastion beside another, and callers who keep control waiting.

use super::scene::{ALICE, CLOSING, MALLORY, SOON, Scene};
use crate::journey::{Login, aws};
use crate::supervisor::{CONTROL_BASTIONS, CONTROL_SLACK, LOG_GROUP};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

pub(super) async fn lines_that_a_neighbour_writes_into_anothers_stream_change_no_verdict(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let (ours, theirs) = tokio::try_join!(
        scene.open("orders-prod", "READ", 600),
        scene.open("archive-prod", "READ", 600)
    )?;
    let mut login = scene.login(ALICE, &ours).await?;
    scene.mysql(&mut login, &ours).await?;
    login.send("SELECT 'before' AS said;\n").await?;
    login.expect("row in set", SOON).await?;
    // Long enough for what was said to have left the bastion.
    tokio::time::sleep(Duration::from_secs(5)).await;

    let own = scene.early_lines(&ours.request).await?;
    let (first, last) = own.first().zip(own.last()).context("no lines yet")?;
    let neighbours = scene.early_lines(&theirs.request).await?;
    ensure!(neighbours.len() >= 2, "the neighbour has written nothing");
    let mut rogue: Vec<String> = neighbours.iter().map(|line| line.text.clone()).collect();
    // Our own records with another payload, another number, another login.
    for line in [first, last] {
        for (from, to) in [
            ("\"z\":\"", "\"z\":\"AAAA"),
            ("\"n\":0", "\"n\":9"),
            ("\"s\":", "\"s\":1"),
        ] {
            rogue.push(line.text.replacen(from, to, 1));
        }
    }
    // The same record twice is no lie; a frame without a key and what is no line at all are none of ours.
    rogue.push(last.text.clone());
    rogue.push(r#"{"v":1,"u":0,"t":1,"k":"o","n":1,"d":"cm9ndWU="}"#.to_owned());
    rogue.push("not a line".to_owned());
    write_into(&scene, &ours.request, &ours.instance, &rogue).await?;

    login.send("SELECT 'after' AS said;\n").await?;
    login.expect("row in set", SOON).await?;
    scene.slack.finish(ALICE, &ours.request).await?;
    scene.slack.finish(ALICE, &theirs.request).await?;
    for open in [&ours, &theirs] {
        let item = scene.closed(&open.request, CLOSING).await?;
        ensure!(item.is("sealed"), "{:?}", item.json());
    }
    let verdict = scene.verdict(&ours.request).await?;
    let strict = scene.strict_code(&ours.request).await?;
    ensure!(
        verdict.verdict == "VALID" && verdict.code == 0 && strict == 1,
        "--strict {strict}: {}",
        verdict.text
    );
    let count = |name: &str| verdict.json.get(name).and_then(Value::as_u64);
    ensure!(
        count("foreign") >= Some(neighbours.len() as u64)
            && count("unreadable") >= Some(1)
            && count("unsealed") == Some(1)
            && count("duplicates") >= Some(1),
        "{}",
        verdict.json
    );
    let untouched = scene.verdict(&theirs.request).await?;
    ensure!(
        untouched.verdict == "VALID" && scene.strict_code(&theirs.request).await? == 0,
        "{}",
        untouched.text
    );
    Ok(())
}

/// Every bastion's role may write to every stream of the group.
async fn write_into(
    scene: &Scene,
    request: &str,
    instance: &str,
    lines: &[String],
) -> anyhow::Result<()> {
    let now = u64::try_from(crate::clock::since_epoch().as_millis())?;
    let events: Vec<Value> = lines
        .iter()
        .map(|line| json!({ "timestamp": now, "message": line }))
        .collect();
    let body = json!({
        "logGroupName": LOG_GROUP,
        "logStreamName": format!("{request}/{instance}"),
        "logEvents": events,
    });
    aws(&scene.aws, "logs", "Logs_20140328.PutLogEvents", &body)
        .await
        .context("writing into the stream")?;
    Ok(())
}

/// Callers who never end what they say, from the network of a bastion's own: address, port, a path, and a
/// length of body that it refuses.
const SLOW: &str = r#"
import socket, sys, time
to = (sys.argv[1], int(sys.argv[2]))
def call(text):
    s = socket.create_connection(to); s.sendall(text); return s
head = b"POST " + sys.argv[3].encode() + b" HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
half = [call(b"POST /he") for _ in range(40)]
body = [call(head + b"content-length: 5000\r\n\r\n{") for _ in range(40)]
large = call(head + b"content-length: " + sys.argv[4].encode() + b"\r\n\r\n" + b"[" * int(sys.argv[4]))
assert b" 413 " in large.recv(200), "an oversized body was not refused"
began = time.time()
while time.time() - began < 75:
    well = call(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    well.settimeout(3)
    assert b" 200 " in well.recv(200), "control does not answer others"
    left = 0
    for s in half + body:
        s.setblocking(False)
        try:
            while s.recv(4096): pass
        except BlockingIOError: left += 1
        except OSError: pass
    if left == 0: break
    time.sleep(1)
print("left", left, "after", round(time.time() - began), "s")
sys.exit(left != 0)
"#;

pub(super) async fn control_cuts_off_whoever_keeps_it_waiting_and_serves_the_others(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    for (address, path, too_long) in [
        (CONTROL_BASTIONS, "/v1/heartbeat", "900000"),
        (CONTROL_SLACK, "/slack/interactions", "1100000"),
    ] {
        let output = Command::new("ip")
            .args(["netns", "exec", &scene.stage.hub_namespace()])
            .args(["python3", "-c", SLOW])
            .args([&address.ip().to_string(), &address.port().to_string()])
            .args([path, too_long])
            .output()
            .await
            .context("starting the slow callers")?;
        ensure!(
            output.status.success(),
            "{path}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

pub(super) async fn a_port_session_is_refused_before_its_worker_runs_and_the_bastion_goes_on(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 600).await?;
    let mut sessions = Vec::new();
    for (host, port) in [("169.254.169.254", 80), ("10.77.0.1", 3306), ("", 3306)] {
        let (document, host) = if host.is_empty() {
            ("AWS-StartPortForwardingSession", String::new())
        } else {
            (
                "AWS-StartPortForwardingSessionToRemoteHost",
                format!("host={host},"),
            )
        };
        let line = format!(
            "aws ssm start-session --target {} --document-name {document} \
             --parameters {host}portNumber={port},localPortNumber=0",
            open.instance
        );
        sessions.push(Login::open(&line, scene.environment(MALLORY))?);
    }
    let mut login = scene.login(ALICE, &open).await?;
    login.send("echo still-$((6*7))\n").await?;
    login.expect("still-42", SOON).await?;
    // As often as the tripwire looks, it finds nothing.
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(
        scene
            .ledger
            .item(&open.request)
            .await?
            .is_some_and(|item| item.state() == "READY"),
        "the bastion ended"
    );
    login.send("exit\n").await?;
    login.ended(SOON).await?;
    scene.slack.finish(ALICE, &open.request).await?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(
        item.text("close_reason") == "finished" && item.is("sealed"),
        "{:?}",
        item.json()
    );
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    let refused: Vec<Value> = scene
        .lines(&open.request)?
        .iter()
        .filter(|line| line.kind == "x")
        .filter_map(|line| serde_json::from_str(&line.payload).ok())
        .collect();
    let before_it_ran = |record: &&Value| {
        record["code"] == "port_session"
            && record["ran"] == false
            && record["owner"]
                .as_str()
                .is_some_and(|owner| owner.contains("mallory"))
    };
    ensure!(
        refused.iter().filter(before_it_ran).count() == sessions.len()
            && refused.len() == sessions.len(),
        "{refused:?}"
    );
    Ok(())
}
