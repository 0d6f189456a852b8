//! No session worker runs one instruction before its session was looked at.
//!
//! The kernel asks (fanotify(7), `FAN_OPEN_EXEC_PERM`) before it executes the worker's program, and the process waits in
//! `execve` for the answer. It gets SIGSTOP while it waits and is then let on, so that it becomes the worker, with its
//! arguments, and stops before the new program's first instruction: a signal that is pending is delivered on the way
//! back to user mode. There it stands until it is told to go on, or is killed.
//!
//! A worker is the agent's uid's, root: amazon-ssm-agent starts it so. Whoever else executes the program is told EPERM, so that
//! nobody passes themselves off as a worker.
//!
//! Owns the fanotify group. When this process dies the kernel lets on whatever waits; the unit's end then stops
//! amazon-ssm-agent and powers the machine off.

use super::peer::{is_stopped, parent_of, program_of, uids_of};
use crate::unsafe_os::async_fd;
use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// How long a process may take from being let on until it stands, and from SIGKILL until it is gone.
const WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Hears of every execution of one program before it happens.
#[derive(Debug)]
pub(super) struct ExecWatch {
    group: Fanotify,
    readable: AsyncFd<OwnedFd>,
    program: PathBuf,
    /// Who may execute it.
    uid: u32,
}

/// A process that executes the program and may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denied {
    /// Its pid.
    pub(super) pid: i32,
    /// Its real uid.
    pub(super) uid: u32,
}

/// Why a process is not held.
enum NotHeld {
    Denied(Denied),
    Failed(io::Error),
}

/// A process that stands, or soon will, before its program's first instruction. Dropped without a word it is killed.
#[derive(Debug)]
pub(super) struct Held {
    pid: i32,
    /// Pids reused later do not fool it.
    handle: OwnedFd,
    program: PathBuf,
    let_go: bool,
}

impl ExecWatch {
    /// Watches the program at this path.
    ///
    /// # Errors
    /// When there is none, or the kernel cannot ask.
    pub(super) fn on(program: &Path) -> io::Result<Self> {
        let flags = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            // What does not fit into a bounded queue would be let on unasked.
            | InitFlags::FAN_UNLIMITED_QUEUE;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
        group.mark(
            MarkFlags::FAN_MARK_ADD,
            MaskFlags::FAN_OPEN_EXEC_PERM,
            AT_FDCWD,
            Some(program),
        )?;
        let readable = async_fd(group.as_fd().try_clone_to_owned()?)?;
        Ok(Self {
            group,
            readable,
            program: program.to_owned(),
            uid: rustix::process::geteuid().as_raw(),
        })
    }

    /// The next processes that execute the program. `noted` hears of each before it is let on, `denied` of each that may not
    /// execute it.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub(super) async fn next(
        &mut self,
        noted: impl Fn(i32),
        mut denied: impl FnMut(Denied),
    ) -> io::Result<Vec<Held>> {
        let events = loop {
            let mut guard = self.readable.readable().await?;
            let read = guard.try_io(|_| self.group.read_events().map_err(io::Error::from));
            if let Ok(events) = read {
                break events?;
            }
        };
        // Every process that asks is answered, whatever becomes of another.
        Ok(events
            .iter()
            .filter_map(|event| self.answer(event, &noted, &mut denied))
            .collect())
    }

    fn answer(
        &self,
        event: &FanotifyEvent,
        noted: &impl Fn(i32),
        denied: &mut impl FnMut(Denied),
    ) -> Option<Held> {
        let file = event.fd()?;
        let stopped = self.stop(event.pid(), noted);
        let response = match &stopped {
            Ok(_) => Response::FAN_ALLOW,
            Err(NotHeld::Denied(who)) => {
                denied(*who);
                Response::FAN_DENY
            }
            Err(NotHeld::Failed(error)) => {
                tracing::error!(%error, pid = event.pid(), "a session worker cannot be held, so it may not run");
                Response::FAN_DENY
            }
        };
        // Fails when the process was killed meanwhile; then nobody waits for the answer.
        let _ = self
            .group
            .write_response(FanotifyResponse::new(file, response));
        stopped.ok()
    }

    fn stop(&self, pid: i32, noted: &impl Fn(i32)) -> Result<Held, NotHeld> {
        let process = Pid::from_raw(pid).ok_or(io::ErrorKind::NotFound)?;
        let handle = pidfd_open(process, PidfdFlags::empty())?;
        // It waits in execve, so its uids stay what they are.
        let uids = uids_of(pid)?;
        if is_gone(&handle) {
            // The uids may be those of a later process of this pid.
            return Err(io::ErrorKind::NotFound.into());
        }
        if uids != [self.uid; 4] {
            let [uid, ..] = uids;
            return Err(NotHeld::Denied(Denied { pid, uid }));
        }
        pidfd_send_signal(&handle, Signal::STOP)?;
        noted(pid);
        Ok(Held {
            pid,
            handle,
            program: self.program.clone(),
            let_go: false,
        })
    }
}

impl From<io::Error> for NotHeld {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<io::ErrorKind> for NotHeld {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Failed(kind.into())
    }
}

impl From<rustix::io::Errno> for NotHeld {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Failed(error.into())
    }
}

impl Held {
    /// Its pid.
    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether a process that runs the program itself started it: a helper of a session that was looked at already.
    pub(super) fn is_nested(&self) -> bool {
        parent_of(self.pid)
            .ok()
            .and_then(program_of)
            .as_deref()
            .is_some_and(|program| program == self.program)
    }

    /// Waits until it stands. False when it did not become the program, because it was refused or killed.
    pub(super) async fn stands(&self) -> bool {
        let standing = async {
            while !is_stopped(self.pid) {
                if is_gone(&self.handle) {
                    return false;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            program_of(self.pid).as_deref() == Some(&self.program)
        };
        tokio::time::timeout(WITHIN, standing)
            .await
            .unwrap_or(false)
    }

    /// Lets it run.
    pub(super) fn go_on(mut self) {
        self.let_go = true;
        let _ = pidfd_send_signal(&self.handle, Signal::CONT);
    }

    /// Kills it, and waits until it is gone. It has run nothing.
    pub(super) async fn kill(self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        let gone = async {
            while !is_gone(&self.handle) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(WITHIN, gone).await;
    }
}

fn is_gone(handle: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(handle, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(1))
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.let_go {
            let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    /// A worker of its own, so that nobody else's process counts, which says that it ran.
    struct Trial {
        watch: ExecWatch,
        worker: PathBuf,
        ran: PathBuf,
        _temp: tempfile::TempDir,
    }

    /// By another process: a descriptor of ours that a child of another test has for a moment makes it busy.
    fn copy_bash(to: &Path) {
        let copied = std::process::Command::new("cp")
            .arg("/bin/bash")
            .arg(to)
            .status();
        assert!(copied.unwrap().success());
    }

    fn trial() -> Option<Trial> {
        let temp = tempfile::tempdir().unwrap();
        let worker = temp.path().join("worker");
        copy_bash(&worker);
        match ExecWatch::on(&worker) {
            Ok(watch) => Some(Trial {
                watch,
                worker,
                ran: temp.path().join("ran"),
                _temp: temp,
            }),
            Err(error) => {
                eprintln!("SKIPPED: fanotify with permission events needs root: {error}");
                None
            }
        }
    }

    fn nobody(denied: Denied) {
        panic!("{denied:?}");
    }

    impl Trial {
        /// Starts it beside: whoever starts it waits until it has executed the program.
        fn start(&self) -> tokio::task::JoinHandle<Child> {
            let mut command = Command::new(&self.worker);
            command
                .args(["-c", "echo yes >\"$1\"", "session-1"])
                .arg(&self.ran);
            tokio::task::spawn_blocking(move || command.spawn().unwrap())
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_runs_nothing_until_it_may_and_has_its_arguments_by_then() {
        let Some(mut trial) = trial() else { return };
        let starting = trial.start();
        let noted = std::sync::atomic::AtomicI32::new(0);
        let note = |pid| noted.store(pid, std::sync::atomic::Ordering::SeqCst);
        let held = trial.watch.next(note, nobody).await.unwrap().pop().unwrap();
        assert_eq!(noted.into_inner(), held.pid());
        let mut child = starting.await.unwrap();
        assert_eq!(i32::try_from(child.id()).unwrap(), held.pid());
        assert!(held.stands().await && !held.is_nested());
        let arguments = std::fs::read(format!("/proc/{}/cmdline", held.pid())).unwrap();
        assert!(String::from_utf8_lossy(&arguments).contains("session-1"));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!trial.ran.exists());
        held.go_on();
        assert!(child.wait().unwrap().success());
        assert!(trial.ran.exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_that_is_killed_or_forgotten_ran_nothing() {
        let Some(mut trial) = trial() else { return };
        for forgotten in [false, true] {
            let starting = trial.start();
            let held = trial
                .watch
                .next(|_| {}, nobody)
                .await
                .unwrap()
                .pop()
                .unwrap();
            let mut child = starting.await.unwrap();
            assert!(held.stands().await);
            if forgotten {
                drop(held);
            } else {
                held.kill().await;
            }
            assert_eq!(child.wait().unwrap().code(), None);
            assert!(!trial.ran.exists());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_worker_starts_of_itself_is_known_as_such() {
        let Some(mut trial) = trial() else { return };
        let mut command = Command::new(&trial.worker);
        command
            .args(["-c", "\"$1\" -c true; true", "session-1"])
            .arg(&trial.worker);
        let starting = tokio::task::spawn_blocking(move || command.spawn().unwrap());
        for nested in [false, true] {
            let held = trial
                .watch
                .next(|_| {}, nobody)
                .await
                .unwrap()
                .pop()
                .unwrap();
            assert!(held.stands().await);
            assert_eq!(held.is_nested(), nested);
            held.go_on();
        }
        assert!(starting.await.unwrap().wait().unwrap().success());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_user_executes_nothing_and_holds_nobody_up() {
        let Some(mut trial) = trial() else { return };
        std::fs::set_permissions(
            trial.worker.parent().unwrap(),
            std::os::unix::fs::PermissionsExt::from_mode(0o777),
        )
        .unwrap();
        let mut command = Command::new(&trial.worker);
        command
            .args(["-c", "echo yes >\"$1\"", "session-1"])
            .arg(&trial.ran);
        std::os::unix::process::CommandExt::uid(&mut command, 65_533);
        let starting = tokio::task::spawn_blocking(move || command.spawn());
        let mut denied = Vec::new();
        let held = trial.watch.next(|_| {}, |who| denied.push(who)).await;
        assert!(held.unwrap().is_empty());
        assert_eq!(denied.len(), 1);
        assert_eq!(denied[0].uid, 65_533);
        let error = starting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(!trial.ran.exists());
        // And root's are held as ever.
        let starting = trial.start();
        let held = trial.watch.next(|_| {}, nobody).await.unwrap().pop();
        let held = held.unwrap();
        assert!(held.stands().await);
        held.go_on();
        assert!(starting.await.unwrap().wait().unwrap().success());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_at_once_are_each_held() {
        let Some(mut trial) = trial() else { return };
        let starting: Vec<_> = (0..8).map(|_| trial.start()).collect();
        let mut held = Vec::new();
        while held.len() < 8 {
            held.extend(trial.watch.next(|_| {}, nobody).await.unwrap());
        }
        for one in held {
            assert!(one.stands().await);
            one.go_on();
        }
        for one in starting {
            assert!(one.await.unwrap().wait().unwrap().success());
        }
    }
}
