//! The shipped command on the golden vectors and on what is not evidence at all.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors")
}

fn powerpole(arguments: &[&str]) -> Output {
    Command::new(support::binary())
        .args(arguments)
        .env_remove("POWERPOLE_LOG_GROUP")
        .env_remove("POWERPOLE_ANCHOR_BUCKET")
        .env_remove("POWERPOLE_ROLE_ID")
        .output()
        .unwrap()
}

fn expected(directory: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(directory.join("EXPECTED.json")).unwrap()).unwrap()
}

#[test]
fn the_command_says_of_every_vector_what_is_expected_of_it() {
    let mut seen = 0;
    for entry in fs::read_dir(vectors()).unwrap() {
        let directory = entry.unwrap().path();
        let expected = expected(&directory);
        let mut arguments = vec!["verify", directory.to_str().unwrap(), "--json"];
        for key in expected["redactors"].as_array().unwrap() {
            arguments.extend(["--redactor", key.as_str().unwrap()]);
        }
        let output = powerpole(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        for (name, value) in expected.as_object().unwrap() {
            if name != "redactors" {
                assert_eq!(&report[name], value, "{} of {}", name, directory.display());
            }
        }
        assert_eq!(
            output.status.code().map(i64::from),
            expected["exit"].as_i64()
        );
        let text = powerpole(&arguments[..2]).stdout;
        let verdict = expected["verdict"].as_str().unwrap();
        assert!(String::from_utf8(text).unwrap().starts_with(verdict));
        seen += 1;
    }
    assert!(seen > 20, "{seen} vectors");
}

#[test]
fn lines_ledger_and_anchors_are_enough_as_single_files() {
    let at = |name: &str| {
        vectors()
            .join("valid")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (lines, ledger, anchors) = (at("LINES.jsonl"), at("LEDGER.json"), at("ANCHORS.jsonl"));
    let output = powerpole(&[
        "verify",
        "--file",
        &lines,
        "--ledger",
        &ledger,
        "--anchors",
        &anchors,
        "--strict",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let bare = powerpole(&["verify", "--file", &lines]);
    assert!(bare.stdout.starts_with(b"UNANCHORED"));
    assert_eq!(bare.status.code(), Some(1));
}

#[test]
fn strict_turns_foreign_lines_into_a_failure() {
    let directory = vectors().join("valid-with-foreign-lines");
    let directory = directory.to_str().unwrap();
    let output = powerpole(&["verify", directory]);
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8(output.stdout).unwrap().contains("STRICT"));
    let output = powerpole(&["verify", directory, "--strict"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let said: Vec<&str> = text.lines().take(2).collect();
    assert!(said[0].starts_with("VALID"), "{text}");
    assert!(
        said[1].starts_with("STRICT: exit code 1 because of "),
        "{text}"
    );
    assert!(said[1].contains(" foreign lines"), "{text}");
}

#[test]
fn json_says_what_strict_does_not_let_pass() {
    for (vector, flags, exit, expected) in [
        ("valid", &["--json"][..], 0, Value::Null),
        ("valid", &["--json", "--strict"], 0, serde_json::json!([])),
        ("valid-with-foreign-lines", &["--json"], 0, Value::Null),
        (
            "malformed",
            &["--json", "--strict"],
            1,
            serde_json::json!([{"what": "unreadable", "count": 1}]),
        ),
    ] {
        let directory = vectors().join(vector);
        let arguments = [&["verify", directory.to_str().unwrap()], flags].concat();
        let output = powerpole(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}");
        assert_eq!(report["strict"], expected, "{arguments:?}");
    }
    let directory = vectors().join("valid-with-foreign-lines");
    let output = powerpole(&["verify", directory.to_str().unwrap(), "--json", "--strict"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["exit"], 1);
    assert_eq!(report["strict"][0]["what"], "foreign");
    assert_eq!(report["strict"][0]["count"], report["foreign"]);
}

#[test]
fn what_cannot_be_checked_is_2_and_wrong_usage_64() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert_eq!(
        powerpole(&["verify", path]).status.code(),
        Some(2),
        "no lines"
    );
    fs::write(directory.path().join("LINES.jsonl"), "").unwrap();
    assert_eq!(
        powerpole(&["verify", path]).status.code(),
        Some(1),
        "nothing is never valid"
    );
    fs::write(directory.path().join("ANCHORS.jsonl"), "{}\n").unwrap();
    assert_eq!(
        powerpole(&["verify", path]).status.code(),
        Some(2),
        "an anchor without a body"
    );
    assert_eq!(powerpole(&["verify"]).status.code(), Some(64));
    assert_eq!(powerpole(&["verify", "nonsense"]).status.code(), Some(64));
    assert_eq!(powerpole(&["frobnicate"]).status.code(), Some(64));
    assert_eq!(powerpole(&["--version"]).status.code(), Some(0));
}
