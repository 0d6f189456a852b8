//! What the kernel keeps of one TCP socket of this machine: who made it, and in which control group.
//!
//! Asks by `NETLINK_SOCK_DIAG` (sock_diag(7)) for exactly the socket that is bound to one address and connected to
//! another. That needs no capability and reads no other process, and the answer was fixed when the socket was made: it
//! does not change when the socket is handed on or its maker is gone. Only the kernel can answer: the netlink socket is
//! connected to it.
//!
//! ```text
//! request  nlmsghdr 16 ‖ family u8 ‖ protocol u8 ‖ ext u8 ‖ pad u8 ‖ states u32 ‖ sockid 48         72 bytes
//! answer   nlmsghdr 16 ‖ family u8 ‖ state u8 ‖ timer u8 ‖ retrans u8 ‖ sockid 48
//!          ‖ expires u32 ‖ rqueue u32 ‖ wqueue u32 ‖ uid u32 ‖ inode u32 ‖ attributes                88 bytes and more
//! sockid   sport be16 ‖ dport be16 ‖ src 16 ‖ dst 16 ‖ interface u32 ‖ cookie 8
//! ```

use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// What is known of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    /// uid of who made it.
    pub(crate) uid: u32,
    /// Id of the control group in which it was made: the inode of that group's folder in the hierarchy of cgroup v2.
    pub(crate) cgroup: u64,
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const TCP: u8 = 6;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
const INET_DIAG_CGROUP_ID: u16 = 21;
const HEADER: usize = 16;
const SOCKID: usize = 48;
const ADDRESSES: usize = 36;
const MESSAGE: usize = 72;

/// The socket that is bound to `local` and connected to `remote`; `None` when there is none, or when its maker closed it.
///
/// # Errors
/// When the kernel cannot be asked, or does not say what is asked.
pub(crate) fn socket(local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Socket>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        flags,
        Some(SOCK_DIAG),
    )?;
    rustix::net::connect(&kernel, &SocketAddrNetlink::new(0, 0))?;
    let (Some(family), Some(id)) = (family(local, remote), sockid(local, remote)) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    rustix::net::send(&kernel, &request(family, &id), SendFlags::empty())?;
    // The kernel answers while it is asked, so the answer is there.
    let mut answer = [0; 1024];
    let (length, _) = rustix::net::recv(&kernel, &mut answer[..], RecvFlags::empty())?;
    read(answer.get(..length).unwrap_or_default(), &id)
}

fn family(local: SocketAddr, remote: SocketAddr) -> Option<u8> {
    match (local, remote) {
        (SocketAddr::V4(_), SocketAddr::V4(_)) => Some(IPV4),
        (SocketAddr::V6(_), SocketAddr::V6(_)) => Some(IPV6),
        _ => None,
    }
}

/// Ports and addresses that were asked for in IPv4, as the kernel tells them of an IPv6 socket that is connected by IPv4
/// (`::ffff:127.0.0.1`, as Java's clients do).
fn mapped(asked: &[u8]) -> Option<Vec<u8>> {
    const PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let (ports, rest) = asked.split_first_chunk::<4>()?;
    let (local, rest) = rest.split_first_chunk::<16>()?;
    let remote = rest.first_chunk::<16>()?;
    let [local, remote] = [local, remote].map(|address| address.split_first_chunk::<4>());
    let ((local, [0, ..]), (remote, [0, ..])) = (local?, remote?) else {
        return None;
    };
    Some([&ports[..], &PREFIX, local, &PREFIX, remote].concat())
}

fn sockid(local: SocketAddr, remote: SocketAddr) -> Option<Vec<u8>> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => [&ip.octets()[..], &[0; 12]].concat(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut id = Vec::with_capacity(SOCKID);
    id.extend(local.port().to_be_bytes());
    id.extend(remote.port().to_be_bytes());
    id.extend(octets(local));
    id.extend(octets(remote));
    id.extend([0; 4]);
    // INET_DIAG_NOCOOKIE: whichever socket has these addresses.
    id.extend([0xff; 8]);
    (id.len() == SOCKID).then_some(id)
}

fn request(family: u8, id: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(MESSAGE);
    text.extend((MESSAGE as u32).to_ne_bytes());
    text.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    text.extend(NLM_F_REQUEST.to_ne_bytes());
    text.extend([0; 8]);
    text.extend([family, TCP, 0, 0]);
    // In any state.
    text.extend([0xff; 4]);
    text.extend(id);
    text
}

fn read(answer: &[u8], asked: &[u8]) -> io::Result<Option<Socket>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let kind = u16_at(answer, 4).ok_or_else(malformed)?;
    if kind == NLMSG_ERROR {
        let error = u32_at(answer, HEADER).ok_or_else(malformed)?;
        let error = io::Error::from_raw_os_error(error.cast_signed().wrapping_neg());
        return if error.kind() == io::ErrorKind::NotFound {
            Ok(None)
        } else {
            Err(error)
        };
    }
    let length = u32_at(answer, 0).and_then(|length| usize::try_from(length).ok());
    let body = length
        .and_then(|length| answer.get(HEADER..length))
        .filter(|_| kind == SOCK_DIAG_BY_FAMILY)
        .ok_or_else(malformed)?;
    // Where there is no such connection the kernel takes a listener for it.
    let family = *body.first().ok_or_else(malformed)?;
    let addresses = body.get(4..4 + ADDRESSES).ok_or_else(malformed)?;
    let is_asked = Some(addresses) == asked.get(..ADDRESSES)
        || family == IPV6 && Some(addresses) == mapped(asked).as_deref();
    if !is_asked {
        return Ok(None);
    }
    let uid = u32_at(body, 64).ok_or_else(malformed)?;
    let inode = u32_at(body, 68).ok_or_else(malformed)?;
    if inode == 0 {
        // Closed by its maker; the kernel keeps it for a while and says uid 0.
        return Ok(None);
    }
    let cgroup = attribute(body.get(72..).unwrap_or_default(), INET_DIAG_CGROUP_ID)
        .and_then(|value| Some(u64::from_ne_bytes(value.try_into().ok()?)))
        .ok_or_else(|| io::Error::other("this kernel does not tell a socket's control group"))?;
    Ok(Some(Socket { uid, cgroup }))
}

/// The value of a netlink attribute: length u16 ‖ type u16 ‖ value, padded to 4 bytes.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let value = rest.get(4..length)?;
        if u16_at(rest, 2)? == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn pair(host: &str) -> (TcpListener, TcpStream, TcpStream, SocketAddr, SocketAddr) {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let own = client.peer_addr().unwrap();
        (listener, client, server, peer, own)
    }

    /// Of this process, as /proc has it.
    fn own_cgroup() -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let path = groups
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap();
        ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
            .iter()
            .map(|root| std::path::PathBuf::from(format!("{root}{path}")))
            .find(|folder| folder.join("cgroup.procs").exists())
            .unwrap()
            .metadata()
            .unwrap()
            .ino()
    }

    #[test]
    fn our_own_connection_is_ours_and_of_our_control_group() {
        for host in ["127.0.0.1", "::1"] {
            let (_listener, _client, _server, peer, own) = pair(host);
            let expected = Socket {
                uid: rustix::process::getuid().as_raw(),
                cgroup: own_cgroup(),
            };
            assert_eq!(socket(peer, own).unwrap(), Some(expected));
        }
    }

    #[test]
    fn an_ipv6_socket_that_is_connected_by_ipv4_is_known_like_any_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect(format!("[::ffff:127.0.0.1]:{port}")).unwrap();
        assert!(client.local_addr().unwrap().is_ipv6());
        let (server, peer) = listener.accept().unwrap();
        let own = server.local_addr().unwrap();
        assert!(peer.is_ipv4() && own.is_ipv4());
        let expected = Socket {
            uid: rustix::process::getuid().as_raw(),
            cgroup: own_cgroup(),
        };
        assert_eq!(socket(peer, own).unwrap(), Some(expected));
        drop(client);
        assert_eq!(socket(peer, own).unwrap(), None);
        // A listener of both kinds is no connection.
        let both = TcpListener::bind("[::]:0").unwrap();
        let own = SocketAddr::from(([127, 0, 0, 1], both.local_addr().unwrap().port()));
        let other = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(socket(own, other).unwrap(), None);
        assert_eq!(socket(other, own).unwrap(), None);
    }

    #[test]
    fn a_connection_that_is_gone_is_nobodys_even_where_somebody_listens_at_its_address() {
        let (_listener, client, server, peer, own) = pair("127.0.0.1");
        drop(client);
        // Closed by the client, not yet by the server.
        assert_eq!(socket(peer, own).unwrap(), None);
        drop(server);
        let other = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(socket(other, own).unwrap(), None);
        assert_eq!(socket(own, other).unwrap(), None);
    }

    #[test]
    fn an_answer_that_is_cut_anywhere_is_an_error_and_no_panic() {
        let id = sockid(
            SocketAddr::from(([127, 0, 0, 1], 1)),
            SocketAddr::from(([127, 0, 0, 1], 2)),
        )
        .unwrap();
        let mut answer = Vec::new();
        answer.extend(100u32.to_ne_bytes());
        answer.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer.extend([0; 10]);
        answer.extend([2, 1, 0, 0]);
        answer.extend(&id);
        answer.extend([0; 12]);
        answer.extend(1002u32.to_ne_bytes());
        answer.extend(77u32.to_ne_bytes());
        answer.extend(12u16.to_ne_bytes());
        answer.extend(INET_DIAG_CGROUP_ID.to_ne_bytes());
        answer.extend(481u64.to_ne_bytes());
        let whole = read(&answer, &id).unwrap();
        assert_eq!(
            whole,
            Some(Socket {
                uid: 1002,
                cgroup: 481
            })
        );
        for length in 0..answer.len() {
            assert!(read(&answer[..length], &id).is_err(), "{length}");
        }
    }
}
