//! A machine's folder, `machines/<instance>/`, and what is written there about it.
//!
//! ```text
//! machine.json   what EC2 said and how far it got; written by the instance host only
//! keeper.json    who keeps it running, how often it booted, how it ended; written by its keeper only
//! user-data      the bytes it was launched with
//! destroyed      present when the fault switch took it
//! console.log    its console, journal included     (kept)
//! journal/       its journal, if its image stores one (kept)
//! upper/ work/   the overlay over the image        (removed with the instance)
//! root/          the mounted root                  (removed with the instance)
//! ```
//! Both JSON files are replaced whole, so a process killed on any line leaves the old or the new one.

use super::control_group::ControlGroup;
use super::ec2::Instance;
use crate::hub::{HubError, InstanceId, Process, Stage, write_json};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How far a machine is, as the instance host knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// A keeper was started for it, or is about to be.
    Launched,
    /// Off, its root kept: EC2 may start it again.
    Stopped,
    /// Gone for good; only console and journal are left.
    Gone,
}

/// machine.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MachineRecord {
    pub(crate) phase: Phase,
    pub(crate) ec2: Instance,
    /// The roots that the image stands for, uppermost first.
    pub(crate) lower: Vec<PathBuf>,
    /// When the instance host first saw it, RFC 3339.
    pub(crate) seen: String,
}

/// keeper.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KeeperRecord {
    pub(crate) keeper: Process,
    /// Boots so far, 1 for the first.
    pub(crate) boots: u32,
    /// nspawn's exit code once the machine is off: 0 after a power-off.
    pub(crate) exit: Option<i32>,
}

/// One machine's place on disk.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) id: InstanceId,
    dir: PathBuf,
    group: ControlGroup,
}

impl Machine {
    pub(crate) fn of(stage: &Stage, id: &InstanceId) -> Self {
        let dir = stage.machines().join(id.as_str());
        Self {
            id: id.clone(),
            dir,
            group: ControlGroup::of(stage, id),
        }
    }

    /// Every machine that has a folder.
    pub(crate) fn all(stage: &Stage) -> Vec<Self> {
        let entries = std::fs::read_dir(stage.machines())
            .into_iter()
            .flatten()
            .flatten();
        let ids =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse::<InstanceId>().ok());
        ids.map(|id| Self::of(stage, &id)).collect()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn group(&self) -> &ControlGroup {
        &self.group
    }

    pub(crate) fn record(&self) -> Option<MachineRecord> {
        serde_json::from_slice(&std::fs::read(self.path("machine.json")).ok()?).ok()
    }

    pub(crate) fn write_record(&self, record: &MachineRecord) -> Result<(), HubError> {
        std::fs::create_dir_all(&self.dir).map_err(HubError::file("create", &self.dir))?;
        write_json(&self.path("machine.json"), record)
    }

    pub(crate) fn keeper(&self) -> Option<KeeperRecord> {
        serde_json::from_slice(&std::fs::read(self.path("keeper.json")).ok()?).ok()
    }

    pub(crate) fn write_keeper(&self, record: &KeeperRecord) -> Result<(), HubError> {
        write_json(&self.path("keeper.json"), record)
    }

    /// True when the fault switch took it.
    pub(crate) fn destroyed(&self) -> bool {
        self.path("destroyed").exists()
    }

    /// True while its keeper or any process of it lives.
    pub(crate) fn alive(&self) -> bool {
        self.keeper()
            .is_some_and(|record| record.exit.is_none() && record.keeper.alive())
            || self.group.populated()
    }

    /// Takes its power away and waits until nothing of it lives, its keeper included.
    pub(crate) fn kill(&self) -> Result<(), HubError> {
        self.group.kill_all()?;
        if let Some(record) = self.keeper() {
            // It sees the end by itself and writes it down; one that hangs is ended.
            if !record.keeper.gone_within(std::time::Duration::from_secs(3)) {
                record.keeper.end(std::time::Duration::from_millis(200))?;
                self.group.kill_all()?;
            }
        }
        Ok(())
    }
}
