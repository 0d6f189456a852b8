//! Verifying in the plainest way that is possible when every line is at hand: is each record of the sealed session
//! there, byte by byte or withheld? Only what follows from that is compared.

use std::collections::HashSet;

use powerpole_chain::verify::{Report, Verdict};

use crate::Session;

/// Panics when the verifier's report contradicts what a set of lines plainly holds. Every head of the session's
/// epochs is anchored, so nothing of it can be replaced.
pub fn compare(session: &Session, lines: &[Vec<u8>], report: &Report) {
    assert_eq!(report.could_not_check, None, "{report:?}");
    let given: HashSet<&[u8]> = lines.iter().map(Vec::as_slice).collect();
    let here: Vec<bool> = session
        .lines
        .iter()
        .map(|line| given.contains(line.text.as_bytes()))
        .collect();
    let whole = here.iter().all(|here| *here);
    assert_eq!(report.verdict == Verdict::Valid, whole, "{report:?}");
    assert_eq!(report.exit_code(false) == 0, whole);
    let first_lost = here.iter().position(|here| !here);
    if let (Some(seq), Some(proven)) = (first_lost, report.proven_to) {
        assert!(proven < seq as u64, "{report:?}");
    }
    let all = here.iter().filter(|here| **here).count() as u64;
    assert!(report.records <= all, "{report:?}");
    let counted = report.records
        + report.unproven
        + report.foreign
        + report.duplicates
        + report.unreadable
        + report.unsealed;
    assert_eq!(counted, lines.len() as u64, "{report:?}");
}
