//! How fast verifying and sealing are, as ratios to SHA-256 of the same bytes in the same run.
//!
//! `cargo bench -p powerpole-chain`. Every figure is the median of rounds in which all candidates take turns, so
//! that a machine which is busy for a while slows all of them.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{convert::Infallible, hint::black_box, time::Instant};

use common::{START, genesis, key, salt};
use powerpole_chain::{
    AnchorKind, Content, Genesis, Kind, Record, SealReason, Sealer,
    verify::{Inputs, LedgerFacts, Reducer, Verdict, Verifier, verify_blocks},
};
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 128 << 10;

struct Chain {
    blocks: Vec<Vec<u8>>,
    bytes: usize,
    records: usize,
    inputs: Inputs,
}

/// The ledger's word for the approval that the genesis claims.
fn approval(genesis: &Genesis) -> LedgerFacts {
    LedgerFacts {
        request: Some(genesis.request.clone()),
        operator: Some(genesis.operator.clone()),
        level: Some(genesis.level.clone()),
        approver: Some(genesis.approver.clone()),
        approved_at: Some(genesis.approved_at.clone()),
        ..LedgerFacts::default()
    }
}

/// A checkpoint after every `epoch` records, and after every record of the chain's own as many of a stranger's as
/// `strangers` says, each of which follows nothing.
fn chain(payload: usize, records: u32, epoch: u32, strangers: u32) -> Chain {
    let genesis = genesis(1);
    let (mut sealer, first) = Sealer::begin(&genesis, key(1, 0), salt(1, 0)).unwrap();
    let mut anchors = vec![first.anchor(AnchorKind::Genesis, &genesis)];
    let mut lines = vec![first.text];
    let payload: Vec<u8> = (0..payload).map(|n| (n * 7) as u8).collect();
    let mut t = START;
    for n in 1..=records {
        t += 100;
        let line = sealer.append(t, Kind::Output, 1, salt(1, u64::from(n)), &payload);
        lines.push(line.unwrap().text);
        for stranger in 0..strangers {
            lines.push(foreign(n * strangers + stranger, &payload));
        }
        if n % epoch == 0 {
            let next = key(1, sealer.head().epoch + 1);
            lines.push(
                sealer
                    .checkpoint(t, salt(2, u64::from(n)), next)
                    .unwrap()
                    .text,
            );
        }
    }
    let seal = sealer.seal(t, salt(3, 0), SealReason::Finished).unwrap();
    anchors.push(seal.anchor(AnchorKind::Seal, &genesis));
    lines.push(seal.text);
    let mut blocks = vec![Vec::new()];
    for line in &lines {
        let block = blocks.last_mut().unwrap();
        block.extend_from_slice(line.as_bytes());
        block.push(b'\n');
        if block.len() >= BLOCK {
            blocks.push(Vec::new());
        }
    }
    Chain {
        bytes: blocks.iter().map(Vec::len).sum(),
        records: lines.len(),
        blocks,
        inputs: Inputs {
            ledger: Some(approval(&genesis)),
            anchors: Some(anchors),
            ..Inputs::default()
        },
    }
}

fn foreign(n: u32, payload: &[u8]) -> String {
    let mut previous = [0x77; 32];
    previous[..4].copy_from_slice(&n.to_be_bytes());
    let content = Content::Full {
        salt: [9; 16],
        payload: payload.to_vec(),
    };
    let record = Record {
        seq: u64::from(n) + 1,
        t_us: START,
        kind: Kind::Output,
        session: 1,
        previous,
        content,
    };
    record.to_line()
}

fn verify(chain: &Chain, threads: usize) {
    let mut verifier = Verifier::new(chain.inputs.clone());
    let mut blocks = chain.blocks.iter();
    // The bytes are verified where they lie, as they are hashed where they lie.
    let read = |_: &[u8]| Ok::<_, Infallible>(blocks.next().map(Vec::as_slice));
    let open = |line: &[u8], reducer: &mut Reducer| reducer.line(line, None);
    verify_blocks(&mut verifier, threads, read, open).unwrap();
    let report = verifier.finish();
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
}

fn sha(chain: &Chain) {
    let mut sha = Sha256::new();
    for block in &chain.blocks {
        sha.update(block);
    }
    black_box(sha.finalize());
}

fn seal(payload: &[u8], records: u32) {
    let genesis = genesis(1);
    let (mut sealer, _) = Sealer::begin(&genesis, key(1, 0), salt(1, 0)).unwrap();
    for n in 1..=records {
        let t = START + u64::from(n);
        let line = sealer.append(t, Kind::Output, 1, salt(1, u64::from(n)), payload);
        black_box(line.unwrap());
        if n % 4096 == 0 {
            let next = key(1, sealer.head().epoch + 1);
            black_box(sealer.checkpoint(t, salt(2, u64::from(n)), next).unwrap());
        }
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn row(chain: &Chain, name: &str, candidate: &str, time: f64, s: f64) {
    println!(
        "| {name} | {candidate} | {:.0} | {:.2} | {:.2} M |",
        chain.bytes as f64 / time / 1e6,
        s / time,
        chain.records as f64 / time / 1e6
    );
}

fn main() {
    let once = std::env::args().any(|argument| argument == "--test");
    let rounds = if once { 1 } else { 11 };
    println!("| lines | candidate | MB/s | ratio to S | records/s |");
    println!("|---|---|---|---|---|");
    for (name, payload, records) in [("300 bytes", 123, 200_000), ("4 KiB payload", 4096, 24_000)] {
        let chain = chain(payload, records, 4096, 0);
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            times[0].push(seconds(|| sha(&chain)));
            times[1].push(seconds(|| verify(&chain, 1)));
            times[2].push(seconds(|| verify(&chain, 2)));
        }
        let [s, one, two] = times.map(median);
        row(&chain, name, "SHA-256 of the bytes, S", s, s);
        row(&chain, name, "verify, 1 thread", one, s);
        row(&chain, name, "verify, 2 threads", two, s);
    }
    // As many strangers' lines as own ones, each between two own ones.
    let flood = chain(123, 100_000, 4096, 1);
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        times[0].push(seconds(|| sha(&flood)));
        times[1].push(seconds(|| verify(&flood, 1)));
    }
    let [s, one] = times.map(median);
    row(
        &flood,
        "300 bytes, foreign flood",
        "SHA-256 of the bytes, S",
        s,
        s,
    );
    row(
        &flood,
        "300 bytes, foreign flood",
        "verify, 1 thread",
        one,
        s,
    );

    // Epochs four times as long have a quarter of the checkpoints.
    let few = chain(123, 200_000, 16_384, 0);
    let many = chain(123, 200_000, 4096, 0);
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        times[0].push(seconds(|| verify(&few, 1)));
        times[1].push(seconds(|| verify(&many, 1)));
    }
    let [few, many] = times.map(median);
    println!(
        "\ncheckpoints' share of verifying 300-byte lines, one after 4,096 records: {:.1} %",
        (many - few) * 4.0 / 3.0 / many * 100.0
    );
    println!("\n| sealing one record | ns |\n|---|---|");
    for (payload, records) in [(16, 100_000), (100, 100_000), (4096, 10_000)] {
        let bytes = vec![b'x'; payload];
        let times = (0..rounds)
            .map(|_| seconds(|| seal(&bytes, records)))
            .collect();
        println!(
            "| {payload} bytes | {:.0} |",
            median(times) / f64::from(records) * 1e9
        );
    }
}
