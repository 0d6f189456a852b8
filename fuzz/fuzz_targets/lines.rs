//! One line: what is read is written again to the same bytes, and both ways of reading agree.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powerpole_chain::{
    Parsed, parse_line, unsealed_line,
    verify::{Inputs, Verifier},
    withheld_line,
};

fuzz_target!(|line: &[u8]| {
    let parsed = parse_line(line);
    match &parsed {
        Ok(Parsed::Record(record)) => {
            assert_eq!(record.to_line().as_bytes(), line);
            if let Some(withheld) = withheld_line(line) {
                let Ok(Parsed::Record(twin)) = parse_line(withheld.as_bytes()) else {
                    panic!()
                };
                assert_eq!(twin.hash(), record.hash());
            }
        }
        Ok(Parsed::Unsealed(frame)) => assert_eq!(
            unsealed_line(
                frame.n,
                frame.t_us,
                frame.kind,
                frame.session,
                &frame.payload
            )
            .as_bytes(),
            line
        ),
        Err(_) => {}
    }
    let mut verifier = Verifier::new(Inputs::default());
    verifier.line(line, Some(0));
    let report = verifier.finish();
    if parsed.is_err() {
        assert_eq!(report.unreadable, 1);
    }
});
