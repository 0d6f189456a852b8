//! Blocks on any number of threads give the report that lines one by one give.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Evidence, session};
use powerpole_chain::verify::{Reducer, Report, Verifier, verify_blocks};

fn in_blocks(evidence: &Evidence, text: &[u8], threads: usize, block: usize) -> Report {
    let mut verifier = Verifier::new(evidence.inputs.clone());
    let mut rest = text;
    let read = |mut buffer: Vec<u8>| {
        buffer.clear();
        let end = rest.len().min(block);
        let end = rest[end..]
            .iter()
            .position(|b| *b == b'\n')
            .map_or(rest.len(), |n| end + n + 1);
        buffer.extend_from_slice(&rest[..end]);
        rest = &rest[end..];
        Ok::<_, ()>((!buffer.is_empty()).then_some(buffer))
    };
    let open = |line: &[u8], reducer: &mut Reducer| reducer.line(line, None);
    verify_blocks(&mut verifier, threads, read, open).unwrap();
    verifier.finish()
}

#[test]
fn every_number_of_threads_and_size_of_blocks_gives_the_same_report() {
    let mut evidence = session(1, 4, 40);
    let other = session(2, 2, 9);
    evidence.lines.extend(other.lines);
    evidence.lines.insert(50, "?".to_owned());
    evidence.lines.insert(51, "?".to_owned());
    evidence.lines.remove(33);
    evidence.lines.push(evidence.lines[5].clone());
    let expected = format!("{:?}", evidence.verify());
    let text = evidence.lines.join("\n");
    for threads in [1, 2, 3, 7] {
        for block in [1, 100, 5_000, 1 << 20] {
            let report = in_blocks(&evidence, text.as_bytes(), threads, block);
            assert_eq!(format!("{report:?}"), expected, "{threads} × {block}");
        }
    }
}

#[test]
fn a_reader_that_fails_ends_every_thread_and_no_verdict_follows() {
    for threads in [1, 2, 4] {
        let mut verifier = Verifier::new(session(1, 1, 1).inputs);
        let mut blocks = 0;
        let read = |_: Vec<u8>| {
            blocks += 1;
            if blocks > 9 {
                Err("disk")
            } else {
                Ok(Some(b"x\n".to_vec()))
            }
        };
        let open = |line: &[u8], reducer: &mut Reducer| reducer.line(line, None);
        assert_eq!(
            verify_blocks(&mut verifier, threads, read, open),
            Err("disk")
        );
    }
}
