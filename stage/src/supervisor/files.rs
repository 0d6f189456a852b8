//! The files of a stage: its folder in the clone, and what the clone and the cache give it.

use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Where a stage finds and puts things.
#[derive(Debug, Clone)]
pub(crate) struct StageFiles {
    /// The clone.
    pub(crate) clone: PathBuf,
    /// The stage's folder in it.
    pub(crate) dir: PathBuf,
    /// What several clones share: servers, virtual environments, images.
    pub(crate) cache: PathBuf,
}

impl StageFiles {
    /// The files of the stage `name` in the clone that this program was built into (`<clone>/.stage/bin`).
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let clone = program
            .ancestors()
            .nth(3)
            .filter(|clone| clone.join("stage/aws/seed.py").is_file())
            .with_context(|| {
                format!(
                    "{} does not lie in a clone's .stage/bin: use `make`",
                    program.display()
                )
            })?
            .to_owned();
        let cache = match std::env::var_os("POWERPOLE_CACHE") {
            Some(cache) => PathBuf::from(cache),
            None => std::env::var_os("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
                .context("neither POWERPOLE_CACHE nor XDG_CACHE_HOME nor HOME is set")?
                .join("powerpole"),
        };
        let dir = clone.join(".stage").join(name);
        Ok(Self { clone, dir, cache })
    }

    /// A shipped binary of this clone.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.clone.join(".stage/bin").join(name)
    }

    /// A program of the stage's Python environment.
    pub(crate) fn python(&self, program: &str) -> PathBuf {
        self.cache.join("venv-stage/bin").join(program)
    }

    /// Keys and passwords of the stage; root only.
    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// Removes what nobody needs of a stage that is down: keys, passwords, certificates, profiles, sockets.
    pub(crate) fn forget_secrets(&self) -> anyhow::Result<()> {
        for folder in ["keys", "run", "client"] {
            let path = self.dir.join(folder);
            if path.exists() {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }
}
