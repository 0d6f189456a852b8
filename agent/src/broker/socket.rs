//! The socket between shim and broker: whole messages, limited in size, with descriptors and the kernel's
//! credentials beside them.
//!
//! | from | message | why |
//! |---|---|---|
//! | broker | `challenge` with a nonce | an answer must come after the broker took its handle on the peer |
//! | shim | `login` with the nonce, its terminal's descriptors and the kernel's credentials | who, what, where |
//! | broker | `admitted` or `refused` | |
//! | shim | `resized`, any number | the window changed; the size is read from the terminal itself |
//! | broker | `ended` with an exit code | |
//!
//! A peer that goes away ends its session; no message can make the broker wait for more than a few seconds.

use crate::unsafe_os::async_fd;
use rustix::cmsg_space;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    UCred,
};
use serde::{Deserialize, Serialize};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::path::Path;
use tokio::io::unix::AsyncFd;

/// Largest message in bytes; JSON spells a byte of a command with six at most.
pub(crate) const MAX_MESSAGE: usize = 96 * 1024;
/// Longest command that a login may ask for, in bytes: however it is spelled, it is whole in the session's first record.
pub(crate) const MAX_COMMAND: usize = 4096;

/// What the shim says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FromShim {
    /// Wants in.
    Login {
        /// From the challenge.
        nonce: String,
        /// A command instead of a shell, as `sh -c` was given it.
        command: Option<String>,
        /// The terminal's type.
        term: String,
    },
    /// The terminal's size may have changed.
    Resized,
}

/// What the broker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum FromBroker {
    /// First, always.
    Challenge {
        /// To be repeated.
        nonce: String,
    },
    /// The session begins.
    Admitted {
        /// Its number.
        session: u32,
    },
    /// No session.
    Refused {
        /// For the person at the terminal.
        message: String,
    },
    /// The session is over.
    Ended {
        /// Exit code for the shim.
        code: u8,
        /// For the person at the terminal, if there is anything to say.
        message: Option<String>,
    },
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Received {
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// Descriptors that came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Who sent it, as the kernel says; on the broker's side only.
    pub(crate) credentials: Option<UCred>,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Connection(AsyncFd<OwnedFd>);

/// Listens for shims.
#[derive(Debug)]
pub(crate) struct Listener(AsyncFd<OwnedFd>);

fn new_socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

impl Listener {
    /// Listens at `path` for members of the group `gid` only.
    ///
    /// # Errors
    /// When the socket cannot be made or its rights cannot be set.
    pub(crate) fn bind(path: &Path, gid: u32) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let socket = new_socket()?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        // Nobody can connect before `listen`, so there is no moment with other rights.
        std::os::unix::fs::chown(path, None, Some(gid))?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660))?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        rustix::net::listen(&socket, 64)?;
        Ok(Self(async_fd(socket)?))
    }

    /// The next connection and the credentials of who made it.
    ///
    /// # Errors
    /// When the socket fails.
    pub(crate) async fn accept(&self) -> io::Result<(Connection, UCred)> {
        loop {
            let mut guard = self.0.readable().await?;
            let accepted = guard.try_io(|socket| {
                Ok(rustix::net::accept_with(
                    socket.get_ref(),
                    SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
                )?)
            });
            if let Ok(socket) = accepted {
                let socket = socket?;
                rustix::net::sockopt::set_socket_passcred(&socket, true)?;
                let credentials = rustix::net::sockopt::socket_peercred(&socket)?;
                return Ok((Connection(async_fd(socket)?), credentials));
            }
        }
    }
}

impl Connection {
    /// Connects to the broker.
    ///
    /// # Errors
    /// When nobody listens there or may not be spoken to.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let socket = new_socket()?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self(async_fd(socket)?))
    }

    /// Sends one message.
    ///
    /// # Errors
    /// When the peer is gone.
    pub(crate) async fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends one message with descriptors.
    ///
    /// # Errors
    /// When the peer is gone.
    pub(crate) async fn send_with(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MAX_MESSAGE {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        loop {
            let mut guard = self.0.writable().await?;
            let sent = guard.try_io(|socket| {
                let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !descriptors.is_empty()
                    && !control.push(SendAncillaryMessage::ScmRights(descriptors))
                {
                    return Err(io::Error::from(io::ErrorKind::InvalidInput));
                }
                let bytes = [IoSlice::new(&text)];
                rustix::net::sendmsg(socket.get_ref(), &bytes, &mut control, SendFlags::NOSIGNAL)?;
                Ok(())
            });
            if let Ok(sent) = sent {
                return sent;
            }
        }
    }

    /// The next message; `None` when the peer is gone.
    ///
    /// # Errors
    /// When the message is too large or brings too many descriptors.
    pub(crate) async fn receive(&self) -> io::Result<Option<Received>> {
        loop {
            let mut guard = self.0.readable().await?;
            if let Ok(received) = guard.try_io(|socket| receive_now(socket.get_ref().as_fd())) {
                return match received {
                    Ok(received) if received.bytes.is_empty() => Ok(None),
                    Ok(received) => Ok(Some(received)),
                    Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
                    Err(e) => Err(e),
                };
            }
        }
    }
}

impl Received {
    /// Reads the message.
    ///
    /// # Errors
    /// When it is not of the form.
    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self) -> io::Result<T> {
        serde_json::from_slice(&self.bytes).map_err(io::Error::other)
    }
}

fn receive_now(socket: BorrowedFd<'_>) -> io::Result<Received> {
    let mut bytes = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2), ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let answer = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let (mut descriptors, mut credentials) = (Vec::new(), None);
    for message in control.drain() {
        match message {
            RecvAncillaryMessage::ScmRights(fds) => descriptors.extend(fds),
            RecvAncillaryMessage::ScmCredentials(sender) => credentials = Some(sender),
            _ => {}
        }
    }
    if answer
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(io::Error::other("a message is larger than allowed"));
    }
    bytes.truncate(answer.bytes);
    Ok(Received {
        bytes,
        descriptors,
        credentials,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors_and_the_kernels_word_on_who_sent_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("broker.sock");
        let listener = Listener::bind(&path, rustix::process::getgid().as_raw()).unwrap();
        let shim = Connection::connect(&path).unwrap();
        let (broker, peer) = listener.accept().await.unwrap();
        assert_eq!(peer.pid, rustix::process::getpid());
        let null = std::fs::File::open("/dev/null").unwrap();
        shim.send_with(&FromShim::Resized, &[null.as_fd(), null.as_fd()])
            .await
            .unwrap();
        let received = broker.receive().await.unwrap().unwrap();
        assert!(matches!(received.parse().unwrap(), FromShim::Resized));
        assert_eq!(received.descriptors.len(), 2);
        assert_eq!(received.credentials.unwrap().pid, rustix::process::getpid());
        drop(shim);
        assert!(broker.receive().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_message_with_too_many_descriptors_is_an_error_and_leaks_none() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("broker.sock");
        let listener = Listener::bind(&path, rustix::process::getgid().as_raw()).unwrap();
        let shim = Connection::connect(&path).unwrap();
        let (broker, _) = listener.accept().await.unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let many = [null.as_fd(); 8];
        assert!(control.push(SendAncillaryMessage::ScmRights(&many)));
        let bytes = [IoSlice::new(b"{}")];
        rustix::net::sendmsg(shim.0.get_ref(), &bytes, &mut control, SendFlags::empty()).unwrap();
        assert!(broker.receive().await.is_err());
    }
}
