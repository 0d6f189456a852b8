//! Payloads of any length, sealed one by one in portable code, verified many at a time by the processor's own
//! instructions: every hash and every letter has to agree, or the chain is not VALID.
#![no_main]

use libfuzzer_sys::fuzz_target;
use powerpole_chain::Parsed;
use powerpole_fuzz::{sealed, verify_block};

fuzz_target!(|data: &[u8]| {
    // Two bytes of length, as many bytes of payload as are there, then the next; a fill byte makes long ones cheap.
    let mut payloads = Vec::new();
    let mut rest = data;
    while let [high, low, fill, after @ ..] = rest {
        let length = (usize::from(*high) << 8 | usize::from(*low)) % 32_769;
        let own = length.min(after.len()).min(600);
        let (bytes, after) = after.split_at(own);
        let mut payload = bytes.to_vec();
        payload.resize(length, *fill);
        payloads.push(payload);
        rest = after;
        if payloads.len() == 80 {
            break;
        }
    }
    let session = sealed(&payloads);
    let lines: Vec<&[u8]> = session.lines.iter().map(|l| l.text.as_bytes()).collect();
    let report = verify_block(&session.inputs, &lines.join(&b'\n'), 1);
    assert_eq!(report.exit_code(true), 0, "{report:?}");
    assert_eq!(report.records, lines.len() as u64);
    for (line, payload) in lines.iter().skip(1).zip(&payloads) {
        let Ok(Parsed::Record(record)) = powerpole_chain::parse_line(line) else {
            panic!()
        };
        assert_eq!(record.len() as usize, payload.len());
        assert_eq!(record.to_line().as_bytes(), *line);
    }
});
