//! Whose process is at the other end of a loopback connection, and in which login it runs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// The client's end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    /// uid of who made the socket.
    pub(crate) uid: u32,
    /// The socket's inode.
    inode: u64,
}

impl Client {
    /// The login whose unit a process that holds the socket runs in; 0 when that cannot be told, as when the socket's
    /// process is gone already.
    pub(crate) fn session(self) -> u32 {
        holders(self.inode)
            .into_iter()
            .find_map(session_of)
            .unwrap_or(0)
    }
}

/// Processes that have this socket open.
fn holders(inode: u64) -> Vec<i32> {
    let wanted = format!("socket:[{inode}]");
    let holds = |pid: &i32| {
        std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|fds| {
            fds.flatten().any(|fd| {
                std::fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == &*wanted)
            })
        })
    };
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(holds)
        .collect()
}

fn session_of(pid: i32) -> Option<u32> {
    session_in(&std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The number in a session's unit, by the control group that systemd gave the process.
fn session_in(cgroups: &str) -> Option<u32> {
    cgroups.lines().find_map(|line| {
        let (_, unit) = line.split_once("/powerpole.slice/powerpole-session-")?;
        let (number, _) = unit.split_once(".service")?;
        number.parse().ok()
    })
}

/// The socket that is bound to `peer` and connected to `own`, from `/proc/net/tcp`. `None` when it is gone.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn client_of(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<Client>> {
    Ok(find(&std::fs::read_to_string("/proc/net/tcp")?, peer, own))
}

fn find(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<Client> {
    let (peer, own) = (spelling(peer)?, spelling(own)?);
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        // State, queues, timer and retransmits lie between.
        if local != peer || remote != own {
            return None;
        }
        let uid = fields.nth(4)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        Some(Client { uid, inode })
    })
}

/// The kernel's spelling: address as a native-endian word in hexadecimal, then the port.
fn spelling(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let word = u32::from_ne_bytes(Ipv4Addr::octets(address.ip()));
    Some(format!("{word:08X}:{:04X}", address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_connection_is_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        let found = client_of(peer, client.peer_addr().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(found.uid, rustix::process::getuid().as_raw());
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(holders(found.inode).contains(&own));
        let other = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(client_of(other, client.peer_addr().unwrap()).unwrap(), None);
    }

    #[test]
    fn the_login_is_told_by_the_unit() {
        let unified = "0::/powerpole.slice/powerpole-session-12.service\n";
        assert_eq!(session_in(unified), Some(12));
        let hybrid = "8:pids:/\n1:name=systemd:/powerpole.slice/powerpole-session-3.service\n";
        assert_eq!(session_in(hybrid), Some(3));
        for none in [
            "",
            "0::/system.slice/x.service\n",
            "0::/powerpole.slice/powerpole-session-x.service\n",
        ] {
            assert_eq!(session_in(none), None);
        }
    }
}
