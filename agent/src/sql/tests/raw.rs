//! A home-made MySQL client, which sends packets as it is told to.

use super::super::packet::{Packet, capability};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Its account: the password is empty.
pub(super) const USER: &str = "pp_raw";
/// Another one, whose password is empty too.
pub(super) const OTHER: &str = "pp_other";

/// CLIENT_LOCAL_FILES, CLIENT_MULTI_STATEMENTS, CLIENT_MULTI_RESULTS.
const MORE: u32 = 1 << 7 | 1 << 16 | 1 << 17;
/// What it asks for unless a test says otherwise.
pub(super) const ASKED: u64 = PLAIN as u64;
const PLAIN: u32 = capability::NEEDED
    | capability::SSL
    | capability::PLUGIN_AUTH
    | capability::CONNECT_WITH_DB
    | MORE;

/// What an SSLRequest is, and what a login begins with; MariaDB's capabilities are above 32 bits.
pub(super) fn head(asked: u64) -> Vec<u8> {
    let [a, b, c, d, more @ ..] = asked.to_le_bytes();
    let mut head = vec![a, b, c, d, 0, 0, 0, 1, 45];
    head.extend_from_slice(&[0; 19]);
    head.extend_from_slice(&more);
    head
}

#[derive(Debug)]
pub(super) struct RawClient {
    stream: TlsStream<TcpStream>,
}

impl RawClient {
    /// Greeting, TLS and login, to the server's OK or its refusal.
    pub(super) async fn log_in(address: SocketAddr, user: &str, database: &str) -> (Self, Packet) {
        Self::log_in_asking(address, ASKED, user, database).await
    }

    /// The same with these capabilities.
    pub(super) async fn log_in_asking(
        address: SocketAddr,
        asked: u64,
        user: &str,
        database: &str,
    ) -> (Self, Packet) {
        let head = head(asked);
        let mut login = head.clone();
        login.extend_from_slice(user.as_bytes());
        login.extend_from_slice(b"\0\0");
        login.extend_from_slice(database.as_bytes());
        login.extend_from_slice(b"\0mysql_native_password\0");
        let mut client = Self::over_tls(address, &head).await;
        client.send(2, &login).await;
        let answer = client.authenticate().await.unwrap();
        (client, answer)
    }

    /// Greeting and TLS, asked for by this SSLRequest.
    pub(super) async fn over_tls(address: SocketAddr, request: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        Packet::read(&mut stream).await.unwrap();
        let payload = request.to_vec();
        let request = Packet { seq: 1, payload };
        request.write(&mut stream).await.unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        Self { stream }
    }

    /// Answers the server with the empty password until it is content or not.
    pub(super) async fn authenticate(&mut self) -> io::Result<Packet> {
        loop {
            let packet = self.read().await?;
            match packet.payload.first() {
                Some(0xfe) => {
                    // caching_sha2_password says a NUL for no password, mysql_native_password says nothing.
                    let sha2 = packet.payload.starts_with(b"\xfecaching");
                    let answer: &[u8] = if sha2 { b"\0" } else { b"" };
                    self.send(packet.seq.wrapping_add(1), answer).await;
                }
                Some(0x01) => {}
                _ => return Ok(packet),
            }
        }
    }

    /// Sends a packet. That the connection is gone shows when it is read from.
    pub(super) async fn send(&mut self, seq: u8, payload: &[u8]) {
        let packet = Packet {
            seq,
            payload: payload.to_vec(),
        };
        self.send_bytes(&packet.bytes()).await;
    }

    pub(super) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    pub(super) async fn read(&mut self) -> io::Result<Packet> {
        let within = std::time::Duration::from_secs(10);
        tokio::time::timeout(within, Packet::read(&mut self.stream)).await?
    }

    /// The first packet of the answer to a statement.
    pub(super) async fn query(&mut self, sql: &str) -> Packet {
        self.send(0, &[b"\x03", sql.as_bytes()].concat()).await;
        self.read().await.unwrap()
    }

    /// The one value of a result of one row and one column.
    pub(super) async fn value(&mut self, sql: &str) -> String {
        let count = self.query(sql).await;
        assert_eq!(count.payload, [1], "{count:?}");
        let mut value = None;
        for _ in 0..4 {
            let packet = self.read().await.unwrap();
            if packet.seq == 4 {
                value = Some(String::from_utf8(packet.payload[1..].to_vec()).unwrap());
            }
        }
        value.unwrap()
    }
}

/// The endpoint's certificate is made at its start; who it is does not matter here.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
