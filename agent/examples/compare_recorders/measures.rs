//! The four measures, each of one run of one candidate.

use crate::candidates::Candidate;
use crate::terminal::Running;
use std::path::Path;
use std::time::{Duration, Instant};

/// What a measure needs to know.
pub struct Place<'a> {
    pub dir: &'a Path,
    /// The file that is shown.
    pub text: &'a Path,
    /// Where CloudWatch's stand-in listens.
    pub sink: &'a str,
}

impl Place<'_> {
    fn start(
        &self,
        candidate: Candidate,
        command: &str,
        keep: bool,
    ) -> (Running, tempfile::TempDir) {
        let kept = tempfile::tempdir_in(self.dir).unwrap();
        let start = candidate.start(kept.path(), command, keep, self.sink);
        (Running::start(&start.argv, &start.environment), kept)
    }
}

/// Time from the first byte on the screen to the last, and the user time of all processes of the candidate.
pub fn bulk(candidate: Candidate, place: &Place<'_>) -> (Duration, Duration) {
    // The last word begins with a byte that the text has not, or a piece of it could be taken for the end.
    let command = format!(
        "printf begin; cat '{}'; printf '\\002end'",
        place.text.display()
    );
    let (mut running, kept) = place.start(candidate, &command, false);
    running.wait_for(b"begin");
    let start = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    let mut tail = Vec::new();
    while !tail.ends_with(b"\x02end") {
        let shown = running.see(&mut buffer);
        // Some end before they have shown everything.
        if shown.is_empty() {
            break;
        }
        tail.extend_from_slice(&shown[shown.len().saturating_sub(8)..]);
        tail.drain(..tail.len().saturating_sub(8));
    }
    let wall = start.elapsed();
    let user = running.end();
    drop(kept);
    (wall, user)
}

/// Round trips of one byte through the candidate to a program that answers it.
pub fn echo(candidate: Candidate, place: &Place<'_>, trips: usize) -> Vec<Duration> {
    let this = std::env::current_exe().unwrap();
    let command = format!("exec '{}' echo", this.display());
    let (mut running, kept) = place.start(candidate, &command, false);
    running.wait_for(b"ready");
    for n in 0..200 {
        running.round_trip(b'a' + (n % 26));
    }
    let times = (0..trips)
        .map(|n| running.round_trip(b'a' + u8::try_from(n % 26).unwrap()))
        .collect();
    running.type_byte(b'.');
    running.end();
    drop(kept);
    times
}

/// Bytes that the terminal had shown and the record does not hold, after SIGKILL in the middle of output; and how
/// many were shown.
pub fn lost_when_killed(candidate: Candidate, place: &Place<'_>, after: Duration) -> (u64, u64) {
    let (mut running, kept) = place.start(candidate, "seq 1 100000000", true);
    let mut seen = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while seen.len() < 300_000 {
        let shown = running.see(&mut buffer);
        if shown.is_empty() {
            break;
        }
        seen.extend_from_slice(shown);
    }
    let until = Instant::now() + after;
    while Instant::now() < until {
        seen.extend_from_slice(running.see(&mut buffer));
    }
    running.kill();
    running.rest(&mut seen);
    running.end();
    let lost = lost(&seen, &candidate.kept(kept.path()));
    (lost, seen.len() as u64)
}

/// Bytes of a command's output that the record does not hold when the command ends by itself; and how many it wrote.
/// Not of what was shown: a recorder can lose the last bytes of both.
pub fn lost_at_exit(candidate: Candidate, place: &Place<'_>) -> (u64, u64) {
    let (mut running, kept) = place.start(candidate, "seq 1 50000; printf 'the last word'", true);
    let mut seen = Vec::new();
    running.rest(&mut seen);
    running.end();
    let mut wrote = String::new();
    for n in 1..=50_000 {
        wrote.push_str(&format!("{n}\r\n"));
    }
    wrote.push_str("the last word");
    let lost = lost(wrote.as_bytes(), &candidate.kept(kept.path()));
    (lost, wrote.len() as u64)
}

/// Bytes of `seen` behind the first one that `kept` does not have in its place.
fn lost(seen: &[u8], kept: &[u8]) -> u64 {
    let same = seen
        .iter()
        .zip(kept)
        .take_while(|(seen, kept)| seen == kept)
        .count();
    (seen.len() - same) as u64
}
