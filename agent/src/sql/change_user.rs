//! COM_CHANGE_USER: read whole, and passed on without its secret.
//!
//! ```text
//! client  11 ‖ user NUL ‖ length u8 ‖ authentication ‖ database NUL ‖ charset u16 ‖ plugin NUL ‖ attributes
//! passed  11 ‖ user NUL ‖ 00 ‖ database NUL ‖ charset u16 ‖ "powerpole" NUL
//! record  11 ‖ user NUL ‖ database NUL ‖ charset u16 (big-endian)
//! ```
//!
//! What is passed follows from the record, so whatever a server takes these bytes for, the record has them. No account has a
//! plugin of this name, so the server asks for the password by an exchange of its own, as it does whenever a client guessed
//! the wrong plugin.

use super::command::CHANGE_USER;

/// Largest packet of this command, in bytes: name, plugin and database are short, a connection's attributes are at most 64 KiB.
pub(super) const MAX_CHANGE: usize = 128 * 1024;
/// Longest name, in bytes: 64 characters.
const MAX_NAME: usize = 256;
/// A plugin that nobody has.
const NO_PLUGIN: &[u8] = b"powerpole";

/// A wish to be another user, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChangeUser<'a> {
    /// User name.
    pub(super) user: &'a [u8],
    /// The database that statements begin in; empty when none is named.
    pub(super) database: &'a [u8],
    /// Its character set's number.
    pub(super) charset: u16,
}

impl<'a> ChangeUser<'a> {
    /// Reads a packet's payload. `None` when it has another form; a login was refused unless the authentication's length
    /// has this one (CLIENT_SECURE_CONNECTION).
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let (user, rest) = split_nul(payload.strip_prefix(&[CHANGE_USER])?)?;
        let (length, rest) = rest.split_first()?;
        let (database, rest) = split_nul(rest.get(usize::from(*length)..)?)?;
        let charset = u16::from_le_bytes(*rest.first_chunk::<2>()?);
        (user.len().max(database.len()) <= MAX_NAME).then_some(Self {
            user,
            database,
            charset,
        })
    }

    /// What is passed on.
    pub(super) fn without_secret(&self) -> Vec<u8> {
        let charset = self.charset.to_le_bytes();
        [
            &[CHANGE_USER],
            self.user,
            &[0, 0],
            self.database,
            &[0],
            &charset,
            NO_PLUGIN,
            &[0],
        ]
        .concat()
    }

    /// What is recorded.
    pub(super) fn recorded(&self) -> Vec<u8> {
        let charset = self.charset.to_be_bytes();
        [
            &[CHANGE_USER],
            self.user,
            &[0],
            self.database,
            &[0],
            &charset[..],
        ]
        .concat()
    }
}

fn split_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] =
        b"\x11alice\0\x14hashhashhashhashhashorders\0\x2d\0caching_sha2_password\0\x03abc";

    #[test]
    fn what_is_passed_holds_nothing_but_what_is_recorded() {
        let change = ChangeUser::parse(WHOLE).unwrap();
        assert_eq!(
            change.without_secret(),
            b"\x11alice\0\0orders\0\x2d\0powerpole\0"
        );
        assert_eq!(change.recorded(), b"\x11alice\0orders\0\0\x2d");
        let passed = change.without_secret();
        assert_eq!(ChangeUser::parse(&passed).unwrap(), change);
    }

    #[test]
    fn any_cut_before_the_character_set_and_any_long_name_is_refused() {
        let least = WHOLE.len() - 26;
        assert!(ChangeUser::parse(&WHOLE[..least]).is_some());
        for cut in 0..least {
            assert_eq!(ChangeUser::parse(&WHOLE[..cut]), None, "{cut}");
        }
        let long = [&b"\x11alice\0\0"[..], &[b'x'; MAX_NAME + 1], b"\0\x2d\0"].concat();
        assert_eq!(ChangeUser::parse(&long), None);
    }
}
