//! The chain with stand-ins for CloudWatch and S3 that hold the ports' contracts and fail in both ways: not done,
//! and done but not acknowledged.

use super::super::anchor::{AnchorStoreError, Put};
use super::super::shipper::{LogEvent, LogsError, Rejected, rejected_ranges};
use super::super::spool::SEGMENT_BYTES;
use super::super::tail::ship_tail;
use super::super::time::SystemClock;
use super::*;
use powerpole_chain::{Content, EpochPolicy, GapReason, Parsed, parse_line};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a call does besides answering.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Fails,
    AppliesAndFails,
}

#[derive(Default)]
pub(crate) struct FakeLogs {
    pub(super) events: Mutex<Vec<LogEvent>>,
    faults: Mutex<Vec<Fault>>,
    /// Answers of the next calls that are taken, the last first.
    rejections: Mutex<Vec<Rejected>>,
    pub(super) down: std::sync::atomic::AtomicBool,
    puts: AtomicU32,
}

impl LogStream for Arc<FakeLogs> {
    async fn create(&self) -> Result<(), LogsError> {
        Ok(())
    }
    async fn put(&self, events: &[LogEvent]) -> Result<Rejected, LogsError> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        let bytes: usize = events.iter().map(|e| e.message.len() + 26).sum();
        assert!(!events.is_empty() && events.len() <= 10_000 && bytes <= 1_048_576);
        assert!(events.is_sorted_by_key(|e| e.t_ms));
        let fault = self.faults.lock().unwrap().pop().unwrap_or(Fault::None);
        let down = self.down.load(Ordering::SeqCst);
        let rejected = self.rejections.lock().unwrap().pop().unwrap_or_default();
        if fault != Fault::Fails && !down {
            let gone = rejected_ranges(rejected, events.len());
            let kept = events.iter().enumerate();
            let kept = kept.filter(|(n, _)| !gone.iter().any(|(range, _)| range.contains(n)));
            let kept = kept.map(|(_, event)| event.clone());
            self.events.lock().unwrap().extend(kept);
        }
        if fault == Fault::None && !down {
            Ok(rejected)
        } else {
            Err(LogsError {
                operation: "PutLogEvents",
                reason: "injected".to_owned(),
            })
        }
    }
}

#[derive(Default)]
pub(crate) struct FakeBucket {
    pub(crate) objects: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<Vec<Fault>>,
}

impl AnchorStore for Arc<FakeBucket> {
    async fn put_once(&self, key: &str, body: Vec<u8>) -> Result<Put, AnchorStoreError> {
        let fault = self.faults.lock().unwrap().pop().unwrap_or(Fault::None);
        let mut put = Put::WasThere;
        if fault != Fault::Fails {
            self.objects
                .lock()
                .unwrap()
                .entry(key.to_owned())
                .or_insert_with(|| {
                    put = Put::Stored;
                    body
                });
        }
        if fault == Fault::None {
            Ok(put)
        } else {
            Err(AnchorStoreError {
                key: key.to_owned(),
                reason: "injected".to_owned(),
            })
        }
    }
}

pub(crate) fn genesis() -> Genesis {
    let text = |text: &str| text.to_owned();
    Genesis {
        request: text("req-01jd8z3v5k9q4m2n7p6r8s1t0w"),
        attempt: 1,
        operator: text("alice@example.com"),
        principal: text(
            "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com",
        ),
        approver: text("bob@example.com"),
        approved_at: text("2026-11-23T19:00:00Z"),
        reason: text("test"),
        cluster: text("orders-prod"),
        level: text("READ"),
        schemas: vec![text("orders")],
        account: text("'alice'@'10.77.64.5'"),
        aws_account: text("123456789012"),
        region: text("us-east-1"),
        instance: text("i-0123456789abcdef0"),
        image: text("ami-1"),
        boot: text("boot"),
        agent: text("0.1.0"),
        log_group: text("/powerpole/test/evidence"),
        log_stream: text("req-01jd8z3v5k9q4m2n7p6r8s1t0w/i-0123456789abcdef0"),
        started_us: 0,
        policy: EpochPolicy::default(),
    }
}

pub(super) fn config(spool_dir: PathBuf) -> KeeperConfig {
    KeeperConfig {
        spool_dir,
        segment_bytes: SEGMENT_BYTES,
        genesis: genesis(),
        anchor_prefix: "AROA:i-1/req/".to_owned(),
        patience: Patience {
            freeze_after: Duration::from_secs(30),
            end_after: Duration::from_secs(120),
            freeze_above_bytes: u64::MAX,
        },
        begin_within: Duration::from_secs(5),
    }
}

/// The chain's records as shipped, duplicates removed; panics unless they are linked without a hole.
pub(super) fn chain_of(logs: &FakeLogs) -> Vec<powerpole_chain::Record> {
    let mut records = BTreeMap::new();
    for event in logs.events.lock().unwrap().iter() {
        match parse_line(event.message.as_bytes()).unwrap() {
            Parsed::Record(record) => {
                assert_eq!(event.t_ms, record.t_us / 1000);
                records.insert(record.seq, record);
            }
            Parsed::Unsealed(_) => {}
        }
    }
    let records: Vec<_> = records.into_values().collect();
    let mut head = [0; 32];
    for (n, record) in records.iter().enumerate() {
        assert_eq!(record.seq, n as u64);
        assert_eq!(record.previous, head);
        head = record.hash();
    }
    records
}

pub(super) fn payload(record: &powerpole_chain::Record) -> Vec<u8> {
    match &record.content {
        Content::Full { payload, .. } => payload.clone(),
        Content::Withheld { .. } => panic!("nothing is withheld here"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_is_sealed_shipped_and_anchored_in_order_through_every_fault() {
    let temp = tempfile::tempdir().unwrap();
    let logs = Arc::new(FakeLogs::default());
    let bucket = Arc::new(FakeBucket::default());
    *logs.faults.lock().unwrap() = vec![Fault::AppliesAndFails, Fault::Fails];
    *bucket.faults.lock().unwrap() = vec![Fault::AppliesAndFails, Fault::Fails];
    let keeper = Keeper::begin(
        config(temp.path().join("spool")),
        Arc::new(SystemClock),
        Arc::clone(&logs),
        Arc::clone(&bucket),
    )
    .await
    .unwrap();
    assert!(
        bucket
            .objects
            .lock()
            .unwrap()
            .contains_key("AROA:i-1/req/genesis.json")
    );
    assert!(
        !logs.events.lock().unwrap().is_empty(),
        "the genesis is shipped before begin returns"
    );

    let recorder = keeper.recorder();
    logs.faults
        .lock()
        .unwrap()
        .extend([Fault::Fails, Fault::AppliesAndFails]);
    let threads: Vec<_> = (1..=3u32)
        .map(|session| {
            let recorder = recorder.clone();
            std::thread::spawn(move || {
                for n in 0..2000u32 {
                    recorder
                        .record(Kind::Output, session, &n.to_be_bytes())
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    bucket.faults.lock().unwrap().push(Fault::AppliesAndFails);
    let outcome = keeper
        .seal(SealReason::Deadline, Duration::from_secs(20))
        .await;
    assert!(
        outcome.sealed && outcome.shipped && outcome.anchored,
        "{outcome:?}"
    );
    assert_eq!(
        recorder
            .record(Kind::Output, 1, b"late")
            .unwrap_err()
            .code(),
        "evidence_sealed"
    );

    let records = chain_of(&logs);
    assert_eq!(records.last().unwrap().kind, Kind::Seal);
    assert_eq!(records.last().unwrap().hash(), outcome.head.hash);
    for session in 1..=3 {
        let seen: Vec<_> = records
            .iter()
            .filter(|r| r.session == session)
            .map(|r| u32::from_be_bytes(payload(r).try_into().unwrap()))
            .collect();
        assert_eq!(seen, (0..2000).collect::<Vec<_>>());
    }
    assert!(records.iter().any(|r| r.kind == Kind::Checkpoint));
    let objects = bucket.objects.lock().unwrap();
    let seal = powerpole_chain::Anchor::parse(&objects["AROA:i-1/req/seal.json"]).unwrap();
    assert_eq!((seal.seq, seal.head), (outcome.head.seq, outcome.head.hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_is_not_taken_is_never_called_shipped() {
    let temp = tempfile::tempdir().unwrap();
    let logs = Arc::new(FakeLogs::default());
    let bucket = Arc::new(FakeBucket::default());
    let mut config = config(temp.path().join("spool"));
    config.patience.freeze_after = Duration::from_millis(300);
    config.patience.end_after = Duration::from_millis(1200);
    let keeper = Keeper::begin(
        config,
        Arc::new(SystemClock),
        Arc::clone(&logs),
        Arc::clone(&bucket),
    )
    .await
    .unwrap();
    let mut gate = keeper.gate();
    logs.down.store(true, Ordering::SeqCst);
    keeper.recorder().record(Kind::Output, 1, b"shown").unwrap();
    let wait = Duration::from_secs(10);
    tokio::time::timeout(wait, gate.wait_for(|g| *g == Gate::Frozen))
        .await
        .unwrap()
        .unwrap();
    assert!(keeper.health().lag_records > 0);
    tokio::time::timeout(wait, gate.wait_for(|g| *g == Gate::Ended))
        .await
        .unwrap()
        .unwrap();
    let outcome = keeper
        .seal(SealReason::EvidenceLost, Duration::from_secs(1))
        .await;
    assert!(
        outcome.sealed && !outcome.shipped && !outcome.anchored,
        "{outcome:?}"
    );

    // What the end could not ship, the tail does.
    logs.down.store(false, Ordering::SeqCst);
    let tail = ship_tail(
        &temp.path().join("spool"),
        &Arc::clone(&logs),
        Duration::from_secs(5),
    )
    .await
    .unwrap();
    assert!(tail.complete && tail.sealed > 0);
    assert_eq!(chain_of(&logs).last().unwrap().kind, Kind::Seal);
}

#[tokio::test]
async fn nobody_is_let_in_when_the_genesis_is_not_taken() {
    let temp = tempfile::tempdir().unwrap();
    let logs = Arc::new(FakeLogs::default());
    logs.down.store(true, Ordering::SeqCst);
    let mut config = config(temp.path().join("spool"));
    config.begin_within = Duration::from_millis(300);
    let bucket = Arc::new(FakeBucket::default());
    let error = Keeper::begin(config, Arc::new(SystemClock), logs, Arc::clone(&bucket))
        .await
        .err()
        .unwrap();
    assert_eq!(error.code(), "genesis_not_shipped");
    assert!(
        bucket.objects.lock().unwrap().is_empty(),
        "no anchor without its line"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_when_the_genesis_is_not_anchored() {
    let temp = tempfile::tempdir().unwrap();
    let logs = Arc::new(FakeLogs::default());
    let bucket = Arc::new(FakeBucket::default());
    *bucket.faults.lock().unwrap() = vec![Fault::Fails; 100];
    let mut config = config(temp.path().join("spool"));
    config.begin_within = Duration::from_millis(300);
    let begun = Keeper::begin(
        config,
        Arc::new(SystemClock),
        Arc::clone(&logs),
        Arc::clone(&bucket),
    );
    let error = begun.await.err().unwrap();
    assert_eq!(error.code(), "genesis_not_anchored");
    assert_eq!(logs.events.lock().unwrap().len(), 1, "its line went first");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cloudwatch_throws_away_are_named_in_the_chain_and_spoil_the_outcome() {
    let temp = tempfile::tempdir().unwrap();
    let logs = Arc::new(FakeLogs::default());
    let keeper = Keeper::begin(
        config(temp.path().join("spool")),
        Arc::new(SystemClock),
        Arc::clone(&logs),
        Arc::new(FakeBucket::default()),
    )
    .await
    .unwrap();
    logs.rejections.lock().unwrap().push(Rejected {
        too_old_before: Some(1),
        expired_before: None,
        too_new_from: Some(2),
    });
    let recorder = keeper.recorder();
    for n in 0..3u8 {
        recorder.record(Kind::Output, 1, &[n]).unwrap();
    }
    let gaps = |logs: &FakeLogs| -> Vec<Gap> {
        let events = logs.events.lock().unwrap();
        let records =
            events.iter().filter_map(
                |event| match parse_line(event.message.as_bytes()).unwrap() {
                    Parsed::Record(record) => Some(record),
                    Parsed::Unsealed(_) => None,
                },
            );
        records
            .filter(|record| record.kind == Kind::Gap)
            .map(|record| Gap::decode(&payload(&record)).unwrap())
            .collect()
    };
    for _ in 0..500 {
        if gaps(&logs).len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told: Vec<_> = gaps(&logs)
        .into_iter()
        .map(|gap| (gap.first, gap.last, gap.reason))
        .collect();
    assert_eq!(told[0], (1, 1, GapReason::TooOld));
    assert_eq!((told[1].0, told[1].2), (3, GapReason::TooNew));
    assert!(keeper.health().rejected >= 2);
    let outcome = keeper
        .seal(SealReason::Finished, Duration::from_secs(10))
        .await;
    assert!(outcome.sealed && !outcome.shipped, "{outcome:?}");
}

#[tokio::test]
async fn frames_that_were_never_sealed_travel_without_a_key() {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let dir = SpoolDir::create(&spool, SEGMENT_BYTES).unwrap();
    let clock = Arc::new(SystemClock);
    let timeline = Timeline::start(&*clock);
    let mut frames = dir.frame_writer(clock, timeline).unwrap();
    let mut lines = dir.line_writer().unwrap();
    let mut salts = Salts::new();
    let (mut sealer, line) =
        Sealer::begin(&genesis(), fresh_key().unwrap(), salts.next().unwrap()).unwrap();
    lines.push(0, line.seq, line.t_us, &line.text);
    for n in 0..5u8 {
        let written = frames.append(Kind::Output.byte(), 1, &[n]).unwrap();
        if n < 2 {
            let line = sealer
                .append(written.t_us, Kind::Output, 1, salts.next().unwrap(), &[n])
                .unwrap();
            lines.push(written.frames, line.seq, line.t_us, &line.text);
        }
    }
    lines.flush().unwrap();
    // The agent is gone: nothing but the files is left.
    drop((frames, lines, sealer));
    let logs = Arc::new(FakeLogs::default());
    *logs.faults.lock().unwrap() = vec![Fault::AppliesAndFails];
    let tail = ship_tail(&spool, &Arc::clone(&logs), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((tail.sealed, tail.unsealed, tail.complete), (3, 3, true));
    let unsealed: Vec<_> = logs
        .events
        .lock()
        .unwrap()
        .iter()
        .filter_map(|e| match parse_line(e.message.as_bytes()).unwrap() {
            Parsed::Unsealed(frame) => Some(frame.payload),
            Parsed::Record(_) => None,
        })
        .collect();
    assert_eq!(unsealed, vec![vec![2], vec![3], vec![4]]);
}
