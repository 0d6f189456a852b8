//! Accepts connections within bounds: how many at once, in all and from one source, and how long one may take to say
//! what it wants. The rest of a request's time is bounded by [`in_time`], which every route lies under.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Router, middleware};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections that a listener bears at once.
pub const CONNECTIONS: usize = 1024;
/// Connections of one source at once, unless settings say otherwise.
pub const PER_SOURCE: usize = 128;
/// An IPv6 network of 48 bits, of which each network of 64 bits is a source, has so many times what one source has.
pub const SOURCES_PER_NETWORK: usize = 2;

/// What a listener bears.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; one more waits until another ends.
    pub connections: usize,
    /// Connections of one source at once; one more is closed. A source is an IPv4 address, or an IPv6 network of 64 bits;
    /// an IPv6 network of 48 bits has [`SOURCES_PER_NETWORK`] times as many, of all its sources together.
    pub per_source: usize,
    /// Longest time for a request's head, and between two requests of one connection. Agents speak every few seconds.
    pub head: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            per_source: PER_SOURCE,
            head: Duration::from_secs(60),
        }
    }
}

/// No request takes longer than this, however slowly its body comes.
pub async fn in_time(limit: Duration, request: Request, next: middleware::Next) -> Response {
    let answered = tokio::time::timeout(limit, next.run(request)).await;
    answered.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

/// What connections are counted by: an address or a network, and how many of its bits are told apart.
type Key = (IpAddr, u32);

/// Connections by source, and by the network that an IPv6 source lies in.
#[derive(Clone, Default)]
struct Sources(Arc<Mutex<HashMap<Key, Source>>>);

#[derive(Default)]
struct Source {
    open: usize,
    /// Whether it was told in the log that it wants more than it gets.
    told: bool,
}

/// A connection that counts for its source, and that source's network, until it is dropped.
struct Seat(Sources, Vec<Key>);

impl Sources {
    fn sit(&self, address: IpAddr, most: usize) -> Option<Seat> {
        let counted = counted(address, most);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, most) in &counted {
            let Some(held) = all.get_mut(key).filter(|held| held.open >= *most) else {
                continue;
            };
            if !std::mem::replace(&mut held.told, true) {
                tracing::warn!(source = %key.0, bits = key.1, most, "a source has as many connections as it may; more are closed");
            }
            return None;
        }
        let keys: Vec<Key> = counted.into_iter().map(|(key, _)| key).collect();
        for key in &keys {
            all.entry(*key).or_default().open += 1;
        }
        Some(Seat(self.clone(), keys))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in &self.1 {
            if let Some(held) = all.get_mut(key) {
                held.open = held.open.saturating_sub(1);
                if held.open == 0 {
                    all.remove(key);
                }
            }
        }
    }
}

/// What a connection from this address counts for, and how many each may have. Whoever has one IPv6 address has 2^64 of
/// them, and an ordinary line has up to 65,536 networks of that size (RFC 6177).
fn counted(address: IpAddr, most: usize) -> Vec<(Key, usize)> {
    let network = |v6: Ipv6Addr, bits: u32| -> Key {
        let mask = u128::MAX << (128 - bits);
        (Ipv6Addr::from_bits(v6.to_bits() & mask).into(), bits)
    };
    match address.to_canonical() {
        IpAddr::V6(v6) => vec![
            (network(v6, 64), most),
            (network(v6, 48), most.saturating_mul(SOURCES_PER_NETWORK)),
        ],
        v4 => vec![((v4, 32), most)],
    }
}

/// Serves until `stop`, then finishes what was begun.
pub async fn serve(listener: TcpListener, routes: Router, bounds: Bounds, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let open = TaskTracker::new();
    let sources = Sources::default();
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
            Some((Ok((stream, from)), place)) => {
                let Some(seat) = sources.sit(from.ip(), bounds.per_source) else {
                    continue;
                };
                let held = (place, seat);
                open.spawn(answer(stream, routes.clone(), bounds, stop.clone(), held));
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
    _held: (OwnedSemaphorePermit, Seat),
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
        let limit = Duration::from_millis(300);
        let routes = Router::new()
            .route("/", axum::routing::get(|| async { "here" }))
            .route("/body", axum::routing::post(|body: String| async { body }))
            .layer(middleware::from_fn(move |request, next| {
                in_time(limit, request, next)
            }));
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
            per_source: 3,
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
    async fn whoever_never_sends_the_body_is_answered_and_cut_off() {
        let (address, _stop) = listening(Bounds {
            connections: 2,
            ..Bounds::default()
        })
        .await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream
                .write_all(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
                .await
                .unwrap();
            silent.push(stream);
        }
        let mut patient = asked(address).await;
        assert!(shown(&mut patient).await.ends_with("here"));
        for mut stream in silent {
            let mut rest = String::new();
            let _ = stream.read_to_string(&mut rest).await;
            assert!(rest.starts_with("HTTP/1.1 408"), "{rest}");
        }
    }

    #[tokio::test]
    async fn one_source_cannot_take_the_places_of_others_and_gets_its_own_back() {
        let (address, _stop) = listening(Bounds {
            connections: 4,
            per_source: 2,
            ..Bounds::default()
        })
        .await;
        let from = async |ip: [u8; 4]| {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from((ip, 0))).unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            stream
        };
        let mut greedy = Vec::new();
        for _ in 0..2 {
            let mut stream = from([127, 0, 0, 2]).await;
            assert!(shown(&mut stream).await.ends_with("here"));
            greedy.push(stream);
        }
        for _ in 0..20 {
            let mut more = from([127, 0, 0, 2]).await;
            let mut text = String::new();
            let _ = more.read_to_string(&mut text).await;
            assert_eq!(text, "");
        }
        let mut other = from([127, 0, 0, 3]).await;
        assert!(shown(&mut other).await.ends_with("here"));
        drop(greedy.pop());
        let mut again = false;
        for _ in 0..200 {
            let mut stream = from([127, 0, 0, 2]).await;
            let mut text = vec![0; 4096];
            again = stream.read(&mut text).await.is_ok_and(|length| length > 0);
            if again {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(again, "a place that is free again is not given");
    }

    #[test]
    fn a_source_is_an_address_or_a_network_and_a_mapped_one_is_what_it_maps() {
        let of = |text: &str| {
            let counted = counted(text.parse().unwrap(), 128).into_iter();
            let texts = counted.map(|((address, bits), most)| format!("{address}/{bits} {most}"));
            texts.collect::<Vec<_>>()
        };
        assert_eq!(of("10.0.0.7"), ["10.0.0.7/32 128"]);
        assert_eq!(of("::ffff:10.0.0.7"), ["10.0.0.7/32 128"]);
        let network = ["2001:db8:1:2::/64 128", "2001:db8:1::/48 256"];
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), network);
        assert_eq!(of("2001:db8:1:2:ffff::1"), network);
    }

    #[test]
    fn whoever_has_many_ipv6_networks_has_a_quarter_of_the_places_and_leaves_the_rest() {
        let sources = Sources::default();
        let sit = |third: u16, fourth: u16, host: u16| {
            let address = Ipv6Addr::new(0x2001, 0xdb8, third, fourth, 0, 0, 0, host);
            sources.sit(address.into(), PER_SOURCE)
        };
        // Every network of an ordinary /56, one address after the other.
        let mut held: Vec<Seat> = Vec::new();
        for host in 0..CONNECTIONS {
            let host = u16::try_from(host).unwrap();
            held.extend((0..256).filter_map(|fourth| sit(1, 0x4200 + fourth, host)));
        }
        assert_eq!(held.len(), CONNECTIONS / 4);
        // One network alone has what a source has, and is not charged for what it did not get.
        let one: Vec<Seat> = (0..500).filter_map(|host| sit(2, 7, host)).collect();
        assert_eq!(one.len(), PER_SOURCE);
        let rest: Vec<Seat> = (0..500).filter_map(|host| sit(2, 8, host)).collect();
        assert_eq!(rest.len(), PER_SOURCE);
        assert!(sit(2, 9, 0).is_none());
        assert!(sit(3, 0, 0).is_some());
        held.truncate(CONNECTIONS / 4 - 1);
        let again = sit(1, 0x4200, 9);
        assert!(again.is_some() && sit(1, 0x4200, 10).is_none());
        drop((held, one, rest, again));
        assert!(sources.0.lock().unwrap().is_empty());
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
