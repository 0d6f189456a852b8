//! Accepts connections within bounds: how many at once, and how long one may take to say what it wants. The rest of a
//! request's time is bounded by whoever answers it.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What a listener bears.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; one more waits until another ends.
    pub connections: usize,
    /// Longest time for a request's head, and between two requests of one connection. Agents speak every few seconds.
    pub head: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 1024,
            head: Duration::from_secs(60),
        }
    }
}

/// Serves until `stop`, then finishes what was begun.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let open = TaskTracker::new();
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await.ok()?;
            Some((listener.accept().await, place))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        match accepted {
            None => break,
            Some((Ok((stream, _)), place)) => {
                open.spawn(answer(stream, routes.clone(), bounds, stop.clone(), place));
            }
            Some((Err(error), _)) => {
                // Of the connection, or for want of descriptors: both pass.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
    open.close();
    open.wait().await;
}

async fn answer(
    stream: TcpStream,
    routes: Router,
    bounds: Bounds,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    // What breaks off a connection is the other side's affair; the answers themselves are logged where they are made.
    let _ = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn listening(bounds: Bounds) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let routes = Router::new().route("/", axum::routing::get(|| async { "here" }));
        tokio::spawn(serve(listener, routes, bounds, stop.clone()));
        (address, stop)
    }

    async fn asked(address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        stream
    }

    async fn shown(stream: &mut TcpStream) -> String {
        let mut text = vec![0; 4096];
        let length = stream.read(&mut text).await.unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    #[tokio::test]
    async fn whoever_never_finishes_a_head_is_cut_off_and_others_are_served() {
        let bounds = Bounds {
            connections: 2,
            head: Duration::from_millis(300),
        };
        let (address, _stop) = listening(bounds).await;
        let mut slow = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"POST / HTTP/1.1\r\nho").await.unwrap();
            slow.push(stream);
        }
        // All places are taken: this one waits, and is served when the slow ones are gone.
        let mut patient = asked(address).await;
        assert!(shown(&mut patient).await.ends_with("here"));
        for mut stream in slow {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(!String::from_utf8_lossy(&rest).contains("200"), "{rest:?}");
        }
    }

    #[tokio::test]
    async fn a_stop_ends_what_is_idle_and_takes_nobody_new() {
        let (address, stop) = listening(Bounds::default()).await;
        let mut stream = asked(address).await;
        assert!(shown(&mut stream).await.ends_with("here"));
        stop.cancel();
        assert_eq!(shown(&mut stream).await, "");
        assert!(TcpStream::connect(address).await.is_err());
    }
}
