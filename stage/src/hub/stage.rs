//! A stage's name and folder, and the names of everything that belongs to it.
//!
//! Whatever a stage makes outside of its folder (namespaces, control groups, its entry in `/run/powerpole`) carries a name that
//! this module can recognise exactly, so that cleaning up one stage never touches another whose name begins alike.

use super::HubError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where running stages are registered: one file a stage, holding its folder.
const REGISTRY: &str = "/run/powerpole/stages";

/// A stage's name: 1 to 24 of `[a-z0-9-]`, beginning and ending with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageName(String);

impl FromStr for StageName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let valid = (1..=24).contains(&text.len())
            && text.chars().all(|c| plain(c) || c == '-')
            && text.starts_with(plain)
            && text.ends_with(plain);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(HubError::StageName {
                name: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An EC2 instance id: `i-` and 8 to 17 lower-case hexadecimal digits.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct InstanceId(String);

impl InstanceId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let digits = text.strip_prefix("i-").unwrap_or_default();
        let hexadecimal = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if (8..=17).contains(&digits.len()) && digits.chars().all(hexadecimal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(HubError::InstanceId {
                text: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = HubError;

    fn try_from(text: String) -> Result<Self, HubError> {
        text.parse()
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stage: its name and its folder.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    name: StageName,
    dir: PathBuf,
}

impl Stage {
    /// Opens the stage in `dir`, making its folders where they are missing.
    pub(crate) fn open(name: StageName, dir: &Path) -> Result<Self, HubError> {
        for part in ["logs", "run", "data", "machines"] {
            let path = dir.join(part);
            std::fs::create_dir_all(&path).map_err(HubError::file("create", &path))?;
        }
        let dir = dir.canonicalize().map_err(HubError::file("resolve", dir))?;
        Ok(Self { name, dir })
    }

    pub(crate) fn name(&self) -> &StageName {
        &self.name
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Pid files, sockets, locks and keys.
    pub(crate) fn run(&self) -> PathBuf {
        self.dir.join("run")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    pub(crate) fn machines(&self) -> PathBuf {
        self.dir.join("machines")
    }

    /// Which root every image stands for: `{"ami-…": "/root/dir"}`.
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join("images.json")
    }

    /// The hub's network namespace.
    pub(crate) fn hub_namespace(&self) -> String {
        format!("pp-{}-hub", self.name)
    }

    /// A machine's network namespace.
    pub(crate) fn machine_namespace(&self, instance: &InstanceId) -> String {
        format!("pp-{}-{instance}", self.name)
    }

    /// The control group that holds all machines of the stage, below the hierarchy's root.
    pub(crate) fn control_group(&self) -> String {
        format!("pp-{}", self.name)
    }

    /// True for the hub of this stage and for machines of this stage, and for nothing of any other stage.
    pub(crate) fn owns_namespace(&self, namespace: &str) -> bool {
        namespace == self.hub_namespace() || self.machine_of_namespace(namespace).is_some()
    }

    /// The instance whose machine has this namespace.
    pub(crate) fn machine_of_namespace(&self, namespace: &str) -> Option<InstanceId> {
        namespace
            .strip_prefix(&format!("pp-{}-", self.name))?
            .parse()
            .ok()
    }

    /// Claims the name for this folder; refused while a stage of the same name runs from another one.
    pub(crate) fn register(&self) -> Result<(), HubError> {
        std::fs::create_dir_all(REGISTRY).map_err(HubError::file("create", Path::new(REGISTRY)))?;
        let entry = self.registry_entry();
        let claim = entry.with_extension(format!("{}.claim", std::process::id()));
        std::fs::write(&claim, self.dir.as_os_str().as_encoded_bytes())
            .map_err(HubError::file("write", &claim))?;
        // A link appears whole and for one claimant only.
        let mut linked = std::fs::hard_link(&claim, &entry);
        if linked.is_err() && self.assert_ours().is_ok() {
            linked = std::fs::rename(&claim, &entry);
        }
        let _ = std::fs::remove_file(&claim);
        self.assert_ours()?;
        linked.map_err(HubError::file("write", &entry))
    }

    /// Refuses when a stage of this name lives and belongs to another folder.
    pub(crate) fn assert_ours(&self) -> Result<(), HubError> {
        let Ok(owner) = std::fs::read_to_string(self.registry_entry()) else {
            return Ok(());
        };
        if Path::new(&owner) == self.dir || !super::network::exists(&self.hub_namespace()) {
            Ok(())
        } else {
            Err(HubError::NameTaken {
                name: self.name.to_string(),
                dir: owner,
            })
        }
    }

    /// Gives the name back.
    pub(crate) fn unregister(&self) {
        let _ = std::fs::remove_file(self.registry_entry());
    }

    fn registry_entry(&self) -> PathBuf {
        Path::new(REGISTRY).join(&self.name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(name: &str) -> Stage {
        Stage {
            name: name.parse().unwrap(),
            dir: PathBuf::from("/nowhere"),
        }
    }

    #[test]
    fn names_that_could_leave_their_place_are_refused() {
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a/b",
            "a b",
            "..",
            "abcdefghijklmnopqrstuvwxy",
        ] {
            assert!(bad.parse::<StageName>().is_err(), "{bad}");
        }
        for bad in [
            "i-",
            "i-1234567",
            "i-0123456789abcdef01",
            "i-0123456G",
            "j-01234567",
            "i-../../xx",
        ] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stage_knows_its_own_namespaces_and_none_of_a_stage_named_alike() {
        let ours = stage("demo");
        for own in ["pp-demo-hub", "pp-demo-i-0123456789abcdef0"] {
            assert!(ours.owns_namespace(own), "{own}");
        }
        for foreign in [
            "pp-demo-2-hub",
            "pp-demo-i-hub",
            "pp-demo-2-i-0123456789abcdef0",
            "pp-dem-hub",
            "demo",
        ] {
            assert!(!ours.owns_namespace(foreign), "{foreign}");
        }
    }
}
