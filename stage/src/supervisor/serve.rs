//! `powerpole-stage up`, `down` and `env`: a stage that stays while nobody watches it.

use super::files::StageFiles;
use super::running::{Running, Times};
use super::{needs_root, say, sweep};
use crate::hub::{self, Process, Stage};
use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Longest time for a stage to come up.
const UP_LIMIT: Duration = Duration::from_secs(180);
/// Longest time for one that came half up to go.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Arguments of `up`.
#[derive(clap::Args)]
pub(crate) struct Up {
    /// The stage's name.
    #[arg(long, default_value = "stage")]
    name: String,
}

/// Arguments of `serve`.
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// The stage's name.
    #[arg(long, default_value = "stage")]
    name: String,
}

/// Arguments of `down`.
#[derive(clap::Args)]
pub(crate) struct Down {
    /// The stage's name.
    #[arg(long, default_value = "stage")]
    name: String,
}

/// Arguments of `env`.
#[derive(clap::Args)]
pub(crate) struct Env {
    /// The stage's name.
    #[arg(long, default_value = "stage")]
    name: String,
    /// Whose shell: alice, bob, carol, dave, mallory or auditor.
    #[arg(long = "as", default_value = "alice")]
    person: String,
}

/// Brings a stage up and leaves its supervisor in the background. Interrupted or failed, nothing of the stage stays up.
pub(crate) async fn up(args: Up) -> anyhow::Result<ExitCode> {
    needs_root("a stage")?;
    let files = StageFiles::of(&args.name)?;
    // Given back before the supervisor takes it.
    let held = files.hold()?;
    let stage = Stage::open(args.name.parse()?, &files.dir)?;
    if !hub::leftovers(&stage).none() {
        bail!(files.runs_already());
    }
    files.take_binaries()?;
    drop(held);
    let page = files.dir.join("page");
    let _ = std::fs::remove_file(&page);
    let log = files.dir.join("supervisor.log");
    let out = std::fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let mut serve = tokio::process::Command::new("setsid")
        .arg(files.binary("powerpole-stage"))
        .args(["serve", "--name", &args.name])
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("starting the stage's supervisor")?;
    let code = tokio::select! {
        came = tokio::time::timeout(UP_LIMIT, wait_for(&page, &mut serve)) => match came {
            Ok(Ok(page)) => {
                say(&std::fs::read_to_string(&log).unwrap_or_default());
                say(&is_up(&files, &page));
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Err(error)) => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(error.context(format!("the stage did not come up:\n{said}")));
            }
            Err(_elapsed) => None,
        },
        _ = interrupt.recv() => Some(130),
        _ = terminate.recv() => Some(143),
    };
    say("Taking down what was up already.");
    if let Some(pid) = serve.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let _ = tokio::time::timeout(END_LIMIT, serve.wait()).await;
    }
    sweep(&args.name)?;
    match code {
        Some(code) => Ok(ExitCode::from(code)),
        None => bail!(
            "the stage did not come up within {} s; see {}",
            UP_LIMIT.as_secs(),
            log.display()
        ),
    }
}

/// Waits until the supervisor says where the page is, or ends.
async fn wait_for(page: &Path, serve: &mut tokio::process::Child) -> anyhow::Result<String> {
    loop {
        if let Ok(page) = std::fs::read_to_string(page) {
            return Ok(page);
        }
        if let Some(status) = serve.try_wait()? {
            bail!("its supervisor ended ({status})");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// What somebody needs who just brought a stage up.
fn is_up(files: &StageFiles, page: &str) -> String {
    let name = files.name();
    let option = match name.as_str() {
        "stage" => String::new(),
        other => format!(" STAGE={other}"),
    };
    let line = |person: &str, does: &str| {
        let file = files.dir.join(format!("env-{person}"));
        format!("    . {}   # {does}\n", file.display())
    };
    format!(
        "The stage {name} is up. The page that stands in for Slack:\n\n    {page}\n\n\
         Act there as alice, who may ask, and as bob, who may approve. A line makes a shell theirs:\n\n{}{}{}\n\
         To take it down: make stage-down{option}",
        line("alice", "asks, logs in"),
        line("bob", "approves in the page; may ask, too"),
        line("auditor", "verifies: powerpole export, verify, rolls"),
    )
}

/// Holds a stage until it is told to end.
pub(crate) async fn serve(args: Serve) -> anyhow::Result<ExitCode> {
    let files = StageFiles::of(&args.name)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let times = Times::demo();
    let running = tokio::select! {
        running = Running::bring_up(&args.name, &times) => running?,
        _ = terminate.recv() => {
            sweep(&args.name)?;
            return Ok(ExitCode::from(143));
        }
    };
    running.write_environments()?;
    std::fs::write(files.dir.join("page"), running.page_url())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    running.take_down().await?;
    let _ = std::fs::remove_file(files.dir.join("page"));
    Ok(ExitCode::SUCCESS)
}

/// Takes a stage down, also one whose supervisor was killed.
pub(crate) async fn down(args: Down) -> anyhow::Result<ExitCode> {
    needs_root("a stage")?;
    let files = StageFiles::of(&args.name)?;
    files.ensure_there()?;
    let stage = Stage::open(args.name.parse()?, &files.dir)?;
    let record = files.supervisor();
    if let Ok(text) = std::fs::read(&record) {
        let supervisor: Process =
            serde_json::from_slice(&text).context("reading the supervisor's record")?;
        tokio::task::spawn_blocking(move || supervisor.end(END_LIMIT)).await??;
        let _ = std::fs::remove_file(&record);
    }
    let removed = hub::remove_all(&stage);
    // Whatever became of the rest.
    files.forget_secrets()?;
    removed?;
    let _ = std::fs::remove_file(files.dir.join("page"));
    let left = hub::leftovers(&stage);
    if !left.none() {
        bail!("something is left: {}", serde_json::to_string(&left)?);
    }
    say(&format!(
        "The stage {} is down; nothing is left of it but its folder, {}.",
        stage.name(),
        files.dir.display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// Prints a person's environment, to be evaluated by a shell.
pub(crate) fn env(args: &Env) -> anyhow::Result<ExitCode> {
    let files = StageFiles::of(&args.name)?;
    let path = files.dir.join(format!("env-{}", args.person));
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "{} is missing: is the stage up, and is {:?} one of its people?",
            path.display(),
            args.person
        )
    })?;
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}
