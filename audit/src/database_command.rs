//! `powerpole database install|check|uninstall`: what the owner of a cluster runs.
//!
//! Owns: the owner's connection and the words shown to the owner. Trusts: the server whose certificate it
//! checked. Never: takes a password or a key as an argument, prints one, or connects without TLS.

mod error;
mod facts;
mod files;
mod install;
mod query;
mod server;
mod show;

use clap::{Args as ClapArgs, Subcommand};
use powerpole_database::{
    check::{findings, no_tls},
    install::{script, uninstall_statements},
};
use std::process::ExitCode;

use crate::text::count;

use error::{CommandError, chain_of};
use facts::{is_installed, read_facts};
use install::{Install, install_command};
use query::{execute, one, rows};
use server::{Server, connect};
use show::{as_json, exit_code, show};

/// Arguments of `powerpole database`.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done, and nothing is wrong
  1   an error was found: its line says how to mend it
  2   it could not be done
  64  wrong usage";

#[derive(Debug, Subcommand)]
enum What {
    /// Install or update the schema, the procedures and the expiry event
    Install(Install),
    /// Say what is wrong and how to mend it; exit code 1 if an error is found
    Check(Check),
    /// Remove everything, the registry included
    Uninstall(Uninstall),
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
struct Check {
    #[command(flatten)]
    server: Server,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
struct Uninstall {
    #[command(flatten)]
    server: Server,
    /// Close accounts that are still open; without it they are a refusal
    #[arg(long)]
    force: bool,
    /// Print the SQL and change nothing
    #[arg(long)]
    print: bool,
}

/// Runs the command; 0 done or healthy, 1 something was found, 2 it could not be done, 64 an option is missing.
pub(crate) async fn run(args: Args) -> ExitCode {
    let done = match args.what {
        What::Install(install) => install_command(install).await,
        What::Check(check) => check_command(check).await,
        What::Uninstall(uninstall) => uninstall_command(uninstall).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("powerpole database: {}", chain_of(&error));
        let usage = matches!(error, CommandError::Missing(_));
        ExitCode::from(if usage { crate::USAGE } else { 2 })
    })
}

async fn check_command(args: Check) -> Result<ExitCode, CommandError> {
    let facts = match connect(&args.server).await {
        Ok(mut conn) => Some(read_facts(&mut conn).await?),
        // A finding too, and nothing else can be read: this command never speaks without TLS.
        Err(error) if error.is_for_want_of_tls() => None,
        Err(error) => return Err(error),
    };
    let found = facts.as_ref().map_or_else(|| vec![no_tls()], findings);
    let facts = facts.unwrap_or_default();
    if args.json {
        println!("{}", as_json(&facts, &found));
    } else {
        show(&found);
    }
    Ok(exit_code(&found))
}

async fn uninstall_command(args: Uninstall) -> Result<ExitCode, CommandError> {
    if args.print {
        print!("{}", script(&uninstall_statements(&[])));
        return Ok(ExitCode::SUCCESS);
    }
    let mut conn = connect(&args.server).await?;
    let mut grantors = Vec::new();
    if is_installed(&mut conn).await? {
        if args.force {
            let close = "UPDATE powerpole.accounts SET lease_until = 0";
            execute(&mut conn, close, close.to_owned()).await?;
            execute(
                &mut conn,
                "CALL powerpole.sweep()",
                "CALL powerpole.sweep()".to_owned(),
            )
            .await?;
        }
        let open =
            "SELECT COUNT(*) FROM powerpole.accounts WHERE state IN ('opening', 'open', 'closing')";
        let open = one::<u64>(&mut conn, open).await?.unwrap_or_default();
        if open > 0 {
            return Err(CommandError::AccountsOpen(open));
        }
        grantors = rows(&mut conn, "SELECT name, host FROM powerpole.grantors").await?;
    }
    for statement in uninstall_statements(&grantors) {
        execute(&mut conn, &statement, statement.clone()).await?;
    }
    println!(
        "removed: schema powerpole, its event, its definer and {}",
        count(grantors.len() as u64, "grantor", "grantors")
    );
    Ok(ExitCode::SUCCESS)
}
