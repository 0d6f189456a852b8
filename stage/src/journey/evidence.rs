//! The auditor's part: `powerpole export` and `powerpole verify`, run as shipped.

use anyhow::{Context as _, bail};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// What `powerpole verify` said.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// VALID, UNSEALED, …
    pub(crate) verdict: String,
    /// The exit code: 0 for VALID and an authorised WITHHELD.
    pub(crate) code: i32,
    /// What a person reads.
    pub(crate) text: String,
    /// What a program reads.
    pub(crate) json: Value,
    /// The exit code with `--strict`.
    pub(crate) strict: i32,
}

/// Writes a request's evidence into a folder.
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
    let json = run(program, dir, &["--json"]).await?;
    let text = run(program, dir, &[]).await?;
    let strict = run(program, dir, &["--strict"]).await?;
    let value: Value = serde_json::from_slice(&json.stdout).with_context(|| {
        format!(
            "powerpole verify gave no JSON: {}",
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
        strict: strict.status.code().unwrap_or(-1),
    })
}

async fn run(program: &Path, dir: &Path, more: &[&str]) -> anyhow::Result<std::process::Output> {
    Command::new(program)
        .arg("verify")
        .arg(dir)
        .args(more)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .await
        .context("starting powerpole verify")
}
