//! Whose process is at the other end of a loopback connection.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

/// uid of the socket that is bound to `peer` and connected to `own`, from `/proc/net/tcp`. `None` when it is gone.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn uid_of(peer: SocketAddr, own: SocketAddr) -> io::Result<Option<u32>> {
    Ok(find(&std::fs::read_to_string("/proc/net/tcp")?, peer, own))
}

fn find(table: &str, peer: SocketAddr, own: SocketAddr) -> Option<u32> {
    let (peer, own) = (spelling(peer)?, spelling(own)?);
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        // State, queues, timer and retransmits lie between.
        (local == peer && remote == own)
            .then(|| fields.nth(4)?.parse().ok())
            .flatten()
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
        let uid = uid_of(peer, client.peer_addr().unwrap()).unwrap();
        assert_eq!(uid, Some(rustix::process::getuid().as_raw()));
        let other = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(uid_of(other, client.peer_addr().unwrap()).unwrap(), None);
    }
}
