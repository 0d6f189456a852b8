//! MySQL and MariaDB for one stage: own data directory, own certificate, an unprivileged user, the demo's schemas.
//!
//! The server sees its program and its data under `/mnt` of a mount namespace of its own, so that a stage below a closed
//! home directory works although the server is not root. Its owner is `root`@hub, over TLS, with a password in the
//! stage's `run/`; from a bastion's address there is no owner account.

use super::authority::Authority;
use super::error::PartsError;
use super::paths::{Installed, StagePaths};
use super::process::{self, in_hub, run};
use rand::Rng;
use std::fmt::Write as _;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The hub's address, where every database of the stage listens.
const ADDRESS: &str = "10.77.0.1";
/// `nobody`: owns no file of the machine.
const UID: u32 = 65534;
/// From the process's start to the owner's first answered statement. 1.5 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Schemas and rows of the demo, for either server.
const DEMO: &str = include_str!("../../demo.sql");
/// Shows program and data to the server at fixed places, then becomes the server. Nothing of it is seen outside.
const ENTER: &str = r#"set -e
mount -t tmpfs -o mode=0755 tmpfs /mnt
mkdir /mnt/base /mnt/data
mount --bind "$1" /mnt/base
mount --bind "$2" /mnt/data
shift 2
exec "$@""#;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Mysql,
    Mariadb,
}

impl Flavour {
    pub(super) fn part(self) -> &'static str {
        match self {
            Self::Mysql => "mysql",
            Self::Mariadb => "mariadb",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Mysql => 3306,
            Self::Mariadb => 3307,
        }
    }
}

/// Starts the server on the stage's data, or on a fresh copy of the cached template, and waits until its owner can work.
pub(super) async fn start(
    stage: &StagePaths,
    flavour: Flavour,
    installed: &Installed,
    authority: &Authority,
) -> Result<(), PartsError> {
    let part = flavour.part();
    if process::running(stage, part)?.is_some() {
        return Ok(());
    }
    let folder = installed.path(part)?;
    let data = stage.data(part);
    lay_data(&folder.join("template"), &data).await?;
    let issued = authority
        .issue(part, &["IP:10.77.0.1", "IP:127.0.0.1", "DNS:localhost"])
        .await?;
    authority.install(&issued, &data, UID)?;
    let password = owner(stage, flavour, authority)?;
    let init = data.join("owner.sql");
    write_secret(&init, &owner_statements(&password))?;
    chown(&init, Some(UID), Some(UID)).map_err(PartsError::file("give away", &init))?;

    let process = process::start(
        stage,
        part,
        server(stage, flavour, &folder.join("root"), &data)?,
    )?;
    let answered = process::wait_ready(stage, part, process, PATIENCE, || {
        client(stage, part, &["--execute=SELECT 1"])
    })
    .await;
    // The password must not stay behind in the data directory, whatever happened.
    std::fs::remove_file(&init).map_err(PartsError::file("remove", &init))?;
    answered?;
    load(stage, part, DEMO).await.map(drop)
}

/// Runs statements as the server's owner and gives what they print, columns apart by tabs, without headings.
pub(super) async fn load(
    stage: &StagePaths,
    part: &'static str,
    statements: &str,
) -> Result<String, PartsError> {
    let failed = |source| PartsError::Spawn {
        program: format!("client of {part}"),
        source,
    };
    let mut command = client(stage, part, &["--batch", "--skip-column-names"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(statements.as_bytes())
            .await
            .map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(PartsError::Command {
        program: format!("client of {part}"),
        output: said,
    })
}

fn client(stage: &StagePaths, part: &str, arguments: &[&str]) -> Command {
    let mut command = in_hub(stage, Path::new("mariadb"));
    let mut options = std::ffi::OsString::from("--defaults-file=");
    options.push(stage.owner_options(part));
    command
        .arg(options)
        .arg("--default-character-set=utf8mb4")
        .args(arguments);
    command
}

/// The data directory appears under its name only when it is whole.
async fn lay_data(template: &Path, data: &Path) -> Result<(), PartsError> {
    if data.exists() {
        return Ok(());
    }
    let fresh = data.with_extension("new");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).map_err(PartsError::file("remove", &fresh))?;
    }
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto"])
        .arg(template)
        .arg(&fresh);
    run("cp", copy).await?;
    let mut give = Command::new("chown");
    give.args(["-R", &format!("{UID}:{UID}")]).arg(&fresh);
    run("chown", give).await?;
    std::fs::rename(&fresh, data).map_err(PartsError::file("rename", &fresh))
}

/// Makes the owner's password on the first start and keeps it for the next.
fn owner(
    stage: &StagePaths,
    flavour: Flavour,
    authority: &Authority,
) -> Result<String, PartsError> {
    let (part, path) = (flavour.part(), stage.owner_password(flavour.part()));
    let password = match std::fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0_u8; 16];
            rand::rng().fill_bytes(&mut bytes);
            bytes.iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
        }
        Err(source) => {
            return Err(PartsError::File {
                operation: "read",
                path,
                source,
            });
        }
    };
    write_secret(&path, &password)?;
    let options = format!(
        "[client]\nuser=root\npassword={password}\nhost={ADDRESS}\nport={}\nprotocol=tcp\nssl-ca=\"{}\"\nssl-verify-server-cert\n",
        flavour.port(),
        authority.certificate().display(),
    );
    write_secret(&stage.owner_options(part), &options)?;
    Ok(password)
}

/// Run by the server itself before it listens; a line each, since that is how it reads them. MariaDB's template comes with
/// owners that have no password.
fn owner_statements(password: &str) -> String {
    format!(
        "DROP USER IF EXISTS 'root'@'127.0.0.1', 'root'@'::1';\n\
         ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n\
         CREATE USER IF NOT EXISTS 'root'@'{ADDRESS}' IDENTIFIED BY '{password}' REQUIRE SSL;\n\
         GRANT ALL PRIVILEGES ON *.* TO 'root'@'{ADDRESS}' WITH GRANT OPTION;\n"
    )
}

fn write_secret(path: &Path, text: &str) -> Result<(), PartsError> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(PartsError::file("write", path))?;
    file.write_all(text.as_bytes())
        .map_err(PartsError::file("write", path))
}

fn server(
    stage: &StagePaths,
    flavour: Flavour,
    root: &Path,
    data: &Path,
) -> Result<Command, PartsError> {
    let mut command = in_hub(stage, Path::new("sh"));
    command.args(["-c", ENTER, "sh"]).arg(root).arg(data);
    // The caller's own folder for temporary files, in which the server may not write.
    command.env_remove("TMPDIR");
    let libraries = libraries(root)?;
    let inside = Path::new("/mnt/base").join(libraries.strip_prefix(root).unwrap_or(&libraries));
    match flavour {
        Flavour::Mysql => {
            command
                .arg(inside.join(loader(&libraries)?))
                .arg("--library-path")
                .arg(&inside)
                .arg("/mnt/base/usr/sbin/mysqld");
        }
        Flavour::Mariadb => {
            command
                .env("LD_LIBRARY_PATH", &inside)
                .arg("/mnt/base/usr/sbin/mariadbd");
        }
    }
    command
        .arg("--no-defaults")
        .args(COMMON)
        .arg(format!("--port={}", flavour.port()));
    command.args(match flavour {
        Flavour::Mysql => MYSQL,
        Flavour::Mariadb => MARIADB,
    });
    Ok(command)
}

/// What both servers are told. Sizes are small on purpose: a laptop runs several stages.
const COMMON: &[&str] = &[
    "--user=nobody",
    "--basedir=/mnt/base/usr",
    "--datadir=/mnt/data",
    "--socket=/mnt/data/server.sock",
    "--pid-file=/mnt/data/server.pid",
    "--plugin-dir=/mnt/base/usr/lib/mysql/plugin",
    "--lc-messages-dir=/mnt/base/usr/share/mysql",
    "--bind-address=10.77.0.1",
    "--init-file=/mnt/data/owner.sql",
    "--ssl-ca=/mnt/data/ca.pem",
    "--ssl-cert=/mnt/data/server.pem",
    "--ssl-key=/mnt/data/server.key",
    "--event-scheduler=ON",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--default-time-zone=+00:00",
    "--max-connections=100",
    "--table-open-cache=256",
    "--innodb-buffer-pool-size=32M",
    "--innodb-log-buffer-size=2M",
    "--innodb-flush-log-at-trx-commit=2",
];
const MYSQL: &[&str] = &[
    "--mysqlx=OFF",
    "--secure-file-priv=NULL",
    "--auto-generate-certs=OFF",
    "--caching-sha2-password-auto-generate-rsa-keys=OFF",
    "--innodb-redo-log-capacity=8M",
    "--innodb-data-file-path=ibdata1:12M:autoextend",
    "--log-error-verbosity=2",
];
/// `server_audit` is what Aurora's audit log descends from.
const MARIADB: &[&str] = &[
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_unicode_ci",
    "--innodb-log-file-size=8M",
    "--plugin-load-add=server_audit",
    "--server-audit-logging=ON",
    "--server-audit-events=CONNECT,QUERY",
    "--server-audit-file-path=/mnt/data/server_audit.log",
];

/// The one folder of shared libraries, named for the machine's architecture.
fn libraries(root: &Path) -> Result<PathBuf, PartsError> {
    find(&root.join("usr/lib"), |name| name.ends_with("-linux-gnu"))
}

fn loader(libraries: &Path) -> Result<PathBuf, PartsError> {
    let found = find(libraries, |name| name.starts_with("ld-linux"))?;
    Ok(found.file_name().map_or_else(PathBuf::new, PathBuf::from))
}

fn find(folder: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf, PartsError> {
    std::fs::read_dir(folder)
        .and_then(|mut entries| {
            entries
                .find_map(|entry| {
                    entry
                        .ok()
                        .filter(|entry| entry.file_name().to_str().is_some_and(&fits))
                })
                .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))
        })
        .map(|entry| entry.path())
        .map_err(PartsError::file("find the libraries in", folder))
}
