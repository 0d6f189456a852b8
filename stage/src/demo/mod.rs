//! The demo: the main job on a stage of its own, by hand or without hands.

mod auto;
mod hand;
mod kept;
mod left;
mod narrator;
mod pictures;
mod tamper;

pub(crate) use left::owner_query;

use crate::supervisor::{Running, StageFiles, Times};
use anyhow::{Context as _, bail, ensure};
use kept::Kept;
use std::path::{Path, PathBuf};
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
    /// An empty or new folder for the evidence. With `--auto`: LINES.jsonl, LEDGER.json, ANCHORS.jsonl, ROLLS.jsonl and
    /// pictures of the workspace page; by hand a folder for each request whose evidence is exported.
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
    crate::supervisor::needs_root("the demo")?;
    let out = args.out.as_deref().map(usable).transpose()?;
    let files = StageFiles::of(&args.name)?;
    let folder = out.clone().unwrap_or_else(|| files.dir.clone());
    let kept = Kept::in_folder(folder, out.is_some());
    let mut interrupts = Interrupts::listen()?;
    narrator::headline("Bringing the stage up");
    let times = Times::demo();
    let running = tokio::select! {
        running = Running::bring_up(&args.name, &times) => running?,
        code = interrupts.next() => {
            narrator::headline("Interrupted: taking down what was up already");
            crate::supervisor::sweep(&args.name)?;
            say_what_is_left(&files, &kept);
            return Ok(code);
        }
    };
    let play = async {
        if args.auto {
            auto::play(&running, out.as_deref()).await
        } else {
            hand::play(&running, out.as_deref()).await
        }
    };
    let code = tokio::select! {
        outcome = play => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                narrator::headline(if args.auto {
                    "A step did not hold"
                } else {
                    "The stage does not answer any more"
                });
                narrator::lines(&format!("{error:#}"));
                narrator::lines(&format!("Logs: {}", running.stage.logs().display()));
                ExitCode::FAILURE
            }
        },
        // By hand Ctrl-C is how it ends.
        code = interrupts.next() => if args.auto { code } else { ExitCode::SUCCESS },
    };
    narrator::headline("Taking the stage down");
    running.take_down().await?;
    say_what_is_left(&files, &kept);
    Ok(code)
}

fn say_what_is_left(files: &StageFiles, kept: &Kept) {
    narrator::line(&format!(
        "Nothing is left but the folder {} and the caches.",
        files.dir.display()
    ));
    // The clone's own: the stage's programs went with it.
    for line in kept.lines(&files.clone.join(".stage/bin/powerpole")) {
        narrator::line(&line);
    }
}

/// The folder for the evidence, if it can be one: what is there already is never mixed with it.
fn usable(out: &Path) -> anyhow::Result<PathBuf> {
    let out = std::path::absolute(out).with_context(|| format!("finding {}", out.display()))?;
    match std::fs::read_dir(&out) {
        Ok(mut entries) => ensure!(
            entries.next().is_none(),
            "OUT={} is not empty, and evidence is never written beside other files. Name a folder that is empty or not \
             there yet. Nothing was brought up",
            out.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => bail!(
            "OUT={} cannot be used: {error}. Name a folder that is empty or not there yet. Nothing was brought up",
            out.display()
        ),
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_goes_to_an_empty_or_a_new_folder_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (new, full) = (dir.path().join("new"), dir.path().join("full"));
        assert_eq!(usable(&new).unwrap(), new);
        assert!(!new.exists(), "asking makes nothing");
        std::fs::create_dir(&full).unwrap();
        assert_eq!(usable(&full).unwrap(), full);
        std::fs::write(full.join("a"), "x").unwrap();
        for bad in [full.clone(), full.join("a")] {
            let said = usable(&bad).unwrap_err().to_string();
            assert!(said.contains(&*bad.to_string_lossy()), "{said}");
            assert!(said.contains("empty or not there yet"), "{said}");
        }
    }
}
