//! A whole stage: every part started in order, watched, and taken down again.
//!
//! `up` leaves a supervisor in the background, `demo` and `test` hold one themselves. Whoever holds it takes it
//! down; [`crate::hub::remove_all`] sweeps up after one that was killed.

mod client;
mod control;
mod files;
mod keys;
mod layout;
mod running;
mod serve;

pub(crate) use client::{AUDITOR, PEOPLE, Person};
pub(crate) use files::StageFiles;
pub(crate) use layout::{ANCHOR_BUCKET, CONTROL_BASTIONS, CONTROL_SLACK, LEDGER_TABLE, LOG_GROUP};
pub(crate) use running::{Running, Times};
pub(crate) use serve::{Down, Env, Serve, Up, down, env, serve, up};

use anyhow::Context as _;

/// Removes everything of a stage that is neither up nor down, its keys too.
pub(crate) fn sweep(name: &str) -> anyhow::Result<()> {
    let files = StageFiles::of(name)?;
    let stage = crate::hub::Stage::open(name.parse()?, &files.dir)?;
    let removed = crate::hub::remove_all(&stage);
    files.forget_secrets()?;
    Ok(removed?)
}

/// Removes the folder of a stage that is down, if there is one.
pub(crate) fn remove_folder(name: &str) -> anyhow::Result<()> {
    let dir = StageFiles::of(name)?.dir;
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Refuses whoever is not root, before anything is made.
pub(crate) fn needs_root(what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "needs root: {what} works with network namespaces, mounts and machines. Nothing was done"
    );
    Ok(())
}

/// Says one line of progress, with a time where there is one.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
