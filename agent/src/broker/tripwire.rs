//! The tripwire: ways of amazon-ssm-agent's session workers that do not lead to the broker.
//!
//! IAM denies the documents for port forwarding, elevation and commands without a shell, and the unit's `NoExecPaths=`
//! leaves a worker no program but the shim. A worker of another kind than these is refused before it runs, by its
//! session's state ([`first_look`]). Should one run all the same, this notices: a port session dials as root from the
//! worker itself, the metadata service included, so it ends the bastion; so does any child of a worker that is not the
//! shim. A worker that leads nobody to the broker is killed. A process of another uid than root's is no worker, whatever it
//! runs or says it runs: amazon-ssm-agent starts none.

use super::peer::{parent_of, program_of, read_worker, session_state, uids_of};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often workers are looked at.
pub(crate) const EVERY: Duration = Duration::from_millis(250);
/// How many looks a worker may take until its login comes: the client on the other side has to answer first.
const PATIENCE: u32 = 80;

/// Kinds of sessions that start `sh`, which is the shim, whatever they ask for.
const KINDS: [&str; 2] = ["Standard_Stream", "InteractiveCommands"];

/// What a worker does that none should.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Trip {
    /// It forwards a port.
    Port,
    /// It starts a program without a shell, and as root where its document says so.
    NoShell,
    /// Its session is of a kind that nobody knows here.
    UnknownKind(String),
    /// It runs something else than the shim.
    Child(PathBuf),
    /// It lives and brings nobody to the broker.
    Silent,
}

impl Trip {
    /// A stable name, for the record and the log.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Port => "port_session",
            Self::NoShell => "no_shell",
            Self::UnknownKind(_) => "unknown_kind",
            Self::Child(_) => "foreign_child",
            Self::Silent => "silent_worker",
        }
    }

    /// Whether the bastion has to end: the instance's role may be known to somebody, or somebody ran as root.
    pub(crate) fn ends_the_bastion(&self) -> bool {
        !matches!(self, Self::Silent)
    }
}

/// Judges a worker by its session's kind. A state that names none, or that is not there, refuses nobody: what comes of
/// such a worker is looked at again.
pub(crate) fn first_look(plugin: Option<&str>) -> Option<Trip> {
    match plugin.unwrap_or_default() {
        "" => None,
        kind if KINDS.contains(&kind) => None,
        "Port" => Some(Trip::Port),
        "NonInteractiveCommands" => Some(Trip::NoShell),
        other => Some(Trip::UnknownKind(other.to_owned())),
    }
}

/// What one look at a worker shows.
#[derive(Debug, Clone, Default)]
struct Seen {
    plugin: String,
    children: Vec<PathBuf>,
    logged_in: bool,
    looks: u32,
}

fn judge(seen: &Seen, allowed: &[PathBuf]) -> Option<Trip> {
    if let Some(child) = seen.children.iter().find(|child| !allowed.contains(child)) {
        return Some(Trip::Child(child.clone()));
    }
    if let Some(trip) = first_look(Some(&seen.plugin)) {
        return Some(trip);
    }
    (!seen.logged_in && seen.looks >= PATIENCE).then_some(Trip::Silent)
}

/// A worker that tripped.
#[derive(Debug)]
pub(crate) struct Tripped {
    /// What it did.
    pub(crate) trip: Trip,
    /// Its pid.
    pub(crate) pid: i32,
    /// The session that it serves.
    pub(crate) session: String,
}

/// Looks at workers, again and again.
#[derive(Debug)]
pub(crate) struct Tripwire {
    worker: PathBuf,
    /// Whose workers are: this process', which is root.
    uid: u32,
    allowed: Vec<PathBuf>,
    ssm_data: PathBuf,
    instance: String,
    looks: HashMap<i32, u32>,
}

impl Tripwire {
    /// For the workers that run `worker` and may start `shim`.
    pub(crate) fn new(worker: &Path, shim: PathBuf, ssm_data: &Path, instance: &str) -> Self {
        Self {
            worker: worker.to_owned(),
            uid: rustix::process::geteuid().as_raw(),
            // Between fork and exec a child is its parent's program still.
            allowed: vec![shim, worker.to_owned()],
            ssm_data: ssm_data.to_owned(),
            instance: instance.to_owned(),
            looks: HashMap::new(),
        }
    }

    /// One look at every worker. `logged_in` tells whether a session came to the broker.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub(crate) fn look(&mut self, logged_in: impl Fn(&str) -> bool) -> io::Result<Vec<Tripped>> {
        let pids: Vec<i32> = std::fs::read_dir("/proc")?
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        let workers: Vec<i32> = pids
            .iter()
            .copied()
            .filter(|pid| self.is_worker(*pid))
            .collect();
        self.looks.retain(|pid, _| workers.contains(pid));
        if workers.is_empty() {
            return Ok(Vec::new());
        }
        let mut children: HashMap<i32, Vec<PathBuf>> = HashMap::new();
        for pid in &pids {
            if let (Ok(parent), Some(program)) = (parent_of(*pid), program_of(*pid))
                && workers.contains(&parent)
            {
                children.entry(parent).or_default().push(program);
            }
        }
        let mut tripped = Vec::new();
        for pid in workers {
            let looks = self.looks.entry(pid).or_default();
            *looks += 1;
            let session = read_worker(pid)
                .ok()
                .and_then(|worker| worker.argument)
                .unwrap_or_default();
            let state = session_state(&self.ssm_data, &self.instance, &session).ok();
            let seen = Seen {
                plugin: state.map(|state| state.plugin).unwrap_or_default(),
                children: children.remove(&pid).unwrap_or_default(),
                logged_in: logged_in(&session),
                looks: *looks,
            };
            if let Some(trip) = judge(&seen, &self.allowed) {
                tripped.push(Tripped { trip, pid, session });
            }
        }
        Ok(tripped)
    }

    /// One of a worker's uids at least is root's; no process of anybody else comes by that.
    fn is_worker(&self, pid: i32) -> bool {
        program_of(pid).as_deref() == Some(&self.worker)
            && uids_of(pid).is_ok_and(|uids| uids.contains(&self.uid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(change: impl Fn(&mut Seen)) -> Option<Trip> {
        let mut seen = Seen {
            plugin: "Standard_Stream".to_owned(),
            children: vec!["/usr/lib/powerpole/shim/sh".into()],
            logged_in: true,
            looks: 1,
        };
        change(&mut seen);
        judge(&seen, &["/usr/lib/powerpole/shim/sh".into()])
    }

    #[test]
    fn a_login_trips_nothing_however_long_it_lasts() {
        assert_eq!(judged(|_| {}), None);
        assert_eq!(judged(|seen| seen.looks = u32::MAX), None);
    }

    #[test]
    fn only_kinds_that_start_the_shim_may_run() {
        for kind in KINDS {
            assert_eq!(first_look(Some(kind)), None);
        }
        assert_eq!(first_look(Some("Port")), Some(Trip::Port));
        let no_shell = first_look(Some("NonInteractiveCommands"));
        assert_eq!(no_shell, Some(Trip::NoShell));
        let unknown = first_look(Some("Tunnel")).unwrap();
        assert_eq!(unknown.code(), "unknown_kind");
        assert_eq!(first_look(None), None);
    }

    #[test]
    fn ports_other_programs_and_silence_trip() {
        assert_eq!(judged(|s| s.plugin = "Port".to_owned()), Some(Trip::Port));
        let child = PathBuf::from("/usr/lib/systemd/systemd");
        assert_eq!(
            judged(|s| s.children.push(child.clone())),
            Some(Trip::Child(child.clone()))
        );
        assert_eq!(judged(|s| s.logged_in = false), None);
        let silent = judged(|s| {
            s.logged_in = false;
            s.looks = PATIENCE;
        });
        assert_eq!(silent, Some(Trip::Silent));
    }

    /// By another process: a descriptor of ours that a child of another test has for a moment makes it busy.
    fn copy_bash(to: &Path) {
        let copied = std::process::Command::new("cp")
            .arg("/bin/bash")
            .arg(to)
            .status();
        assert!(copied.unwrap().success());
    }

    #[test]
    fn workers_are_found_by_their_program_with_their_children() {
        let temp = tempfile::tempdir().unwrap();
        // A copy has a path of its own, so nobody else's process counts as a worker.
        let worker = temp.path().join("worker");
        copy_bash(&worker);
        let mut child = std::process::Command::new(&worker)
            .args(["-c", "sleep 60; true", "session-1"])
            .spawn()
            .unwrap();
        let shim = PathBuf::from("/usr/lib/powerpole/shim/sh");
        let mut tripwire = Tripwire::new(&worker, shim, temp.path(), "i-1");
        let found = (0..500).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            tripwire.look(|_| true).unwrap().pop()
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let found = found.unwrap();
        assert_eq!(i32::try_from(child.id()).unwrap(), found.pid);
        assert_eq!(found.trip.code(), "foreign_child");
        assert!(found.trip.ends_the_bastion());
    }

    #[test]
    fn a_process_of_another_user_is_no_worker_whatever_it_runs() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can be another user");
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(temp.path(), open).unwrap();
        let worker = temp.path().join("worker");
        copy_bash(&worker);
        let mut command = std::process::Command::new(&worker);
        command.args(["-c", "sleep 60; true", "session-1"]);
        std::os::unix::process::CommandExt::uid(&mut command, 65_533);
        // It is the program from here on: `spawn` waits until it was executed.
        let mut child = command.spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(program_of(pid), Some(worker.clone()));
        let shim = PathBuf::from("/usr/lib/powerpole/shim/sh");
        let mut tripwire = Tripwire::new(&worker, shim, temp.path(), "i-1");
        let tripped = tripwire.look(|_| false).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tripped.is_empty(), "{tripped:?}");
        assert!(tripwire.looks.is_empty());
    }
}
