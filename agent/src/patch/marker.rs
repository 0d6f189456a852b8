//! The note that this machine reboots for its patch: written before, found after, and never removed, as a machine does so
//! once.

use super::{PatchError, file};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// Where it lies: root's own folder, which outlives a reboot.
pub(super) const DIR: &str = "/var/lib/powerpole";
const NAME: &str = "patch-reboot.json";
/// What a second patch needs for finding nothing.
const LEAST: Duration = Duration::from_secs(60);

/// The boot that ended for the patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Earlier {
    /// Release of the kernel that ran then.
    kernel: String,
    /// How long the patch took then.
    spent_ms: u64,
}

impl Earlier {
    pub(super) fn new(kernel: String, spent: Duration) -> Self {
        let spent_ms = u64::try_from(spent.as_millis()).unwrap_or(u64::MAX);
        Self { kernel, spent_ms }
    }

    /// The boot that ended for the patch, if there was one.
    ///
    /// # Errors
    /// When the note is there and cannot be read: whether there was a reboot is then not known.
    pub(crate) fn find() -> Result<Option<Self>, PatchError> {
        Self::read(Path::new(DIR))
    }

    /// What it left of `limit`, the patch's time in all.
    pub(crate) fn left(&self, limit: Duration) -> Duration {
        limit
            .saturating_sub(Duration::from_millis(self.spent_ms))
            .max(LEAST.min(limit))
    }

    pub(super) fn kernel(&self) -> &str {
        &self.kernel
    }

    pub(super) fn spent_ms(&self) -> u64 {
        self.spent_ms
    }

    fn read(dir: &Path) -> Result<Option<Self>, PatchError> {
        let path = dir.join(NAME);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file("read", &path)(error)),
        };
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| file("parse", &path)(error.into()))
    }

    /// Writes the note. When this returns it outlives a loss of power; before, there is the whole of it or none.
    pub(super) fn write(&self, dir: &Path) -> Result<(), PatchError> {
        let (fresh, path) = (dir.join("patch-reboot.new"), dir.join(NAME));
        let text = serde_json::to_vec(self).map_err(|error| file("write", &path)(error.into()))?;
        let mut new = File::create(&fresh).map_err(file("create", &fresh))?;
        new.write_all(&text)
            .and_then(|()| new.sync_all())
            .map_err(file("write", &fresh))?;
        std::fs::rename(&fresh, &path).map_err(file("rename", &fresh))?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(file("sync", dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_found_by_the_next_boot_and_a_torn_one_does_not_count_as_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Earlier::read(dir.path()).unwrap(), None);
        let note = Earlier::new("6.12.1".to_owned(), Duration::from_secs(70));
        note.write(dir.path()).unwrap();
        note.write(dir.path()).unwrap();
        assert_eq!(Earlier::read(dir.path()).unwrap(), Some(note));
        for torn in ["", "{\"kernel\":\"6", "{}"] {
            std::fs::write(dir.path().join(NAME), torn).unwrap();
            assert!(Earlier::read(dir.path()).is_err(), "{torn:?}");
        }
    }

    #[test]
    fn the_two_patches_share_one_limit_and_the_second_has_time_for_finding_nothing() {
        let secs = Duration::from_secs;
        for (spent, limit, left) in [(70, 300, 230), (290, 300, 60), (9, 30, 30), (0, 300, 300)] {
            let note = Earlier::new(String::new(), secs(spent));
            assert_eq!(note.left(secs(limit)), secs(left), "{spent} of {limit}");
        }
    }
}
