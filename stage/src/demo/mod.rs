//! The demo: the main job on a stage of its own, by hand or without hands.

mod auto;
mod hand;
mod left;
mod narrator;
mod pictures;
mod tamper;

pub(crate) use left::owner_query;

use crate::supervisor::{Running, Times};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Arguments of `powerpole-stage demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The stage's name.
    #[arg(long, default_value = "stage")]
    name: String,
    /// Without hands: ask, approve, log in, be cut off, verify, with a window of 90 seconds.
    #[arg(long)]
    auto: bool,
    /// Keep LINES.jsonl, LEDGER.json and ANCHORS.jsonl here, and pictures of the workspace page (with `--auto`).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What a person or the machine ends the demo with.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The exit code of a program that was ended this way.
    async fn next(&mut self) -> ExitCode {
        tokio::select! {
            _ = self.interrupt.recv() => ExitCode::from(130),
            _ = self.terminate.recv() => ExitCode::from(143),
            _ = self.hangup.recv() => ExitCode::from(129),
        }
    }
}

/// Runs the demo and takes the stage down, whatever happened.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    narrator::headline("Bringing the stage up");
    let times = Times::demo();
    let running = tokio::select! {
        running = Running::bring_up(&args.name, &times) => running?,
        code = interrupts.next() => {
            narrator::headline("Interrupted: taking down what was up already");
            crate::supervisor::sweep(&args.name)?;
            narrator::line(NOTHING_LEFT);
            return Ok(code);
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
        // By hand Ctrl-C is how it ends.
        code = interrupts.next() => Ok(if args.auto { code } else { ExitCode::SUCCESS }),
    };
    if let Err(error) = &outcome {
        narrator::headline(if args.auto {
            "A step did not hold"
        } else {
            "The stage does not answer any more"
        });
        narrator::lines(&format!("{error:#}"));
        narrator::lines(&format!("Logs: {}", running.stage.logs().display()));
    }
    narrator::headline("Taking the stage down");
    let down = running.take_down().await;
    let code = outcome?;
    down?;
    narrator::line(NOTHING_LEFT);
    Ok(code)
}

const NOTHING_LEFT: &str = "Nothing is left but the folder .stage and the caches.";
