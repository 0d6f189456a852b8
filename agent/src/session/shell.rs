//! The operator's shell: a transient systemd service of its own for each login, under another uid.
//!
//! A service and not a scope: the shell is started by systemd itself, so it inherits nothing of the agent (no
//! descriptor, no environment, no capability), it gets the sandbox that only services have, and its cgroup is what
//! is killed at the end, whatever daemons the operator has made of it. See docs/decisions/session-shell.md.

use crate::mounts::TEMPORARY;
use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// What is asked for at a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellRequest {
    /// A command instead of an interactive shell.
    pub(crate) command: Option<String>,
    /// The terminal's type.
    pub(crate) term: String,
}

/// Starts shells and ends all that came of them. `start`'s child lives as long as the shell does; after `end`
/// nothing that the session started is left, or an error says so.
pub(crate) trait Shells: Send + Sync + 'static {
    /// Starts the session's shell on this terminal.
    fn start(&self, session: u32, terminal: &Path, request: &ShellRequest) -> io::Result<Child>;
    /// Ends everything that the session started; may be repeated.
    fn end(&self, session: u32) -> impl Future<Output = io::Result<()>> + Send;
}

/// Shells under systemd.
#[derive(Debug, Clone)]
pub(crate) struct SystemdShells {
    /// The operator's user.
    pub(crate) user: String,
    /// Their home.
    pub(crate) home: PathBuf,
    /// Their shell.
    pub(crate) shell: PathBuf,
}

const SLICE: &str = "powerpole-sessions.slice";
/// Its control group, below each root: a hyphen in a slice's name is a level.
const SLICE_FOLDER: &str = "powerpole.slice/powerpole-sessions.slice";
/// Where systemd's hierarchy lies: the one of cgroup v2, or, on machines with the old ones, one of these.
const CGROUPS: [&str; 3] = [
    "/sys/fs/cgroup",
    "/sys/fs/cgroup/unified",
    "/sys/fs/cgroup/systemd",
];
/// Shells that do not end by themselves are killed after this time.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Properties of every session's service. Paths with a hyphen may be missing.
const SANDBOX: &[&str] = &[
    "StandardInput=tty",
    "StandardOutput=tty",
    "StandardError=tty",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "PrivateDevices=yes",
    "PrivateIPC=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    // No way into the kernel that a shell and a database client do not need. What is left out fails with EPERM.
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@keyring @aio process_vm_readv process_vm_writev userfaultfd",
    "SystemCallErrorNumber=EPERM",
    // A second wall behind the packet filter.
    "IPAddressDeny=any",
    "IPAddressAllow=127.0.0.1",
    // No socket of any service: not the broker's, not D-Bus, systemd, the journal or a resolver.
    "TemporaryFileSystem=/run:ro",
    "InaccessiblePaths=-/var/lib/powerpole -/etc/powerpole -/var/lib/amazon -/var/lib/gssproxy -/var/log -/dev/shm -/dev/mqueue",
    "LimitCORE=0",
    "LimitNPROC=512",
    "LimitMEMLOCK=64K",
    "TasksMax=512",
    "MemoryMax=60%",
    "OOMScoreAdjust=500",
    "UMask=0077",
    "KillMode=control-group",
    "SendSIGHUP=yes",
    // No recorder, no shell.
    "BindsTo=powerpole-agent.service",
    "OOMPolicy=continue",
];

fn unit(session: u32) -> String {
    format!("powerpole-session-{session}.service")
}

/// The arguments of `systemd-run` for one login.
fn arguments(
    shells: &SystemdShells,
    session: u32,
    terminal: &Path,
    request: &ShellRequest,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "--quiet",
        "--wait",
        "--collect",
        "--service-type=exec",
        &format!("--slice={SLICE}"),
        &format!("--unit={}", unit(session)),
        &format!("--description=PowerPole session {session}"),
        &format!("--property=User={}", shells.user),
        &format!("--property=TTYPath={}", terminal.display()),
        &format!("--property=TimeoutStopSec={}", STOP_WITHIN.as_secs()),
        &format!("--property=ReadWritePaths={}", shells.home.display()),
        &format!(
            "--property=BindPaths={0}/{TEMPORARY}:/tmp {0}/{TEMPORARY}:/var/tmp",
            shells.home.display()
        ),
        &format!("--property=WorkingDirectory={}", shells.home.display()),
        &format!("--setenv=HOME={}", shells.home.display()),
        &format!("--setenv=SHELL={}", shells.shell.display()),
        &format!("--setenv=TERM={}", request.term),
        "--setenv=LANG=C.UTF-8",
        "--setenv=PATH=/usr/local/bin:/usr/bin:/bin",
    ]
    .into_iter()
    .map(OsString::from)
    .collect();
    arguments.extend(
        SANDBOX
            .iter()
            .map(|property| format!("--property={property}").into()),
    );
    arguments.push("--".into());
    arguments.push(shells.shell.clone().into());
    match &request.command {
        None => arguments.push("-l".into()),
        Some(command) => {
            arguments.push("-c".into());
            // systemd expands `$` in a service's arguments; `$$` stands for one.
            arguments.push(command.replace('$', "$$").into());
        }
    }
    arguments
}

impl Shells for SystemdShells {
    fn start(&self, session: u32, terminal: &Path, request: &ShellRequest) -> io::Result<Child> {
        Command::new("/usr/bin/systemd-run")
            .args(arguments(self, session, terminal, request))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
    }

    async fn end(&self, session: u32) -> io::Result<()> {
        let unit = unit(session);
        let stop = Command::new("/usr/bin/systemctl")
            .args(["stop", &unit])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        // A unit that is gone already makes `stop` fail; the cgroup is what counts.
        let _ = tokio::time::timeout(STOP_WITHIN * 3, stop).await;
        empty(&unit).await
    }
}

/// Waits until nothing lives in the unit's cgroup, and kills what does.
async fn empty(unit: &str) -> io::Result<()> {
    for _ in 0..50 {
        let mut left = Vec::new();
        for root in CGROUPS {
            let cgroup = Path::new(root).join(SLICE_FOLDER).join(unit);
            let before = left.len();
            collect_processes(&cgroup, &mut left)?;
            if left.len() > before {
                // Where the kernel has it, this kills all at once, those that fork in this moment included.
                let _ = std::fs::write(cgroup.join("cgroup.kill"), "1");
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        for pid in left.into_iter().filter_map(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(io::Error::other(format!("processes are left in {unit}")))
}

/// Processes of a cgroup and of those below it; none when it is gone.
fn collect_processes(cgroup: &Path, pids: &mut Vec<i32>) -> io::Result<()> {
    let gone = |e: &io::Error| {
        e.kind() == io::ErrorKind::NotFound
            || e.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
    };
    match std::fs::read_to_string(cgroup.join("cgroup.procs")) {
        Ok(procs) => pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok())),
        Err(e) if gone(&e) => return Ok(()),
        Err(e) => return Err(e),
    }
    for entry in std::fs::read_dir(cgroup)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_processes(&entry.path(), pids)?;
        }
    }
    Ok(())
}

/// Kills every process of a uid, until a look at all processes finds none; returns how many looks found some.
///
/// # Errors
/// When some are left after 20 looks.
pub(crate) async fn kill_all_of(uid: u32) -> io::Result<u32> {
    for look in 0..20 {
        let mut found = 0;
        for pid in processes_of(uid)? {
            found += 1;
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if found == 0 {
            return Ok(look);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(io::Error::other(format!("processes of uid {uid} are left")))
}

fn processes_of(uid: u32) -> io::Result<Vec<i32>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Zombies belong to their parent; their directory keeps the uid, so they are left out by their state.
        let owned = entry.metadata().is_ok_and(|of| of.uid() == uid);
        if owned && !is_zombie(pid) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| {
            stat.rsplit_once(')')
                .map(|(_, rest)| rest.trim_start().starts_with('Z'))
        })
        .unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reaches_the_shell_as_it_was_typed_and_cannot_become_an_option() {
        let shells = SystemdShells {
            user: "operator".to_owned(),
            home: "/home/operator".into(),
            shell: "/bin/bash".into(),
        };
        let request = ShellRequest {
            command: Some("--property=User=root; echo $HOME".to_owned()),
            term: "xterm".to_owned(),
        };
        let arguments = arguments(&shells, 3, Path::new("/dev/pts/7"), &request);
        let text: Vec<_> = arguments.iter().map(|a| a.to_str().unwrap()).collect();
        assert_eq!(
            text[text.len() - 4..],
            ["--", "/bin/bash", "-c", "--property=User=root; echo $$HOME"]
        );
        assert!(text.contains(&"--unit=powerpole-session-3.service"));
        assert!(text.contains(&"--property=TTYPath=/dev/pts/7"));
        assert!(text.contains(&"--property=NoNewPrivileges=yes"));
    }

    #[tokio::test]
    async fn a_cgroup_that_is_gone_is_empty() {
        assert!(empty("powerpole-none.service").await.is_ok());
    }
}
