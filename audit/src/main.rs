//! `powerpole`: the auditor's and the cluster owner's command.
//!
//! Owns the command line and the exit codes: 0 good, 1 a verdict that is not, 2 could not check,
//! 64 usage. Trusts nothing that it reads. Never writes to AWS.

mod anchors;
mod aws;
mod beside;
mod chosen;
mod clock;
mod database_command;
mod error;
mod export;
mod export_command;
mod json;
mod ledger;
mod lines;
mod object;
mod place;
mod rolls;
mod rolls_command;
mod rolls_ledger;
mod row;
mod search;
mod strict;
mod text;
mod verify_command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const USAGE: u8 = 64;

#[derive(Parser)]
#[command(
    name = "powerpole",
    version,
    about = "Verify and export the evidence of what was done through PowerPole; install its side of a database",
    after_help = "A first look:\n  \
        powerpole export req-… --out DIR   fetches a request's lines, ledger item and anchors\n  \
        powerpole verify DIR               says what they prove, without AWS\n\n\
        Region, credentials and endpoints are those of the AWS command line."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Say what a request's evidence proves, or why it cannot be proven
    Verify(verify_command::Args),
    /// Fetch a request's evidence into a directory that `verify` reads without AWS
    Export(export_command::Args),
    /// Say which requests there were up to the last roll, whether one was left out, and what became of each
    Rolls(rolls_command::Args),
    /// What the owner of a cluster installs once: install, check, uninstall
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
    let (name, failed) = match &command {
        Command::Export(_) => ("export", "could not export"),
        Command::Verify(_) => ("verify", "could not check"),
        Command::Rolls(_) => ("rolls", "could not check"),
        Command::Database(_) => ("database", "could not check"),
    };
    let result = match command {
        Command::Verify(args) => verify_command::run(&args).await,
        Command::Export(args) => export_command::run(&args).await,
        Command::Rolls(args) => rolls_command::run(&args).await,
        Command::Database(args) => return database_command::run(args).await,
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if error.is_usage() {
                eprintln!("error: {}", text::plain(&error::chain(&error)));
                eprintln!("Try `powerpole {name} --help`.");
                return ExitCode::from(USAGE);
            }
            eprintln!("{failed}: {}", text::plain(&error::chain(&error)));
            eprintln!("code: {}", error.code());
            ExitCode::from(2)
        }
    }
}
