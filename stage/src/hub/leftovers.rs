//! Finding and removing everything that a stage left on the machine, whether or not it was taken down in order.
//!
//! Nothing is believed that cannot be seen: processes are found by the namespaces they are in and by control group, mounts in
//! the kernel's table, namespaces by name. Records of pids only add to that, and a pid counts only with its start time.

use super::process::{Process, Record, in_namespace, own_line};
use super::{HubError, InstanceId, Stage, network};
use crate::host::control_group::ControlGroup;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is left of a stage; all lists empty means nothing.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Leftovers {
    /// Machines with at least one living process.
    pub(crate) instances: Vec<InstanceId>,
    /// Network namespaces.
    pub(crate) namespaces: Vec<String>,
    /// Mount points below the stage's folder.
    pub(crate) mounts: Vec<PathBuf>,
    /// Processes in the stage's namespaces or control groups, or on record and alive. The caller's own line is not among them.
    pub(crate) processes: Vec<i32>,
}

impl Leftovers {
    /// Looks at the whole stage.
    pub(crate) fn of_stage(stage: &Stage) -> Self {
        let namespaces = network::namespaces(stage);
        let mut processes = processes_in(stage, &namespaces);
        for record in Record::all(stage) {
            if record.process.alive() {
                processes.insert(record.process.pid, record.process);
            }
        }
        Self::collect(stage, namespaces, processes)
    }

    /// Looks at the machines alone: what must be gone when the last grant is closed, while the stage itself still runs.
    pub(crate) fn of_machines(stage: &Stage) -> Self {
        let mut namespaces = network::namespaces(stage);
        namespaces.retain(|name| stage.machine_of_namespace(name).is_some());
        let processes = processes_in(stage, &namespaces);
        Self::collect(stage, namespaces, processes)
    }

    /// True when nothing is left.
    pub(crate) fn none(&self) -> bool {
        *self == Self::default()
    }

    fn collect(
        stage: &Stage,
        namespaces: Vec<String>,
        mut processes: BTreeMap<i32, Process>,
    ) -> Self {
        for own in own_line() {
            processes.remove(&own);
        }
        let instances = ControlGroup::machines(stage)
            .into_iter()
            .filter(|id| ControlGroup::of(stage, id).populated());
        Self {
            instances: instances.collect(),
            namespaces,
            mounts: mounts_below(stage.dir()),
            processes: processes.into_keys().collect(),
        }
    }
}

/// Ends and removes everything of the stage but its folder. Repeating it is harmless; each step works without the ones before.
pub(crate) fn remove_all(stage: &Stage) -> Result<(), HubError> {
    stage.assert_ours()?;
    let spared = own_line();
    // The instance host first, lest it boots machines again while they are being taken down; the others all at once.
    let mut records = Record::all(stage);
    records.retain(|record| !spared.contains(&record.process.pid));
    records.sort_by_key(|record| record.name != crate::host::PROCESS_NAME);
    if let Some(first) = records.first() {
        first.process.end(Duration::from_secs(3))?;
    }
    for record in &records {
        record.process.signal(Signal::SIGTERM);
    }
    for record in &records {
        record.process.end(Duration::from_secs(3))?;
        record.forget(stage);
    }
    for instance in ControlGroup::machines(stage) {
        ControlGroup::of(stage, &instance).kill_all()?;
    }
    let namespaces = network::namespaces(stage);
    for process in processes_in(stage, &namespaces)
        .into_values()
        .filter(|p| !spared.contains(&p.pid))
    {
        process.end(Duration::from_millis(200))?;
    }
    unmount_below(stage.dir())?;
    crate::host::remove_roots(stage)?;
    for instance in ControlGroup::machines(stage) {
        ControlGroup::of(stage, &instance).remove();
    }
    ControlGroup::remove_stage(stage);
    for namespace in &namespaces {
        match stage.machine_of_namespace(namespace) {
            Some(instance) => network::unplug(stage, &instance)?,
            None => network::delete(namespace)?,
        }
    }
    stage.unregister();
    Ok(())
}

fn processes_in(stage: &Stage, namespaces: &[String]) -> BTreeMap<i32, Process> {
    let mut found = BTreeMap::new();
    for namespace in namespaces {
        found.extend(
            in_namespace(namespace)
                .into_iter()
                .map(|process| (process.pid, process)),
        );
    }
    for instance in ControlGroup::machines(stage) {
        for pid in ControlGroup::of(stage, &instance).pids() {
            found.extend(
                Process::find(pid)
                    .filter(Process::alive)
                    .map(|process| (pid, process)),
            );
        }
    }
    found
}

/// Unmounts what lies below a folder, the deepest and latest first.
pub(crate) fn unmount_below(dir: &Path) -> Result<(), HubError> {
    for point in mounts_below(dir).into_iter().rev() {
        // Detached: the mount leaves the tree now, and the file system when its last user has gone.
        umount2(&point, MntFlags::MNT_DETACH)
            .map_err(|error| HubError::file("unmount", &point)(error.into()))?;
    }
    Ok(())
}

fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table
        .lines()
        .filter_map(mount_point)
        .filter(|point| point.starts_with(dir))
        .collect()
}

/// The fifth field of a line of mountinfo, with its octal escapes undone.
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let mut text = String::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let (digits, left) = after.split_at_checked(3)?;
        text.push(char::from(u8::from_str_radix(digits, 8).ok()?));
        rest = left;
    }
    text.push_str(rest);
    Some(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_read_whole() {
        let line = "36 35 98:0 / /a\\040b/machines/i-1/root rw - overlay overlay rw";
        assert_eq!(
            mount_point(line).unwrap(),
            Path::new("/a b/machines/i-1/root")
        );
    }
}
