//! A session with changes, judged by the verifier and by its naive twin.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use powerpole_fuzz::{Session, mutate, session, twin, verify};

static SESSION: LazyLock<(Session, Session)> =
    LazyLock::new(|| (session(1, 3, 4), session(2, 2, 3)));

fuzz_target!(|data: &[u8]| {
    let (own, other) = &*SESSION;
    let mut lines: Vec<Vec<u8>> = own
        .lines
        .iter()
        .map(|line| line.text.clone().into_bytes())
        .collect();
    mutate(data, &mut lines, &other.lines);
    twin::compare(own, &lines, &verify(&own.inputs, &lines));
});
