//! Small chains with fixed salts and keys, and everything that an auditor would hold of them.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use powerpole_chain::{
    Anchor, AnchorKind, EpochKey, EpochPolicy, Genesis, Hash, Kind, Line, SealReason, Sealer,
    verify::{Inputs, LedgerFacts, Report, Verifier},
};

pub const START: u64 = 1_764_000_000_000_000;

/// What a session left behind.
#[derive(Clone)]
pub struct Evidence {
    pub lines: Vec<String>,
    pub heads: Vec<Line>,
    pub inputs: Inputs,
}

pub fn salt(name: u8, seq: u64) -> [u8; 16] {
    let mut salt = [name; 16];
    for (slot, byte) in salt.iter_mut().zip(seq.to_be_bytes()) {
        *slot ^= byte.wrapping_mul(31);
    }
    salt
}

pub fn key(name: u8, epoch: u32) -> EpochKey {
    let mut seed = [name; 32];
    for (slot, byte) in seed.iter_mut().zip(epoch.to_be_bytes()) {
        *slot = byte ^ 0x5a;
    }
    EpochKey::from_seed(seed)
}

pub fn genesis(name: u8) -> Genesis {
    let request = format!("req-01jd8z3v5k9q4m2n7p6r8s1t{name:02}");
    let instance = format!("i-0a1b2c3d4e5f607{name:02}");
    Genesis {
        log_stream: format!("{request}/{instance}"),
        request,
        attempt: 1,
        operator: "alice@example.com".to_owned(),
        principal: "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com"
            .to_owned(),
        approver: "carol@example.com".to_owned(),
        approved_at: "2025-11-24T15:59:00Z".to_owned(),
        reason: "ticket 42: wrong totals in \u{6ce8}\u{6587}".to_owned(),
        cluster: "orders-prod".to_owned(),
        level: "WRITE".to_owned(),
        schemas: vec!["orders".to_owned(), "stock".to_owned()],
        account: "'alice'@'10.77.64.10'".to_owned(),
        aws_account: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        instance,
        image: "ami-0123456789abcdef0".to_owned(),
        boot: "6f1e0d5c-0000-4000-8000-000000000001".to_owned(),
        agent: "0.1.0+test".to_owned(),
        log_group: "/powerpole/test/evidence".to_owned(),
        started_us: START,
        policy: EpochPolicy::default(),
    }
}

pub fn ledger(genesis: &Genesis, lines: &[Line]) -> LedgerFacts {
    let last = lines.last().unwrap();
    LedgerFacts {
        request: Some(genesis.request.clone()),
        attempt: Some(genesis.attempt),
        operator: Some(genesis.operator.clone()),
        principal: Some(genesis.principal.clone()),
        approver: Some(genesis.approver.clone()),
        approved_at: Some(genesis.approved_at.clone()),
        reason: Some(genesis.reason.clone()),
        cluster: Some(genesis.cluster.clone()),
        level: Some(genesis.level.clone()),
        schemas: Some(genesis.schemas.clone()),
        account: Some("alice".to_owned()),
        instance: Some(genesis.instance.clone()),
        log_group: Some(genesis.log_group.clone()),
        log_stream: Some(genesis.log_stream.clone()),
        genesis_head: Some(lines[0].hash),
        latest: Some((last.seq, last.hash)),
        last: Some((last.seq, last.hash)),
        sealed: Some(true),
    }
}

/// `epochs` epochs of `records` records; the last epoch ends in a seal.
pub fn session(name: u8, epochs: u32, records: u32) -> Evidence {
    let genesis = genesis(name);
    let (mut sealer, first) = Sealer::begin(&genesis, key(name, 0), salt(name, 0)).unwrap();
    let mut anchors = vec![first.anchor(AnchorKind::Genesis, &genesis)];
    let mut lines = vec![first];
    let mut t = START;
    for epoch in 0..epochs {
        for n in 0..records {
            t += 10_000;
            let seq = sealer.head().seq + 1;
            let (kind, session) = match n % 7 {
                0 => (Kind::SessionStart, 1 + epoch),
                1 => (Kind::Input, 1 + epoch),
                2 | 3 => (Kind::Output, 1 + epoch),
                4 => (Kind::Statement, 1 + epoch),
                5 => (Kind::StatementResult, 1 + epoch),
                _ => (Kind::Event, 0),
            };
            let payload = format!("record {n} of epoch {epoch}");
            lines.push(
                sealer
                    .append(t, kind, session, salt(name, seq), payload.as_bytes())
                    .unwrap(),
            );
        }
        t += 5_000;
        let seq = sealer.head().seq + 1;
        if epoch + 1 < epochs {
            let line = sealer
                .checkpoint(t, salt(name, seq), key(name, epoch + 1))
                .unwrap();
            if epoch % 2 == 0 {
                anchors.push(line.anchor(AnchorKind::Head, &genesis));
            }
            lines.push(line);
        }
    }
    let seq = sealer.head().seq + 1;
    let last = sealer
        .seal(t, salt(name, seq), SealReason::Deadline)
        .unwrap();
    anchors.push(last.anchor(AnchorKind::Seal, &genesis));
    lines.push(last);
    Evidence {
        inputs: Inputs {
            ledger: Some(ledger(&genesis, &lines)),
            anchors: Some(anchors),
            ..Inputs::default()
        },
        lines: lines.iter().map(|line| line.text.clone()).collect(),
        heads: lines,
    }
}

impl Evidence {
    pub fn verify(&self) -> Report {
        verify(&self.inputs, self.lines.iter().map(String::as_bytes))
    }

    pub fn without_anchors(mut self) -> Evidence {
        self.inputs.anchors = None;
        self
    }

    pub fn without_ledger(mut self) -> Evidence {
        self.inputs.ledger = None;
        self
    }

    /// What is known once the bastion died after record `seq`: no later anchor, an open ledger item.
    pub fn crashed_after(mut self, seq: u64) -> Evidence {
        self.lines.truncate(usize::try_from(seq).unwrap() + 1);
        self.forget_after(seq);
        self
    }

    /// Nobody outside the stream knows anything after record `seq`.
    pub fn forget_after(&mut self, seq: u64) {
        if let Some(anchors) = &mut self.inputs.anchors {
            anchors.retain(|anchor| anchor.seq <= seq);
        }
        if let Some(ledger) = &mut self.inputs.ledger {
            ledger.last = None;
            ledger.sealed = None;
            let known = self
                .heads
                .iter()
                .rev()
                .find(|l| l.seq <= seq && l.text.contains("\"k\":\"c\""));
            ledger.latest = known.map(|line| (line.seq, line.hash));
        }
    }
}

pub fn verify<'a>(inputs: &Inputs, lines: impl Iterator<Item = &'a [u8]>) -> Report {
    let mut verifier = Verifier::new(inputs.clone());
    for line in lines {
        verifier.line(line, None);
    }
    verifier.finish()
}

pub fn head_anchor(anchor: &Anchor, seq: u64, head: Hash) -> Anchor {
    Anchor {
        kind: AnchorKind::Head,
        seq,
        head,
        ..anchor.clone()
    }
}

/// Another end of `session(1, 3, 6)`, signed with the same last key.
pub fn twin_end() -> Vec<String> {
    let whole = session(1, 3, 6);
    let (mut sealer, _) = Sealer::begin(&genesis(1), key(1, 0), salt(1, 0)).unwrap();
    for line in &whole.lines[1..=14] {
        let powerpole_chain::Parsed::Record(record) =
            powerpole_chain::parse_line(line.as_bytes()).unwrap()
        else {
            unreachable!()
        };
        let powerpole_chain::Content::Full { salt, payload } = record.content else {
            unreachable!()
        };
        if record.kind == Kind::Checkpoint {
            let next = sealer.head().epoch + 1;
            sealer.checkpoint(record.t_us, salt, key(1, next)).unwrap();
        } else {
            sealer
                .append(record.t_us, record.kind, record.session, salt, &payload)
                .unwrap();
        }
    }
    assert_eq!(sealer.head().hash, whole.heads[14].hash);
    let t = whole.heads[14].t_us + 1;
    let one = sealer
        .append(t, Kind::Output, 3, salt(1, 15), b"another story")
        .unwrap();
    vec![
        one.text,
        sealer
            .seal(t, salt(1, 16), SealReason::Finished)
            .unwrap()
            .text,
    ]
}
