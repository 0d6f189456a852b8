//! The shipped binary: keys, checks, health, a clean end.

use crate::fixture::write_config;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

/// In the folder that POWERPOLE_TEST_BIN names, or cargo's own.
fn binary() -> std::path::PathBuf {
    std::env::var_os("POWERPOLE_TEST_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_powerpole-control").into(),
        |folder| std::path::Path::new(&folder).join("powerpole-control"),
    )
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn health(port: u16) -> Option<String> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn the_process_answers_health_logs_json_and_ends_cleanly_on_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (bastions, slack) = (free_port(), free_port());
    let text = write_config(folder.path(), "http://127.0.0.1:9/api/", "subnet-1")
        .replacen("127.0.0.1:0", &format!("127.0.0.1:{bastions}"), 1)
        .replacen("127.0.0.1:0", &format!("127.0.0.1:{slack}"), 1);
    let config = folder.path().join("control.toml");
    std::fs::write(&config, text).unwrap();
    let mut child = Command::new(binary())
        .args(["run", "--config"])
        .arg(&config)
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answered = None;
    for _ in 0..200 {
        answered = health(bastions).filter(|_| health(slack).is_some());
        if answered.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let term = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(term.success());
    let status = child.wait().unwrap();
    let mut logs = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut logs)
        .unwrap();
    assert!(
        answered.unwrap_or_default().starts_with("HTTP/1.1 200"),
        "{logs}"
    );
    assert!(status.success(), "{logs}");
    for line in logs.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "{line}"
        );
    }
    assert!(logs.contains("control ends"), "{logs}");
    assert!(!logs.contains("xoxb"), "{logs}");
}

#[test]
fn check_config_says_all_that_is_wrong_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = write_config(folder.path(), "http://127.0.0.1:9/api/", "subnet-1");
    let config = folder.path().join("control.toml");
    let check = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let done = Command::new(binary())
            .args(["check-config", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        (
            done.status.success(),
            String::from_utf8(done.stderr).unwrap(),
        )
    };
    assert_eq!(check(&text), (true, String::new()));
    let second = "\n[[clusters]]\nid = \"second\"";
    let (_, cluster) = text
        .split_once("[[clusters]]\nid = \"orders-prod\"")
        .unwrap();
    let (good, said) = check(&format!("{text}{second}{cluster}"));
    assert!(!good && said.contains("each needs its own"), "{said}");
    std::fs::remove_file(folder.path().join("signing.key")).unwrap();
    std::fs::write(folder.path().join("orders-ticket.key"), "short").unwrap();
    let (good, said) = check(&text);
    assert!(
        !good && said.contains("signing.key") && said.contains("orders-ticket.key"),
        "{said}"
    );
    let (good, said) = check(&text.replace("tick_s = 5", "tick_s = 5\nwhat = 1"));
    assert!(!good && said.contains("unknown field `what`"), "{said}");
}
