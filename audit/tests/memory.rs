//! Memory of the shipped command under the worst floods that anybody may write into a stream, or a bastion into its
//! folder of the bucket.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod support;

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
};

use nix::sys::resource::{UsageWho, getrusage};
use powerpole_chain::{
    Anchor, AnchorKind, Content, Kind, MAX_PAYLOAD, Parsed, Record, parse_line, unsealed_line,
};
use serde_json::Value;

/// What a flood may add to what the program takes without one.
const FLOOD_KIB: i64 = 24 * 1024;

fn record(n: u64, previous: [u8; 32], kind: Kind, payload: Vec<u8>) -> String {
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&n.to_be_bytes());
    Record {
        seq: n + 1,
        t_us: n,
        kind,
        session: 0,
        previous,
        content: Content::Full { salt, payload },
    }
    .to_line()
}

/// A seal that nobody signed: the largest thing that the verifier keeps of a line.
fn seal(n: u64) -> Vec<u8> {
    let mut payload = vec![7; 345];
    payload[..4].copy_from_slice(&(n as u32).to_be_bytes());
    payload[152] = 1;
    payload
}

#[test]
fn any_flood_is_verified_within_32_mib() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let directory = tempfile::tempdir().unwrap();
    for name in ["LEDGER.json", "ANCHORS.jsonl"] {
        fs::copy(valid.join(name), directory.path().join(name)).unwrap();
    }
    let own = fs::read_to_string(valid.join("LINES.jsonl")).unwrap();
    let event: Value = serde_json::from_str(own.lines().next().unwrap()).unwrap();
    let Ok(Parsed::Record(genesis)) = parse_line(event["message"].as_str().unwrap().as_bytes())
    else {
        panic!()
    };
    let mut file = BufWriter::new(File::create(directory.path().join("LINES.jsonl")).unwrap());
    let (first, rest) = own.split_once('\n').unwrap();
    writeln!(file, "{first}").unwrap();
    let mut flood = 0;
    for n in 0u64..70_000 {
        let mut stranger = [0x77; 32];
        stranger[..8].copy_from_slice(&n.to_be_bytes());
        let mut lines = vec![
            record(n, stranger, Kind::Output, Vec::new()),
            record(n, genesis.hash(), Kind::Event, Vec::new()),
        ];
        if n % 4 == 0 {
            lines.push(record(n, stranger, Kind::Seal, seal(n)));
        }
        if n % 2000 == 0 {
            lines.push(record(n, stranger, Kind::Output, vec![1; MAX_PAYLOAD]));
        }
        flood += lines.len() as u64;
        for line in lines {
            writeln!(file, "{line}").unwrap();
        }
    }
    for n in 0..20_000 {
        writeln!(file, "x\n{}", unsealed_line(n, n, Kind::Output, 0, b"")).unwrap();
    }
    file.write_all(&vec![b'y'; 3 << 20]).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(rest.as_bytes()).unwrap();
    file.into_inner().unwrap().sync_all().unwrap();

    // What the program takes without a flood: mostly mapped pages of itself, which differ from build to build.
    let small = Command::new(support::binary())
        .args(["verify", valid.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(small.status.success());
    let own_kib = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();

    let output = Command::new(support::binary())
        .args(["verify", directory.path().to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verdict"], "VALID", "{report}");
    assert_eq!(report["foreign"], flood);
    assert_eq!(report["unreadable"], 20_001);
    assert_eq!(report["unsealed"], 20_000);
    let peak = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss();
    println!("{peak} KiB at most, {own_kib} KiB without the flood");
    assert!(
        peak - own_kib <= FLOOD_KIB,
        "{peak} KiB, of which {own_kib} without the flood"
    );
}

/// What a flood of anchors may add.
const ANCHORS_KIB: i64 = 64 * 1024;

/// Far more anchors than are kept, each as long as it may be, and as many objects that are none.
#[test]
fn any_flood_of_anchors_is_verified_in_bounded_memory() {
    let valid = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain/tests/vectors/valid");
    let directory = tempfile::tempdir().unwrap();
    for name in ["LEDGER.json", "LINES.jsonl"] {
        fs::copy(valid.join(name), directory.path().join(name)).unwrap();
    }
    let own = fs::read_to_string(valid.join("ANCHORS.jsonl")).unwrap();
    let mut file = BufWriter::new(File::create(directory.path().join("ANCHORS.jsonl")).unwrap());
    let first: Value = serde_json::from_str(own.lines().next().unwrap()).unwrap();
    let (folder, _) = first["key"].as_str().unwrap().rsplit_once('/').unwrap();
    let mut anchor = Anchor::parse(first["body"].as_str().unwrap().as_bytes()).unwrap();
    anchor.kind = AnchorKind::Head;
    anchor.stream = "s".repeat(512);
    for n in 0..60_000u64 {
        anchor.seq = 1_000_000 + n;
        let name = anchor.object_name();
        for (name, body) in [
            (&name, anchor.to_json()),
            (&format!("z{name}"), "z".repeat(500)),
        ] {
            let line = serde_json::json!({"key": format!("{folder}/{name}"), "version_id": "v".repeat(32),
                "last_modified": "2030-01-01T00:00:00Z", "body": body});
            writeln!(file, "{line}").unwrap();
        }
    }
    file.write_all(own.as_bytes()).unwrap();
    file.into_inner().unwrap().sync_all().unwrap();

    let powerpole = |directory: &Path| {
        let output = Command::new(support::binary())
            .args(["verify", directory.to_str().unwrap(), "--json"])
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (
            report,
            getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss(),
        )
    };
    let (_, own_kib) = powerpole(&valid);
    let (report, peak) = powerpole(directory.path());
    assert_eq!(report["verdict"], "TAMPERED", "{}", report["findings"]);
    assert_eq!(report["findings"][0]["rule"], "anchors-cut");
    assert_eq!(report["proven_to"], 21);
    assert_eq!(report["anchors"]["matched"], 3);
    assert_eq!(report["anchors"]["strange"], 60_000);
    println!("{peak} KiB at most, {own_kib} KiB without the flood");
    assert!(
        peak - own_kib <= ANCHORS_KIB,
        "{peak} KiB, of which {own_kib} without the flood"
    );
}
