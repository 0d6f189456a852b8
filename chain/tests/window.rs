//! More foreign lines than the verifier keeps, and lines further out of place than that.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod common;

use common::{Evidence, session};
use powerpole_chain::{
    Content, Kind, Record,
    verify::{Verdict, Verifier, WINDOW},
};

const FLOOD: u64 = WINDOW as u64 * 3;

fn long() -> Evidence {
    session(3, 10, 50)
}

/// A line of nobody's; `n` makes each its own.
fn foreign(n: u64) -> String {
    let mut previous = [0x77; 32];
    previous[..8].copy_from_slice(&n.to_be_bytes());
    let content = Content::Full {
        salt: [0; 16],
        payload: vec![],
    };
    Record {
        seq: n % 600 + 1,
        t_us: common::START,
        kind: Kind::Output,
        session: 1,
        previous,
        content,
    }
    .to_line()
}

fn flood(verifier: &mut Verifier, lines: u64) {
    for n in 0..lines {
        verifier.line(foreign(n).as_bytes(), None);
    }
}

#[test]
fn a_flood_of_foreign_lines_costs_linear_time_and_changes_nothing() {
    let sealed = long();
    let last = sealed.lines.len() as u64 - 1;
    for (evidence, verdict) in [
        (sealed, Verdict::Valid),
        // The last lines follow no checkpoint and no anchor knows of them.
        (long().crashed_after(last - 20), Verdict::Unsealed),
    ] {
        let calm = evidence.verify();
        let mut verifier = Verifier::new(evidence.inputs.clone());
        let mut own = evidence.lines.iter();
        for n in 0..FLOOD {
            if n % 300 == 0
                && let Some(own) = own.next()
            {
                verifier.line(own.as_bytes(), None);
            }
            verifier.line(foreign(n).as_bytes(), None);
        }
        for own in own {
            verifier.line(own.as_bytes(), None);
        }
        let report = verifier.finish();
        assert_eq!((report.verdict, report.could_not_check), (verdict, None));
        assert_eq!(report.foreign, FLOOD);
        assert_eq!(
            (report.records, report.unproven, report.proven_to),
            (calm.records, calm.unproven, calm.proven_to)
        );
    }
}

#[test]
fn a_line_further_out_of_place_than_the_window_ends_in_no_verdict() {
    let evidence = long();
    let mut verifier = Verifier::new(evidence.inputs.clone());
    for (n, line) in evidence.lines.iter().enumerate() {
        if n != 20 {
            verifier.line(line.as_bytes(), None);
        }
    }
    flood(&mut verifier, WINDOW as u64 * 2);
    verifier.line(evidence.lines[20].as_bytes(), None);
    let report = verifier.finish();
    assert!(report.could_not_check.is_some());
    assert_eq!(report.exit_code(false), 2);
}

#[test]
fn a_tail_that_came_too_early_ends_in_no_verdict_and_not_in_a_shorter_chain() {
    let last = long().lines.len() - 1;
    // Cut behind a proven record, and behind one that only follows.
    for cut in [last - 100, last - 30] {
        let evidence = long().crashed_after(last as u64 - 20);
        let (before, after) = evidence.lines.split_at(cut);
        let mut verifier = Verifier::new(evidence.inputs.clone());
        for line in after {
            verifier.line(line.as_bytes(), None);
        }
        flood(&mut verifier, WINDOW as u64 + 1);
        for line in before {
            verifier.line(line.as_bytes(), None);
        }
        let report = verifier.finish();
        assert!(report.could_not_check.is_some(), "{cut}: {report:?}");
    }
}
