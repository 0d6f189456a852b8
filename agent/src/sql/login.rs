//! A client's login, read as the server reads it, and passed so that there is one reading.
//!
//! ```text
//! capabilities u32 | largest packet u32 | character set u8 | 00 | 18 bytes | MariaDB's capabilities u32
//!   | user NUL | length | authentication | database NUL | plugin NUL | attributes
//! ```
//!
//! The first 32 bytes go twice to a server that speaks TLS: alone, as the wish for TLS, and before the rest. MySQL and
//! MariaDB take the login's form from the first time, MariaDB its character set from the second. So what the client says the
//! first time is not passed: the server is asked for TLS with the bytes that the login itself begins with.

use super::packet::{capability, client_capabilities};

/// Bytes of an SSLRequest, and of a login before its texts.
pub(super) const HEAD: usize = 32;
/// Longest text, in bytes: 64 characters.
const MAX_NAME: usize = 256;

/// A login (HandshakeResponse41) without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Login {
    /// What the client asks for.
    pub(super) capabilities: u32,
    /// Its character set's number: it decides how statements' bytes are read.
    pub(super) charset: u8,
    /// User name.
    pub(super) user: Vec<u8>,
    /// The database that statements begin in; empty when none is named.
    pub(super) database: String,
    /// Where the attributes begin, if there are any.
    attributes_at: usize,
}

impl Login {
    /// Reads a login to a server with these capabilities. `None` when it has another form, asks for what
    /// [`capability::NEEDED`] lacks, or for a form ([`capability::FORM`]) that the server has not offered.
    ///
    /// A character set is one byte (both servers), so another byte behind it is refused. A length is one byte: behind a longer
    /// one MariaDB looks for the database two bytes too early.
    pub(super) fn parse(payload: &[u8], offered: u32) -> Option<Self> {
        let capabilities = client_capabilities(payload)?;
        let has = |wanted: u32| capabilities & wanted == wanted;
        if !has(capability::NEEDED) || capabilities & capability::FORM & !offered != 0 {
            return None;
        }
        let (charset, 0) = (*payload.get(8)?, *payload.get(9)?) else {
            return None;
        };
        let (user, rest) = text(payload.get(HEAD..)?)?;
        let (length, rest) = rest.split_first()?;
        if has(capability::AUTHENTICATION_LENENC) && *length > 250 {
            return None;
        }
        let mut rest = rest.get(usize::from(*length)..)?;
        let mut database: &[u8] = b"";
        if has(capability::CONNECT_WITH_DB) {
            (database, rest) = text(rest)?;
        }
        // The last text may come without its NUL.
        if has(capability::CONNECT_ATTRIBUTES | capability::PLUGIN_AUTH) {
            (_, rest) = text(rest)?;
        }
        Some(Self {
            capabilities,
            charset,
            user: user.to_vec(),
            database: String::from_utf8_lossy(database).into_owned(),
            attributes_at: payload.len() - rest.len(),
        })
    }

    /// The login's payload as it is passed: over TLS, and without attributes of the connection or of queries.
    pub(super) fn passed(&self, mut payload: Vec<u8>) -> Vec<u8> {
        if self.capabilities & capability::CONNECT_ATTRIBUTES != 0 {
            payload.truncate(self.attributes_at);
        }
        let asked = self.capabilities & !capability::CLEARED | capability::SSL;
        if let Some(bytes) = payload.first_chunk_mut::<4>() {
            *bytes = asked.to_le_bytes();
        }
        payload
    }
}

/// A text and what is behind its NUL.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let text = bytes.get(..end).filter(|text| text.len() <= MAX_NAME)?;
    Some((text, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: u32 = u32::MAX;

    fn whole(more: u32, authentication: &[u8]) -> Vec<u8> {
        let asked = capability::NEEDED | capability::CONNECT_WITH_DB | more;
        let mut payload = asked.to_le_bytes().to_vec();
        payload.extend_from_slice(&[0, 0, 0, 1, 45]);
        payload.extend_from_slice(&[0; 23]);
        payload.extend_from_slice(b"alice\0");
        payload.extend_from_slice(authentication);
        payload.extend_from_slice(b"orders\0mysql_native_password\0");
        payload
    }

    #[test]
    fn a_login_is_read_in_both_forms_and_any_cut_is_refused() {
        for more in [0, capability::AUTHENTICATION_LENENC] {
            let payload = whole(more, b"\x03abc");
            let login = Login::parse(&payload, OFFERED).unwrap();
            assert_eq!(
                (
                    login.user.as_slice(),
                    login.database.as_str(),
                    login.charset
                ),
                (&b"alice"[..], "orders", 45)
            );
            for cut in 0..38 + 4 + 7 {
                assert_eq!(Login::parse(&payload[..cut], OFFERED), None, "{cut}");
            }
        }
    }

    #[test]
    fn what_is_passed_asks_for_tls_and_holds_no_attributes() {
        let asked = capability::CLEARED | capability::PLUGIN_AUTH;
        let said = [&whole(asked, b"\x03abc")[..], b"\x0b\x04_pid\x05SMUGG"].concat();
        let login = Login::parse(&said, OFFERED).unwrap();
        let plain = whole(capability::PLUGIN_AUTH | capability::SSL, b"\x03abc");
        assert_eq!(login.passed(said), plain);
    }

    #[test]
    fn forms_that_servers_read_in_two_ways_are_refused() {
        let lenenc = capability::AUTHENTICATION_LENENC;
        assert_eq!(
            Login::parse(&whole(lenenc, b"\xfc\x03\0abc"), OFFERED),
            None
        );
        let long = [&[251][..], &[b'x'; 251]].concat();
        assert!(Login::parse(&whole(0, &long), OFFERED).is_some());
        assert_eq!(Login::parse(&whole(lenenc, &long), OFFERED), None);
        let short = whole(lenenc, b"\x03abc");
        assert_eq!(Login::parse(&short, OFFERED & !lenenc), None);
        let mut charset = whole(0, b"\x03abc");
        charset[9] = 1;
        assert_eq!(Login::parse(&charset, OFFERED), None);
        let mut old = whole(0, b"\x03abc");
        old[1] &= !2;
        assert_eq!(Login::parse(&old, OFFERED), None);
    }
}
