//! When epochs end, what is told of the chain before it is on disk (nothing), and what becomes of keys.

use super::super::keeper::tests::genesis;
use super::super::spool::{SEGMENT_BYTES, SpoolDir};
use super::super::time::Timeline;
use super::super::time::tests::ManualClock;
use super::*;
use powerpole_chain::{EpochKey, Parsed, parse_line};
use std::sync::atomic::Ordering;

const SECOND: u64 = 1_000_000;

/// A sealing thread whose steps the test takes, on a clock that the test moves.
struct Trial {
    clock: Arc<ManualClock>,
    thread: SealingThread,
    dir: SpoolDir,
    _temp: tempfile::TempDir,
}

fn trial() -> Trial {
    let temp = tempfile::tempdir().unwrap();
    let dir = SpoolDir::create(&temp.path().join("spool"), SEGMENT_BYTES).unwrap();
    let clock = Arc::new(ManualClock::default());
    clock.utc.store(1_764_000_000 * SECOND, Ordering::SeqCst);
    let timeline = Timeline::start(&*clock);
    let writer = dir.frame_writer(clock.clone(), timeline).unwrap();
    let mut lines = dir.line_writer().unwrap();
    let mut genesis = genesis();
    genesis.started_us = 1_764_000_000 * SECOND;
    let mut salts = Salts::new();
    let (sealer, line) =
        Sealer::begin(&genesis, fresh_key().unwrap(), salts.next().unwrap()).unwrap();
    lines.push(0, line.seq, line.t_us, &line.text);
    let head = sealer.head();
    let progress = Arc::new(Progress::new(head));
    let thread = SealingThread {
        frames: writer.follow(),
        writer: Arc::new(Mutex::new(writer)),
        chain: ChainWriter {
            sealer: Some(sealer),
            genesis: Arc::new(genesis),
            salts,
            lines,
            progress,
            consumed: 0,
            consumed_bytes: 0,
            last_t_us: line.t_us,
            head,
        },
        clock_checked_us: line.t_us,
    };
    Trial {
        clock,
        thread,
        dir,
        _temp: temp,
    }
}

impl Trial {
    fn record(&self, bytes: usize) {
        let mut writer = self.thread.writer.lock().unwrap();
        writer
            .append(Kind::Output.byte(), 1, &vec![b'x'; bytes])
            .unwrap();
    }

    /// One turn of the thread, `later` after the last.
    fn turn(&mut self, later: u64) {
        let now = self.clock.monotonic.fetch_add(later, Ordering::SeqCst) + later;
        let utc = 1_764_000_000 * SECOND + now;
        self.clock.utc.store(utc, Ordering::SeqCst);
        self.thread.drain().unwrap();
        self.thread.keep_cadence().unwrap();
        self.thread.chain.flush().unwrap();
    }

    /// Kinds of all lines on disk.
    fn kinds(&self) -> Vec<Kind> {
        let mut lines = self.dir.lines().unwrap();
        let mut kinds = Vec::new();
        while lines.peek().unwrap().is_some() {
            let line = lines.take().unwrap();
            match parse_line(line.text.as_bytes()).unwrap() {
                Parsed::Record(record) => kinds.push(record.kind),
                Parsed::Unsealed(_) => panic!("the sealer writes records"),
            }
        }
        kinds
    }

    fn checkpoints(&self) -> usize {
        let kinds = self.kinds();
        kinds
            .iter()
            .filter(|kind| **kind == Kind::Checkpoint)
            .count()
    }
}

#[test]
fn an_epoch_ends_one_second_after_its_first_record() {
    let mut trial = trial();
    trial.turn(0);
    // The genesis is a record of epoch 0; its second is the first.
    trial.turn(SECOND - 1);
    assert_eq!(trial.checkpoints(), 0);
    trial.turn(1);
    assert_eq!(trial.checkpoints(), 1);
    trial.turn(7 * SECOND);
    assert_eq!(trial.checkpoints(), 1, "silence is no activity");
    trial.record(10);
    trial.turn(SECOND - 1);
    assert_eq!(trial.checkpoints(), 1);
    trial.turn(SECOND);
    assert_eq!(trial.checkpoints(), 2);
}

#[test]
fn silence_ends_an_epoch_after_thirty_seconds() {
    let mut trial = trial();
    trial.turn(SECOND);
    assert_eq!(trial.checkpoints(), 1);
    trial.turn(30 * SECOND - 1);
    assert_eq!(trial.checkpoints(), 1);
    trial.turn(1);
    assert_eq!(trial.checkpoints(), 2);
    trial.turn(30 * SECOND);
    assert_eq!(trial.checkpoints(), 3);
}

#[test]
fn an_epoch_holds_at_most_4096_records_and_4_mib_however_fast_they_come() {
    let mut trial = trial();
    for _ in 0..4095 + 4096 {
        trial.record(1);
    }
    trial.turn(1);
    let kinds = trial.kinds();
    let ends: Vec<_> = (0..kinds.len())
        .filter(|n| kinds[*n] == Kind::Checkpoint)
        .collect();
    assert_eq!(ends, [4096, 4096 + 1 + 4096]);

    for _ in 0..300 {
        trial.record(32 * 1024);
    }
    trial.turn(1);
    let kinds = trial.kinds();
    let rest = &kinds[4096 + 2 + 4096..];
    let ends: Vec<_> = (0..rest.len())
        .filter(|n| rest[*n] == Kind::Checkpoint)
        .collect();
    assert_eq!(ends, [128, 128 + 1 + 128]);
}

#[test]
fn a_head_is_told_only_after_its_line_is_on_disk() {
    let mut trial = trial();
    trial.thread.chain.flush().unwrap();
    trial.record(10);
    trial.record(10);
    trial.thread.drain().unwrap();
    assert_eq!(trial.thread.chain.head.seq, 2, "both are sealed");
    let progress = Arc::clone(&trial.thread.chain.progress);
    assert_eq!(progress.latest_head().seq, 0, "and nobody hears of it");
    assert_eq!(trial.kinds().len(), 1);
    trial.thread.chain.flush().unwrap();
    assert_eq!(progress.latest_head(), trial.thread.chain.head);
    assert_eq!(trial.kinds().len(), 3);
}

#[test]
fn a_jump_of_the_wall_clock_is_a_record() {
    let mut trial = trial();
    trial.turn(2 * SECOND);
    trial.clock.utc.fetch_add(600 * SECOND, Ordering::SeqCst);
    let later = 2 * SECOND;
    trial.clock.monotonic.fetch_add(later, Ordering::SeqCst);
    trial.thread.keep_cadence().unwrap();
    trial.thread.chain.flush().unwrap();
    assert!(trial.kinds().contains(&Kind::ClockJump));
}

/// How often these bytes lie in this process's writable memory.
fn copies_in_memory(masked: &[u8; 32], mask: u8) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let memory = std::fs::File::open("/proc/self/mem").unwrap();
    let mut copies = 0;
    for line in maps.lines().filter(|line| line.contains(" rw-p ")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut at = from;
        while at < to {
            let mut page = [0u8; 4096 + 31];
            let length = usize::try_from((to - at).min(page.len() as u64)).unwrap();
            let read = std::os::unix::fs::FileExt::read_at(&memory, &mut page[..length], at);
            // Pages that nobody touched, and guards, have nothing in them.
            for window in page[..read.unwrap_or(0)].windows(32) {
                copies += usize::from(window.iter().zip(masked).all(|(a, b)| a ^ mask == *b));
            }
            at += 4096;
        }
    }
    copies
}

/// Not a test of its own: a process with one thread whose memory nobody else writes.
#[test]
#[ignore = "is started by the test that looks into its memory"]
fn key_holder() {
    if std::env::var_os("POWERPOLE_TRIAL_KEYS").is_none() {
        return;
    }
    const MASK: u8 = 0xa5;
    // The mask keeps the test's own copies apart from the key's.
    let masked: [u8; 32] = std::array::from_fn(|n| (n as u8).wrapping_mul(37) ^ 0x5c ^ MASK);
    let key = {
        let mut seed = masked.map(|byte| byte ^ MASK);
        let key = EpochKey::from_seed(seed);
        zeroize::Zeroize::zeroize(&mut seed);
        key
    };
    let genesis = genesis();
    let (mut sealer, _) = Sealer::begin(&genesis, key, [1; 16]).unwrap();
    let held = copies_in_memory(&masked, MASK);
    let line = sealer.checkpoint(5, [2; 16], fresh_key().unwrap()).unwrap();
    drop(line);
    let after = copies_in_memory(&masked, MASK);
    let locked = super::super::keys::lock_memory();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    println!(
        "held {held} after {after} locked {} {} of {}",
        locked.is_ok(),
        kib("VmLck:"),
        kib("VmRSS:")
    );
}

/// What the key's holder says under this limit of locked memory; `None` when the limit cannot be set here.
fn key_holder_says(limit: Option<&str>) -> Option<Vec<String>> {
    let mut command = std::process::Command::new("prlimit");
    command.args(limit.map(|limit| format!("--memlock={limit}")));
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "evidence::sealer::tests::key_holder"])
        .args(["--ignored", "--nocapture"])
        .env("POWERPOLE_TRIAL_KEYS", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("failed to set the MEMLOCK") {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let from = text.find("held ").unwrap_or_else(|| panic!("{text}{said}"));
    Some(text[from..].split_whitespace().map(str::to_owned).collect())
}

#[test]
fn a_key_is_in_memory_while_its_epoch_lasts_and_nowhere_after_its_checkpoint() {
    let said = key_holder_says(None).unwrap();
    assert_ne!(said[1], "0", "the test does not find a key that is there");
    assert_eq!(said[3], "0", "the key was left in memory");
}

#[test]
fn memory_is_not_locked_under_a_finite_limit_and_the_unit_sets_none() {
    let said = key_holder_says(Some("65536:65536")).unwrap();
    assert_eq!((said[5].as_str(), said[6].as_str()), ("false", "0"));
    let unit = include_str!("../../../../systemd/powerpole-agent.service");
    for line in ["LimitMEMLOCK=infinity", "LimitCORE=0"] {
        assert!(unit.lines().any(|of| of == line), "{line}");
    }
}

#[test]
fn memory_is_locked_as_a_whole_where_there_is_no_limit() {
    let Some(said) = key_holder_says(Some("unlimited")) else {
        eprintln!(
            "SKIPPED (machine): the limit of locked memory cannot be lifted here (CAP_SYS_RESOURCE)"
        );
        return;
    };
    assert_eq!(said[5], "true");
    let [locked, resident] = [&said[6], &said[8]].map(|kib| kib.parse::<u64>().unwrap());
    assert!(locked >= resident, "{locked} of {resident} KiB");
}
