//! The auditor's part: `powerpole export`, `powerpole verify` and `powerpole rolls`, run as shipped.

use crate::supervisor::ANCHOR_BUCKET;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// What `powerpole verify` or `powerpole rolls` said.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// VALID, UNSEALED, …; COMPLETE, …
    pub(crate) verdict: String,
    /// The exit code: 0 for VALID, an authorised WITHHELD and COMPLETE.
    pub(crate) code: i32,
    /// What a person reads.
    pub(crate) text: String,
    /// What a program reads.
    pub(crate) json: Value,
}

/// Writes a request's evidence into a folder. `env` says where it is read: log group, bucket, the bastions' role id.
pub(crate) async fn export(
    program: &Path,
    request: &str,
    out: &Path,
    env: &[(String, String)],
) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(["export", request, "--out"])
        .arg(out)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .await
        .context("starting powerpole export")?;
    if !output.status.success() {
        bail!(
            "powerpole export failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// Verifies a folder that [`export`] wrote, with nothing but that folder.
pub(crate) async fn verify(program: &Path, dir: &Path) -> anyhow::Result<Verdict> {
    let command = |more: &[&str]| {
        let mut command = Command::new(program);
        command.arg("verify").arg(dir).args(more).env_clear();
        command
    };
    verdict(command(&["--json"]), command(&[])).await
}

/// The same, compared with the rolls in a file that [`keep_rolls`] wrote.
pub(crate) async fn verify_with_rolls(
    program: &Path,
    dir: &Path,
    rolls: &Path,
) -> anyhow::Result<Verdict> {
    let command = |more: &[&str]| {
        let mut command = Command::new(program);
        command.arg("verify").arg(dir).arg("--rolls").arg(rolls);
        command.args(more).env_clear();
        command
    };
    verdict(command(&["--json"]), command(&[])).await
}

/// Writes every roll in the bucket into a new file, as `powerpole verify --rolls` takes it.
pub(crate) async fn keep_rolls(
    program: &Path,
    file: &Path,
    env: &[(String, String)],
) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(["rolls", "--from", &format!("s3://{ANCHOR_BUCKET}")])
        .arg("--out")
        .arg(file)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .await
        .context("starting powerpole rolls")?;
    if !output.status.success() {
        bail!(
            "powerpole rolls --out failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

/// The exit code with `--strict`.
pub(crate) async fn verify_strictly(program: &Path, dir: &Path) -> anyhow::Result<i32> {
    let status = Command::new(program)
        .arg("verify")
        .arg(dir)
        .arg("--strict")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let status = status.await.context("starting powerpole")?;
    Ok(status.code().unwrap_or(-1))
}

/// Checks every roll in the bucket against every item of the ledger; `ledger` is `dynamodb` or a file.
pub(crate) async fn rolls(
    program: &Path,
    ledger: &str,
    env: &[(String, String)],
) -> anyhow::Result<Verdict> {
    let command = |more: &[&str]| {
        let mut command = Command::new(program);
        command
            .args(["rolls", "--from", &format!("s3://{ANCHOR_BUCKET}")])
            .args(["--ledger", ledger])
            .args(more)
            .envs(env.iter().map(|(name, value)| (name, value)));
        command
    };
    verdict(command(&["--json"]), command(&[])).await
}

async fn verdict(mut machine: Command, mut human: Command) -> anyhow::Result<Verdict> {
    let starting = "starting powerpole";
    let json = machine.stdin(Stdio::null()).output();
    let json = json.await.context(starting)?;
    let text = human.stdin(Stdio::null()).output();
    let text = text.await.context(starting)?;
    let value: Value = serde_json::from_slice(&json.stdout).with_context(|| {
        format!(
            "powerpole gave no JSON: {}",
            String::from_utf8_lossy(&json.stderr).trim()
        )
    })?;
    Ok(Verdict {
        verdict: value
            .get("verdict")
            .and_then(Value::as_str)
            .unwrap_or("?")
            .to_owned(),
        code: json.status.code().unwrap_or(-1),
        text: String::from_utf8_lossy(&text.stdout).into_owned(),
        json: value,
    })
}
