//! A session with changes, in its order, in blocks, backwards and shuffled: one report.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use powerpole_fuzz::{Session, mutate, session, shuffle, verify, verify_block};

static SESSION: LazyLock<(Session, Session)> =
    LazyLock::new(|| (session(1, 4, 5), session(2, 2, 3)));

fuzz_target!(|data: &[u8]| {
    let (own, other) = &*SESSION;
    let mut lines: Vec<Vec<u8>> = own
        .lines
        .iter()
        .map(|line| line.text.clone().into_bytes())
        .collect();
    mutate(data, &mut lines, &other.lines);
    // An empty line is none in a file, and a newline makes two.
    lines.retain(|line| !line.is_empty() && !line.contains(&b'\n'));
    let expected = format!("{:?}", verify(&own.inputs, &lines));
    for threads in 1..3 {
        let report = verify_block(&own.inputs, &lines.join(&b'\n'), threads);
        assert_eq!(format!("{report:?}"), expected);
    }
    lines.reverse();
    assert_eq!(format!("{:?}", verify(&own.inputs, &lines)), expected);
    shuffle(data, &mut lines);
    assert_eq!(format!("{:?}", verify(&own.inputs, &lines)), expected);
});
