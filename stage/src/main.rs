//! The local stage: every outside system that PowerPole talks to, on one machine.
//!
//! It starts the shipped binaries, pointed at it by endpoint settings alone, and is used by none of them.

mod aws;
mod clock;
mod demo;
mod e2e;
mod host;
mod hub;
mod journey;
mod parts;
mod ssm;
mod supervisor;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The local stage of PowerPole.
#[derive(Parser)]
#[command(name = "powerpole-stage", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring a stage up and leave it running.
    Up(supervisor::Up),
    /// Take a stage down, also one that was killed.
    Down(supervisor::Down),
    /// Print a person's environment, for `eval`.
    Env(supervisor::Env),
    /// Walk through the main job, by hand or without.
    Demo(demo::Args),
    /// The end-to-end tests: the main job and the bad cases, on a stage of their own.
    Test(e2e::Args),
    /// Hold a stage until it is told to end. Started by `up`.
    #[command(hide = true)]
    Serve(supervisor::Serve),
    /// Install and start the outside parts: databases, AWS stand-ins, package repository.
    Parts(parts::Args),
    /// A stage's network alone: its namespace, ways into it from the host, programs in it. (`powerpole-stage up`: all of it.)
    Hub(hub::Args),
    /// Turn every EC2 instance into a booted machine.
    Host(host::Args),
    /// The AWS endpoint: moto, and what moto lacks.
    Aws(aws::Args),
    /// Stand-ins for the SSM agent, its gateway and the session-manager-plugin.
    Ssm(ssm::Args),
    /// The workspace page that stands in for Slack.
    Workspace(workspace::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let outcome = match Cli::parse_from(ssm::command_line(std::env::args_os())).command {
        Command::Up(args) => supervisor::up(args).await,
        Command::Down(args) => supervisor::down(args).await,
        Command::Env(args) => supervisor::env(&args),
        Command::Demo(args) => demo::run(args).await,
        Command::Test(args) => e2e::run(args).await,
        Command::Serve(args) => supervisor::serve(args).await,
        Command::Parts(args) => parts::run(args).await,
        Command::Hub(args) => hub::run(args).await,
        Command::Host(args) => host::run(args).await,
        Command::Aws(args) => aws::run(args).await,
        Command::Ssm(args) => ssm::run(args).await,
        Command::Workspace(args) => workspace::run(args).await,
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("powerpole-stage: {error:#}");
            ExitCode::FAILURE
        }
    }
}
