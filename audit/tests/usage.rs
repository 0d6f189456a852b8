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
        .env_remove("POWERPOLE_LOG_GROUP")
        .env_remove("POWERPOLE_ANCHOR_BUCKET")
        .env_remove("POWERPOLE_ROLE_ID")
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
fn what_goes_on_in_the_next_line_of_a_help_stands_under_its_own_column() {
    for (command, code) in [("verify", 0), ("export", 0), ("rolls", 0)] {
        let output = powerpole(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(code));
        let help = told(&output);
        let (_, codes) = help.split_once("xit codes:\n").unwrap();
        for line in codes.lines() {
            let named =
                line.starts_with("  ") && line.chars().nth(2).is_some_and(|c| c.is_ascii_digit());
            assert!(named || line.starts_with("      "), "{command}: {line:?}");
        }
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line:?}");
        }
    }
}

#[test]
fn one_of_something_is_told_as_one() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors");
    for entry in fs::read_dir(vectors).unwrap() {
        let directory = entry.unwrap().path();
        let text = told(&powerpole(&[
            "verify",
            directory.to_str().unwrap(),
            "--strict",
        ]));
        for wrong in [
            " 1 records ",
            " 1 lines",
            " 1 closed epochs",
            " 1 epoch signatures",
            " 1 frames",
            " 1 payloads",
        ] {
            assert!(
                !text.contains(wrong),
                "{}: {wrong:?} in {text}",
                directory.display()
            );
        }
    }
}

#[test]
fn a_request_that_is_still_open_has_no_bastion_yet() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let lines = valid.join("LINES.jsonl");
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("LEDGER.json");
    for (state, said) in [
        ("REQUESTED", "has no bastion yet (it is REQUESTED)"),
        ("LAPSED", "never had a bastion (it is LAPSED)"),
        ("WAITING", "WAITING is no state of a request"),
    ] {
        let item = format!(r#"{{"request":{{"S":"req-1"}},"state":{{"S":"{state}"}}}}"#);
        fs::write(&ledger, item).unwrap();
        let output = powerpole(&[
            "verify",
            "--file",
            lines.to_str().unwrap(),
            "--ledger",
            ledger.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(2), "{state}");
        assert!(told(&output).contains(said), "{}", told(&output));
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
        (vec!["database", "check"], 64, "--host is missing"),
        (vec!["verify", "req-1"], 64, "bastion.role_id in control's"),
        (vec!["verify", "req-1"], 64, "whoever can edit the ledger"),
        (
            vec!["verify", "req-1", "--role-id", "role"],
            64,
            "AROA, then capital letters",
        ),
        (
            vec![
                "verify",
                valid.to_str().unwrap(),
                "--anchors",
                "s3://bucket",
            ],
            64,
            "POWERPOLE_ROLE_ID",
        ),
        (
            vec!["verify", valid.to_str().unwrap(), "--search"],
            64,
            "anchors' bucket",
        ),
    ] {
        let output = powerpole(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert!(told(&output).contains(hint), "{}", told(&output));
    }
    let wanted = ["export", "req-1", "--out", "x", "--ledger-table", "t"];
    let output = powerpole(&wanted);
    assert_eq!(output.status.code(), Some(64));
    for hint in [
        "POWERPOLE_ROLE_ID",
        "POWERPOLE_LOG_GROUP",
        "POWERPOLE_ANCHOR_BUCKET",
    ] {
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
    for (name, bytes) in [
        ("LEDGER.json", vec![b'\n'; (8 << 20) + 1]),
        ("REDACTIONS.jsonl", vec![b'\n'; (8 << 20) + 1]),
        ("ANCHORS.jsonl", vec![b'x'; 2 << 20]),
    ] {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        let output = powerpole(&["verify", directory.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{}", told(&output));
        assert!(told(&output).contains("longer than"), "{}", told(&output));
        fs::remove_file(path).unwrap();
    }
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

#[test]
fn a_file_s_place_is_told_and_compared_where_the_auditor_says_it() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let valid = valid.to_str().unwrap();
    let verify = |more: &[&str]| {
        let mut arguments = vec!["verify", valid, "--json"];
        arguments.extend(more);
        let output = powerpole(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), report)
    };
    let (code, report) = verify(&[]);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()));
    let place = &report["place"];
    assert_eq!(place["role_id"], "AROAEXAMPLE");
    assert_eq!(
        place["by_files"],
        serde_json::json!(["role_id", "instance"])
    );
    assert_eq!(
        place["by_ledger"],
        serde_json::json!(["log_group", "log_stream"])
    );
    let own = [
        "--role-id",
        "AROAEXAMPLE",
        "--log-group",
        "/powerpole/test/evidence",
        "--anchor-bucket",
        "any",
    ];
    let (code, report) = verify(&own);
    assert_eq!((code, &report["verdict"]), (0, &"VALID".into()), "{report}");
    for (option, value, rule) in [
        ("--role-id", "AROAOTHER", "place-role-id"),
        ("--log-group", "/other", "place-log-group"),
        ("--request", "req-other", "place-request"),
    ] {
        let (code, report) = verify(&[option, value]);
        assert_eq!(
            (code, &report["verdict"]),
            (1, &"TAMPERED".into()),
            "{report}"
        );
        assert_eq!(report["findings"][0]["rule"], rule, "{report}");
        let text = told(&powerpole(&["verify", valid, option, value]));
        assert!(text.contains(rule), "{text}");
    }
    let text = told(&powerpole(&["verify", valid]));
    assert!(text.contains("no roll was compared"), "{text}");
    assert!(
        text.contains("only the file of anchors says: role id AROAEXAMPLE"),
        "{text}"
    );
}
