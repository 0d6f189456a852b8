//! Forwards: `127.0.0.1:<port>` on the host → unix socket in the stage's folder → TCP inside the hub.
//!
//! A pathname socket does not care about network namespaces, so the listener on the host (in the supervisor) and the relay in the hub
//! (a child started there) meet on it and neither has to change namespaces.

use super::process::Child;
use super::{HubError, Stage};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A running forward; dropping it closes the host's port, [`Forward::close`] ends the relay too.
#[derive(Debug)]
pub(crate) struct Forward {
    address: SocketAddr,
    listener: tokio::task::JoinHandle<()>,
    relay: Child,
}

impl Forward {
    /// Opens `127.0.0.1:<port>` (any free port for `None`) for the service at `to` in the hub.
    pub(crate) async fn open(
        stage: &Stage,
        name: &str,
        port: Option<u16>,
        to: SocketAddr,
    ) -> Result<Self, HubError> {
        let port = port.unwrap_or(0);
        let listen = |source| HubError::Listen { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;

        let socket = stage.run().join(format!("forward-{name}.sock"));
        let log = stage.logs().join(format!("forward-{name}.log"));
        let argv = [
            super::own_program().into_os_string(),
            "hub".into(),
            "relay".into(),
            "--socket".into(),
            socket.clone().into_os_string(),
            "--to".into(),
            to.to_string().into(),
        ];
        let _ = std::fs::remove_file(&socket);
        let relay = Child::spawn_in_hub(stage, &format!("forward-{name}"), &argv, &[], &log)?;
        wait_for(&socket, name, &log).await?;
        let listener = tokio::spawn(accept_loop(listener, socket));
        Ok(Self {
            address,
            listener,
            relay,
        })
    }

    /// Where the host reaches it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and ends the relay.
    pub(crate) async fn close(mut self) -> Result<(), HubError> {
        self.listener.abort();
        self.relay.stop(Duration::from_secs(1)).await
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn wait_for(socket: &Path, name: &str, log: &Path) -> Result<(), HubError> {
    const LIMIT_S: u64 = 10;
    for _ in 0..LIMIT_S * 50 {
        if socket.exists() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(HubError::NotUp {
        name: format!("forward {name}"),
        waited_s: LIMIT_S,
        log: log.to_owned(),
    })
}

async fn accept_loop(listener: TcpListener, socket: PathBuf) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors, most likely: those who hold some need a moment to let go.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let socket = socket.clone();
        tokio::spawn(async move {
            match connect_unix(&socket).await {
                Ok(inside) => join(client, inside).await,
                Err(error) => {
                    tracing::warn!(%error, socket = %socket.display(), "no relay behind a forward")
                }
            }
        });
    }
}

/// The hub's half: listens on `socket` and passes every connection on to `to`. Runs until it is ended.
pub(crate) async fn relay(socket: &Path, to: SocketAddr) -> Result<(), HubError> {
    let _ = std::fs::remove_file(socket);
    let listener = short(socket, |path| UnixListener::bind(path))
        .map_err(HubError::file("listen on", socket))?;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            match TcpStream::connect(to).await {
                Ok(service) => join(service, client).await,
                Err(error) => tracing::warn!(%error, %to, "nothing listens behind a forward"),
            }
        });
    }
}

async fn join(mut tcp: TcpStream, mut unix: UnixStream) {
    let _ = tcp.set_nodelay(true);
    // Either side may hang up at any time; that is the end of the connection and of nothing else.
    let _ = copy_bidirectional(&mut tcp, &mut unix).await;
}

async fn connect_unix(socket: &Path) -> std::io::Result<UnixStream> {
    let stream = short(socket, |path| std::os::unix::net::UnixStream::connect(path))?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// A socket's path must fit 107 bytes and a clone may lie deeper than that, so the folder is named by a descriptor.
fn short<T>(socket: &Path, open: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput));
    };
    let folder = File::open(folder)?;
    open(
        &Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_relay_carries_bytes_both_ways_even_below_a_very_long_path() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let socket = deep.join("s.sock");
        let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = service.local_addr().unwrap();
        let relaying = tokio::spawn({
            let socket = socket.clone();
            async move { relay(&socket, to).await }
        });
        wait_for(&socket, "test", &socket).await.unwrap();
        let mut client = connect_unix(&socket).await.unwrap();
        let (mut served, _) = service.accept().await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut word = [0; 4];
        served.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"ping");
        served.write_all(b"pong").await.unwrap();
        drop(served);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"pong");
        relaying.abort();
    }
}
