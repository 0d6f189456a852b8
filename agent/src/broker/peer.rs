//! Who stands at the broker's socket: from the kernel's credentials to the SSM session behind them.
//!
//! The chain is: credentials that the kernel attached to a message → process → its parent, amazon-ssm-agent's
//! session worker, whose first argument is the session id → the session's state file, which root wrote.
//!
//! A pid may be given to another process at any moment, so nothing read from `/proc` counts by itself. The
//! handle ([`PeerProcess`]) is taken before the peer is challenged, the answer's credentials name the same pid,
//! and the handle's process still lives afterwards: so the process that answered is the one that was read. A
//! parent that dies is replaced by init at once, so a parent that is the same before and after was there all along.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What `/proc` says of the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Worker {
    /// Its pid.
    pub(crate) pid: i32,
    /// Its real uid.
    pub(crate) uid: u32,
    /// The program that it runs.
    pub(crate) program: PathBuf,
    /// Its first argument.
    pub(crate) argument: Option<String>,
}

/// A handle on the process that connected; pids reused later do not fool it.
#[derive(Debug)]
pub(crate) struct PeerProcess {
    pid: i32,
    handle: OwnedFd,
}

impl PeerProcess {
    /// Takes a handle on the process that has this pid now.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn open(pid: Pid) -> io::Result<Self> {
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Self {
            pid: pid.as_raw_nonzero().get(),
            handle,
        })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still lives.
    pub(crate) fn lives(&self) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Its parent.
    ///
    /// # Errors
    /// When one of the two is gone, or the parent changed meanwhile.
    pub(crate) fn worker(&self) -> io::Result<Worker> {
        let parent = parent_of(self.pid)?;
        let worker = read_worker(parent)?;
        if parent_of(self.pid)? == parent {
            Ok(worker)
        } else {
            Err(io::Error::other("the parent process has changed"))
        }
    }
}

/// The parent of a process.
pub(crate) fn parent_of(pid: i32) -> io::Result<i32> {
    let stat = read_small(Path::new(&format!("/proc/{pid}/stat")))?;
    // The second field is the program's name in parentheses and may hold anything, parentheses included.
    String::from_utf8_lossy(&stat)
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse().ok())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// What `/proc` says of a process that may be a session worker.
pub(crate) fn read_worker(pid: i32) -> io::Result<Worker> {
    let [uid, ..] = uids_of(pid)?;
    let program = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let arguments = read_small(Path::new(&format!("/proc/{pid}/cmdline")))?;
    let argument = arguments
        .split(|byte| *byte == 0)
        .nth(1)
        .filter(|argument| !argument.is_empty())
        .and_then(|argument| std::str::from_utf8(argument).ok())
        .map(str::to_owned);
    Ok(Worker {
        pid,
        uid,
        program,
        argument,
    })
}

/// The uids of a process: real, effective, saved, and the file system's.
pub(crate) fn uids_of(pid: i32) -> io::Result<[u32; 4]> {
    let status = read_small(Path::new(&format!("/proc/{pid}/status")))?;
    let uids = String::from_utf8_lossy(&status)
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .map(|uids| uids.split_ascii_whitespace().map(str::parse).collect())
        .and_then(|uids: Result<Vec<u32>, _>| uids.ok()?.try_into().ok());
    uids.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The program that a process runs.
pub(crate) fn program_of(pid: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// Whether a process is stopped by a signal.
pub(crate) fn is_stopped(pid: i32) -> bool {
    read_small(Path::new(&format!("/proc/{pid}/stat"))).is_ok_and(|stat| {
        String::from_utf8_lossy(&stat)
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

/// What a session's state file says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionState {
    /// `StartSession` for a login.
    pub(crate) document_type: String,
    /// The session's id.
    pub(crate) session_id: String,
    /// ARN of the principal that started it.
    pub(crate) owner: String,
    /// The session document's name.
    pub(crate) document: String,
    /// What the document asks for: `Standard_Stream`, `InteractiveCommands`, `Port` and the like.
    pub(crate) plugin: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StateFile {
    document_information: DocumentInformation,
    #[serde(default)]
    document_type: String,
    #[serde(default)]
    instance_plugins_information: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Plugin {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DocumentInformation {
    #[serde(rename = "DocumentID")]
    document_id: String,
    #[serde(default)]
    session_owner: String,
    #[serde(default)]
    document_name: String,
}

/// Whether a text can be a session id and a file's name at once.
pub(crate) fn is_session_id(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}

/// Reads the state that amazon-ssm-agent keeps of a session: `<root>/<instance>/document/state/current/<id>`
/// (agent/framework/docmanager, agent/contracts/document.go). It lies in `pending` for a moment before.
///
/// # Errors
/// When there is none, or it is not of that form.
pub(crate) fn session_state(root: &Path, instance: &str, id: &str) -> io::Result<SessionState> {
    if !is_session_id(id) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let states = root.join(instance).join("document/state");
    let text = match read_small(&states.join("current").join(id)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            read_small(&states.join("pending").join(id))
        }
        read => read,
    }?;
    let state: StateFile = serde_json::from_slice(&text).map_err(io::Error::other)?;
    Ok(SessionState {
        document_type: state.document_type,
        session_id: state.document_information.document_id,
        owner: state.document_information.session_owner,
        document: state.document_information.document_name,
        plugin: state
            .instance_plugins_information
            .into_iter()
            .next()
            .map(|plugin| plugin.name)
            .unwrap_or_default(),
    })
}

/// Reads a file of at most 1 MiB.
fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    const LIMIT: u64 = 1 << 20;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!(
            "{} is too large",
            path.as_os_str().as_bytes().len()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_and_its_parent_are_read_and_its_end_is_noticed() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let process = PeerProcess::open(pid).unwrap();
        assert!(process.lives());
        let worker = process.worker().unwrap();
        assert_eq!(worker.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(worker.program, std::env::current_exe().unwrap());
        // A new program's arguments appear a moment after its name.
        let read = || read_worker(process.pid()).unwrap().argument;
        let argument = (0..1000).find_map(|_| {
            read().or_else(|| {
                std::thread::yield_now();
                None
            })
        });
        assert_eq!(argument.as_deref(), Some("60"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
        assert!(process.worker().is_err());
    }

    #[test]
    fn the_state_that_the_ssm_agent_writes_is_understood() {
        let root = tempfile::tempdir().unwrap();
        let current = root.path().join("i-1/document/state/current");
        std::fs::create_dir_all(&current).unwrap();
        // Field names of contracts.DocumentState and contracts.DocumentInfo, amazon-ssm-agent 3.3.
        let text = r#"{ "DocumentInformation": { "DocumentID": "alice@example.com-0abc", "CommandID":
            "alice@example.com-0abc", "InstanceID": "i-1", "DocumentName": "SSM-SessionManagerRunShell",
            "RunCount": 0, "ProcInfo": {"Pid": 7, "StartTime": "2026-11-23T19:00:00Z"}, "RunAsUser": "",
            "SessionOwner": "arn:aws:sts::1:assumed-role/R/alice@example.com" },
            "DocumentType": "StartSession", "SchemaVersion": "1.0", "InstancePluginsInformation": [] }"#;
        std::fs::write(current.join("alice@example.com-0abc"), text).unwrap();
        let state = session_state(root.path(), "i-1", "alice@example.com-0abc").unwrap();
        assert_eq!(
            state.owner,
            "arn:aws:sts::1:assumed-role/R/alice@example.com"
        );
        assert_eq!(state.document_type, "StartSession");
    }

    #[test]
    fn an_id_that_leaves_the_directory_is_refused() {
        for id in [
            "",
            "..",
            "../x",
            "a/b",
            ".hidden",
            "a\0b",
            "a b",
            &"x".repeat(257),
        ] {
            assert!(!is_session_id(id), "{id:?}");
        }
        assert!(is_session_id("alice@example.com-0a1b2c3d4e5f67890"));
    }
}
