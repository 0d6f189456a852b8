//! The hub of a stage: its network, the processes that run in it, the way to it from the host, and the broom.
//!
//! The supervisor uses [`Hub`]; `powerpole-stage hub up|down|status` is the same by hand.

mod command;
mod error;
mod forward;
mod leftovers;
mod network;
mod process;
mod stage;

pub(crate) use error::HubError;
pub(crate) use forward::Forward;
pub(crate) use leftovers::{Leftovers, unmount_below};
pub(crate) use network::{HUB, METADATA, inside_hub, namespace_path, plug, unplug};
pub(crate) use process::{Child, Process, in_namespace};
pub(crate) use stage::{InstanceId, Stage, StageName};

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A stage's hub, while the supervisor runs it.
#[derive(Debug)]
pub(crate) struct Hub {
    stage: Stage,
}

impl Hub {
    /// Makes the hub's namespace, bridge and rules, and claims the stage's name. Needs root. A hub that is there already is kept.
    pub(crate) fn create(stage: &Stage) -> Result<Self, HubError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(HubError::NotRoot);
        }
        stage.register()?;
        network::create_hub(stage)?;
        Ok(Self {
            stage: stage.clone(),
        })
    }

    /// Starts a program inside the hub; see [`Child::spawn_in_hub`]. The log is `logs/<name>.log`.
    pub(crate) fn spawn(
        &self,
        name: &str,
        argv: &[OsString],
        env: &[(String, String)],
    ) -> Result<Child, HubError> {
        let log = self.stage.logs().join(format!("{name}.log"));
        Child::spawn_in_hub(&self.stage, name, argv, env, &log)
    }

    /// Opens a way from `127.0.0.1` on the host to a service in the hub.
    pub(crate) async fn forward(
        &self,
        name: &str,
        port: Option<u16>,
        to: SocketAddr,
    ) -> Result<Forward, HubError> {
        Forward::open(&self.stage, name, port, to).await
    }

    /// Ends and removes everything of the stage but its folder.
    #[allow(dead_code, reason = "for the supervisor")]
    pub(crate) fn destroy(self) -> Result<(), HubError> {
        leftovers::remove_all(&self.stage)
    }
}

/// What is left of a stage on this machine.
pub(crate) fn leftovers(stage: &Stage) -> Leftovers {
    Leftovers::of_stage(stage)
}

/// Ends and removes everything of a stage but its folder, also after a crash.
pub(crate) fn remove_all(stage: &Stage) -> Result<(), HubError> {
    leftovers::remove_all(stage)
}

/// Replaces a file by a value's JSON; a reader sees the old or the new one, never half of one.
pub(crate) fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), HubError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| HubError::file("write", path)(error.into()))?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    std::fs::write(&new, text).map_err(HubError::file("write", &new))?;
    std::fs::rename(&new, path).map_err(HubError::file("write", path))
}

/// This very program, to be started once more; found also when its file was replaced by a newer build meanwhile.
pub(crate) fn own_program() -> PathBuf {
    let running = || PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(running)
}

/// Which stage a command is about.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Which {
    /// The stage's name: 1 to 24 of a-z, 0-9 and -.
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: StageName,
    /// The stage's folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

impl Which {
    pub(crate) fn open(&self) -> Result<Stage, HubError> {
        Stage::open(self.stage.clone(), &self.dir)
    }
}

/// Arguments of `powerpole-stage hub`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make the stage's network: namespace, bridge, rules.
    Up(Which),
    /// End and remove everything of the stage but its folder.
    Down(Which),
    /// Say what there is of the stage, as JSON. Exit code 0 when nothing is left, 1 otherwise.
    Status {
        #[command(flatten)]
        which: Which,
        /// Only machines and what belongs to them.
        #[arg(long)]
        machines: bool,
    },
    /// Open 127.0.0.1:PORT for a service in the hub until Ctrl-C.
    Forward {
        #[command(flatten)]
        which: Which,
        /// A word for the forward's socket and log.
        #[arg(long)]
        name: String,
        /// The host's port; any free one without it.
        #[arg(long)]
        port: Option<u16>,
        /// The service's address in the hub.
        #[arg(long)]
        to: SocketAddr,
    },
    /// Run a program in the hub, output to logs/NAME.log, until it ends.
    Run {
        #[command(flatten)]
        which: Which,
        /// A word for the program's record and log.
        #[arg(long)]
        name: String,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        argv: Vec<OsString>,
    },
    /// The hub's half of a forward.
    #[command(hide = true)]
    Relay {
        #[arg(long)]
        socket: PathBuf,
        #[arg(long)]
        to: SocketAddr,
    },
}

/// Runs `powerpole-stage hub`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Up(which) => {
            Hub::create(&which.open()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Down(which) => {
            let stage = which.open()?;
            remove_all(&stage)?;
            report(&leftovers(&stage))
        }
        Command::Status { which, machines } => {
            let stage = which.open()?;
            report(&if machines {
                Leftovers::of_machines(&stage)
            } else {
                leftovers(&stage)
            })
        }
        Command::Forward {
            which,
            name,
            port,
            to,
        } => {
            let hub = Hub::create(&which.open()?)?;
            let forward = hub.forward(&name, port, to).await?;
            println!("{}", forward.address());
            tokio::signal::ctrl_c().await?;
            forward.close().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { which, name, argv } => {
            let mut child = Hub::create(&which.open()?)?.spawn(&name, &argv, &[])?;
            println!("{}", child.process().pid);
            tokio::select! {
                status = child.wait() => {
                    let code = status?.code().and_then(|code| u8::try_from(code).ok());
                    return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
                }
                interrupted = tokio::signal::ctrl_c() => interrupted?,
            }
            child.stop(std::time::Duration::from_secs(5)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Relay { socket, to } => {
            forward::relay(&socket, to).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn report(left: &Leftovers) -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(left)?);
    Ok(if left.none() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
