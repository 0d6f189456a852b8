//! One part's process: started in the hub's network namespace, remembered by pid and start time, ended by that alone.
//!
//! The record outlives the supervisor. A pid that now belongs to another process has another start time and is left alone.

use super::error::PartsError;
use super::paths::StagePaths;
use crate::hub::Process;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// Between two looks at a process or a port.
const PAUSE: Duration = Duration::from_millis(50);
/// After SIGTERM a part has this long before SIGKILL. InnoDB writes its pages in that time.
const GRACE: Duration = Duration::from_secs(15);

/// The record of a part's process, in the form that the hub's cleaning up reads too.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    #[serde(flatten)]
    process: Process,
    argv: Vec<String>,
}

/// A command that runs in the stage's hub.
pub(crate) fn in_hub(stage: &StagePaths, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", &stage.namespace()])
        .arg(program)
        .stdin(Stdio::null());
    command
}

/// The part's process, if one is recorded and lives.
pub(crate) fn running(stage: &StagePaths, part: &str) -> Result<Option<Process>, PartsError> {
    let path = stage.record(part);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(PartsError::File {
                operation: "read",
                path,
                source,
            });
        }
    };
    let recorded: Record =
        serde_json::from_str(&text).map_err(|source| PartsError::Record { path, source })?;
    Ok(Some(recorded.process).filter(Process::alive))
}

/// Starts a long-lived part in a process group of its own, so that Ctrl-C reaches only the supervisor, which then stops
/// the parts in order.
pub(crate) fn start(
    stage: &StagePaths,
    part: &'static str,
    mut command: Command,
) -> Result<Process, PartsError> {
    let log = stage.log(part);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(PartsError::file("open", &log))?;
    let twin = file.try_clone().map_err(PartsError::file("open", &log))?;
    let child = command
        .stdout(Stdio::from(file))
        .stderr(Stdio::from(twin))
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(|source| PartsError::Spawn {
            program: part.to_owned(),
            source,
        })?;
    let pid = child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .unwrap_or_default();
    // `ip netns exec` and `sh` exec the program: pid and start time stay the same.
    let Some(process) = Process::find(pid) else {
        return Err(PartsError::Died {
            part,
            log: tail(&log),
        });
    };
    let path = stage.record(part);
    let record = Record {
        name: part.to_owned(),
        process,
        argv: vec![part.to_owned()],
    };
    let text = serde_json::to_vec(&record).map_err(|source| PartsError::Record {
        path: path.clone(),
        source,
    })?;
    // A crash before this line leaves a process that no record names; it holds its port, so the next start fails loudly,
    // and the hub's cleaning up finds it by its namespace.
    std::fs::write(&path, text).map_err(PartsError::file("write", &path))?;
    Ok(process)
}

/// Ends the part's process if it runs: SIGTERM, then SIGKILL. Says whether there was one.
pub(crate) async fn stop(stage: &StagePaths, part: &'static str) -> Result<bool, PartsError> {
    let found = running(stage, part)?;
    if let Some(process) = found {
        for (signal, patience) in [
            (Signal::SIGTERM, GRACE),
            (Signal::SIGKILL, Duration::from_secs(5)),
        ] {
            process.signal(signal);
            if gone_within(process, patience).await {
                break;
            }
        }
        if process.alive() {
            return Err(PartsError::WouldNotEnd {
                part,
                pid: process.pid,
            });
        }
    }
    let record = stage.record(part);
    match std::fs::remove_file(&record) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(PartsError::File {
            operation: "remove",
            path: record,
            source: error,
        }),
        _ => Ok(found.is_some()),
    }
}

/// Runs `probe` until it succeeds, the process ends or `patience` is over. Both failures show the log's end.
pub(crate) async fn wait_ready<F>(
    stage: &StagePaths,
    part: &'static str,
    process: Process,
    patience: Duration,
    mut probe: F,
) -> Result<(), PartsError>
where
    F: FnMut() -> Command,
{
    let asking = async {
        loop {
            let answered = probe()
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .status()
                .await;
            if matches!(answered, Ok(status) if status.success()) {
                return Ok(());
            }
            if !process.alive() {
                return Err(PartsError::Died {
                    part,
                    log: tail(&stage.log(part)),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    match tokio::time::timeout(patience, asking).await {
        Ok(outcome) => outcome,
        Err(_) => Err(PartsError::NotReady {
            part,
            waited: patience,
            log: tail(&stage.log(part)),
        }),
    }
}

/// Runs a short command to its end; a failure carries what it printed.
pub(crate) async fn run(name: &str, mut command: Command) -> Result<String, PartsError> {
    let output = command
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| PartsError::Spawn {
            program: name.to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    });
    Err(PartsError::Command {
        program: name.to_owned(),
        output: last_lines(&said),
    })
}

async fn gone_within(process: Process, patience: Duration) -> bool {
    let watching = async {
        while process.alive() {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(patience, watching).await.is_ok()
}

fn tail(log: &Path) -> String {
    std::fs::read(log).map_or_else(
        |error| format!("({} cannot be read: {error})", log.display()),
        |bytes| last_lines(&String::from_utf8_lossy(&bytes)),
    )
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(15);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> (tempfile::TempDir, StagePaths) {
        let dir = tempfile::tempdir().unwrap();
        let stage = StagePaths::open("t", dir.path()).unwrap();
        (dir, stage)
    }

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60");
        command
    }

    #[tokio::test]
    async fn a_started_process_is_found_by_its_record_and_ended() {
        let (_dir, stage) = stage();
        let started = start(&stage, "sleeper", sleeper()).unwrap();
        assert_eq!(running(&stage, "sleeper").unwrap(), Some(started));
        assert!(stop(&stage, "sleeper").await.unwrap());
        assert!(!started.alive());
        assert!(!stop(&stage, "sleeper").await.unwrap());
    }

    #[tokio::test]
    async fn a_pid_that_now_belongs_to_another_process_is_left_alone() {
        let (_dir, stage) = stage();
        let mut other = sleeper().kill_on_drop(true).spawn().unwrap();
        let pid = i32::try_from(other.id().unwrap()).unwrap();
        let mut process = Process::find(pid).unwrap();
        process.start -= 1;
        let stale = Record {
            name: "sleeper".to_owned(),
            process,
            argv: Vec::new(),
        };
        std::fs::write(stage.record("sleeper"), serde_json::to_vec(&stale).unwrap()).unwrap();
        assert!(!stop(&stage, "sleeper").await.unwrap());
        assert_eq!(other.try_wait().unwrap(), None);
    }

    #[tokio::test]
    async fn a_part_that_dies_while_starting_shows_the_end_of_its_log() {
        let (_dir, stage) = stage();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such disk >&2; exit 3"]);
        let process = start(&stage, "dying", command).unwrap();
        let outcome = wait_ready(&stage, "dying", process, Duration::from_secs(5), || {
            Command::new("false")
        })
        .await;
        let error = outcome.unwrap_err();
        assert_eq!(error.code(), "part_died");
        assert!(error.to_string().contains("no such disk"), "{error}");
    }

    #[tokio::test]
    async fn a_part_that_never_answers_is_given_up_on() {
        let (_dir, stage) = stage();
        let process = start(&stage, "mute", sleeper()).unwrap();
        let patience = Duration::from_millis(200);
        let outcome = wait_ready(&stage, "mute", process, patience, || Command::new("false")).await;
        assert_eq!(outcome.unwrap_err().code(), "part_not_ready");
        assert!(stop(&stage, "mute").await.unwrap());
    }
}
