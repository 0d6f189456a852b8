//! The keeper: one process a machine, which boots it, boots it again after a reboot, and writes down how it ended.
//!
//! It outlives the instance host: killed and started again, that one finds the keeper's record. It holds the machine's lock for
//! as long as it lives, and refuses to boot while any process of the machine lives, so nothing runs twice on one root even
//! when a keeper was killed and its machine went on.

use super::HostError;
use super::machine::{KeeperRecord, Machine, MachineRecord};
use super::root::{host_name, mount_root};
use crate::hub::{HubError, Process, Stage, namespace_path, plug};
use nix::fcntl::{Flock, FlockArg};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, Stdio};

/// nspawn's exit code for "boot me again", when it does not do so itself.
const REBOOT: i32 = 133;
/// Joins the control groups named before `--`, then becomes what follows.
const JOIN: &str =
    r#"while [ "$1" != -- ]; do echo 0 > "$1" || exit 1; shift; done; shift; exec "$@""#;
/// What a bastion needs beyond nspawn's usual set: nftables in its own network namespace, and locked memory for keys (nspawn's
/// system call filter refuses mlock without it). Mount namespaces, setuid and systemd's sandboxing work with the usual set.
const CAPABILITIES: &str = "CAP_NET_ADMIN,CAP_IPC_LOCK";
/// A real machine's root may have the kernel ask before a program is executed; nspawn's filter refuses that.
const SYSTEM_CALLS: &str = "fanotify_init fanotify_mark";

/// Passed to the machine's systemd: its journal also goes to the console, since the bastion's image keeps none on disk.
const BOOT_ARGUMENTS: [&str; 2] = [
    "systemd.journald.forward_to_console=1",
    "systemd.journald.max_level_console=info",
];

/// Keeps one machine until it is off for good. Blocks.
pub(crate) fn keep(stage: &Stage, machine: &Machine) -> Result<(), HostError> {
    let _lock = lock(machine)?;
    if machine.group().populated() {
        return Err(HostError::StillAlive {
            instance: machine.id.to_string(),
        });
    }
    let record = machine.record().ok_or_else(|| HostError::NoMachine {
        instance: machine.id.to_string(),
    })?;
    let keeper = Process::own().ok_or_else(|| {
        HubError::file("read", Path::new("/proc/self/stat"))(std::io::ErrorKind::NotFound.into())
    })?;
    let mut state = KeeperRecord {
        keeper,
        boots: 0,
        exit: None,
    };
    loop {
        state.boots += 1;
        machine.write_keeper(&state)?;
        // A machine that cannot be booted is off: without an exit code the instance host would wait for it.
        let exit = boot(stage, machine, &record).inspect_err(|_| {
            let _ = machine.write_keeper(&KeeperRecord {
                exit: Some(1),
                ..state.clone()
            });
        })?;
        if exit == REBOOT && !machine.destroyed() {
            tracing::info!(instance = %machine.id, boots = state.boots, "machine reboots");
            continue;
        }
        // nspawn may die alone (SIGKILL) and leave the machine running; without its keeper it has no console and no end.
        machine.group().kill_all()?;
        state.exit = Some(exit);
        return Ok(machine.write_keeper(&state)?);
    }
}

fn lock(machine: &Machine) -> Result<Flock<std::fs::File>, HostError> {
    let path = machine.path("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(HubError::file("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| HostError::AlreadyKept {
        instance: machine.id.to_string(),
    })
}

/// One boot, from a fresh network to nspawn's exit code (128 + the signal that ended it).
fn boot(stage: &Stage, machine: &Machine, record: &MachineRecord) -> Result<i32, HostError> {
    let address = record.ec2.address.ok_or_else(|| HostError::NoMachine {
        instance: machine.id.to_string(),
    })?;
    let root = mount_root(machine, record)?;
    plug(stage, &machine.id, address)?;
    let join = machine.group().create()?;
    let console = machine.path("console.log");
    let open = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&console)
            .map_err(HubError::file("open", &console))
    };
    let network = namespace_path(&stage.machine_namespace(&machine.id));
    let status = Command::new("sh")
        .args(["-c", JOIN, "sh"])
        .args(join)
        .arg("--")
        .arg("systemd-nspawn")
        .arg(format!("--machine={}", machine.id))
        .arg(format!("--hostname={}", host_name(address)))
        .arg("--directory")
        .arg(&root)
        .arg(format!("--network-namespace-path={}", network.display()))
        .arg(format!("--capability={CAPABILITIES}"))
        .arg(format!("--system-call-filter={SYSTEM_CALLS}"))
        .args([
            "--boot",
            "--console=read-only",
            "--register=no",
            "--keep-unit",
            "--settings=no",
        ])
        .args(["--resolv-conf=off", "--timezone=off", "--link-journal=no"])
        .args(BOOT_ARGUMENTS)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?)
        .status()
        .map_err(|source| HubError::Start {
            program: "systemd-nspawn".to_owned(),
            source,
        })?;
    use std::os::unix::process::ExitStatusExt;
    Ok(status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1))
}
