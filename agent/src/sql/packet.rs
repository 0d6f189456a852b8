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
    /// zstd-compressed packets.
    pub(crate) const ZSTD: u32 = 1 << 26;
    /// Attributes in front of a query's text.
    pub(crate) const QUERY_ATTRIBUTES: u32 = 1 << 27;
    /// What is taken out of a server's greeting: compression hides statements from the record, a query's attributes
    /// hide where its text begins, and a connection's attributes are a text that a statement could be made from.
    pub(crate) const STRIPPED: u32 = REFUSED | CONNECT_ATTRIBUTES;
    /// What a client that asks for it all the same does not get in with. Attributes of the connection, which some
    /// clients send whatever the server offers, are taken out of what it says instead.
    pub(crate) const REFUSED: u32 = COMPRESS | ZSTD | QUERY_ATTRIBUTES;
    /// The authentication plugin's name is in the login.
    pub(crate) const PLUGIN_AUTH: u32 = 1 << 19;
    /// Without these a login and a change of user have forms that are not read here.
    pub(crate) const NEEDED: u32 = PROTOCOL_41 | SECURE_CONNECTION;
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

/// A login (HandshakeResponse41) without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// What the client asks for.
    pub(crate) capabilities: u32,
    /// Its character set's number: it decides how statements' bytes are read.
    pub(crate) charset: u8,
    /// User name.
    pub(crate) user: String,
    /// The database that statements begin in; empty when none is named.
    pub(crate) database: String,
    /// Where the attributes begin, if there are any.
    attributes_at: usize,
}

impl Login {
    /// Reads `capabilities u32 | largest packet u32 | charset u8 | 23 bytes | user NUL | authentication | database NUL`.
    /// `None` when it has another form, or asks for what [`capability::NEEDED`] lacks.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let capabilities = client_capabilities(payload)?;
        if capabilities & capability::NEEDED != capability::NEEDED {
            return None;
        }
        let charset = *payload.get(8)?;
        let rest = payload.get(32..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let user = until_nul(rest);
        let rest = rest.get(end + 1..)?;
        let (length, rest) = if capabilities & capability::AUTHENTICATION_LENENC == 0 {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        } else {
            length_encoded(rest)?
        };
        let mut rest = rest.get(length..)?;
        let mut text = |wanted: u32| {
            if capabilities & wanted == 0 {
                return Some(String::new());
            }
            let text = until_nul(rest);
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
            Some(text)
        };
        let database = text(capability::CONNECT_WITH_DB)?;
        // The last text may come without its NUL.
        if capabilities & capability::CONNECT_ATTRIBUTES != 0 {
            text(capability::PLUGIN_AUTH)?;
        }
        Some(Self {
            capabilities,
            charset,
            user,
            database,
            attributes_at: payload.len() - rest.len(),
        })
    }

    /// The login's payload without attributes of the connection.
    pub(crate) fn without_attributes(&self, mut payload: Vec<u8>) -> Vec<u8> {
        if self.capabilities & capability::CONNECT_ATTRIBUTES != 0 {
            payload.truncate(self.attributes_at);
            clear_attributes(&mut payload);
        }
        payload
    }
}

/// Takes the wish for attributes out of an SSLRequest or a login.
pub(crate) fn clear_attributes(payload: &mut [u8]) {
    if let Some(bytes) = payload.first_chunk_mut::<4>() {
        *bytes = (u32::from_le_bytes(*bytes) & !capability::CONNECT_ATTRIBUTES).to_le_bytes();
    }
}

/// A length-encoded number that fits a login: one byte below 251, or 252 and a u16.
fn length_encoded(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes.split_first()? {
        (length @ 0..=250, rest) => Some((usize::from(*length), rest)),
        (252, rest) => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            Some((usize::from(u16::from_le_bytes(*length)), rest))
        }
        _ => None,
    }
}

/// Text up to NUL, at most 256 bytes of it.
pub(crate) fn until_nul(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len())
        .min(256);
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
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
    fn a_login_is_read_in_both_forms_and_any_cut_is_refused() {
        let whole = |more: u32, authentication: &[u8]| {
            let asked = capability::NEEDED | capability::CONNECT_WITH_DB | more;
            let mut payload = asked.to_le_bytes().to_vec();
            payload.extend_from_slice(&[0, 0, 0, 1, 45]);
            payload.extend_from_slice(&[0; 23]);
            payload.extend_from_slice(b"alice\0");
            payload.extend_from_slice(authentication);
            payload.extend_from_slice(b"orders\0mysql_native_password\0");
            payload
        };
        for (more, authentication) in [
            (0, &b"\x03abc"[..]),
            (capability::AUTHENTICATION_LENENC, b"\x03abc"),
            (capability::AUTHENTICATION_LENENC, b"\xfc\x03\0abc"),
        ] {
            let payload = whole(more, authentication);
            let login = Login::parse(&payload).unwrap();
            assert_eq!(
                (login.user.as_str(), login.database.as_str(), login.charset),
                ("alice", "orders", 45)
            );
            for cut in 0..38 + authentication.len() + 7 {
                assert_eq!(Login::parse(&payload[..cut]), None, "{cut}");
            }
        }
        let said = whole(
            capability::CONNECT_ATTRIBUTES | capability::PLUGIN_AUTH,
            b"\x03abc",
        );
        let attributes = [&said[..], b"\x0b\x04_pid\x05SMUGG"].concat();
        let login = Login::parse(&attributes).unwrap();
        let mut plain = said.clone();
        clear_attributes(&mut plain);
        assert_eq!(login.without_attributes(attributes), plain);
        let mut old = whole(0, b"\x03abc");
        old[1] &= !2;
        assert_eq!(Login::parse(&old), None);
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
