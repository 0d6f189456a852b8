//! The auditor's and owner's command.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod database_command;

#[derive(Debug, Parser)]
#[command(name = "powerpole", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the owner of a cluster installs once
    Database(database_command::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Database(args) => database_command::run(args).await,
    }
}
