//! Where one stage's parts keep what they own: folders of the stage, and the cache that all stages share.

use super::error::PartsError;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A stage's name and folder.
#[derive(Clone, Debug)]
pub(crate) struct StagePaths {
    name: String,
    dir: PathBuf,
}

impl StagePaths {
    /// Makes the stage's folders where they are missing.
    pub(crate) fn open(name: &str, dir: &Path) -> Result<Self, PartsError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 24 || !name.chars().all(plain) {
            return Err(PartsError::StageName { name: name.to_owned() });
        }
        for folder in ["logs", "run/parts", "data"] {
            let path = dir.join(folder);
            std::fs::create_dir_all(&path).map_err(PartsError::file("create", &path))?;
        }
        let dir = dir.canonicalize().map_err(PartsError::file("resolve", dir))?;
        Ok(Self { name: name.to_owned(), dir })
    }

    /// The hub's network namespace. Another part of the stage makes it.
    pub(crate) fn namespace(&self) -> String {
        format!("pp-{}-hub", self.name)
    }

    /// Output of the part's process.
    pub(crate) fn log(&self, part: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{part}.log"))
    }

    /// A database's or a repository's own files.
    pub(crate) fn data(&self, part: &str) -> PathBuf {
        self.dir.join("data").join(part)
    }

    /// The file that says which process is the part's.
    pub(crate) fn record(&self, part: &str) -> PathBuf {
        self.dir.join("run/parts").join(format!("{part}.json"))
    }

    /// The stage's certificate authority and what it issued.
    pub(crate) fn tls(&self) -> PathBuf {
        self.dir.join("run/tls")
    }

    /// A client's option file with the owner's name and password; mode 0600.
    pub(crate) fn owner_options(&self, part: &str) -> PathBuf {
        self.dir.join("run").join(format!("{part}-owner.cnf"))
    }

    /// The owner's password alone; mode 0600.
    pub(crate) fn owner_password(&self, part: &str) -> PathBuf {
        self.dir.join("run").join(format!("{part}-owner.password"))
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
        serde_json::from_str(&text).map(Self).map_err(|source| PartsError::Record { path, source })
    }

    /// Where an installed part lies.
    pub(crate) fn path(&self, part: &str) -> Result<&Path, PartsError> {
        match self.0.get(part) {
            Some(Entry::Ready { path }) => Ok(path),
            Some(Entry::Skipped { reason }) => {
                Err(PartsError::NotInstalled { part: part.to_owned(), reason: reason.clone() })
            }
            None => Err(PartsError::NotInstalled { part: part.to_owned(), reason: "never installed".to_owned() }),
        }
    }
}

/// `$POWERPOLE_CACHE`, `$XDG_CACHE_HOME/powerpole` or `~/.cache/powerpole`.
pub(crate) fn cache() -> Result<PathBuf, PartsError> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
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
        assert!(installed.path("mysql").unwrap_err().to_string().contains("no archive"));
        assert_eq!(installed.path("mariadb").unwrap_err().code(), "part_not_installed");
    }

    #[test]
    fn a_stage_name_that_could_leave_its_namespace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "a/b", "a b", "A", "..", "a234567890123456789012345"] {
            assert_eq!(StagePaths::open(name, dir.path()).unwrap_err().code(), "stage_name", "{name}");
        }
        assert_eq!(StagePaths::open("dev-1", dir.path()).unwrap().namespace(), "pp-dev-1-hub");
    }
}
