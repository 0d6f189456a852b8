//! The same lines are worth the same in every order: what follows the last line is kept another way than what does
//! not, and both must give one report.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod common;

use std::convert::Infallible;

use common::{Evidence, START, genesis, key, salt, session, verify};
use powerpole_chain::{
    AnchorKind, Genesis, Kind, SealReason, Sealer,
    verify::{Inputs, LedgerFacts, Reducer, Report, Verdict, Verifier, verify_blocks},
    withheld_line,
};

/// A small generator: every run must be the same.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for index in (1..list.len()).rev() {
            list.swap(index, self.roll(index + 1));
        }
    }
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

fn by_line(inputs: &Inputs, lines: &[String]) -> String {
    format!("{:?}", verify(inputs, lines.iter().map(String::as_bytes)))
}

fn in_blocks(inputs: &Inputs, lines: &[String], threads: usize, lines_each: usize) -> String {
    let blocks: Vec<String> = lines
        .chunks(lines_each)
        .map(|chunk| chunk.join("\n"))
        .collect();
    let mut blocks = blocks.iter();
    let mut verifier = Verifier::new(inputs.clone());
    let read = |_: &[u8]| Ok::<_, Infallible>(blocks.next().map(String::as_bytes));
    let open = |line: &[u8], reducer: &mut Reducer| reducer.line(line, None);
    verify_blocks(&mut verifier, threads, read, open).unwrap();
    format!("{:?}", verifier.finish())
}

/// Drops, repeats, withholds, changes and mixes in strangers, in the order of the chain.
fn change(dice: &mut Dice, lines: &mut Vec<String>, strangers: &[String]) {
    for _ in 0..dice.roll(5) {
        if lines.is_empty() {
            return;
        }
        let index = dice.roll(lines.len());
        match dice.roll(6) {
            0 => drop(lines.remove(index)),
            1 => lines.insert(index, lines[index].clone()),
            2 => lines.insert(index, strangers[dice.roll(strangers.len())].clone()),
            3 => lines.insert(index, "?".to_owned()),
            4 => {
                if let Some(twin) = withheld_line(lines[index].as_bytes()) {
                    lines[index] = twin;
                }
            }
            _ => {
                let line = lines[index].replace("\"n\":1", "\"n\":9");
                lines.insert(index + dice.roll(2), line);
            }
        }
    }
}

#[test]
fn every_order_of_the_same_lines_gives_the_same_report() {
    let strangers = session(2, 3, 6).lines;
    let mut dice = Dice(0x0bde);
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..1_500 {
        let mut evidence = session(1, 1 + round % 4, 1 + round % 9);
        if round % 5 == 0 {
            let last = evidence.heads[evidence.heads.len() / 2].seq;
            evidence = evidence.crashed_after(last);
        }
        let Evidence {
            mut lines, inputs, ..
        } = evidence;
        change(&mut dice, &mut lines, &strangers);
        let in_order = by_line(&inputs, &lines);
        *seen
            .entry(in_order.split(',').next().unwrap().to_owned())
            .or_insert(0u32) += 1;
        let mut other = lines.clone();
        other.reverse();
        assert_eq!(by_line(&inputs, &other), in_order, "{round} reversed");
        for _ in 0..4 {
            dice.shuffle(&mut other);
            assert_eq!(by_line(&inputs, &other), in_order, "{round} shuffled");
        }
        for threads in 1..3 {
            let each = 1 + dice.roll(70);
            let blocks = in_blocks(&inputs, &lines, threads, each);
            assert_eq!(blocks, in_order, "{round} in blocks of {each}");
        }
    }
    println!("{seen:?}");
    assert!(seen.len() >= 5, "{seen:?}");
}

#[test]
fn interruptions_by_strangers_are_only_counted() {
    let strangers = session(2, 9, 9).lines;
    let evidence = session(1, 9, 9);
    for every in 1..5 {
        let mut lines = evidence.lines.clone();
        let mut strange = strangers.iter();
        let mut place = every;
        while place < lines.len() {
            let Some(line) = strange.next() else { break };
            lines.insert(place, line.clone());
            place += every + 1;
        }
        let count = (lines.len() - evidence.lines.len()) as u64;
        let mut report = verify(&evidence.inputs, lines.iter().map(String::as_bytes));
        assert_eq!(std::mem::take(&mut report.foreign), count);
        let plain = evidence.verify();
        assert_eq!(format!("{report:?}"), format!("{plain:?}"));
    }
}

/// A chain that is longer than the window, a checkpoint after every 1,000 records.
fn long(records: u32) -> (Vec<String>, Inputs) {
    let genesis = genesis(1);
    let (mut sealer, first) = Sealer::begin(&genesis, key(1, 0), salt(1, 0)).unwrap();
    let mut anchors = vec![first.anchor(AnchorKind::Genesis, &genesis)];
    let mut lines = vec![first.text];
    for n in 1..=records {
        let t = START + u64::from(n);
        let line = sealer.append(t, Kind::Output, 1, salt(1, u64::from(n)), &n.to_be_bytes());
        lines.push(line.unwrap().text);
        if n % 1000 == 0 {
            let next = key(1, sealer.head().epoch + 1);
            lines.push(
                sealer
                    .checkpoint(t, salt(2, u64::from(n)), next)
                    .unwrap()
                    .text,
            );
        }
    }
    let t = START + u64::from(records);
    let seal = sealer.seal(t, salt(3, 0), SealReason::Finished).unwrap();
    anchors.push(seal.anchor(AnchorKind::Seal, &genesis));
    lines.push(seal.text);
    let inputs = Inputs {
        ledger: Some(approval(&genesis)),
        anchors: Some(anchors),
        ..Inputs::default()
    };
    (lines, inputs)
}

fn with_repeats(lines: &[String], inputs: &Inputs, distance: usize, each: usize) -> (u64, Report) {
    let mut verifier = Verifier::new(inputs.clone());
    let mut repeats = 0;
    for (index, line) in lines.iter().enumerate() {
        verifier.line(line.as_bytes(), None);
        if index % 7_000 == 6_999 && index >= distance + each {
            for again in &lines[index - distance..index - distance + each] {
                verifier.line(again.as_bytes(), None);
                repeats += 1;
            }
        }
    }
    (repeats, verifier.finish())
}

#[test]
fn repetitions_inside_the_window_are_counted_to_the_line() {
    let (lines, inputs) = long(72_000);
    for (distance, each) in [
        (0, 1),
        (1, 1),
        (1, 2),
        (900, 50),
        (5_000, 3_000),
        (39_000, 600),
    ] {
        let (repeats, report) = with_repeats(&lines, &inputs, distance, each);
        assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
        assert_eq!(
            (report.duplicates, report.foreign),
            (repeats, 0),
            "{distance}"
        );
        assert!(repeats > 0);
    }
    let (repeats, report) = with_repeats(&lines, &inputs, 60_000, 300);
    assert_eq!(
        (report.verdict, report.could_not_check),
        (Verdict::Valid, None)
    );
    assert_eq!(
        (report.duplicates, report.foreign),
        (0, repeats),
        "too far apart"
    );
}
