//! A control group for every machine: the one handle that holds *all* its processes, whoever their parent is.
//!
//! It answers "does anything of this machine still live?" after any crash, and it keeps machines apart: nspawn hangs the payload
//! below its own group, and two machines in one group would share one tree of units. Works on the unified hierarchy and on the
//! old one (there in the hierarchy named `systemd`, the one that nspawn uses).

use crate::hub::{HubError, InstanceId, Process, Stage};
use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The control group of one machine.
#[derive(Clone, Debug)]
pub(crate) struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    pub(crate) fn of(stage: &Stage, instance: &InstanceId) -> Self {
        Self {
            path: stage_path(stage).join(instance.as_str()),
        }
    }

    /// The instances that have a control group.
    pub(crate) fn machines(stage: &Stage) -> Vec<InstanceId> {
        let entries = std::fs::read_dir(stage_path(stage))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Makes it where it is missing, and says into which file a process writes its pid to join.
    pub(crate) fn create(&self) -> Result<PathBuf, HubError> {
        std::fs::create_dir_all(&self.path).map_err(HubError::file("create", &self.path))?;
        Ok(self.path.join("cgroup.procs"))
    }

    /// All pids in it and below it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        walk(&self.path, &mut |folder| {
            let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(
                text.lines()
                    .filter_map(|line| line.parse::<i32>().ok())
                    .filter(|pid| *pid > 0),
            );
        });
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
        walk(&self.path, &mut |folder| folders.push(folder.to_owned()));
        for folder in folders.iter().rev() {
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Removes the stage's own group once its machines are gone.
    pub(crate) fn remove_stage(stage: &Stage) {
        let _ = std::fs::remove_dir(stage_path(stage));
    }

    fn living(&self) -> impl Iterator<Item = Process> {
        self.pids()
            .into_iter()
            .filter_map(Process::find)
            .filter(Process::alive)
    }
}

fn stage_path(stage: &Stage) -> PathBuf {
    let old = Path::new("/sys/fs/cgroup/systemd");
    let hierarchy = if old.is_dir() {
        old
    } else {
        Path::new("/sys/fs/cgroup")
    };
    hierarchy.join(stage.control_group())
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
