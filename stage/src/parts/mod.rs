//! The stage's outside parts: databases, AWS, the dnf repository. Starts them inside the stage's hub and ends them.
//!
//! It owns their data, logs and process records in the stage's folder. It makes no network namespace, installs nothing
//! (that is `stage/install`), and ends no process that it did not start.

mod authority;
mod database;
mod error;
mod moto;
mod paths;
mod process;
mod repository;

pub(crate) use authority::Authority;
pub(crate) use error::PartsError;
pub(crate) use paths::StagePaths;
pub(crate) use repository::{Variant, switch as switch_repository};

use clap::{Subcommand, ValueEnum};
use database::Flavour;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `powerpole-stage parts`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start parts in the stage's hub, which must be there.
    Start(Which),
    /// Stop parts that were started for the stage.
    Stop(Which),
    /// Say which parts run; exit code 1 if one does not.
    Status(Which),
    /// Choose what bastions find when they patch themselves.
    Repository {
        #[command(flatten)]
        which: Which,
        /// What to serve from now on.
        #[arg(long)]
        variant: Variant,
    },
    /// Run SQL as a database's owner, for example `SET GLOBAL event_scheduler = OFF`.
    Sql {
        #[command(flatten)]
        which: Which,
        /// Which server.
        #[arg(long, default_value = "mysql")]
        on: Database,
        /// The statements.
        sql: String,
    },
    /// Serve a folder's files over HTTP. Started by `start`.
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        root: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
    },
}

#[derive(clap::Args)]
struct Which {
    /// The stage's name.
    #[arg(long)]
    stage: String,
    /// The stage's folder.
    #[arg(long)]
    dir: PathBuf,
    /// Only these parts, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

/// One database server of the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Database {
    /// MySQL 9.7.
    Mysql,
    /// MariaDB 10.11.
    Mariadb,
}

/// One outside part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// MySQL 9.7 on 10.77.0.1:3306.
    Mysql,
    /// MariaDB 10.11 with server_audit on 10.77.0.1:3307.
    Mariadb,
    /// moto on 127.0.0.1:5000.
    Moto,
    /// The dnf repository on 10.77.0.1:8000.
    Repository,
}

impl Part {
    const ALL: [Self; 4] = [Self::Mysql, Self::Mariadb, Self::Moto, Self::Repository];

    /// Its name in logs, records and folders.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mysql => Flavour::Mysql.part(),
            Self::Mariadb => Flavour::Mariadb.part(),
            Self::Moto => moto::PART,
            Self::Repository => repository::PART,
        }
    }
}

/// Which parts a stage wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection(BTreeSet<Part>);

impl Selection {
    /// Every part.
    pub(crate) fn all() -> Self {
        Self(Part::ALL.into())
    }

    /// These parts only.
    pub(crate) fn of(parts: &[Part]) -> Self {
        Self(parts.iter().copied().collect())
    }
}

/// The parts that run for one stage. Dropping it ends nothing: `stop` does.
pub(crate) struct Parts {
    stage: StagePaths,
    selection: Selection,
}

impl Parts {
    /// Starts what is selected and not running yet, all at once, and returns when every part answers. If one fails,
    /// those that this call selected are stopped again.
    pub(crate) async fn start(
        stage: &StagePaths,
        selection: Selection,
    ) -> Result<Self, PartsError> {
        let namespace = stage.namespace();
        if !Path::new("/run/netns").join(&namespace).exists() {
            return Err(PartsError::NoNamespace { name: namespace });
        }
        let parts = Self {
            stage: stage.clone(),
            selection,
        };
        match parts.start_all().await {
            Ok(()) => Ok(parts),
            Err(error) => {
                if let Err(second) = parts.stop().await {
                    tracing::warn!(code = second.code(), error = %second, "a part is left behind");
                }
                Err(error)
            }
        }
    }

    async fn start_all(&self) -> Result<(), PartsError> {
        let installed = paths::Installed::read(&paths::cache()?)?;
        let authority = Authority::open(&self.stage).await?;
        let wanted = |part: Part| self.selection.0.contains(&part);
        let databases = |part: Part, flavour: Flavour| {
            let (stage, installed, authority) = (&self.stage, &installed, &authority);
            async move {
                if wanted(part) {
                    database::start(stage, flavour, installed, authority).await
                } else {
                    Ok(())
                }
            }
        };
        let aws = async {
            if wanted(Part::Moto) {
                moto::start(&self.stage, &installed).await
            } else {
                Ok(())
            }
        };
        let packages = async {
            if wanted(Part::Repository) {
                repository::start(&self.stage, &installed).await
            } else {
                Ok(())
            }
        };
        let (mysql, mariadb, aws, packages) = tokio::join!(
            databases(Part::Mysql, Flavour::Mysql),
            databases(Part::Mariadb, Flavour::Mariadb),
            aws,
            packages
        );
        mysql.and(mariadb).and(aws).and(packages)
    }

    /// Ends what is selected. Every part is tried; the first failure is returned.
    pub(crate) async fn stop(&self) -> Result<(), PartsError> {
        stop(&self.stage, &self.selection).await.map(drop)
    }
}

/// Ends the selected parts of a stage, whoever started them, and says which ran.
pub(crate) async fn stop(
    stage: &StagePaths,
    selection: &Selection,
) -> Result<Vec<Part>, PartsError> {
    let one = async |part: Part| {
        if selection.0.contains(&part) {
            process::stop(stage, part.name()).await
        } else {
            Ok(false)
        }
    };
    let [mysql, mariadb, moto, repository] = Part::ALL;
    let outcomes = tokio::join!(one(mysql), one(mariadb), one(moto), one(repository));
    let outcomes = [
        (mysql, outcomes.0),
        (mariadb, outcomes.1),
        (moto, outcomes.2),
        (repository, outcomes.3),
    ];
    let mut stopped = Vec::new();
    for (part, outcome) in outcomes {
        if outcome? {
            stopped.push(part);
        }
    }
    Ok(stopped)
}

/// The process of each selected part, if it runs.
pub(crate) fn status(
    stage: &StagePaths,
    selection: &Selection,
) -> Result<Vec<(Part, Option<i32>)>, PartsError> {
    let pid = |part: &Part| {
        Ok((
            *part,
            process::running(stage, part.name())?.map(|process| process.pid),
        ))
    };
    selection.0.iter().map(pid).collect()
}

/// Runs statements as the owner of a database and gives what they print: one line a row, columns apart by tabs.
pub(crate) async fn statements(
    stage: &StagePaths,
    server: Database,
    sql: &str,
) -> Result<String, PartsError> {
    let flavour = match server {
        Database::Mysql => Flavour::Mysql,
        Database::Mariadb => Flavour::Mariadb,
    };
    database::load(stage, flavour.part(), sql).await
}

/// Runs `powerpole-stage parts`.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Start(which) => {
            let began = tokio::time::Instant::now();
            let (stage, selection) = which.open()?;
            Parts::start(&stage, selection).await?;
            eprintln!("parts ready after {:.1} s", began.elapsed().as_secs_f64());
        }
        Command::Stop(which) => {
            let (stage, selection) = which.open()?;
            for part in stop(&stage, &selection).await? {
                eprintln!("{} stopped", part.name());
            }
        }
        Command::Status(which) => {
            let (stage, selection) = which.open()?;
            let mut code = ExitCode::SUCCESS;
            for (part, pid) in status(&stage, &selection)? {
                match pid {
                    Some(pid) => println!("{:<12} runs as process {pid}", part.name()),
                    None => {
                        println!("{:<12} does not run", part.name());
                        code = ExitCode::FAILURE;
                    }
                }
            }
            return Ok(code);
        }
        Command::Repository { which, variant } => switch_repository(&which.open()?.0, variant)?,
        Command::Sql { which, on, sql } => {
            print!("{}", statements(&which.open()?.0, on, &sql).await?)
        }
        Command::Serve { root, listen } => repository::serve(root, listen).await?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Which {
    fn open(&self) -> Result<(StagePaths, Selection), PartsError> {
        let selection = if self.only.is_empty() {
            Selection::all()
        } else {
            Selection::of(&self.only)
        };
        Ok((StagePaths::open(&self.stage, &self.dir)?, selection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// A hub without machines, gone at the end of the test whatever happened.
    struct Hub(String);

    impl Hub {
        fn make(stage: &str) -> Self {
            let namespace = format!("pp-{stage}-hub");
            let hub = Self(namespace.clone());
            ip(&["netns", "add", &namespace]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
            ip(&["-n", &namespace, "link", "add", "br0", "type", "bridge"]);
            ip(&[
                "-n",
                &namespace,
                "addr",
                "add",
                "10.77.0.1/16",
                "dev",
                "br0",
            ]);
            ip(&["-n", &namespace, "link", "set", "br0", "up"]);
            hub
        }
    }

    impl Drop for Hub {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
        }
    }

    fn ip(arguments: &[&str]) {
        assert!(
            Command::new("ip")
                .args(arguments)
                .status()
                .unwrap()
                .success(),
            "ip {arguments:?}"
        );
    }

    /// Needs root and `stage/install/all.sh`; says so where they are missing.
    fn possible() -> bool {
        let installed = paths::cache()
            .ok()
            .and_then(|cache| paths::Installed::read(&cache).ok());
        let ready = nix::unistd::geteuid().is_root()
            && installed.is_some_and(|all| {
                ["mysql", "mariadb", "python", "repo"]
                    .iter()
                    .all(|part| all.path(part).is_ok())
            });
        if !ready {
            eprintln!("SKIPPED: needs root and the parts of stage/install/all.sh");
        }
        ready
    }

    #[tokio::test]
    async fn every_part_answers_keeps_its_data_and_leaves_no_process_behind() {
        if !possible() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let name = format!("t{}", std::process::id());
        let stage = StagePaths::open(&name, dir.path()).unwrap();
        let databases = Selection::of(&[Part::Mysql, Part::Mariadb, Part::Moto]);
        let refused = Parts::start(&stage, databases.clone())
            .await
            .map(drop)
            .unwrap_err();
        assert_eq!(refused.code(), "no_namespace");

        let _hub = Hub::make(&name);
        let parts = Parts::start(&stage, databases.clone()).await.unwrap();
        for server in [Database::Mysql, Database::Mariadb] {
            let seen = statements(&stage, server, "SELECT USER(), @@event_scheduler, COUNT(*) FROM orders.customers; SHOW STATUS LIKE 'Ssl_version'").await.unwrap();
            assert_eq!(
                seen, "root@10.77.0.1\tON\t5\nSsl_version\tTLSv1.3\n",
                "{server:?}"
            );
            statements(&stage, server, "CREATE TABLE orders.kept (a INT)")
                .await
                .unwrap();
        }
        for (part, pid) in status(&stage, &databases).unwrap() {
            let owner = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap())).unwrap();
            let uid = if part == Part::Moto {
                "Uid:\t0\t"
            } else {
                "Uid:\t65534\t65534\t65534\t"
            };
            assert!(owner.contains(uid), "{part:?}");
        }
        for left in ["mysql", "mariadb"] {
            assert!(
                !stage.data(left).join("owner.sql").exists(),
                "the owner's password lies in {left}'s data"
            );
        }
        parts.stop().await.unwrap();
        assert!(
            status(&stage, &databases)
                .unwrap()
                .iter()
                .all(|(_, pid)| pid.is_none())
        );

        let parts = Parts::start(&stage, Selection::of(&[Part::Mysql]))
            .await
            .unwrap();
        let kept = statements(
            &stage,
            Database::Mysql,
            "SHOW TABLES FROM orders LIKE 'kept'",
        )
        .await
        .unwrap();
        assert_eq!(kept, "kept\n");
        parts.stop().await.unwrap();
    }
}
