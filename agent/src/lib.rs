//! PowerPole's agent: the work on a bastion, from power-on to power-off.
//!
//! It runs as root on an instance that serves one grant and nothing else. The shim, a program of its own that bastions have
//! as `sh`, leads every login into the broker.

mod account;
mod aws;
mod boot;
mod broker;
mod clock;
mod closing;
mod config;
mod control;
mod evidence;
mod failure;
mod firewall;
mod handoff;
mod hardening;
mod imds;
mod lifecycle;
mod mounts;
mod password;
mod patch;
mod power;
mod schedule;
mod session;
mod sql;
mod ssm;
mod steps;
mod unsafe_os;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// The agent on a PowerPole bastion.
#[derive(Parser)]
#[command(name = "powerpole-agent", version)]
struct Cli {
    /// Configuration file.
    #[arg(long, global = true, default_value = "/etc/powerpole/agent.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the grant that the user data names, then power off.
    Run,
    /// Ship what a killed agent left in the spool, without a key.
    ShipTail,
    /// Read the configuration and say what is wrong with it.
    CheckConfig,
}

/// What `sh` is on a bastion: leads a login into the broker, whatever it was called for.
#[must_use]
pub fn shim() -> ExitCode {
    broker::shim::main(std::env::args_os().skip(1).collect())
}

/// The agent's command line.
#[must_use]
pub fn agent() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    match start(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powerpole-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: &Cli) -> anyhow::Result<()> {
    hardening::keep_memory_private()?;
    let config = config::load(&cli.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match cli.command {
        Command::CheckConfig => Ok(()),
        Command::Run => runtime.block_on(lifecycle::run(config)).map_err(|failure| {
            anyhow::anyhow!(
                "{} failed: {} ({})",
                failure.step,
                failure.message,
                failure.code
            )
        }),
        Command::ShipTail => Ok(runtime.block_on(evidence::ship_tail(&config.spool_dir))?),
    }
}

/// Operational log to the journal, one JSON object a line; evidence is another system.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,aws_config=warn,hyper=warn"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
}
