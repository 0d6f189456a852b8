use super::*;

fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length[..3], &[seq], payload].concat()
}

/// A client after its login, whose packet had number 2.
fn stream() -> ClientStream {
    ClientStream::after_login("alice", 2)
}

fn asked(first: u8) -> Asked {
    let asked = Asked::default();
    asked.note(Some(first));
    asked
}

/// Takes packets, chunk by chunk.
fn try_all(
    stream: &mut ClientStream,
    bytes: &[u8],
    chunk: usize,
    asked: &Asked,
) -> Result<Taken, Broken> {
    let mut all = Taken::default();
    for bytes in bytes.chunks(chunk) {
        stream.take(bytes, asked, &mut all)?;
    }
    Ok(all)
}

/// The same where the server asks for nothing.
fn all(stream: &mut ClientStream, bytes: &[u8], chunk: usize) -> Taken {
    try_all(stream, bytes, chunk, &Asked::default()).unwrap()
}

/// Why the last of these is refused.
fn refused(stream: &mut ClientStream, bytes: &[u8], asked: &Asked) -> Broken {
    try_all(stream, bytes, 32 * 1024, asked).unwrap_err()
}

/// Statements put together again from their pieces.
fn joined(pieces: &[Piece]) -> Vec<(u64, u8, Vec<u8>)> {
    let mut whole: Vec<(u64, u8, Vec<u8>)> = Vec::new();
    for piece in pieces {
        if piece.flags & FIRST != 0 {
            whole.push((piece.statement, piece.flags & (DATA | REDACTED), Vec::new()));
        }
        whole.last_mut().unwrap().2.extend_from_slice(&piece.bytes);
    }
    whole
}

#[test]
fn statements_are_whole_however_the_bytes_arrive() {
    let big = vec![b'x'; 100_000];
    let bytes = [
        packet(0, b"\x03SELECT 1"),
        packet(0, b"\x0e"),
        packet(0, &big),
    ]
    .concat();
    for chunk in [1, 2, 3, 5, 4096, bytes.len()] {
        let taken = all(&mut stream(), &bytes, chunk);
        let expected = vec![
            (1, 0, b"\x03SELECT 1".to_vec()),
            (2, 0, b"\x0e".to_vec()),
            (3, 0, big.clone()),
        ];
        let pieces = &taken.pieces;
        assert_eq!(joined(pieces), expected, "{chunk}");
        assert_eq!(taken.pass, bytes, "{chunk}");
        assert!(
            pieces
                .iter()
                .all(|piece| piece.payload(1).len() <= 32 * 1024)
        );
        let answered = [(1, 3), (2, 0x0e), (3, b'x')].map(|(statement, command)| Expected {
            statement,
            command,
            seq: 1,
        });
        assert_eq!(taken.expected, answered, "{chunk}");
    }
}

#[test]
fn a_statement_of_more_than_16_mib_is_one_statement() {
    let rest = vec![7; 10];
    let long = packet(0, &vec![3; 0xff_ffff]);
    let bytes = [&long[..], &packet(1, &rest), &packet(0, b"\x03after")].concat();
    let joined = joined(&all(&mut stream(), &bytes, 32 * 1024).pieces);
    assert_eq!(joined.len(), 2);
    assert_eq!(joined[0].2.len(), 0xff_ffff + 10);
    assert_eq!(joined[1].2, b"\x03after");
    for wrong in [0, 2] {
        let bytes = [&long[..], &packet(wrong, &rest)].concat();
        let refused = refused(&mut stream(), &bytes, &Asked::default());
        assert_eq!(refused, Broken::OutOfOrder(wrong));
    }
}

#[test]
fn passwords_are_left_out_and_nothing_else_is() {
    let bytes = [
        packet(4, b"secret of the login\0"),
        packet(0, b"\x03SELECT 2"),
        packet(0, b"\x11alice\0\x14hashhashhashhashhashdb\0\x2d\0plugin\0"),
        packet(2, b"secret of the change\0"),
        packet(4, b"secret once more\0"),
        packet(0, b"\x03SELECT 3"),
    ]
    .concat();
    let data = [
        packet(2, b"data of LOAD DATA LOCAL"),
        packet(3, b""),
        packet(0, b"\x03SELECT 4"),
    ]
    .concat();
    for chunk in [1, 7, bytes.len()] {
        let mut stream = stream();
        let mut taken = all(&mut stream, &bytes, chunk);
        let more = try_all(&mut stream, &data, chunk, &asked(2)).unwrap();
        assert_eq!(more.pass, data);
        taken.pieces.extend(more.pieces);
        let text: Vec<u8> = taken.pieces.iter().flat_map(|p| p.bytes.clone()).collect();
        assert!(!text.windows(6).any(|w| w == b"secret" || w == b"hashha"));
        let passed = packet(0, b"\x11alice\0\0db\0\x2d\0powerpole\0");
        assert!(taken.pass.windows(passed.len()).any(|w| w == passed));
        let expected = vec![
            (0, DATA | REDACTED, 20u32.to_be_bytes().to_vec()),
            (1, 0, b"\x03SELECT 2".to_vec()),
            (2, REDACTED, b"\x11alice\0db\0\0\x2d".to_vec()),
            (2, DATA | REDACTED, 21u32.to_be_bytes().to_vec()),
            (2, DATA | REDACTED, 17u32.to_be_bytes().to_vec()),
            (3, 0, b"\x03SELECT 3".to_vec()),
            (3, DATA, b"data of LOAD DATA LOCAL".to_vec()),
            (3, DATA, Vec::new()),
            (4, 0, b"\x03SELECT 4".to_vec()),
        ];
        assert_eq!(joined(&taken.pieces), expected, "{chunk}");
    }
}

/// 254 packets of data bring the number round to 0; what follows is made to look like COM_CHANGE_USER and its exchange.
#[test]
fn data_stays_data_when_its_number_comes_round_to_0() {
    let command = b"\x03LOAD DATA LOCAL INFILE 'x' INTO TABLE t";
    let looks = b"\x11alice\0\0db\0\x2d\0SET @s=(SELECT 1)";
    let mut stream = stream();
    let mut pieces = all(&mut stream, &packet(0, command), 4096).pieces;
    let mut payloads: Vec<&[u8]> = vec![b"a\n"; 254];
    payloads.push(looks);
    payloads.extend([&b"hidden rows"[..]; 300]);
    payloads.push(b"");
    let numbers = (2..=255).chain((0..=255).cycle());
    let data: Vec<u8> = numbers
        .zip(&payloads)
        .flat_map(|(seq, payload)| packet(seq, payload))
        .collect();
    let taken = try_all(&mut stream, &data, 4096, &asked(2)).unwrap();
    pieces.extend(taken.pieces);
    let mut expected = vec![(1, 0, command.to_vec())];
    expected.extend(payloads.iter().map(|payload| (1, DATA, payload.to_vec())));
    assert_eq!(joined(&pieces), expected);
    assert_eq!(taken.pass, data);
    // It has ended: now 0 is a command again.
    all(&mut stream, &packet(0, b"\x03SELECT 1"), 4096);
    assert_eq!(stream.statements(), 2);
}

#[test]
fn data_of_16_mib_in_one_packet_does_not_end_by_its_empty_rest() {
    let mut stream = stream();
    all(&mut stream, &packet(0, b"\x03LOAD"), 4096);
    let data = [
        packet(254, &vec![b'x'; 0xff_ffff]),
        packet(255, b""),
        packet(0, b"\x11more"),
        packet(1, b""),
    ]
    .concat();
    let taken = try_all(&mut stream, &data, 32 * 1024, &asked(254)).unwrap();
    assert!(taken.pieces.iter().all(|piece| piece.flags & DATA != 0));
    assert_eq!(taken.pass, data);
    assert_eq!(stream.statements(), 1);
}

#[test]
fn what_a_server_would_refuse_is_refused_and_not_passed() {
    let change = packet(0, b"\x11alice\0\0db\0\x2d\0");
    let query = packet(0, b"\x03LOAD");
    let row = |seq| packet(seq, b"row");
    let cases = [
        ("nobody asked", [query.clone(), row(2)].concat(), None, 2),
        ("asked for another", row(3), Some(2), 3),
        (
            "asked before the command",
            [query.clone(), row(2)].concat(),
            Some(2),
            2,
        ),
        ("a gap", [row(2), row(4)].concat(), Some(2), 4),
        (
            "a command while data is awaited",
            [row(2), query.clone()].concat(),
            Some(2),
            0,
        ),
        (
            "after its end",
            [row(2), packet(3, b""), row(4)].concat(),
            Some(2),
            4,
        ),
        (
            "no gap in an exchange",
            [change.clone(), row(1)].concat(),
            None,
            1,
        ),
        (
            "a wider gap in an exchange",
            [change.clone(), row(2), row(5)].concat(),
            None,
            5,
        ),
        (
            "data in an exchange",
            [change.clone(), row(3)].concat(),
            Some(3),
            3,
        ),
        (
            "an answer after a command",
            [change, query, row(2)].concat(),
            None,
            2,
        ),
    ];
    for (case, bytes, first, wrong) in cases {
        let mut stream = stream();
        all(&mut stream, &packet(0, b"\x0e"), 4096);
        let asked = Asked::default();
        asked.note(first);
        let refused = refused(&mut stream, &bytes, &asked);
        assert_eq!(refused, Broken::OutOfOrder(wrong), "{case}");
    }
    // After 255 a first packet of data has number 0, like a command.
    let refused = refused(&mut stream(), &packet(0, b"\x11x"), &asked(0));
    assert_eq!(refused, Broken::Ambiguous);
}

#[test]
fn an_authentication_without_end_is_cut() {
    let mut long = stream();
    for n in 0..MAX_EXCHANGE {
        all(&mut long, &packet(4 + 2 * n, b"x"), 4096);
    }
    let nobody = Asked::default();
    let more = refused(&mut long, &packet(20, b"x"), &nobody);
    assert_eq!(more, Broken::LongExchange);
    let large = refused(&mut stream(), &packet(4, &[0; MAX_SECRET + 1]), &nobody);
    assert_eq!(large, Broken::LongExchange);
}

#[test]
fn another_account_is_refused_before_a_byte_of_it_is_passed() {
    for asks in ["root", "alic", "alice2", "ALICE", ""] {
        let bytes = packet(0, &[b"\x11", asks.as_bytes(), b"\0\0db\0\x2d\0"].concat());
        for chunk in [1, 7, bytes.len()] {
            let (mut stream, nobody) = (stream(), Asked::default());
            let mut taken = Taken::default();
            let refused = bytes
                .chunks(chunk)
                .find_map(|bytes| stream.take(bytes, &nobody, &mut taken).err())
                .unwrap();
            assert_eq!(refused.code(), "sql_other_account", "{asks}");
            assert!(refused.to_string().contains("'alice'"));
            assert_eq!(taken.pass, b"");
            assert_eq!(taken.pieces.len(), 1);
        }
    }
    for form in [
        &b"\x11alice"[..],
        b"\x11alice\0\x05db\0\x2d\0",
        &[CHANGE_USER; MAX_CHANGE + 1],
    ] {
        let refused = refused(&mut stream(), &packet(0, form), &Asked::default());
        assert_eq!(refused, Broken::ChangeUser);
    }
}

#[test]
fn no_xa_branch_is_prepared_by_a_command_nor_by_data() {
    let command = packet(0, b"\x03XA PREPARE 'x'");
    let by_command = refused(&mut stream(), &command, &Asked::default());
    assert_eq!(by_command, Broken::XaPrepare);
    let mut stream = stream();
    all(&mut stream, &packet(0, b"\x03LOAD"), 4096);
    let data = [packet(2, b"XA "), packet(3, b"PREPARE 'x'")].concat();
    let by_data = refused(&mut stream, &data, &asked(2));
    assert_eq!(by_data, Broken::XaPrepare);
}
