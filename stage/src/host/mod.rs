//! The instance host: every EC2 instance of the stage becomes a booted machine with its address, its metadata and its end.
//!
//! Three processes share the work. The daemon (`host run`) asks EC2 and decides; a keeper a machine (`host keep`) boots it and
//! sees its end; the metadata service answers inside the daemon. None of them trusts its memory: what counts is EC2, the
//! machine's folder and what still lives in its control group.

pub(crate) mod control_group;
mod daemon;
mod ec2;
mod error;
mod imds;
mod keeper;
mod machine;
mod plan;
mod root;

pub(crate) use error::HostError;

use crate::hub::{self, HubError, InstanceId, Stage, Which};
use ec2::Ec2;
use imds::{Directory, Imds};
use machine::Machine;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The name under which a supervisor records the daemon.
pub(crate) const PROCESS_NAME: &str = "host";

/// Arguments of `powerpole-stage host`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Serve the stage's instances until ended; machines go on without it.
    Run {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        settings: Settings,
    },
    /// List the stage's machines.
    List {
        #[command(flatten)]
        which: Which,
        /// One JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Fault: the machine is gone from one moment to the next, and EC2 does not know (its instance stays "running").
    Destroy {
        #[command(flatten)]
        which: Which,
        /// The instance's id
        instance: InstanceId,
    },
    /// Boot one machine and see its end.
    #[command(hide = true)]
    Keep {
        #[command(flatten)]
        which: Which,
        instance: InstanceId,
    },
}

#[derive(clap::Args)]
struct Settings {
    /// The AWS endpoint, as seen in the hub.
    #[arg(long, default_value = "http://10.77.0.1:4566")]
    endpoint: String,
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// The role behind every instance profile.
    #[arg(long, default_value = "PowerPoleBastion")]
    role: String,
    /// How often EC2 is asked, in milliseconds.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    poll_ms: u64,
}

/// Runs `powerpole-stage host`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Run { which, settings } => {
            let stage = which.open()?;
            if hub::inside_hub(&stage) {
                serve(stage, settings).await?;
            } else {
                enter_hub(&stage)?;
            }
        }
        Command::List { which, json } => print(&list(&which.open()?), json)?,
        Command::Destroy { which, instance } => destroy(&which.open()?, &instance)?,
        Command::Keep { which, instance } => {
            let stage = which.open()?;
            let machine = Machine::of(&stage, &instance);
            keeper::keep(&stage, &machine)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One machine, as `host list --json` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) instance: InstanceId,
    pub(crate) address: Option<std::net::Ipv4Addr>,
    pub(crate) image: String,
    /// `launched`, `stopped` or `gone`.
    pub(crate) phase: machine::Phase,
    /// True while any process of it lives.
    pub(crate) alive: bool,
    pub(crate) destroyed: bool,
    pub(crate) boots: u32,
    pub(crate) exit: Option<i32>,
    pub(crate) seen: String,
}

/// Every machine of the stage that has a folder, the ones that are gone included.
pub(crate) fn list(stage: &Stage) -> Vec<Listed> {
    let listed = Machine::all(stage).into_iter().filter_map(|machine| {
        let record = machine.record()?;
        let keeper = machine.keeper();
        Some(Listed {
            address: record.ec2.address,
            image: record.ec2.image,
            phase: record.phase,
            alive: machine.alive(),
            destroyed: machine.destroyed(),
            boots: keeper.as_ref().map_or(0, |keeper| keeper.boots),
            exit: keeper.and_then(|keeper| keeper.exit),
            seen: record.seen,
            instance: machine.id,
        })
    });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_by(|a, b| (&a.seen, &a.instance).cmp(&(&b.seen, &b.instance)));
    listed
}

/// Takes a machine's power away for good, as a dying host would: nothing in it hears of it, and EC2 goes on calling it running.
pub(crate) fn destroy(stage: &Stage, instance: &InstanceId) -> Result<(), HostError> {
    let machine = Machine::of(stage, instance);
    if machine.record().is_none() {
        return Err(HostError::NoMachine {
            instance: instance.to_string(),
        });
    }
    // The mark comes first: without it the end would look like a power-off and be reported to EC2.
    let mark = machine.path("destroyed");
    std::fs::write(&mark, "").map_err(HubError::file("write", &mark))?;
    Ok(machine.kill()?)
}

/// Removes the roots of machines that have lost their power; consoles and journals stay.
pub(crate) fn remove_roots(stage: &Stage) -> Result<(), HubError> {
    for machine in Machine::all(stage) {
        root::remove_root(&machine)?;
        if let Some(record) = machine.record() {
            machine.write_record(&machine::MachineRecord {
                phase: machine::Phase::Gone,
                ..record
            })?;
        }
    }
    Ok(())
}

fn print(listed: &[Listed], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(listed)?);
        return Ok(());
    }
    for one in listed {
        let address = one
            .address
            .map(|address| address.to_string())
            .unwrap_or_default();
        let life = if one.alive { "alive" } else { "off" };
        println!(
            "{}  {address:<15}  {life:<5}  {:?}  boots {}",
            one.instance, one.phase, one.boots
        );
    }
    Ok(())
}

/// Becomes the same command inside the hub's network namespace; the mount namespace stays the host's, so that overlays made
/// there can be seen and removed from everywhere.
fn enter_hub(stage: &Stage) -> Result<(), HubError> {
    use std::os::unix::process::CommandExt;
    let hub = hub::namespace_path(&stage.hub_namespace());
    if !hub.exists() {
        return Err(HubError::NoHub {
            namespace: stage.hub_namespace(),
        });
    }
    let own = hub::own_program();
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let source = std::process::Command::new("nsenter")
        .arg(format!("--net={}", hub.display()))
        .arg("--")
        .arg(own)
        .args(args)
        .exec();
    Err(HubError::Start {
        program: "nsenter".to_owned(),
        source,
    })
}

async fn serve(stage: Stage, settings: Settings) -> Result<(), HostError> {
    let path = stage.run().join("host.lock");
    let file = std::fs::File::create(&path).map_err(HubError::file("open", &path))?;
    let _lock =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| HostError::AlreadyServed)?;
    let ec2 = Ec2::new(&settings.endpoint, &settings.region);
    let directory = Arc::new(Directory::default());
    let imds = Imds::new(&stage, ec2.clone(), Arc::clone(&directory), &settings.role)?;
    let daemon = daemon::Daemon::new(stage, ec2, directory);
    tracing::info!(endpoint = %settings.endpoint, "instance host serves");
    tokio::select! {
        served = imds.serve() => served,
        () = daemon.run(Duration::from_millis(settings.poll_ms)) => Ok(()),
    }
}
