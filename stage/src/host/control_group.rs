//! A control group for every machine: the one handle that holds *all* its processes, whoever their parent is.
//!
//! It answers "does anything of this machine still live?" after any crash, and it keeps machines apart: nspawn hangs the payload
//! below its own group, and two machines in one group would share one tree of units. Works on the unified, the hybrid
//! and the old hierarchy.

use crate::hub::{HubError, InstanceId, Process, Stage};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The control group of one machine, in every hierarchy that systemd and nspawn keep their tree in.
#[derive(Clone, Debug)]
pub(crate) struct ControlGroup {
    paths: Vec<PathBuf>,
}

impl ControlGroup {
    pub(crate) fn of(stage: &Stage, instance: &InstanceId) -> Self {
        let paths = stage_paths(stage)
            .into_iter()
            .map(|path| path.join(instance.as_str()));
        Self {
            paths: paths.collect(),
        }
    }

    /// The instances that have a control group.
    pub(crate) fn machines(stage: &Stage) -> Vec<InstanceId> {
        let mut ids: Vec<InstanceId> = stage_paths(stage)
            .into_iter()
            .flat_map(|path| std::fs::read_dir(path).into_iter().flatten().flatten())
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Makes it where it is missing, and says into which files a process writes its pid to join.
    pub(crate) fn create(&self) -> Result<Vec<PathBuf>, HubError> {
        for path in &self.paths {
            std::fs::create_dir_all(path).map_err(HubError::file("create", path))?;
        }
        Ok(self
            .paths
            .iter()
            .map(|path| path.join("cgroup.procs"))
            .collect())
    }

    /// All pids in it and below it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for path in &self.paths {
            walk(path, &mut |folder| {
                let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                pids.extend(
                    text.lines()
                        .filter_map(|line| line.parse::<i32>().ok())
                        .filter(|pid| *pid > 0),
                );
            });
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// True while any process in it lives.
    pub(crate) fn populated(&self) -> bool {
        self.living().next().is_some()
    }

    /// SIGKILL for every process, again and again until none is left: a machine loses its power, nothing in it hears of it.
    pub(crate) fn kill_all(&self) -> Result<(), HubError> {
        for _ in 0..250 {
            let Some(first) = self.living().next() else {
                return Ok(());
            };
            for process in self.living() {
                process.signal(Signal::SIGKILL);
            }
            first.gone_within(Duration::from_millis(20));
        }
        let pid = self.living().next().map_or(0, |process| process.pid);
        if pid == 0 {
            Ok(())
        } else {
            Err(HubError::Unkillable { pid })
        }
    }

    /// Removes it and what units made below it. One with living processes stays.
    pub(crate) fn remove(&self) {
        let mut folders = Vec::new();
        for path in &self.paths {
            walk(path, &mut |folder| folders.push(folder.to_owned()));
        }
        for folder in folders.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Removes the stage's own group once its machines are gone.
    pub(crate) fn remove_stage(stage: &Stage) {
        for path in stage_paths(stage) {
            let _ = std::fs::remove_dir(path);
        }
    }

    fn living(&self) -> impl Iterator<Item = Process> {
        self.pids()
            .into_iter()
            .filter_map(Process::find)
            .filter(Process::alive)
    }
}

/// One path on the unified hierarchy; two on the hybrid one, where nspawn takes its place from `unified` and mirrors it in
/// `systemd`; one on the old one.
fn stage_paths(stage: &Stage) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let hybrid: Vec<PathBuf> = ["unified", "systemd"]
        .map(|name| top.join(name))
        .into_iter()
        .collect();
    let mut hierarchies: Vec<PathBuf> = hybrid
        .into_iter()
        .filter(|path| path.join("cgroup.procs").exists())
        .collect();
    if hierarchies.is_empty() {
        hierarchies.push(top.to_owned());
    }
    hierarchies
        .into_iter()
        .map(|hierarchy| hierarchy.join(stage.control_group()))
        .collect()
}

/// Visits a folder and all below it, parents first.
fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    visit(folder);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}
