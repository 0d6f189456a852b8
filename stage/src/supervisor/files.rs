//! The files of a stage: its folder in the clone, and what the clone and the cache give it.

use crate::hub::{StageName, own_program};
use anyhow::{Context as _, bail, ensure};
use std::fs::{File, TryLockError};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What a stage runs, copied into its folder when it comes up.
const BINARIES: [&str; 3] = ["powerpole", "powerpole-control", "powerpole-stage"];

/// Folders of a stage that nobody needs once it is down: keys, passwords, certificates, profiles, sockets, programs.
const OF_A_RUN: [&str; 4] = ["keys", "run", "client", "bin"];

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
    /// The files of the stage `name` in the clone that this program was built into: it runs from `<clone>/.stage/bin`, or
    /// from a stage's own `<clone>/.stage/NAME/bin`.
    pub(crate) fn of(name: &str) -> anyhow::Result<Self> {
        let name: StageName = name.parse()?;
        ensure!(
            name.to_string() != "bin",
            "\"bin\" is no name for a stage: .stage/bin holds the binaries"
        );
        let program = std::env::current_exe().context("finding this program")?;
        let clone = program
            .ancestors()
            .skip(3)
            .take(2)
            .find(|clone| clone.join("stage/aws/seed.py").is_file())
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
        let dir = clone.join(".stage").join(name.to_string());
        Ok(Self { clone, dir, cache })
    }

    /// A shipped binary, as the stage took it when it came up.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.dir.join("bin").join(name)
    }

    /// Gives the stage binaries of its own: a build beside it replaces the clone's while it runs. They are links, which cost
    /// nothing; of this program it is always the one that runs, also when a newer one lies in its place by now.
    pub(crate) fn take_binaries(&self) -> anyhow::Result<()> {
        let bin = self.dir.join("bin");
        std::fs::create_dir_all(&bin).with_context(|| format!("creating {}", bin.display()))?;
        for name in BINARIES {
            let source = match name {
                "powerpole-stage" => own_program(),
                other => self.clone.join(".stage/bin").join(other),
            };
            let target = bin.join(name);
            take(&source, &target).with_context(|| {
                format!(
                    "taking {} into the stage (`make build` makes it)",
                    source.display()
                )
            })?;
        }
        Ok(())
    }

    /// Holds the stage's folder: of two that bring it up at once, one is refused before it touches anything.
    pub(crate) fn hold(&self) -> anyhow::Result<File> {
        std::fs::create_dir_all(&self.dir)
            .with_context(|| format!("creating {}", self.dir.display()))?;
        let path = self.dir.join("lock");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => bail!(self.runs_already()),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("locking {}", path.display()))
            }
        }
    }

    /// What somebody reads who brings up a stage that is there.
    pub(crate) fn runs_already(&self) -> String {
        let name = self.name();
        format!(
            "the stage {name:?} runs already, or was killed. `make stage-down STAGE={name}` takes it down; \
             another name (`make demo STAGE=other`) runs beside it"
        )
    }

    /// Says which process holds the stage.
    pub(crate) fn supervisor(&self) -> PathBuf {
        self.dir.join("supervisor.json")
    }

    /// The stage's name.
    pub(crate) fn name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Refuses to speak of a stage that was never brought up in this clone.
    pub(crate) fn ensure_there(&self) -> anyhow::Result<()> {
        let name = self.name();
        ensure!(
            self.dir.join("logs").is_dir(),
            "there is no stage {name:?} in this clone: {} is not there. Nothing was done",
            self.dir.display()
        );
        Ok(())
    }

    /// A program of the stage's Python environment.
    pub(crate) fn python(&self, program: &str) -> PathBuf {
        self.cache.join("venv-stage/bin").join(program)
    }

    /// Keys and passwords of the stage; root only.
    pub(crate) fn keys(&self) -> PathBuf {
        self.dir.join("keys")
    }

    /// Removes what nobody needs of a stage that is down: keys, passwords, certificates, profiles, sockets, programs. What a
    /// database wrote into its own files stays with them. For after everything was ended: what still runs is found by its
    /// record in `run`.
    pub(crate) fn forget_secrets(&self) -> anyhow::Result<()> {
        for folder in OF_A_RUN {
            let path = self.dir.join(folder);
            match std::fs::remove_dir_all(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
            }
        }
        for path in key_files(&self.dir.join("data"))? {
            std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        for path in entries(&self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("env-") {
                std::fs::remove_file(&path)
                    .with_context(|| format!("removing {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn take(source: &Path, target: &Path) -> std::io::Result<()> {
    let wanted = std::fs::metadata(source)?;
    if let Ok(there) = std::fs::metadata(target) {
        if (there.dev(), there.ino()) == (wanted.dev(), wanted.ino()) {
            return Ok(());
        }
        std::fs::remove_file(target)?;
    }
    // A program that was deleted meanwhile can be read, and not linked.
    std::fs::hard_link(source, target).or_else(|_| std::fs::copy(source, target).map(drop))
}

/// The servers' key files in their data folders: ours (`server.key`) and what a server makes itself (`private_key.pem`).
fn key_files(data: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for part in entries(data)? {
        if !part.is_dir() {
            continue;
        }
        found.extend(entries(&part)?.into_iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".key") || (name.ends_with(".pem") && name.contains("key"))
        }));
    }
    Ok(found)
}

/// What lies in a folder; nothing when it is not there.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let read = match std::fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", folder.display())),
    };
    read.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> StageFiles {
        StageFiles {
            clone: dir.to_owned(),
            dir: dir.join(".stage/demo"),
            cache: dir.join("cache"),
        }
    }

    #[test]
    fn of_a_stage_that_is_down_no_key_and_no_profile_stays_and_its_logs_and_data_do() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let gone = [
            "keys/control/signing.key",
            "run/mysql-owner.password",
            "client/credentials",
            "bin/powerpole",
            "env-alice",
            "data/mysql/server.key",
            "data/mysql/private_key.pem",
            "data/mariadb/server.key",
        ];
        let kept = [
            "logs/control.log",
            "data/mysql/server.pem",
            "data/mysql/orders/orders.ibd",
            "evidence-req-1/LINES.jsonl",
        ];
        for name in gone.iter().chain(&kept) {
            let path = files.dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
        }
        files.forget_secrets().unwrap();
        for name in gone {
            assert!(!files.dir.join(name).exists(), "{name}");
        }
        for name in kept {
            assert!(files.dir.join(name).exists(), "{name}");
        }
        files.forget_secrets().unwrap();
    }

    #[test]
    fn a_stage_keeps_its_binaries_when_the_clones_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let clones = dir.path().join(".stage/bin");
        std::fs::create_dir_all(&clones).unwrap();
        for name in BINARIES {
            std::fs::write(clones.join(name), "old").unwrap();
        }
        files.take_binaries().unwrap();
        let new = clones.join(".new");
        std::fs::write(&new, "new").unwrap();
        std::fs::rename(&new, clones.join("powerpole")).unwrap();
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        assert_eq!(text(&files.binary("powerpole")), "old");
        files.take_binaries().unwrap();
        assert_eq!(text(&files.binary("powerpole")), "new");
    }

    #[test]
    fn of_two_that_hold_one_stage_the_second_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let held = files.hold().unwrap();
        assert!(files.hold().unwrap_err().to_string().contains("STAGE=demo"));
        drop(held);
        files.hold().unwrap();
    }

    #[test]
    fn a_stage_that_never_was_is_refused_and_leaves_no_folder() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        assert!(files.ensure_there().is_err());
        assert!(!files.dir.exists());
    }
}
