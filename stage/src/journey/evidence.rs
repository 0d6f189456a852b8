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

/// The unique id of the bastions' role, as the stage's control is configured. An auditor has it from control's owner, and
/// not from the ledger.
pub(crate) fn role_id(stage: &Path) -> anyhow::Result<String> {
    let path = stage.join("control.toml");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let config: toml::Table = text
        .parse()
        .with_context(|| format!("reading {}", path.display()))?;
    let role_id = config
        .get("bastion")
        .and_then(|bastion| bastion.get("role_id")?.as_str());
    Ok(role_id
        .with_context(|| format!("{} has no bastion.role_id", path.display()))?
        .to_owned())
}

/// Writes a request's evidence into a folder. `program` lies in the `bin` of the stage's folder; the log group and the
/// bucket are in `env`.
pub(crate) async fn export(
    program: &Path,
    request: &str,
    out: &Path,
    env: &[(String, String)],
) -> anyhow::Result<()> {
    let stage = program.ancestors().nth(2);
    let role_id = role_id(stage.context("powerpole lies in no stage's folder")?)?;
    let output = Command::new(program)
        .args(["export", request, "--role-id", &role_id, "--out"])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journey_s_role_id_is_that_of_control_s_configuration() {
        let stage = tempfile::tempdir().unwrap();
        assert!(role_id(stage.path()).is_err());
        let path = stage.path().join("control.toml");
        std::fs::write(&path, "[bastion]\nrole_id = \"AROA1\"\n").unwrap();
        assert_eq!(role_id(stage.path()).unwrap(), "AROA1");
        std::fs::write(&path, "[bastion]\n").unwrap();
        assert!(role_id(stage.path()).is_err());
    }
}
