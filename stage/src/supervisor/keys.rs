//! Keys and passwords of a stage: random, made once, in files that only root reads.

use super::files::StageFiles;
use super::layout::{Cluster, HUB, clusters};
use anyhow::Context as _;
use rand::TryRng as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

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

/// File with the grantor's secret as Secrets Manager holds it.
fn grantor_json(files: &StageFiles, cluster: &Cluster) -> PathBuf {
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
        unless_there(password, &format!("{}aA1-", random(16)?))?;
    }
    Ok(())
}

/// Writes a cluster's grantor's secret as its owner does: the credential and the way to the server.
pub(crate) fn write_grantor_json(
    files: &StageFiles,
    cluster: &Cluster,
    ca: &Path,
) -> anyhow::Result<PathBuf> {
    let path = grantor_json(files, cluster);
    let password = std::fs::read_to_string(grantor_password(files, cluster))?;
    let ca = std::fs::read_to_string(ca).with_context(|| format!("reading {}", ca.display()))?;
    let document = serde_json::json!({
        "v": 1,
        "cluster": cluster.id,
        "username": GRANTOR,
        "password": password.trim(),
        "host": HUB.to_string(),
        "port": cluster.port,
        "ca_pem": ca,
        // One server a cluster: it is named as an instance too, as the writer's own endpoint is on Aurora.
        "readers": [{ "host": HUB.to_string(), "port": cluster.port }],
    });
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing {}", path.display()));
        }
        _ => {}
    }
    unless_there(path.clone(), &document.to_string())?;
    Ok(path)
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
