//! Stand-ins for Systems Manager's parts: the agent on an instance with its session worker and
//! `ssm-cli`, the gateway (part of the AWS endpoint's process), and the session-manager-plugin.
//!
//! What they do on the instance follows the real agent's source where PowerPole depends on it: the
//! worker's argv, the session's state file, `sh` through PATH, uid and environment, what is killed.

mod agent;
mod client_config;
mod diagnostics;
pub(crate) mod gateway;
mod imds;
mod plugin;
mod shell;
mod state_file;
mod terminal;
pub(crate) mod wire;
mod worker;

use clap::Subcommand;
use std::{ffi::OsString, path::Path, process::ExitCode};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The agent on an instance (also by the name amazon-ssm-agent).
    Agent(agent::Args),
    /// The worker of one session, started by the agent (also by the name ssm-session-worker).
    #[command(hide = true)]
    Worker(worker::Args),
    /// Becomes a session's program on a new terminal.
    #[command(hide = true)]
    Exec(shell::ExecArgs),
    /// The instance's own command (also by the name ssm-cli).
    Cli(diagnostics::Args),
    /// What the AWS CLI runs for a session (also by the name session-manager-plugin).
    Plugin(plugin::Args),
    /// Writes profiles, `aws` and the plugin for the stage's people.
    ClientConfig(client_config::Args),
}

/// Runs it.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Agent(args) => agent::run(args).await,
        Command::Worker(args) => worker::run(args).await,
        Command::Exec(args) => shell::become_program(args),
        Command::Cli(args) => diagnostics::run(args).await,
        Command::Plugin(args) => plugin::run(args).await,
        Command::ClientConfig(args) => client_config::run(args),
    }
}

/// The command line that a program name of the real parts stands for; others stay as they are.
pub(crate) fn command_line(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut given: Vec<OsString> = given.collect();
    let name = given
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(|name| name.to_str());
    let prefix: &[&str] = match name {
        Some("amazon-ssm-agent") => &["ssm", "agent"],
        Some("ssm-session-worker") => &["ssm", "worker"],
        Some("ssm-cli") => &["ssm", "cli"],
        Some("session-manager-plugin") => &["ssm", "plugin", "--"],
        _ => return given,
    };
    let at = given.len().min(1);
    given.splice(at..at, prefix.iter().map(OsString::from));
    given
}

/// Where agents find the gateway unless the environment says otherwise.
const GATEWAY: &str = "10.77.0.1:8022";

/// Version that the stand-ins give as theirs.
const AGENT_VERSION: &str = "3.3.987.0";

/// The gateway's address for an instance's parts.
fn gateway_address() -> String {
    std::env::var("POWERPOLE_STAGE_SSM_GATEWAY").unwrap_or_else(|_| GATEWAY.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_parts_name_selects_its_stand_in() {
        let line = |words: &[&str]| {
            command_line(words.iter().map(OsString::from))
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            line(&["/usr/bin/ssm-session-worker", "alice@example.com-01"]),
            [
                "/usr/bin/ssm-session-worker",
                "ssm",
                "worker",
                "alice@example.com-01"
            ]
        );
        assert_eq!(
            line(&["session-manager-plugin", "--version"]),
            ["session-manager-plugin", "ssm", "plugin", "--", "--version"]
        );
        assert_eq!(
            line(&["powerpole-stage", "aws"]),
            ["powerpole-stage", "aws"]
        );
        assert!(line(&[]).is_empty());
    }
}
