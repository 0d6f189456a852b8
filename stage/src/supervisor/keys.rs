//! Keys and passwords of a stage: random, made once, in files that only root reads.

use super::files::StageFiles;
use super::layout::{Cluster, clusters};
use anyhow::Context as _;
use rand::TryRng as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// File with Slack's signing secret.
pub(crate) fn signing_secret(files: &StageFiles) -> PathBuf {
    files.keys().join("slack-signing-secret")
}

/// File with the bot token.
pub(crate) fn bot_token(files: &StageFiles) -> PathBuf {
    files.keys().join("slack-bot-token")
}

/// File with a cluster's ticket key.
pub(crate) fn ticket_key(files: &StageFiles, cluster: &Cluster) -> PathBuf {
    files.keys().join(format!("ticket-{}", cluster.id))
}

/// File with the grantor's password on a cluster.
pub(crate) fn grantor_password(files: &StageFiles, cluster: &Cluster) -> PathBuf {
    files.keys().join(format!("grantor-{}", cluster.id))
}

/// File with the grantor's credential as Secrets Manager holds it.
pub(crate) fn grantor_json(files: &StageFiles, cluster: &Cluster) -> PathBuf {
    files.keys().join(format!("grantor-{}.json", cluster.id))
}

/// The grantor's user name on every cluster.
pub(crate) const GRANTOR: &str = "powerpole_grantor";

/// Makes what is missing.
pub(crate) fn make(files: &StageFiles) -> anyhow::Result<()> {
    let dir = files.keys();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| format!("creating {}", dir.display()))?;
    unless_there(signing_secret(files), &random(16)?)?;
    unless_there(bot_token(files), &format!("xoxb-{}", random(16)?))?;
    for cluster in clusters() {
        unless_there(ticket_key(files, &cluster), &random(32)?)?;
        let password = grantor_password(files, &cluster);
        unless_there(password.clone(), &format!("{}aA1-", random(16)?))?;
        let password = std::fs::read_to_string(password)?;
        let json = serde_json::json!({ "username": GRANTOR, "password": password.trim() });
        unless_there(grantor_json(files, &cluster), &json.to_string())?;
    }
    Ok(())
}

fn random(bytes: usize) -> anyhow::Result<String> {
    let mut buffer = vec![0; bytes];
    rand::rngs::SysRng
        .try_fill_bytes(&mut buffer)
        .context("the system gave no randomness")?;
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unless_there(path: PathBuf, text: &str) -> anyhow::Result<()> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    match made {
        Ok(mut file) => std::io::Write::write_all(&mut file, text.as_bytes())
            .with_context(|| format!("writing {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
    }
}
