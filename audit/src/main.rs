//! `powerpole`: the auditor's and the cluster owner's command.
//!
//! Owns the command line and the exit codes: 0 good, 1 a verdict that is not, 2 could not check,
//! 64 usage. Trusts nothing that it reads. Never writes to AWS.

mod anchors;
mod aws;
mod database_command;
mod error;
mod export;
mod export_command;
mod json;
mod ledger;
mod lines;
mod text;
mod verify_command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "powerpole",
    version,
    about = "Verify and export PowerPole's session evidence; install its database side"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prove what a chain of evidence says, or say why it cannot be proven
    Verify(verify_command::Args),
    /// Write a request's evidence into a directory that `verify` reads without AWS
    Export(export_command::Args),
    /// What the owner of a cluster installs once: print, apply, check or remove it
    Database(database_command::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("could not start: {error}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(run(cli.command))
}

async fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Verify(args) => verify_command::run(&args).await,
        Command::Export(args) => export_command::run(&args).await,
        Command::Database(args) => return database_command::run(args).await,
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("could not check: {}", error::chain(&error));
            eprintln!("code: {}", error.code());
            ExitCode::from(if error.is_usage() { USAGE } else { 2 })
        }
    }
}
