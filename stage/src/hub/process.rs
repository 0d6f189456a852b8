//! Processes of the stage: known by pid *and* start time, so that a pid that the kernel has handed on is never signalled.
//!
//! [`Child`] starts a program inside the hub, appends its output to a log file and records it in `run/<name>.json`; whoever comes
//! after a crash of the supervisor finds it there and ends it. Nothing is restarted by itself.

use super::network::namespace_path;
use super::{HubError, Stage};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// One process, for as long as it lives; a later one with the same pid is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// As the host sees it.
    pub(crate) pid: i32,
    /// Clock ticks since the machine's boot (field 22 of /proc/pid/stat).
    pub(crate) start: u64,
}

impl Process {
    /// The living process with this pid.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self {
            pid,
            start: stat.start,
        })
    }

    /// The calling process.
    pub(crate) fn own() -> Option<Self> {
        Self::find(i32::try_from(std::process::id()).ok()?)
    }

    /// True until it has ended; a zombie has ended.
    pub(crate) fn alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.start == self.start && stat.state != 'Z')
    }

    /// Signals this very process. One that has ended already is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Ends it: SIGTERM, `grace`, then SIGKILL. Blocks until it is gone.
    pub(crate) fn end(&self, grace: Duration) -> Result<(), HubError> {
        self.signal(Signal::SIGTERM);
        if self.gone_within(grace) {
            return Ok(());
        }
        if Stat::read(self.pid)
            .is_some_and(|stat| stat.start == self.start && stat.group == self.pid)
        {
            let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
        self.signal(Signal::SIGKILL);
        if self.gone_within(Duration::from_secs(5)) {
            Ok(())
        } else {
            Err(HubError::Unkillable { pid: self.pid })
        }
    }

    /// Waits for its end, looking every 20 ms.
    pub(crate) fn gone_within(&self, limit: Duration) -> bool {
        const PAUSE: Duration = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while self.alive() {
            if waited >= limit {
                return false;
            }
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
        true
    }
}

/// What this module reads of /proc/pid/stat.
struct Stat {
    state: char,
    parent: i32,
    group: i32,
    start: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command's name stands in parentheses and may hold any character, so fields are counted from the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            start: fields.nth(16)?.parse().ok()?,
        })
    }
}

/// The calling process and all its ancestors, which no cleanup may end.
pub(crate) fn own_line() -> Vec<i32> {
    let mut line = Vec::new();
    let mut pid = i32::try_from(std::process::id()).unwrap_or(0);
    while pid > 0 && line.len() < 64 {
        line.push(pid);
        pid = Stat::read(pid).map_or(0, |stat| stat.parent);
    }
    line
}

/// Every process in a network namespace, found by the namespace and not by any record of ours.
pub(crate) fn in_namespace(namespace: &str) -> Vec<Process> {
    use std::os::unix::fs::MetadataExt;
    let Ok(wanted) = std::fs::metadata(namespace_path(namespace)) else {
        return Vec::new();
    };
    all()
        .filter(|process| {
            std::fs::metadata(format!("/proc/{}/ns/net", process.pid))
                .is_ok_and(|net| (net.dev(), net.ino()) == (wanted.dev(), wanted.ino()))
        })
        .collect()
}

fn all() -> impl Iterator<Item = Process> {
    let pids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| Process::find(entry.file_name().to_str()?.parse().ok()?))
        .filter(Process::alive)
}

/// The record of a started process in `run/<name>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) process: Process,
    pub(crate) argv: Vec<String>,
}

impl Record {
    fn path(stage: &Stage, name: &str) -> PathBuf {
        stage.run().join(format!("{name}.json"))
    }

    /// All processes that the stage has on record, living or not.
    pub(crate) fn all(stage: &Stage) -> Vec<Self> {
        let Ok(entries) = std::fs::read_dir(stage.run()) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|ending| ending == "json")
            })
            .filter_map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).ok()?).ok())
            .collect()
    }

    /// Takes the record away.
    pub(crate) fn forget(&self, stage: &Stage) {
        let _ = std::fs::remove_file(Self::path(stage, &self.name));
    }
}

/// A program that runs in the hub under the supervisor's eyes.
#[derive(Debug)]
pub(crate) struct Child {
    record: Record,
    #[allow(dead_code, reason = "for restarts")]
    log: PathBuf,
    child: tokio::process::Child,
    stage: Stage,
    #[allow(dead_code, reason = "for restarts")]
    command: Command,
}

/// What is needed to start a program again just as before.
#[derive(Clone, Debug)]
struct Command {
    argv: Vec<OsString>,
    env: Vec<(String, String)>,
}

impl Child {
    /// Starts `argv` in the hub's network namespace, in a process group of its own (a terminal's Ctrl-C reaches the supervisor
    /// alone, which then ends things in order). `env` is added to the supervisor's environment; output is appended to `log`.
    pub(crate) fn spawn_in_hub(
        stage: &Stage,
        name: &str,
        argv: &[OsString],
        env: &[(String, String)],
        log: &Path,
    ) -> Result<Self, HubError> {
        let hub = stage.hub_namespace();
        if !super::network::exists(&hub) {
            return Err(HubError::NoHub { namespace: hub });
        }
        let command = Command {
            argv: argv.to_vec(),
            env: env.to_vec(),
        };
        let (child, process) = command.start(&hub, log)?;
        let words = argv
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        let record = Record {
            name: name.to_owned(),
            process,
            argv: words,
        };
        super::write_json(&Record::path(stage, name), &record)?;
        Ok(Self {
            record,
            log: log.to_owned(),
            child,
            stage: stage.clone(),
            command,
        })
    }

    /// Which process it is now; after a [`Child::restart`], another.
    pub(crate) fn process(&self) -> Process {
        self.record.process
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> Result<std::process::ExitStatus, HubError> {
        self.child.wait().await.map_err(|source| HubError::Start {
            program: self.record.name.clone(),
            source,
        })
    }

    /// Ends it: SIGTERM, `grace`, SIGKILL for its whole process group.
    pub(crate) async fn stop(&mut self, grace: Duration) -> Result<(), HubError> {
        self.record.process.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.child.wait())
            .await
            .is_err()
        {
            let _ = killpg(Pid::from_raw(self.record.process.pid), Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
        self.record.forget(&self.stage);
        Ok(())
    }

    /// Ends it at once, as a crash would: SIGKILL, no grace. Its record stays until it is started again or stopped.
    #[allow(dead_code, reason = "for the supervisor and its tests")]
    pub(crate) async fn kill(&mut self) {
        self.record.process.signal(Signal::SIGKILL);
        let _ = self.child.wait().await;
    }

    /// Starts it again with the same words, environment and log, ending it first where it still runs.
    #[allow(dead_code, reason = "for the supervisor and its tests")]
    pub(crate) async fn restart(&mut self) -> Result<(), HubError> {
        self.stop(Duration::from_secs(5)).await?;
        let (child, process) = self.command.start(&self.stage.hub_namespace(), &self.log)?;
        self.child = child;
        self.record.process = process;
        super::write_json(&Record::path(&self.stage, &self.record.name), &self.record)
    }
}

impl Command {
    fn start(&self, hub: &str, log: &Path) -> Result<(tokio::process::Child, Process), HubError> {
        let program = self
            .argv
            .first()
            .map(|word| word.to_string_lossy().into_owned())
            .unwrap_or_default();
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .map_err(HubError::file("open", log))
        };
        let start = |source| HubError::Start {
            program: program.clone(),
            source,
        };
        // nsenter replaces itself by the program, so the pid is the program's own; it leaves the mount namespace alone.
        let child = tokio::process::Command::new("nsenter")
            .arg(format!("--net={}", namespace_path(hub).display()))
            .arg("--")
            .args(&self.argv)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .process_group(0)
            .spawn()
            .map_err(start)?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        let process = pid.and_then(Process::find);
        let process = process.ok_or_else(|| start(std::io::Error::other("it ended at once")))?;
        Ok((child, process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_full_of_parentheses_does_not_shift_the_fields() {
        let line = "12 (a) R 1 (b) S 7 12 12 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.state, stat.parent, stat.group, stat.start),
            ('S', 7, 12, 4711)
        );
    }

    #[test]
    fn a_process_is_alive_only_under_its_own_start_time() {
        let own = Process::own().unwrap();
        assert!(own.alive());
        assert!(
            !Process {
                start: own.start + 1,
                ..own
            }
            .alive()
        );
    }

    #[test]
    fn ending_a_process_that_ignores_sigterm_takes_sigkill() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "trap '' TERM; echo ready; while :; do sleep 1; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 6];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut word).unwrap();
        let process = Process::find(i32::try_from(child.id()).unwrap()).unwrap();
        process.end(Duration::from_millis(100)).unwrap();
        assert!(!process.alive());
        child.wait().unwrap();
    }
}
