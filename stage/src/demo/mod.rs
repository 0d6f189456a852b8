//! The demo: the main job on a stage of its own, by hand or without hands.

mod auto;
mod hand;
mod left;
mod narrator;
mod tamper;

pub(crate) use left::owner_query;

use crate::supervisor::{Running, Times};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of `powerpole-stage demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The stage's name.
    #[arg(long, default_value = "stage")]
    name: String,
    /// Without hands: ask, approve, log in, be cut off, verify, with a window of 90 seconds.
    #[arg(long)]
    auto: bool,
    /// Keep LINES.jsonl, LEDGER.json and ANCHORS.jsonl here.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the demo and takes the stage down, whatever happened.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    narrator::headline("Bringing the stage up");
    let times = Times::demo();
    let running = tokio::select! {
        running = Running::bring_up(&args.name, &times) => running?,
        _ = tokio::signal::ctrl_c() => {
            crate::supervisor::sweep(&args.name)?;
            return Ok(ExitCode::from(130));
        }
    };
    let play = async {
        if args.auto {
            auto::play(&running, args.out.as_deref()).await
        } else {
            hand::play(&running).await
        }
    };
    let outcome = tokio::select! {
        outcome = play => outcome.map(|()| ExitCode::SUCCESS),
        _ = tokio::signal::ctrl_c() => Ok(if args.auto { ExitCode::from(130) } else { ExitCode::SUCCESS }),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    };
    narrator::headline("Taking the stage down");
    let down = running.take_down().await;
    let code = outcome?;
    down?;
    narrator::line("Nothing is left but the folder .stage and the caches.");
    Ok(code)
}
