//! Any bytes as a stream of lines, alone and among a session's own: no panic, and never a verdict that passes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use powerpole_chain::verify::Inputs;
use powerpole_fuzz::{Session, session, verify};

static SESSION: LazyLock<Session> = LazyLock::new(|| session(1, 2, 3));

fuzz_target!(|data: &[u8]| {
    let strange: Vec<Vec<u8>> = data.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    assert_ne!(verify(&Inputs::default(), &strange).exit_code(false), 0);
    assert_eq!(
        verify(&SESSION.inputs, &strange).exit_code(false) == 0,
        SESSION
            .lines
            .iter()
            .all(|line| strange.iter().any(|other| other == line.text.as_bytes()))
    );
    let mut among = strange;
    for (index, line) in SESSION.lines.iter().enumerate() {
        let place = (index * 7) % (among.len() + 1);
        among.insert(place, line.text.clone().into_bytes());
    }
    assert_eq!(verify(&SESSION.inputs, &among).exit_code(false), 0);
});
