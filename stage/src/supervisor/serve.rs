//! `powerpole-stage up`, `down` and `env`: a stage that stays while nobody watches it.

use super::files::StageFiles;
use super::running::{Running, Times};
use super::say;
use crate::hub::{self, Process, Stage};
use anyhow::{Context as _, bail};
use std::process::{ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Longest time for a stage to come up.
const UP_LIMIT: Duration = Duration::from_secs(180);

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

/// Brings a stage up and leaves its supervisor in the background.
pub(crate) async fn up(args: Up) -> anyhow::Result<ExitCode> {
    let files = StageFiles::of(&args.name)?;
    let stage = Stage::open(args.name.parse()?, &files.dir)?;
    let page = files.dir.join("page");
    let _ = std::fs::remove_file(&page);
    let log = files.dir.join("supervisor.log");
    let out = std::fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let mut serve = tokio::process::Command::new("setsid")
        .arg(files.binary("powerpole-stage"))
        .args(["serve", "--name", &args.name])
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .context("starting the stage's supervisor")?;
    let began = tokio::time::Instant::now();
    while began.elapsed() < UP_LIMIT {
        if let Ok(page) = std::fs::read_to_string(&page) {
            say(&std::fs::read_to_string(&log).unwrap_or_default());
            say(&format!("The stage is up. Workspace page: {page}"));
            say(&format!(
                "A shell as alice: eval \"$({} env --name {} --as alice)\"",
                files.binary("powerpole-stage").display(),
                stage.name()
            ));
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = serve.try_wait()? {
            bail!(
                "the stage did not come up ({status}):\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!(
        "the stage did not come up within {} s; see {}",
        UP_LIMIT.as_secs(),
        log.display()
    )
}

/// Holds a stage until it is told to end.
pub(crate) async fn serve(args: Serve) -> anyhow::Result<ExitCode> {
    let files = StageFiles::of(&args.name)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let running = Running::bring_up(&args.name, &Times::demo()).await?;
    let own = Process::own().context("finding this process")?;
    hub::write_json(&files.dir.join("supervisor.json"), &own)?;
    std::fs::write(files.dir.join("page"), running.page_url())?;
    running.write_environments()?;
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
    let files = StageFiles::of(&args.name)?;
    let stage = Stage::open(args.name.parse()?, &files.dir)?;
    let record = files.dir.join("supervisor.json");
    if let Ok(text) = std::fs::read(&record) {
        let supervisor: Process =
            serde_json::from_slice(&text).context("reading the supervisor's record")?;
        tokio::task::spawn_blocking(move || supervisor.end(Duration::from_secs(60))).await??;
        let _ = std::fs::remove_file(&record);
    }
    hub::remove_all(&stage)?;
    let _ = std::fs::remove_file(files.dir.join("page"));
    let left = hub::leftovers(&stage);
    if !left.none() {
        bail!("something is left: {}", serde_json::to_string(&left)?);
    }
    files.forget_secrets()?;
    say(&format!(
        "The stage {} is down; nothing is left of it but its folder.",
        stage.name()
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
