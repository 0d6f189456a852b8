//! MySQL's packets: `length u24 | sequence u8 | payload`, numbers little-endian; a payload of 0xffffff bytes goes on
//! in the next packet.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Largest packet of the login; the command phase streams and has no such limit.
pub(crate) const MAX_LOGIN_PACKET: usize = 128 * 1024;

/// Capability bits (MySQL protocol documentation, "Capabilities Flags").
pub(crate) mod capability {
    /// Compressed packets.
    pub(crate) const COMPRESS: u32 = 1 << 5;
    /// A database is named in the login.
    pub(crate) const CONNECT_WITH_DB: u32 = 1 << 3;
    /// The login of protocol 4.1.
    pub(crate) const PROTOCOL_41: u32 = 1 << 9;
    /// TLS.
    pub(crate) const SSL: u32 = 1 << 11;
    /// The authentication's length is one byte, or a length-encoded number.
    pub(crate) const SECURE_CONNECTION: u32 = 1 << 15;
    /// Attributes of the connection, which the server keeps readable for statements.
    pub(crate) const CONNECT_ATTRIBUTES: u32 = 1 << 20;
    /// The authentication's length is a length-encoded number.
    pub(crate) const AUTHENTICATION_LENENC: u32 = 1 << 21;
    /// No eof behind definitions of columns.
    pub(crate) const DEPRECATE_EOF: u32 = 1 << 24;
    /// zstd-compressed packets.
    pub(crate) const ZSTD: u32 = 1 << 26;
    /// Attributes in front of a query's text.
    pub(crate) const QUERY_ATTRIBUTES: u32 = 1 << 27;
    /// What is taken out of a server's greeting: compression hides statements from the record, a query's attributes
    /// hide where its text begins, and a connection's attributes are a text that a statement could be made from.
    pub(crate) const STRIPPED: u32 = REFUSED | CLEARED;
    /// What a client that asks for it all the same does not get in with.
    pub(crate) const REFUSED: u32 = COMPRESS | ZSTD;
    /// What some clients ask for whatever the server offers, and use if it was offered: taken out of what they say.
    pub(crate) const CLEARED: u32 = CONNECT_ATTRIBUTES | QUERY_ATTRIBUTES;
    /// The authentication plugin's name is in the login.
    pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
    /// Without these a login and a change of user have forms that are not read here.
    pub(crate) const NEEDED: u32 = PROTOCOL_41 | SECURE_CONNECTION;
    /// What decides how a login and answers are read. MariaDB goes by what both sides can, MySQL by what the client says
    /// alone, so none of these is taken from a client whose server has not offered it.
    pub(crate) const FORM: u32 =
        NEEDED | CONNECT_WITH_DB | PLUGIN_AUTH | AUTHENTICATION_LENENC | DEPRECATE_EOF;
}

/// One packet of the login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Sequence number.
    pub(crate) seq: u8,
    /// Payload.
    pub(crate) payload: Vec<u8>,
}

/// A packet's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Bytes of payload that follow.
    pub(crate) length: usize,
    /// Sequence number.
    pub(crate) seq: u8,
}

impl Head {
    /// Reads a head.
    pub(crate) fn of(bytes: [u8; 4]) -> Self {
        let [a, b, c, seq] = bytes;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        Self { length, seq }
    }

    /// Whether the payload goes on in the next packet.
    pub(crate) fn goes_on(self) -> bool {
        self.length == 0xff_ffff
    }
}

impl Packet {
    /// Reads exactly one packet and not a byte more: what follows may be TLS.
    ///
    /// # Errors
    /// When the stream ends, or the packet is longer than a login's.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = [0; 4];
        stream.read_exact(&mut head).await?;
        let Head { length, seq } = Head::of(head);
        if length > MAX_LOGIN_PACKET {
            return Err(io::Error::other("a packet of the login is too long"));
        }
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        Ok(Self { seq, payload })
    }

    /// Writes the packet.
    ///
    /// # Errors
    /// When the stream fails.
    pub(crate) async fn write(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(&self.bytes()).await?;
        stream.flush().await
    }

    /// The packet's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let [a, b, c, _] = u32::try_from(self.payload.len()).unwrap_or(0).to_le_bytes();
        let mut bytes = vec![a, b, c, self.seq];
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// An error packet of our own.
    pub(crate) fn error(seq: u8, code: u16, message: &str) -> Self {
        let mut payload = vec![0xff];
        payload.extend_from_slice(&code.to_le_bytes());
        // The state is spelled only to a client that has said that it knows it, which is after the greeting.
        if seq > 0 {
            // ER_ACCESS_DENIED_ERROR has a state of its own.
            let state = if code == 1045 { b"#28000" } else { b"#HY000" };
            payload.extend_from_slice(state);
        }
        payload.extend_from_slice(message.as_bytes());
        Self { seq, payload }
    }
}

/// A server's greeting (protocol 10), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// What the server can do.
    pub(crate) capabilities: u32,
    lower_at: usize,
}

impl Greeting {
    /// Reads a greeting: `10 | version NUL | thread u32 | 8 bytes | NUL | capabilities u16 | charset u8 | status u16
    /// | capabilities u16 | …`. `None` when it is another protocol.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(&[10])?;
        let version = rest.iter().position(|byte| *byte == 0)?;
        let lower_at = 1 + version + 1 + 4 + 8 + 1;
        let at = |from: usize| {
            Some(u16::from_le_bytes(
                *payload.get(from..)?.first_chunk::<2>()?,
            ))
        };
        let capabilities = u32::from(at(lower_at)?) | u32::from(at(lower_at + 5)?) << 16;
        Some(Self {
            capabilities,
            lower_at,
        })
    }

    /// The greeting's payload without these capabilities.
    pub(crate) fn without(self, stripped: u32, payload: &[u8]) -> Vec<u8> {
        let mut payload = payload.to_vec();
        let [a, b, c, d] = (self.capabilities & !stripped).to_le_bytes();
        for (at, value) in [(0, a), (1, b), (5, c), (6, d)] {
            if let Some(byte) = payload.get_mut(self.lower_at + at) {
                *byte = value;
            }
        }
        payload
    }
}

/// Capabilities that a client asks for: the first four bytes of an SSLRequest and of a login alike.
pub(crate) fn client_capabilities(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk::<4>()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(capabilities: u32) -> Vec<u8> {
        let [a, b, c, d] = capabilities.to_le_bytes();
        let mut payload = b"\x0a8.0.36\0\x01\0\0\0saltsalt\0".to_vec();
        payload.extend_from_slice(&[a, b, 45, 2, 0, c, d, 21]);
        payload.extend_from_slice(b"\0\0\0\0\0\0\0\0\0\0saltsaltsalt\0caching_sha2_password\0");
        payload
    }

    #[test]
    fn compression_leaves_the_greeting_and_nothing_else_changes() {
        let all = greeting(u32::MAX);
        let read = Greeting::parse(&all).unwrap();
        assert_eq!(read.capabilities, u32::MAX);
        let stripped = read.without(capability::STRIPPED, &all);
        assert_eq!(stripped, greeting(!capability::STRIPPED));
    }

    #[test]
    fn a_greeting_cut_anywhere_before_its_capabilities_is_refused() {
        let whole = greeting(0xdead_beef);
        for cut in 0..28 {
            assert_eq!(Greeting::parse(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(Greeting::parse(b"\xff\x10\x04Too many connections"), None);
    }
}
