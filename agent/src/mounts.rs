//! What the file systems must be before anybody logs in: a root on which setuid bits do nothing, and a home and folders of
//! amazon-ssm-agent's that cannot fill the disk that the spool lies on.
//!
//! The image has no setuid file, but the patch at boot brings back the bits of what it upgrades.

use crate::config::Config;
use crate::failure::Coded;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{User, chown};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The folder in the operator's home that their sessions see as `/tmp` and `/var/tmp`.
pub(crate) const TEMPORARY: &str = ".tmp";
/// All that an operator may write on this machine: this, or a quarter of its memory where that is less.
const MOST: u64 = 1 << 30;
/// Where amazon-ssm-agent writes: its data, with some preferences of the account a transcript of every session too, and its log.
const ROOMS_OF_SSM: [&str; 2] = ["/var/lib/amazon/ssm", "/var/log/amazon"];
/// How much into each: this, or a sixteenth of the memory where that is less.
const MOST_OF_SSM: u64 = 128 << 20;
/// Files that an operator may have.
const FILES: u32 = 65_536;

/// A file system that is not as it must be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    /// The image has no such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// A mount was refused.
    #[error("cannot {what} {path}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was not refused and is not so.
    #[error("{0} is not mounted nosuid")]
    NotSo(PathBuf),
}

impl Coded for MountError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoUser(_) => "user_missing",
            Self::Refused { .. } => "mount_refused",
            Self::NotSo(_) => "mount_unsafe",
        }
    }
}

/// Makes them so and reads it back. Once a boot.
///
/// # Errors
/// When that fails; nobody may log in then.
pub(crate) fn close(config: &Config) -> Result<(), MountError> {
    let operator = User::from_name(&config.operator_user)
        .ok()
        .flatten()
        .ok_or_else(|| MountError::NoUser(config.operator_user.clone()))?;
    let root = Path::new("/");
    remount_nosuid(root).map_err(refused("remount", root))?;
    private_room(&operator).map_err(refused("mount", &operator.dir))?;
    let rooms = ROOMS_OF_SSM.map(Path::new);
    for room in rooms {
        room_of_ssm(room).map_err(refused("mount", room))?;
    }
    for path in [root, &operator.dir].into_iter().chain(rooms) {
        let flags = statvfs(path).map_err(|e| refused("look at", path)(e.into()))?;
        if !flags.flags().contains(FsFlags::ST_NOSUID) {
            return Err(MountError::NotSo(path.to_owned()));
        }
    }
    Ok(())
}

fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MountError {
    let path = path.to_owned();
    move |source| MountError::Refused { what, path, source }
}

/// Changes the mount alone (`MS_BIND`), not the file system under it, and keeps its other flags.
fn remount_nosuid(path: &Path) -> io::Result<()> {
    let now = statvfs(path)?.flags();
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID;
    for (is, keep) in [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if now.contains(is) {
            flags |= keep;
        }
    }
    let nothing: Option<&str> = None;
    mount(nothing, path, nothing, flags, nothing)?;
    Ok(())
}

/// Empty at every boot: on EC2 amazon-ssm-agent keeps nothing that it needs again.
fn room_of_ssm(folder: &Path) -> io::Result<()> {
    let room = (nix::sys::sysinfo::sysinfo()?.ram_total() / 16).min(MOST_OF_SSM);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some(format!("mode=0700,size={room},nr_inodes={FILES}").as_str()),
    )?;
    Ok(())
}

fn private_room(operator: &User) -> io::Result<()> {
    let room = (nix::sys::sysinfo::sysinfo()?.ram_total() / 4).min(MOST);
    let (uid, gid) = (operator.uid, operator.gid);
    let options = format!("mode=0700,uid={uid},gid={gid},size={room},nr_inodes={FILES}");
    mount(
        Some("tmpfs"),
        &operator.dir,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some(options.as_str()),
    )?;
    let temporary = operator.dir.join(TEMPORARY);
    std::fs::DirBuilder::new().mode(0o700).create(&temporary)?;
    chown(&temporary, Some(operator.uid), Some(operator.gid))?;
    Ok(())
}
