//! The relay on real terminals with a real bash.

use super::pty::{Pty, Size};
use super::relay::{Ending, Relay, Signal};
use super::wire::INPUT_HIDDEN;
use crate::evidence::{Gate, trial};
use powerpole_chain::Kind;
use rustix::termios::LocalModes;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

const SIZE: Size = Size {
    columns: 80,
    rows: 24,
};

/// A bash on a terminal of its own, started as systemd would: session leader with a controlling terminal.
fn bash(terminal: &Pty, script: Option<&str>) -> Child {
    let end = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut command = Command::new("setsid");
    command.args(["--ctty", "--wait", "bash", "--norc", "--noprofile"]);
    if let Some(script) = script {
        command.args(["-c", script]);
    }
    command
        .env("PS1", "$ ")
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap()
}

/// The operator's side: what SSM's agent holds.
struct Operator {
    pty: Pty,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Operator {
    fn new() -> Self {
        let pty = Pty::open(SIZE).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut screen = File::from(blocking(&pty));
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length) = screen.read(&mut buffer) {
                if length == 0 {
                    return;
                }
                shown.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { pty, seen }
    }

    fn types(&self, text: &str) {
        File::from(self.pty.master.try_clone().unwrap())
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap().clone()
    }

    async fn sees(&self, text: &str) {
        for _ in 0..1000 {
            if self
                .seen()
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "{text:?} is not among {:?}",
            String::from_utf8_lossy(&self.seen())
        );
    }
}

/// A second description of the operator's end that blocks, for a thread.
fn blocking(pty: &Pty) -> std::os::fd::OwnedFd {
    let flags = rustix::fs::fcntl_getfl(&pty.master).unwrap();
    rustix::fs::fcntl_setfl(&pty.master, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    pty.master.try_clone().unwrap()
}

struct Running {
    operator: Operator,
    spool: PathBuf,
    recorder: crate::evidence::Recorder,
    signals: mpsc::Sender<Signal>,
    ended: tokio::task::JoinHandle<(Ending, super::relay::Moved)>,
    _temp: tempfile::TempDir,
}

fn start(script: Option<&str>) -> Running {
    let temp = tempfile::tempdir().unwrap();
    let spool = temp.path().join("spool");
    let recorder = trial::recorder(&spool);
    let operator = Operator::new();
    let shell_terminal = Pty::open(SIZE).unwrap();
    let shell = bash(&shell_terminal, script);
    let end = || operator.pty.slave.try_clone().unwrap();
    let mut relay = Relay::new(1, recorder.clone(), shell_terminal, end(), end()).unwrap();
    let (signals, mut inbox) = mpsc::channel(8);
    let ended = tokio::spawn(async move { relay.run(shell, &mut inbox).await });
    Running {
        operator,
        spool,
        recorder,
        signals,
        ended,
        _temp: temp,
    }
}

async fn ending(running: &mut Running) -> Ending {
    let ended = tokio::time::timeout(Duration::from_secs(20), &mut running.ended);
    ended.await.unwrap().unwrap().0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bash_shows_is_recorded_byte_for_byte_and_what_is_typed_too() {
    let mut running = start(None);
    running.operator.sees("$ ").await;
    running.operator.types("echo sum=$((40+2))\n");
    running.operator.sees("sum=42").await;
    running.operator.types("exit 7\n");
    match ending(&mut running).await {
        Ending::Exited(status) => assert_eq!(status.code(), Some(7)),
        other => panic!("{other:?}"),
    }
    // Bash's own last word, not what was typed, with and without a TERM: the terminal's reader may be behind the record.
    running.operator.sees("exit\r\n").await;
    assert_eq!(
        trial::joined(&running.spool, Kind::Output),
        running.operator.seen()
    );
    let typed: Vec<u8> = trial::recorded(&running.spool)
        .into_iter()
        .filter(|(kind, ..)| *kind == Kind::Input)
        .flat_map(|(_, _, payload)| payload[1..].to_vec())
        .collect();
    assert_eq!(typed, b"echo sum=$((40+2))\nexit 7\n");
    // The operator's own terminal has its modes back.
    let modes = rustix::termios::tcgetattr(&running.operator.pty.slave)
        .unwrap()
        .local_modes;
    assert!(modes.contains(LocalModes::ECHO | LocalModes::ICANON));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_counted_and_not_kept() {
    let mut running = start(Some("read -rsp 'Password: ' p; echo; echo got ${#p}"));
    running.operator.sees("Password: ").await;
    running.operator.types("hunter2\n");
    running.operator.sees("got 7").await;
    let _ = ending(&mut running).await;
    let frames = trial::recorded(&running.spool);
    let all: Vec<u8> = frames.iter().flat_map(|frame| frame.2.clone()).collect();
    assert!(!all.windows(7).any(|part| part == b"hunter2"));
    let hidden: u32 = frames
        .iter()
        .filter(|(kind, _, payload)| *kind == Kind::Input && payload[0] == INPUT_HIDDEN)
        .map(|(_, _, payload)| u32::from_be_bytes(payload[1..].try_into().unwrap()))
        .sum();
    assert_eq!(hidden, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_is_heard_while_output_floods() {
    let mut running = start(None);
    running.operator.sees("$ ").await;
    running.operator.types("yes | head -c 500000000\n");
    running.operator.sees("y\r\ny\r\n").await;
    running.operator.types("\u{3}");
    running.operator.types("echo still $((1+1)) here; exit\n");
    running.operator.sees("still 2 here").await;
    let _ = ending(&mut running).await;
    assert!(running.operator.seen().len() < 400_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_session_shows_nothing_new_and_goes_on_afterwards() {
    let mut running = start(None);
    running.operator.sees("$ ").await;
    running.recorder.set_gate(Gate::Frozen);
    running.operator.sees("This session waits").await;
    running.operator.types("echo a$((1+1))b; exit\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!String::from_utf8_lossy(&running.operator.seen()).contains("a2b"));
    running.recorder.set_gate(Gate::Open);
    running.operator.sees("a2b").await;
    let _ = ending(&mut running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_evidence_a_warning_a_resize_and_an_end_reach_the_session() {
    let mut running = start(None);
    running.operator.sees("$ ").await;
    running
        .signals
        .send(Signal::Warn("5 minutes left".to_owned()))
        .await
        .unwrap();
    running.operator.sees("*** PowerPole: 5 minutes left").await;
    running
        .operator
        .pty
        .resize(Size {
            columns: 101,
            rows: 33,
        })
        .unwrap();
    running.signals.send(Signal::Resized).await.unwrap();
    running.operator.types("stty size\n");
    running.operator.sees("33 101").await;
    running.recorder.set_gate(Gate::Ended);
    assert!(matches!(ending(&mut running).await, Ending::Unrecorded(_)));
    let kinds: Vec<_> = trial::recorded(&running.spool)
        .into_iter()
        .map(|f| (f.0, f.2))
        .collect();
    assert!(kinds.contains(&(Kind::Warning, b"5 minutes left".to_vec())));
    assert!(kinds.contains(&(Kind::Resize, vec![0, 101, 0, 33])));

    let mut running = start(None);
    running.operator.sees("$ ").await;
    running
        .signals
        .send(Signal::End("the deadline".to_owned()))
        .await
        .unwrap();
    assert!(
        matches!(ending(&mut running).await, Ending::Ended(reason) if reason == "the deadline")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_task_is_gone_ends_and_gives_the_terminal_its_modes_back() {
    let running = start(None);
    running.operator.sees("$ ").await;
    let modes = || {
        let modes = rustix::termios::tcgetattr(&running.operator.pty.slave).unwrap();
        modes.local_modes
    };
    assert!(!modes().contains(LocalModes::ECHO));
    running.ended.abort();
    for _ in 0..500 {
        if modes().contains(LocalModes::ECHO) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session's thread goes on");
}

/// Not a test of its own: the process that the next one kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "is started by the test that kills it"]
async fn victim() {
    let Some(terminal) = std::env::var_os("POWERPOLE_TRIAL_TERMINAL") else {
        return;
    };
    let spool = std::env::var_os("POWERPOLE_TRIAL_SPOOL").unwrap();
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
    let end = || rustix::fs::open(&terminal, flags, rustix::fs::Mode::empty()).unwrap();
    let shell_terminal = Pty::open(SIZE).unwrap();
    let shell = bash(&shell_terminal, Some("seq 1 100000000"));
    let recorder = trial::recorder(Path::new(&spool));
    let mut relay = Relay::new(1, recorder, shell_terminal, end(), end()).unwrap();
    let (_signals, mut inbox) = mpsc::channel(8);
    let _ = relay.run(shell, &mut inbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sigkill_in_mid_output_all_that_was_shown_is_in_the_spool() {
    let temp = tempfile::tempdir().unwrap();
    for round in 0..5u64 {
        let spool = temp.path().join(format!("spool-{round}"));
        let operator = Operator::new();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "session::tests::victim", "--ignored"])
            .env("POWERPOLE_TRIAL_TERMINAL", operator.pty.path())
            .env("POWERPOLE_TRIAL_SPOOL", &spool)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        operator.sees("\n1000\r").await;
        tokio::time::sleep(Duration::from_millis(20 + 37 * round)).await;
        victim.kill().await.unwrap();
        // What the terminal still holds was shown as well.
        let mut before = 0;
        while operator.seen().len() != before {
            before = operator.seen().len();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (shown, kept) = (operator.seen(), trial::joined(&spool, Kind::Output));
        assert!(shown.len() > 4000, "{}", shown.len());
        assert!(
            kept.starts_with(&shown),
            "shown {}, kept {}",
            shown.len(),
            kept.len()
        );
    }
}
