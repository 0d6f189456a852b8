//! Where one stage's parts keep what they own: folders of the stage, and the cache that all stages share.

use super::error::PartsError;
use crate::hub::Stage;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A stage's folders and names, as far as its parts use them.
#[derive(Clone, Debug)]
pub(crate) struct StagePaths {
    stage: Stage,
}

impl StagePaths {
    /// The paths of an open stage.
    pub(crate) fn of(stage: &Stage) -> Self {
        Self {
            stage: stage.clone(),
        }
    }

    /// Opens the stage `name` in `dir`, making its folders where they are missing.
    pub(crate) fn open(name: &str, dir: &Path) -> Result<Self, PartsError> {
        Ok(Self::of(&Stage::open(name.parse()?, dir)?))
    }

    /// The hub's network namespace. Another part of the stage makes it.
    pub(crate) fn namespace(&self) -> String {
        self.stage.hub_namespace()
    }

    /// Output of the part's process.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.stage.logs().join(format!("{part}.log"))
    }

    /// A database's or a repository's own files.
    pub(crate) fn data(&self, part: &str) -> PathBuf {
        self.stage.dir().join("data").join(part)
    }

    /// The file that says which process is the part's.
    pub(crate) fn record(&self, part: &str) -> PathBuf {
        self.stage.run().join(format!("{part}.json"))
    }

    /// The stage's certificate authority and what it issued.
    pub(crate) fn tls(&self) -> PathBuf {
        self.stage.run().join("tls")
    }

    /// A client's option file with the owner's name and password; mode 0600.
    pub(crate) fn owner_options(&self, part: &str) -> PathBuf {
        self.stage.run().join(format!("{part}-owner.cnf"))
    }

    /// The owner's password alone; mode 0600.
    pub(crate) fn owner_password(&self, part: &str) -> PathBuf {
        self.stage.run().join(format!("{part}-owner.password"))
    }
}

/// What `stage/install` left in the cache, by its `parts.json`.
#[derive(Debug)]
pub(crate) struct Installed(BTreeMap<String, Entry>);

#[derive(Debug, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Entry {
    Ready { path: PathBuf },
    Skipped { reason: String },
}

impl Installed {
    /// Reads the cache's `parts.json`.
    pub(crate) fn read(cache: &Path) -> Result<Self, PartsError> {
        let path = cache.join("parts.json");
        let text = std::fs::read_to_string(&path).map_err(PartsError::file("read", &path))?;
        serde_json::from_str(&text)
            .map(Self)
            .map_err(|source| PartsError::Record { path, source })
    }

    /// Where an installed part lies.
    pub(crate) fn path(&self, part: &str) -> Result<&Path, PartsError> {
        match self.0.get(part) {
            Some(Entry::Ready { path }) => Ok(path),
            Some(Entry::Skipped { reason }) => Err(PartsError::NotInstalled {
                part: part.to_owned(),
                reason: reason.clone(),
            }),
            None => Err(PartsError::NotInstalled {
                part: part.to_owned(),
                reason: "never installed".to_owned(),
            }),
        }
    }
}

/// `$POWERPOLE_CACHE`, `$XDG_CACHE_HOME/powerpole` or `~/.cache/powerpole`.
pub(crate) fn cache() -> Result<PathBuf, PartsError> {
    let folder = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    folder("POWERPOLE_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|path| path.join("powerpole")))
        .or_else(|| folder("HOME").map(|path| path.join(".cache/powerpole")))
        .ok_or(PartsError::NoCache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skipped_part_gives_the_reason_it_was_skipped_for() {
        let dir = tempfile::tempdir().unwrap();
        let text = r#"{"mysql":{"state":"skipped","reason":"no archive"},"moto":{"state":"ready","version":"5","path":"/x"}}"#;
        std::fs::write(dir.path().join("parts.json"), text).unwrap();
        let installed = Installed::read(dir.path()).unwrap();
        assert_eq!(installed.path("moto").unwrap(), Path::new("/x"));
        assert!(
            installed
                .path("mysql")
                .unwrap_err()
                .to_string()
                .contains("no archive")
        );
        assert_eq!(
            installed.path("mariadb").unwrap_err().code(),
            "part_not_installed"
        );
    }
}
