//! What a stranger meets: help, and what is said when something was asked for wrongly.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn powerpole(arguments: &[&str]) -> Output {
    Command::new(support::binary())
        .args(arguments)
        .env_remove("POWERPOLE_LEDGER_TABLE")
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn help_names_every_verdict_and_exit_code() {
    let output = powerpole(&["verify", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = told(&output);
    for word in [
        "VALID",
        "WITHHELD",
        "UNANCHORED",
        "UNSEALED",
        "INCOMPLETE",
        "MALFORMED",
        "TAMPERED",
        "  2   no verdict",
        "  64  wrong usage",
    ] {
        assert!(help.contains(word), "{word} in {help}");
    }
}

#[test]
fn wrong_usage_says_what_would_be_right() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let lines = valid.join("LINES.jsonl");
    for (arguments, code, hint) in [
        (vec!["verify", lines.to_str().unwrap()], 64, "--file"),
        (vec!["verify", "nowhere"], 64, "request id (req-"),
        (vec!["verify", "req-1"], 64, "POWERPOLE_LEDGER_TABLE"),
        (
            vec![
                "verify",
                "--file",
                lines.to_str().unwrap(),
                "--ledger",
                "dynamodb",
            ],
            64,
            "--request",
        ),
        (vec!["export", "req-1"], 64, "--out"),
    ] {
        let output = powerpole(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(told(&output).contains(hint), "{}", told(&output));
    }
    let empty = tempfile::tempdir().unwrap();
    let output = powerpole(&["verify", empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("LINES.jsonl"));
}

#[test]
fn what_stands_beside_the_lines_must_not_fill_the_memory() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let directory = tempfile::tempdir().unwrap();
    fs::copy(
        valid.join("LINES.jsonl"),
        directory.path().join("LINES.jsonl"),
    )
    .unwrap();
    fs::write(
        directory.path().join("ANCHORS.jsonl"),
        vec![b'\n'; (8 << 20) + 1],
    )
    .unwrap();
    let output = powerpole(&["verify", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[test]
fn json_judges_each_login() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let output = powerpole(&["verify", valid.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let logins = report["sessions"].as_array().unwrap();
    assert_eq!(logins.len(), 3);
    for login in logins {
        assert_eq!(login["started"], true);
        assert_eq!(login["ended"], false, "the vector's logins have no end");
        assert_eq!(login["verdict"], "INCOMPLETE");
    }
}
