//! The golden vectors of version 1: made from fixed keys, frozen in `vectors/`, verified from there.
//!
//! `POWERPOLE_WRITE_VECTORS=1 cargo test -p powerpole-chain --test vectors` writes those that are
//! missing; it never changes one that is there.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod common;

use std::{fs, path::Path, path::PathBuf};

use common::{Evidence, session};
use powerpole_chain::{
    Anchor, EpochKey, Hash, Kind, Redaction, unsealed_line,
    verify::{Inputs, LedgerFacts, Report},
    withheld_line,
};
use serde_json::{Value, json};

struct Vector {
    name: &'static str,
    evidence: Evidence,
    manifests: Vec<String>,
}

fn redactor() -> EpochKey {
    EpochKey::from_seed([0xad; 32])
}

fn vector(name: &'static str, change: impl FnOnce(&mut Evidence)) -> Vector {
    let mut evidence = session(1, 3, 6);
    change(&mut evidence);
    Vector {
        name,
        evidence,
        manifests: Vec::new(),
    }
}

fn flip(evidence: &mut Evidence, line: usize, from: &str, to: &str) {
    let changed = evidence.lines[line].replacen(from, to, 1);
    assert_ne!(changed, evidence.lines[line]);
    evidence.lines[line] = changed;
}

fn vectors() -> Vec<Vector> {
    let other = session(2, 2, 4).lines;
    let foreign = other.clone();
    let mut all = vec![
        vector("valid", |_| {}),
        vector("valid-shuffled-and-repeated", |e| {
            e.lines.reverse();
            e.lines.push(e.lines[4].clone());
            e.lines.swap(3, 17);
        }),
        vector("valid-with-foreign-lines", |e| {
            e.lines.splice(9..9, foreign);
            e.lines.insert(2, "hello".to_owned());
        }),
        vector("unanchored", |e| e.inputs.anchors = None),
        vector("unanchored-alone", |e| {
            e.inputs.anchors = None;
            e.inputs.ledger = None;
        }),
        vector("unsealed", |e| *e = e.clone().crashed_after(18)),
        vector("unsealed-with-keyless-frames", |e| {
            *e = e.clone().crashed_after(16);
            e.lines.push(unsealed_line(
                0,
                common::START + 1,
                Kind::Output,
                3,
                b"last words",
            ));
            e.lines.push(unsealed_line(
                1,
                common::START + 2,
                Kind::Statement,
                3,
                b"SELECT 1",
            ));
        }),
        vector("incomplete-dropped-record", |e| drop(e.lines.remove(10))),
        vector("incomplete-dropped-checkpoint", |e| drop(e.lines.remove(7))),
        vector("incomplete-cut-tail", |e| e.lines.truncate(15)),
        vector("incomplete-nothing", |e| e.lines.clear()),
        vector("incomplete-another-session", |e| e.lines = other.clone()),
        vector("tampered-payload", |e| {
            flip(e, 4, "\"d\":\"cmVj", "\"d\":\"cmVk")
        }),
        vector("tampered-time", |e| {
            flip(e, 4, "\"t\":17640", "\"t\":17641")
        }),
        vector("tampered-number", |e| flip(e, 4, "\"s\":4", "\"s\":5")),
        vector("tampered-kind", |e| {
            flip(e, 4, "\"k\":\"o\"", "\"k\":\"i\"")
        }),
        vector("tampered-login", |e| flip(e, 4, "\"n\":1", "\"n\":2")),
        vector("tampered-link", |e| {
            let at = e.lines[4].find("\"p\":\"").unwrap() + 5;
            let old = e.lines[4].as_bytes()[at];
            let new = if old == b'A' { "B" } else { "A" };
            e.lines[4].replace_range(at..=at, new);
        }),
        vector("tampered-checkpoint", |e| {
            flip(e, 7, "\"z\":\"AQ", "\"z\":\"AR")
        }),
        vector("tampered-seal-unanchored", |e| {
            flip(e, 21, "\"t\":17640", "\"t\":17641");
            e.inputs.anchors = None;
            e.inputs.ledger = None;
        }),
        vector("tampered-anchor", |e| {
            e.inputs.anchors.as_mut().unwrap()[1].head[31] ^= 1;
        }),
        vector("tampered-ledger", |e| {
            e.inputs.ledger.as_mut().unwrap().approver = Some("mallory@example.com".to_owned());
        }),
        vector("malformed", |e| flip(e, 4, "\"d\":\"", "\"D\":\"")),
    ];
    let mut withheld = vector("withheld", |e| {
        e.lines[3] = withheld_line(e.lines[3].as_bytes()).unwrap();
    });
    let manifest = Redaction {
        genesis: withheld.evidence.heads[0].hash,
        redactor: "carol@example.com".to_owned(),
        reason: "a password was pasted".to_owned(),
        at: "2025-12-01T00:00:00Z".to_owned(),
        records: vec![3],
        key: redactor().public(),
    };
    let text = manifest.sign(&redactor()).unwrap();
    withheld.evidence.inputs.redactions = vec![Redaction::parse(text.as_bytes()).unwrap()];
    withheld.evidence.inputs.redactors = vec![redactor().public()];
    withheld.manifests = vec![text];
    all.push(withheld);
    all.push(vector("withheld-without-authority", |e| {
        e.lines[3] = withheld_line(e.lines[3].as_bytes()).unwrap();
    }));
    let mut fork = vector("tampered-fork", |_| {});
    let twin = common::twin_end();
    fork.evidence.lines.extend(twin);
    all.push(fork);
    all
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ledger_json(facts: &LedgerFacts) -> String {
    let mut map = serde_json::Map::new();
    let texts = [
        ("request", &facts.request),
        ("operator", &facts.operator),
        ("principal", &facts.principal),
        ("approver", &facts.approver),
        ("approved_at", &facts.approved_at),
        ("reason", &facts.reason),
        ("cluster", &facts.cluster),
        ("level", &facts.level),
        ("account", &facts.account),
        ("instance", &facts.instance),
        ("log_group", &facts.log_group),
        ("log_stream", &facts.log_stream),
    ];
    for (name, text) in texts {
        map.insert(name.to_owned(), json!({ "S": text.as_ref().unwrap() }));
    }
    let schemas: Vec<Value> = facts
        .schemas
        .iter()
        .flatten()
        .map(|schema| json!({ "S": schema }))
        .collect();
    map.insert("schemas".to_owned(), json!({ "L": schemas }));
    map.insert(
        "attempt".to_owned(),
        json!({ "N": facts.attempt.unwrap().to_string() }),
    );
    map.insert(
        "genesis_head".to_owned(),
        json!({ "S": hex(&facts.genesis_head.unwrap()) }),
    );
    for (name, head) in [("latest", facts.latest), ("final", facts.last)] {
        if let Some((seq, head)) = head {
            map.insert(format!("{name}_seq"), json!({ "N": seq.to_string() }));
            map.insert(format!("{name}_head"), json!({ "S": hex(&head) }));
        }
    }
    if let Some(sealed) = facts.sealed {
        map.insert("sealed".to_owned(), json!({ "BOOL": sealed }));
    }
    Value::Object(map).to_string() + "\n"
}

fn anchor_line(anchor: &Anchor) -> String {
    json!({
        "key": format!("AROAEXAMPLE:{}/{}/{}", anchor.instance, anchor.request, anchor.object_name()),
        "version_id": "1",
        "last_modified": "2025-11-24T16:00:00Z",
        "body": anchor.to_json(),
    })
    .to_string()
}

fn expected(report: &Report, inputs: &Inputs) -> String {
    assert_eq!(report.could_not_check, None);
    let redactors: Vec<String> = inputs.redactors.iter().map(base64_of).collect();
    let text = serde_json::to_string_pretty(&json!({
        "redactors": redactors,
        "verdict": report.verdict.word(),
        "exit": report.exit_code(false),
        "proven_to": report.proven_to,
        "reached": report.reached,
        "records": report.records,
        "epochs": report.epochs,
        "unproven": report.unproven,
        "foreign": report.foreign,
        "duplicates": report.duplicates,
        "unreadable": report.unreadable,
        "unsealed": report.unsealed,
        "withheld": report.withheld,
        "unauthorised": report.unauthorised,
        "missing_records": report.missing_records,
        "first_bad": report.first_bad(),
    }));
    text.unwrap() + "\n"
}

fn base64_of(key: &[u8; 32]) -> String {
    // A manifest spells its key: the vectors need no other encoder.
    let text = Redaction {
        genesis: [0; 32],
        redactor: String::new(),
        reason: String::new(),
        at: String::new(),
        records: vec![],
        key: *key,
    }
    .sign(&redactor())
    .unwrap();
    text.split("\"y\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned()
}

fn files(vector: &Vector) -> Vec<(&'static str, String)> {
    let lines: String = vector
        .evidence
        .lines
        .iter()
        .map(|line| {
            let time = line
                .split("\"t\":")
                .nth(1)
                .and_then(|rest| rest.split(',').next())
                .and_then(|t| t.parse::<u64>().ok())
                .unwrap_or(common::START)
                / 1000;
            format!("{}\n", json!({ "timestamp": time, "message": line }))
        })
        .map(|line| {
            // Timestamp first, as an export writes it.
            let value: Value = serde_json::from_str(&line).unwrap();
            format!(
                "{{\"timestamp\":{},\"message\":{}}}\n",
                value["timestamp"], value["message"]
            )
        })
        .collect();
    let mut files = vec![("LINES.jsonl", lines)];
    if let Some(ledger) = &vector.evidence.inputs.ledger {
        files.push(("LEDGER.json", ledger_json(ledger)));
    }
    if let Some(anchors) = &vector.evidence.inputs.anchors {
        let text: String = anchors
            .iter()
            .map(|anchor| anchor_line(anchor) + "\n")
            .collect();
        files.push(("ANCHORS.jsonl", text));
    }
    if !vector.manifests.is_empty() {
        files.push(("REDACTIONS.jsonl", vector.manifests.join("\n") + "\n"));
    }
    files.push((
        "EXPECTED.json",
        expected(&vector.evidence.verify(), &vector.evidence.inputs),
    ));
    files
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

#[test]
fn the_vectors_of_version_1_are_frozen() {
    let write = std::env::var_os("POWERPOLE_WRITE_VECTORS").is_some();
    let mut names: Vec<String> = Vec::new();
    for vector in vectors() {
        names.push(vector.name.to_owned());
        let directory = directory().join(vector.name);
        for (name, text) in files(&vector) {
            let path = directory.join(name);
            if write && !path.exists() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &text).unwrap();
            }
            let frozen = fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert_eq!(frozen, text, "{} changed", path.display());
        }
    }
    let mut there: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    there.sort();
    assert_eq!(names, there, "every vector has its maker");
}

#[test]
fn every_vector_is_named_after_its_verdict() {
    for vector in vectors() {
        let verdict = vector.evidence.verify().verdict.word().to_lowercase();
        assert!(
            vector.name.starts_with(&verdict),
            "{} is {verdict}",
            vector.name
        );
    }
}
