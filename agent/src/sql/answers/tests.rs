use super::*;
use serde_json::json;

const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const OK_AND_MORE: &[u8] = &[0, 0, 0, 10, 0, 0, 0];
const EOF: &[u8] = &[0xfe, 0, 0, 2, 0];
const NO_TABLE: &[u8] = b"\xff\x7a\x04#42S02Table 'x' doesn't exist";
const DEFINITION: &[u8] = b"\x03def";
const PROGRESS: &[u8] = b"\xff\xff\xff\x01\x01\x02\0\0\0\x04copy";

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[seq], payload].concat()
}

/// Packets from this number on.
fn answer(first: u8, payloads: &[&[u8]]) -> Vec<u8> {
    let mut seq = first.wrapping_sub(1);
    let packets = payloads.iter().map(|payload| {
        seq = seq.wrapping_add(1);
        packet(seq, payload)
    });
    packets.collect::<Vec<_>>().concat()
}

/// What is told of commands, numbered from 1, whose answers are these; login and its OK come before.
fn all_told(deprecate_eof: bool, commands: &[u8], bytes: &[u8], chunk: usize) -> Vec<(u64, Value)> {
    let (sender, expected) = mpsc::channel(1000);
    let mut answers = Answers::after_login(2, deprecate_eof, expected);
    for (statement, command) in (1..).zip(commands) {
        let command = *command;
        let expected = Expected {
            statement,
            command,
            seq: 1,
        };
        sender.try_send(expected).unwrap();
    }
    let mut told = Vec::new();
    for bytes in [&packet(3, OK), bytes].concat().chunks(chunk) {
        answers.take(bytes, |statement, value| told.push((statement, value)));
    }
    told
}

/// The same, as statement and outcome, or the error's code.
fn told(deprecate_eof: bool, commands: &[u8], bytes: &[u8]) -> Vec<(u64, String)> {
    let whole = all_told(deprecate_eof, commands, bytes, usize::MAX >> 1);
    let short = |(statement, value): &(u64, Value)| match &value["error"] {
        Value::Null => (*statement, value["outcome"].as_str().unwrap().to_owned()),
        code => (*statement, code.to_string()),
    };
    for chunk in [1, 3] {
        assert_eq!(all_told(deprecate_eof, commands, bytes, chunk), whole);
    }
    whole.iter().map(short).collect()
}

fn right(outcomes: &[(u64, &str)]) -> Vec<(u64, String)> {
    let owned = |(statement, outcome): &(u64, &str)| (*statement, (*outcome).to_owned());
    outcomes.iter().map(owned).collect()
}

#[test]
fn each_statement_gets_its_own_answer() {
    let bytes = [
        answer(1, &[OK]),
        answer(
            1,
            &[&[2], DEFINITION, DEFINITION, EOF, b"\0\0", b"\xfb\0", EOF],
        ),
        packet(1, b"\xfecaching_sha2_password\0saltsalt"),
        answer(3, &[b"\x01\x03", OK]),
        packet(1, b"\x00\x07\0\0\0\x01\0\x02\0\0\0\0"),
        answer(2, &[DEFINITION, DEFINITION, EOF, DEFINITION, EOF]),
        answer(1, &[b"\0\0\x01", b"\0\0\x02", EOF]),
        answer(1, &[b"Uptime: 1"]),
        answer(1, &[EOF]),
        answer(1, &[NO_TABLE]),
    ]
    .concat();
    let commands = [0x03, 0x17, 0x11, 0x16, 0x1c, 0x09, 0x1b, 0x03];
    let outcomes = [
        (1, "ok"),
        (2, "rows"),
        (3, "ok"),
        (4, "ok"),
        (5, "rows"),
        (6, "ok"),
        (7, "ok"),
        (8, "1146"),
    ];
    assert_eq!(told(false, &commands, &bytes), right(&outcomes));
    let all = all_told(false, &commands, &bytes, 5);
    assert_eq!(all[3].1, json!({"outcome": "ok", "prepared": 7}));
    assert_eq!(all[7].1["state"], "42S02");
}

#[test]
fn an_answer_ends_where_it_ends_and_not_where_a_number_says_so() {
    let end: &[u8] = &[0xfe, 0, 0, 2, 0, 0, 0];
    for rows in 245..260 {
        for deprecate_eof in [false, true] {
            let mut payloads: Vec<&[u8]> = vec![&[1], DEFINITION];
            payloads.extend((!deprecate_eof).then_some(EOF));
            payloads.extend(vec![&b"\0"[..]; rows]);
            payloads.push(if deprecate_eof { end } else { EOF });
            let bytes = [answer(1, &payloads), answer(1, &[NO_TABLE])].concat();
            let told = told(deprecate_eof, &[3, 3], &bytes);
            assert_eq!(told, right(&[(1, "rows"), (2, "1146")]), "{rows}");
        }
    }
}

#[test]
fn results_of_one_command_are_one_answer_and_a_late_error_is_told() {
    let rows: [&[u8]; 5] = [&[1], DEFINITION, EOF, b"\x011", &[0xfe, 0, 0, 10, 0]];
    let more = [&rows[..], &[OK_AND_MORE, NO_TABLE]].concat();
    let bytes = [answer(1, &more), answer(1, &[OK])].concat();
    let outcomes = right(&[(1, "rows"), (1, "1146"), (2, "ok")]);
    assert_eq!(told(false, &[3, 3], &bytes), outcomes);
}

#[test]
fn local_data_and_its_end_belong_to_their_statement() {
    let bytes = [
        answer(1, &[b"\xfbfile"]),
        answer(1, &[OK]),
        answer(1, &[NO_TABLE]),
    ];
    let outcomes = right(&[(1, "asks_for_data"), (1, "ok"), (2, "1146")]);
    assert_eq!(told(false, &[3, 3], &bytes.concat()), outcomes);
}

#[test]
fn progress_is_no_error_but_an_error_65535_is() {
    let error: &[u8] = b"\xff\xff\xff#45000x";
    let bytes = [
        answer(1, &[PROGRESS, PROGRESS, OK]),
        answer(1, &[error]),
        answer(1, &[OK]),
    ];
    let outcomes = right(&[(1, "ok"), (2, "65535"), (3, "ok")]);
    assert_eq!(told(false, &[3, 3, 3], &bytes.concat()), outcomes);
}

#[test]
fn cursors_and_definitions_that_are_left_out_are_known() {
    let cursor: &[u8] = &[0xfe, 0, 0, 0x42, 0];
    let bytes = [
        answer(1, &[&[1], DEFINITION, cursor]),
        answer(1, &[&[1, 0], EOF, b"\0\0", EOF]),
        answer(1, &[&[1, 1], DEFINITION, EOF, b"\0\0", EOF]),
        answer(1, &[b"\0\x01\0\0\0\x01\0\x01\0\0\0\0\0", EOF, EOF]),
        answer(1, &[b"\0\x02\0\0\0\0\0\x01\0\0\0\0\0", EOF]),
        answer(1, &[NO_TABLE]),
    ];
    let commands = [0x17, 0x17, 3, 0x16, 0x16, 3];
    let outcomes = ["rows", "rows", "rows", "ok", "ok", "1146"];
    let outcomes: Vec<_> = (1..).zip(outcomes).collect();
    assert_eq!(told(false, &commands, &bytes.concat()), right(&outcomes));
}

#[test]
fn what_does_not_fit_makes_all_that_follows_unknown() {
    let ok = packet(1, OK);
    let cases = [
        ("a gap", 3, answer(1, &[&[1]]), "rows"),
        ("a number", 3, packet(2, OK), "unknown"),
        ("no count", 3, packet(1, &[0xfc]), "unknown"),
        ("a command that is not known", 0x12, ok.clone(), "unknown"),
    ];
    for (case, command, bytes, first) in cases {
        let bytes = [bytes, packet(3, OK), ok.clone()].concat();
        let told = told(false, &[command, 3, 3], &bytes);
        let outcomes = right(&[(1, first), (2, "unknown"), (3, "unknown")]);
        assert_eq!(told, outcomes, "{case}");
    }
    // Nobody asked.
    let bytes = [ok.clone(), ok.clone(), ok].concat();
    assert_eq!(told(false, &[3], &bytes), right(&[(1, "ok")]));
}

#[test]
fn data_is_asked_for_by_the_last_that_was_said() {
    let (_sender, expected) = mpsc::channel(1);
    let mut answers = Answers::after_login(2, false, expected);
    let mut after = |bytes: &[u8]| {
        answers.take(bytes, |_, _| {});
        answers.asks_for_data()
    };
    let request = packet(1, b"\xfbfile.csv");
    let (most, last) = request.split_at(request.len() - 1);
    assert_eq!(after(most), None);
    assert_eq!(after(last), Some(2));
    assert_eq!(after(&packet(255, b"\xfbfile.csv")), Some(0));
    // A row that begins with NULL, and what comes after it in any case.
    assert_eq!(after(&packet(7, b"\xfb\x01x")), Some(8));
    assert_eq!(after(&packet(8, EOF)[..3]), None);
    assert_eq!(after(&packet(8, EOF)[3..]), None);
    // The rest of a long packet is no request, whatever it begins with.
    let long = packet(3, &vec![0xfb; 0xff_ffff]);
    assert_eq!(after(&long), None);
    assert_eq!(after(&packet(4, b"\xfbfile.csv")), None);
    assert_eq!(after(&packet(5, b"\xfbfile.csv")), Some(6));
}
