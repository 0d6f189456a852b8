//! What was shipped leaves the disk, and whatever line a kill strikes, what was recorded reaches CloudWatch.

use super::super::anchor::{AnchorStoreError, Put};
use super::super::position::Position;
use super::super::shipper::{LogEvent, LogsError, Rejected};
use super::super::tail::ship_tail;
use super::super::time::SystemClock;
use super::tests::{FakeBucket, FakeLogs, chain_of, config, genesis, payload};
use super::*;
use powerpole_chain::{Content, Parsed, parse_line};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

const SEGMENT: u64 = 64 << 10;

fn spool_bytes(spool: &Path) -> u64 {
    let files = std::fs::read_dir(spool).unwrap();
    // A file may be removed between the two looks.
    files
        .filter_map(|file| file.unwrap().metadata().ok())
        .map(|of| of.len())
        .sum()
}

/// The numbers that a set of lines holds as payloads of output: in the chain and in frames without a key.
fn numbers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
    let mut sealed = BTreeMap::new();
    let mut unsealed = BTreeMap::new();
    let number = |payload: &[u8]| u64::from_be_bytes(payload[..8].try_into().unwrap());
    for line in lines {
        match parse_line(line).unwrap() {
            Parsed::Record(record) if record.kind == Kind::Output => {
                let Content::Full { payload, .. } = record.content else {
                    panic!("nothing is withheld here");
                };
                sealed.insert(record.seq, number(&payload));
            }
            Parsed::Record(_) => {}
            Parsed::Unsealed(frame) => {
                unsealed.insert(frame.n, number(&frame.payload));
            }
        }
    }
    sealed.into_values().chain(unsealed.into_values()).collect()
}

fn numbered(n: u64) -> Vec<u8> {
    let mut payload = n.to_be_bytes().to_vec();
    payload.resize(4096, b'x');
    payload
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_output_passes_through_a_spool_that_stays_small() {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let logs = Arc::new(FakeLogs::default());
    let mut config = config(spool.clone());
    config.segment_bytes = SEGMENT;
    let keeper = Keeper::begin(
        config,
        Arc::new(SystemClock),
        Arc::clone(&logs),
        Arc::new(FakeBucket::default()),
    )
    .await
    .unwrap();
    let recorder = keeper.recorder();
    let (mut recorded, mut largest) = (0u64, 0);
    while recorded < 4000 {
        // Not more than 64 records wait at any time, so all that is above that is what was kept in vain.
        if keeper.health().lag_records > 64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        for _ in 0..32 {
            recorder
                .record(Kind::Output, 1, &numbered(recorded))
                .unwrap();
            recorded += 1;
        }
        largest = largest.max(spool_bytes(&spool));
    }
    let outcome = keeper
        .seal(SealReason::Finished, Duration::from_secs(20))
        .await;
    assert!(outcome.sealed && outcome.shipped, "{outcome:?}");
    // 96 records as frames and as lines, twice (waiting, and in a file with what still waits), and a file of each stream that
    // is not full or not wholly shipped. In all 39 MB pass through.
    let waiting = 2 * 96 * (4096 + 5600);
    assert!(largest < waiting + 4 * SEGMENT, "{largest}");
    // A file ends between two writes, and one write of lines holds what waited: it may go over by as much.
    let kept = spool_bytes(&spool);
    assert!(kept < 3 * SEGMENT + 96 * 5700, "{kept}");
    let shown: Vec<u64> = chain_of(&logs)
        .iter()
        .filter(|record| record.kind == Kind::Output)
        .map(|record| u64::from_be_bytes(payload(record)[..8].try_into().unwrap()))
        .collect();
    assert_eq!(shown, (0..4000).collect::<Vec<_>>());
    // An orderly end leaves nothing for the tail.
    let before = logs.events.lock().unwrap().len();
    let tail = ship_tail(&spool, &Arc::clone(&logs), Duration::from_secs(5))
        .await
        .unwrap();
    assert_eq!((tail.sealed, tail.unsealed), (0, 0));
    assert_eq!(logs.events.lock().unwrap().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_cloudwatch_does_not_take_freezes_the_session_before_it_fills_the_disk() {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let logs = Arc::new(FakeLogs::default());
    let mut config = config(spool.clone());
    config.segment_bytes = SEGMENT;
    config.patience.freeze_above_bytes = 1 << 20;
    let keeper = Keeper::begin(
        config,
        Arc::new(SystemClock),
        Arc::clone(&logs),
        Arc::new(FakeBucket::default()),
    )
    .await
    .unwrap();
    let mut gate = keeper.gate();
    let recorder = keeper.recorder();
    logs.down.store(true, Ordering::SeqCst);
    let mut recorded = 0u64;
    while *gate.borrow_and_update() == Gate::Open {
        recorder
            .record(Kind::Output, 1, &numbered(recorded))
            .unwrap();
        recorded += 1;
        assert!(recorded < 10_000, "the gate stays open");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(spool_bytes(&spool) > 1 << 20);
    logs.down.store(false, Ordering::SeqCst);
    let opens = gate.wait_for(|gate| *gate == Gate::Open);
    tokio::time::timeout(Duration::from_secs(20), opens)
        .await
        .unwrap()
        .unwrap();
    assert!(keeper.health().lag_records > 0 || spool_bytes(&spool) < 1 << 20);
    let outcome = keeper
        .seal(SealReason::Finished, Duration::from_secs(20))
        .await;
    assert!(outcome.shipped, "{outcome:?}");
}

/// A spool as a kill leaves it: 60 frames, 40 of them sealed, and what CloudWatch has of these.
struct Left {
    spool: PathBuf,
    taken: Vec<LogEvent>,
    accepted: Position,
}

fn left(dir: &Path, accepted_frames: u64) -> Left {
    let spool = dir.join("spool");
    let dir = SpoolDir::create(&spool, SEGMENT).unwrap();
    let clock = Arc::new(SystemClock);
    let timeline = Timeline::start(&*clock);
    let mut frames = dir.frame_writer(clock, timeline).unwrap();
    let mut lines = dir.line_writer().unwrap();
    let mut salts = Salts::new();
    let mut taken = Vec::new();
    let mut accepted = Position::default();
    let (mut sealer, line) =
        Sealer::begin(&genesis(), fresh_key().unwrap(), salts.next().unwrap()).unwrap();
    lines.push(0, line.seq, line.t_us, &line.text);
    let mut sealed = vec![(0, line)];
    for n in 0..60 {
        let written = frames.append(Kind::Output.byte(), 1, &numbered(n)).unwrap();
        if n < 40 {
            let salt = salts.next().unwrap();
            let line = sealer.append(written.t_us, Kind::Output, 1, salt, &numbered(n));
            let line = line.unwrap();
            lines.push(written.frames, line.seq, line.t_us, &line.text);
            lines.flush().unwrap();
            sealed.push((written.frames, line));
        }
    }
    for (consumed, line) in sealed {
        if consumed <= accepted_frames {
            accepted = Position {
                next_seq: line.seq + 1,
                consumed,
            };
            taken.push(LogEvent {
                t_ms: line.t_us / 1000,
                message: line.text,
            });
        }
    }
    Left {
        spool,
        taken,
        accepted,
    }
}

fn files(spool: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(spool)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_kill_between_any_two_steps_of_forgetting_loses_nothing() {
    for accepted_frames in [0, 1, 17, 25, 39, 40] {
        // How many files forgetting removes, and which: by doing it once.
        let temp = tempfile::tempdir().unwrap();
        let whole = left(temp.path(), accepted_frames);
        let before = files(&whole.spool);
        let mut dir = SpoolDir::existing(&whole.spool);
        dir.forget(whole.accepted).unwrap();
        let after = files(&whole.spool);
        let removed = |name: &str| -> Vec<String> {
            let gone = before.iter().filter(|file| !after.contains(file));
            gone.filter(|file| file.starts_with(name))
                .cloned()
                .collect()
        };
        let mut steps = removed("lines");
        steps.extend(removed("frames"));
        assert_eq!(steps.is_empty(), accepted_frames < 16, "{steps:?}");

        // Step 0 is a kill after CloudWatch's answer, step 1 one after the position was stored, and so on.
        for step in 0..steps.len() + 2 {
            let temp = tempfile::tempdir().unwrap();
            let left = left(temp.path(), accepted_frames);
            dir = SpoolDir::existing(&left.spool);
            if step > 0 {
                dir.position_file().unwrap().store(left.accepted).unwrap();
            }
            for file in steps.iter().take(step.saturating_sub(1)) {
                std::fs::remove_file(left.spool.join(file)).unwrap();
            }
            let logs = Arc::new(FakeLogs::default());
            logs.events.lock().unwrap().extend(left.taken.clone());
            let tail = ship_tail(&left.spool, &Arc::clone(&logs), Duration::from_secs(5))
                .await
                .unwrap();
            assert!(tail.complete);
            assert_eq!(tail.unsealed, 20, "step {step} of {accepted_frames}");
            let chain = chain_of(&logs);
            assert_eq!(chain.len(), 41, "step {step} of {accepted_frames}");
            let events = logs.events.lock().unwrap();
            let all = numbers(events.iter().map(|event| event.message.as_bytes()));
            assert_eq!(all, (0..60).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn a_damaged_position_ships_what_is_left_again() {
    let temp = tempfile::tempdir().unwrap();
    let left = left(temp.path(), 39);
    let dir = SpoolDir::existing(&left.spool);
    dir.position_file().unwrap().store(left.accepted).unwrap();
    dir.forget(left.accepted).unwrap();
    let position = std::fs::File::options()
        .write(true)
        .open(left.spool.join("position"))
        .unwrap();
    position.write_all_at(&[0xff; 5], 7).unwrap();
    let logs = Arc::new(FakeLogs::default());
    logs.events.lock().unwrap().extend(left.taken);
    let tail = ship_tail(&left.spool, &Arc::clone(&logs), Duration::from_secs(5))
        .await
        .unwrap();
    assert!(tail.complete && tail.sealed > 1 && tail.unsealed == 20);
    assert_eq!(chain_of(&logs).len(), 41);
}

/// CloudWatch as a file: what was taken is there whatever becomes of the process.
struct FileLogs(std::fs::File);

impl FileLogs {
    fn open(path: &Path) -> Self {
        Self(
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
                .unwrap(),
        )
    }
}

impl LogStream for FileLogs {
    async fn create(&self) -> Result<(), LogsError> {
        Ok(())
    }
    async fn put(&self, events: &[LogEvent]) -> Result<Rejected, LogsError> {
        let mut text = String::new();
        for event in events {
            text.push_str(&event.message);
            text.push('\n');
        }
        (&self.0).write_all(text.as_bytes()).unwrap();
        Ok(Rejected::default())
    }
}

struct NoBucket;

impl AnchorStore for NoBucket {
    async fn put_once(&self, _: &str, _: Vec<u8>) -> Result<Put, AnchorStoreError> {
        Ok(Put::Stored)
    }
}

/// Not a test of its own: the process that the next one kills. Says what is recorded only after it is.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the test that kills it"]
async fn victim() {
    let Some(dir) = std::env::var_os("POWERPOLE_TRIAL_DIR").map(PathBuf::from) else {
        return;
    };
    let mut config = config(dir.join("spool"));
    config.segment_bytes = SEGMENT;
    let logs = FileLogs::open(&dir.join("taken"));
    let keeper = Keeper::begin(config, Arc::new(SystemClock), logs, NoBucket)
        .await
        .unwrap();
    let recorder = keeper.recorder();
    let said = std::fs::File::create(dir.join("said")).unwrap();
    for n in 0u64.. {
        recorder.record(Kind::Output, 1, &numbered(n)).unwrap();
        said.write_all_at(&(n + 1).to_be_bytes(), 0).unwrap();
        if keeper.health().lag_records > 500 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sigkill_while_shipped_files_are_removed_loses_nothing_that_was_recorded() {
    let mut removed_any = false;
    for round in 0..6u64 {
        let temp = tempfile::tempdir().unwrap();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "evidence::keeper::forgetting::victim",
                "--ignored",
            ])
            .env("POWERPOLE_TRIAL_DIR", temp.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = || {
            let bytes = std::fs::read(temp.path().join("said")).unwrap_or_default();
            bytes.try_into().map_or(0, u64::from_be_bytes)
        };
        for _ in 0..2000 {
            if said() > 300 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_micros(200_000 + 13_700 * round)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        let said = said();
        assert!(said > 300, "{said}");
        let spool = temp.path().join("spool");
        let taken = temp.path().join("taken");
        removed_any |= !files(&spool).contains(&format!("frames.{:020}", 0));
        let tail = ship_tail(&spool, &FileLogs::open(&taken), Duration::from_secs(20))
            .await
            .unwrap();
        assert!(tail.complete);
        let taken = std::fs::read(&taken).unwrap();
        let mut lines: Vec<_> = taken.split(|byte| *byte == b'\n').collect();
        lines.retain(|line| !line.is_empty());
        let all = numbers(lines.into_iter());
        let recorded = all.len() as u64;
        assert_eq!(all, (0..recorded).collect::<Vec<_>>(), "round {round}");
        // The one that was being recorded may be there or not.
        assert!((said..=said + 1).contains(&recorded), "{said} {recorded}");
    }
    assert!(removed_any, "no round was killed after a file was removed");
}
