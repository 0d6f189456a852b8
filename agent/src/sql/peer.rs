//! Whose process is at the other end of a loopback connection, and in which login it runs.
//!
//! Both are what the kernel noted when the client's socket was made. An operator's process can leave neither its uid nor
//! the control group of its login's unit, so the login is the one that made the connection, whoever uses it later.

use super::sock_diag;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirEntryExt as _;

/// The client's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// uid of who made the socket.
    pub(crate) uid: u32,
    /// The login in whose unit it was made.
    pub(crate) login: Option<u32>,
}

/// Where the logins' units have their control groups: on cgroup v2 alone, or beside the old hierarchies.
const SLICES: [&str; 2] = [
    "/sys/fs/cgroup/powerpole.slice/powerpole-sessions.slice",
    "/sys/fs/cgroup/unified/powerpole.slice/powerpole-sessions.slice",
];

/// Who connected from `peer` to `own`; `None` when the connection is gone.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn client_of(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<Client>> {
    let socket = sock_diag::socket(peer, own)?;
    Ok(socket.map(|socket| Client {
        uid: socket.uid,
        login: SLICES
            .iter()
            .find_map(|slice| login_in(slice, socket.cgroup)),
    }))
}

/// Asks for a connection of our own, so that a kernel that cannot tell is known before anybody connects.
///
/// # Errors
/// When the answer is not that it is ours.
pub(crate) fn probe() -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let found = client_of(client.local_addr()?, client.peer_addr()?)?;
    if found.map(|found| found.uid) == Some(rustix::process::geteuid().as_raw()) {
        Ok(())
    } else {
        Err(io::Error::other("the kernel does not know our own socket"))
    }
}

/// The login whose unit has the control group with this id.
fn login_in(slice: &str, cgroup: u64) -> Option<u32> {
    std::fs::read_dir(slice)
        .ok()?
        .flatten()
        .filter(|entry| entry.ino() == cgroup)
        .find_map(|entry| login_of(entry.file_name().to_str()?))
}

fn login_of(unit: &str) -> Option<u32> {
    unit.strip_prefix("powerpole-session-")?
        .strip_suffix(".service")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn this_kernel_can_tell() {
        probe().unwrap();
    }

    #[test]
    fn the_login_is_told_by_the_units_folder() {
        let slice = tempfile::tempdir().unwrap();
        let inode = |name: &str| {
            let folder = slice.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder.metadata().unwrap().ino()
        };
        let third = inode("powerpole-session-3.service");
        let twelfth = inode("powerpole-session-12.service");
        let others = [
            inode("powerpole-agent.service"),
            inode("powerpole-session-x.service"),
            inode("powerpole-session-4.scope"),
            u64::MAX,
        ];
        let path = slice.path().to_str().unwrap();
        assert_eq!(login_in(path, third), Some(3));
        assert_eq!(login_in(path, twelfth), Some(12));
        for other in others {
            assert_eq!(login_in(path, other), None);
        }
        assert_eq!(login_in("/nowhere", third), None);
    }
}
