//! The programs that are compared or needed for it, each a process of its own: the floor, the recorder, an echo.

use crate::agent::session::pty::{Pty, RawTerminal, Size};
use crate::agent::session::relay::Relay;
use crate::cloud::{Bucket, Cloud};
use crate::evidence::keeper::{Keeper, KeeperConfig};
use crate::evidence::progress::Patience;
use crate::evidence::spool::SEGMENT_BYTES;
use crate::evidence::time::SystemClock;
use powerpole_chain::{AnchorKind, EpochKey, EpochPolicy, Genesis, Kind, SealReason, Sealer};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How the recorder is told where it ships to: `file:PATH`, `http://…`, or nothing for taking and forgetting.
pub const SHIP_TO: &str = "POWERPOLE_BENCH_SHIP_TO";

fn own(fd: impl rustix::fd::AsFd) -> OwnedFd {
    fd.as_fd().try_clone_to_owned().unwrap()
}

/// A shell as systemd starts it: session leader with the terminal as its own.
fn shell(terminal: &Pty, command: &[OsString]) -> std::process::Command {
    let end = || Stdio::from(terminal.slave.try_clone().unwrap());
    let mut shell = std::process::Command::new("setsid");
    shell.args(["--ctty", "--wait"]).args(command);
    shell.stdin(end()).stdout(end()).stderr(end());
    shell
}

/// The floor: moves bytes between two terminals and does nothing else. Its reads are as large as the recorder's, so
/// what the recorder takes longer is due to recording.
pub fn floor(command: &[OsString]) -> ExitCode {
    let raw = RawTerminal::take(own(io::stdout())).unwrap();
    let terminal = Pty::open(Size::of(io::stdout())).unwrap();
    let mut child = shell(&terminal, command).spawn().unwrap();
    let (typed, screen) = (own(io::stdin()), own(io::stdout()));
    // Reading ends when the shell and all it started are gone.
    let Pty { master, slave, .. } = terminal;
    drop(slave);
    let mut buffer = vec![0; 32 << 10];
    loop {
        let mut ready = [
            PollFd::new(&typed, PollFlags::IN),
            PollFd::new(&master, PollFlags::IN),
        ];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        let [keys, output] = ready.map(|fd| !fd.revents().is_empty());
        if keys {
            match rustix::io::read(&typed, &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(length) => write_all(&master, &buffer[..length]),
            }
        }
        if output {
            let mut filled = 0;
            let mut ended = false;
            while filled < buffer.len() {
                match rustix::io::read(&master, &mut buffer[filled..]) {
                    Ok(0) => break,
                    Ok(length) => {
                        filled += length;
                        if length < 4095 {
                            break;
                        }
                    }
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(_) => {
                        ended = true;
                        break;
                    }
                }
            }
            write_all(&screen, &buffer[..filled]);
            if ended {
                break;
            }
        }
    }
    drop(raw);
    let _ = child.wait();
    ExitCode::SUCCESS
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(fd, PollFlags::OUT)], None);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

pub fn genesis() -> Genesis {
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
        reason: text("benchmark"),
        cluster: text("orders-prod"),
        level: text("READ"),
        schemas: vec![text("orders")],
        account: text("'alice'@'10.77.64.5'"),
        aws_account: text("123456789012"),
        region: text("us-east-1"),
        instance: text("i-0123456789abcdef0"),
        image: text("ami-1"),
        boot: text("boot"),
        agent: text("bench"),
        log_group: text("/powerpole/bench/evidence"),
        log_stream: text("req-01jd8z3v5k9q4m2n7p6r8s1t0w/i-0123456789abcdef0"),
        started_us: 0,
        policy: EpochPolicy::default(),
    }
}

/// The recorder: `recorder SPOOL COMMAND…` as the agent runs a login, with its runtime, its limits and its task.
pub fn recorder(arguments: &[OsString]) -> ExitCode {
    let (spool, command) = arguments.split_first().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let sealed = runtime.block_on(async {
        let _ = crate::evidence::keys::lock_memory();
        let to = std::env::var(SHIP_TO).unwrap_or_default();
        let logs = match to.strip_prefix("file:") {
            Some(path) => Cloud::in_process(Some(Path::new(path))),
            None if to.is_empty() => Cloud::in_process(None),
            None => Cloud::by_sdk(&to).await,
        };
        let config = KeeperConfig {
            spool_dir: spool.into(),
            segment_bytes: SEGMENT_BYTES,
            genesis: genesis(),
            anchor_prefix: "AROABENCH:i-1/req/".to_owned(),
            patience: Patience {
                freeze_after: Duration::from_secs(30),
                end_after: Duration::from_secs(120),
                freeze_above_bytes: 256 << 20,
            },
            begin_within: Duration::from_secs(10),
        };
        let keeper = Keeper::begin(config, Arc::new(SystemClock), logs, Bucket)
            .await
            .unwrap();
        let terminal = Pty::open(Size::of(io::stdout())).unwrap();
        let child = tokio::process::Command::from(shell(&terminal, command))
            .spawn()
            .unwrap();
        let (typed, screen) = (own(io::stdin()), own(io::stdout()));
        let mut relay = Relay::new(1, keeper.recorder(), terminal, typed, screen).unwrap();
        let (signals, mut inbox) = mpsc::channel(8);
        let login = tokio::spawn(async move { relay.run(child, &mut inbox).await.0 });
        let ending = login.await.unwrap();
        drop(signals);
        let outcome = keeper
            .seal(SealReason::Finished, Duration::from_secs(60))
            .await;
        if !(outcome.sealed && outcome.shipped && outcome.anchored) {
            eprintln!("{ending:?} {outcome:?}");
        }
        outcome.sealed && outcome.shipped && outcome.anchored
    });
    if sealed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Answers each byte with itself, on a terminal that adds nothing.
pub fn echo() -> ExitCode {
    let raw = RawTerminal::take(own(io::stdout())).unwrap();
    let (typed, screen) = (own(io::stdin()), own(io::stdout()));
    write_all(&screen, b"ready");
    let mut byte = [0];
    while let Ok(1) = rustix::io::read(&typed, &mut byte) {
        if byte == [b'.'] {
            break;
        }
        write_all(&screen, &byte);
    }
    drop(raw);
    ExitCode::SUCCESS
}

/// `export DIR RECORDS PAYLOAD`: a sealed and anchored chain as `powerpole export` writes one, and beside it the same
/// payloads in the journal's export format (`JOURNAL.export`), for what verifies that.
pub fn export(arguments: &[OsString]) -> ExitCode {
    let number = |at: usize| -> u64 { arguments[at].to_str().unwrap().parse().unwrap() };
    let dir = Path::new(&arguments[0]);
    let (records, payload) = (number(1), number(2));
    let create = |name: &str| BufWriter::new(File::create(dir.join(name)).unwrap());
    let (mut lines, mut journal) = (create("LINES.jsonl"), create("JOURNAL.export"));
    let start = u64::try_from(crate::clock::utc().as_microsecond()).unwrap() - 3_600_000_000;
    let mut genesis = genesis();
    genesis.started_us = start;
    let salt = |seq: u64| {
        let mut salt = [7; 16];
        salt[..8].copy_from_slice(&seq.to_be_bytes());
        salt
    };
    let key = |epoch: u64| {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&epoch.to_be_bytes());
        EpochKey::from_seed(seed)
    };
    let (mut sealer, first) = Sealer::begin(&genesis, key(0), salt(0)).unwrap();
    let mut anchors = vec![first.anchor(AnchorKind::Genesis, &genesis)];
    writeln!(lines, "{}", first.text).unwrap();
    for n in 1..=records {
        // An hour's worth, so that a journal that seals by time seals as well.
        let t = start + n * 3_000_000_000 / records;
        let text: String = (0..payload)
            .map(|i| char::from(b' ' + u8::try_from((i * 7 + n * 13) % 94).unwrap()))
            .collect();
        let line = sealer.append(t, Kind::Output, 1, salt(n), text.as_bytes());
        writeln!(lines, "{}", line.unwrap().text).unwrap();
        if n % 4096 == 0 {
            let line = sealer.checkpoint(t, salt(records + n), key(n)).unwrap();
            writeln!(lines, "{}", line.text).unwrap();
        }
        // Two fields besides the times: what journald itself keeps of a line at least. Its keys start when they are made,
        // so its entries' times lie ahead.
        let t = t + 3_660_000_000;
        write!(
            journal,
            "__REALTIME_TIMESTAMP={t}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID={:032x}\nMESSAGE={text}\nPRIORITY=6\n\n",
            1
        )
        .unwrap();
    }
    let end = start + 3_100_000_000;
    let seal = sealer.seal(end, salt(u64::MAX), SealReason::Finished);
    let seal = seal.unwrap();
    anchors.push(seal.anchor(AnchorKind::Seal, &genesis));
    writeln!(lines, "{}", seal.text).unwrap();
    let mut objects = create("ANCHORS.jsonl");
    for anchor in anchors {
        let object = serde_json::json!({
            "key": format!("AROABENCH:{}/{}/{}", anchor.instance, anchor.request, anchor.object_name()),
            "version_id": "1",
            "last_modified": "2026-11-26T00:00:00Z",
            "body": anchor.to_json(),
        });
        writeln!(objects, "{object}").unwrap();
    }
    for mut file in [lines, journal, objects] {
        file.flush().unwrap();
    }
    ExitCode::SUCCESS
}

/// `time OUT COMMAND…`: runs a command with all that it says in the file OUT, and prints how many seconds it took from
/// before it was started until it was waited for. Ends as the command does.
pub fn time(arguments: &[OsString]) -> ExitCode {
    let (out, command) = arguments.split_first().unwrap();
    let (program, rest) = command.split_first().unwrap();
    let out = File::create(out).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(rest).stdin(Stdio::null());
    command.stdout(out.try_clone().unwrap()).stderr(out);
    let start = std::time::Instant::now();
    let status = command.status().unwrap();
    println!("{:.6}", start.elapsed().as_secs_f64());
    ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX),
    )
}
