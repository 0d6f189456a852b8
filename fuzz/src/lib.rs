//! A small session for the targets, and a naive twin of the verifier.

pub mod twin;

use powerpole_chain::{
    AnchorKind, EpochKey, EpochPolicy, Genesis, Kind, Line, SealReason, Sealer,
    verify::{Inputs, LedgerFacts, Reducer, Report, Verifier, verify_blocks},
};

pub const START: u64 = 1_764_000_000_000_000;

pub struct Session {
    pub lines: Vec<Line>,
    pub inputs: Inputs,
}

/// The ledger's word for the approval that the genesis claims.
fn approval(genesis: &Genesis) -> LedgerFacts {
    LedgerFacts {
        request: Some(genesis.request.clone()),
        operator: Some(genesis.operator.clone()),
        level: Some(genesis.level.clone()),
        approver: Some(genesis.approver.clone()),
        approved_at: Some(genesis.approved_at.clone()),
        ..LedgerFacts::default()
    }
}

fn key(name: u8, epoch: u32) -> EpochKey {
    let mut seed = [name; 32];
    seed[..4].copy_from_slice(&epoch.to_be_bytes());
    EpochKey::from_seed(seed)
}

fn genesis(name: u8) -> Genesis {
    let request = format!("req-{name}");
    Genesis {
        log_stream: format!("{request}/i-{name}"),
        request,
        attempt: 1,
        operator: "alice@example.com".to_owned(),
        principal: "arn".to_owned(),
        approver: "carol@example.com".to_owned(),
        approved_at: "2025-11-24T15:59:00Z".to_owned(),
        reason: "r".to_owned(),
        cluster: "orders-prod".to_owned(),
        level: "READ".to_owned(),
        schemas: vec!["orders".to_owned()],
        account: "'alice'@'10.0.0.1'".to_owned(),
        aws_account: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        instance: format!("i-{name}"),
        image: "ami-1".to_owned(),
        boot: "b".to_owned(),
        agent: "a".to_owned(),
        log_group: "/g".to_owned(),
        started_us: START,
        policy: EpochPolicy::default(),
    }
}

/// `epochs` epochs of `records` records, every checkpoint anchored.
pub fn session(name: u8, epochs: u32, records: u32) -> Session {
    let genesis = genesis(name);
    let (mut sealer, first) = Sealer::begin(&genesis, key(name, 0), [name; 16]).unwrap();
    let mut anchors = vec![first.anchor(AnchorKind::Genesis, &genesis)];
    let mut lines = vec![first];
    for epoch in 0..epochs {
        for n in 0..records {
            let seq = sealer.head().seq + 1;
            let t = START + seq * 1000;
            let kind = [Kind::Output, Kind::Input, Kind::Statement][(n % 3) as usize];
            let payload = format!("{n} of {epoch}");
            lines.push(
                sealer
                    .append(t, kind, 1, [seq as u8; 16], payload.as_bytes())
                    .unwrap(),
            );
        }
        if epoch + 1 < epochs {
            let t = START + sealer.head().seq * 1000 + 1;
            let line = sealer.checkpoint(t, [9; 16], key(name, epoch + 1)).unwrap();
            anchors.push(line.anchor(AnchorKind::Head, &genesis));
            lines.push(line);
        }
    }
    let t = START + sealer.head().seq * 1000 + 1;
    let line = sealer.seal(t, [8; 16], SealReason::Finished).unwrap();
    anchors.push(line.anchor(AnchorKind::Seal, &genesis));
    lines.push(line);
    Session {
        lines,
        inputs: Inputs {
            ledger: Some(approval(&genesis)),
            anchors: Some(anchors),
            ..Inputs::default()
        },
    }
}

pub fn verify(inputs: &Inputs, lines: &[Vec<u8>]) -> Report {
    let mut verifier = Verifier::new(inputs.clone());
    for line in lines {
        verifier.line(line, None);
    }
    verifier.finish()
}

/// One epoch with these payloads.
pub fn sealed(payloads: &[Vec<u8>]) -> Session {
    let genesis = genesis(3);
    let (mut sealer, first) = Sealer::begin(&genesis, key(3, 0), [3; 16]).unwrap();
    let mut anchors = vec![first.anchor(AnchorKind::Genesis, &genesis)];
    let mut lines = vec![first];
    for payload in payloads {
        let seq = sealer.head().seq + 1;
        let line = sealer.append(START + seq, Kind::Output, 1, [seq as u8; 16], payload);
        lines.push(line.unwrap());
    }
    let line = sealer.seal(START + 1000, [8; 16], SealReason::Finished);
    let line = line.unwrap();
    anchors.push(line.anchor(AnchorKind::Seal, &genesis));
    lines.push(line);
    Session {
        lines,
        inputs: Inputs {
            ledger: Some(approval(&genesis)),
            anchors: Some(anchors),
            ..Inputs::default()
        },
    }
}

/// Lines as a file holds them, in two blocks.
pub fn verify_block(inputs: &Inputs, text: &[u8], threads: usize) -> Report {
    let middle = text.len() / 2;
    let end = text[middle..].iter().position(|byte| *byte == b'\n');
    let (one, two) = text.split_at(end.map_or(text.len(), |end| middle + end + 1));
    let mut blocks = [one, two].into_iter();
    let mut verifier = Verifier::new(inputs.clone());
    let read = |_: &[u8]| Ok::<_, ()>(blocks.next());
    let open = |line: &[u8], reducer: &mut Reducer| reducer.line(line, None);
    verify_blocks(&mut verifier, threads, read, open).unwrap();
    verifier.finish()
}

/// An order that the bytes tell.
pub fn shuffle(data: &[u8], lines: &mut [Vec<u8>]) {
    let mut state = data.iter().fold(0xcbf2_9ce4_8422_2325, |state: u64, byte| {
        (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for index in (1..lines.len()).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        lines.swap(index, (state >> 33) as usize % (index + 1));
    }
}

/// Changes to a session as bytes tell: drop, flip, insert, replace, move, repeat, cut.
pub fn mutate(data: &[u8], lines: &mut Vec<Vec<u8>>, strangers: &[Line]) {
    for change in data.chunks_exact(4).take(6) {
        if lines.is_empty() {
            return;
        }
        let index = usize::from(change[1]) % lines.len();
        let place = usize::from(change[2]) | usize::from(change[0] >> 4) << 8;
        let length = lines[index].len();
        match change[0] % 9 {
            0 => drop(lines.remove(index)),
            1 | 2 if length > 0 => lines[index][place % length] ^= change[3],
            3 => lines[index].insert(place % (length + 1), change[3]),
            4 if length > 0 => drop(lines[index].remove(place % length)),
            5 => {
                let line = lines.remove(index);
                lines.insert(place % (lines.len() + 1), line);
            }
            6 => lines.insert(place % (lines.len() + 1), lines[index].clone()),
            7 => {
                let stranger = &strangers[place % strangers.len()];
                lines.insert(index, stranger.text.clone().into_bytes());
            }
            _ => lines.truncate(index),
        }
    }
}
