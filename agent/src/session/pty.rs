//! The pseudo-terminal between a shell and the relay, and the operator's terminal on the other side of it.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Columns.
    pub(crate) columns: u16,
    /// Rows.
    pub(crate) rows: u16,
}

impl Size {
    /// The size that `terminal` has now; 80 × 24 where it has none.
    pub(crate) fn of(terminal: impl AsFd) -> Self {
        match rustix::termios::tcgetwinsize(terminal) {
            Ok(Winsize { ws_col, ws_row, .. }) if ws_col > 0 && ws_row > 0 => Self {
                columns: ws_col,
                rows: ws_row,
            },
            _ => Self {
                columns: 80,
                rows: 24,
            },
        }
    }

    /// The size as a record's payload: columns and rows, big-endian.
    pub(crate) fn payload(self) -> [u8; 4] {
        let [c1, c2] = self.columns.to_be_bytes();
        let [r1, r2] = self.rows.to_be_bytes();
        [c1, c2, r1, r2]
    }
}

/// What may be kept of the keys that are typed now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typing {
    /// They show on the screen, or the program paints them itself.
    Shown,
    /// The program has asked for silence: this is a password.
    Hidden,
}

/// Judges a terminal's local modes. Passwords are asked for with echo off and either whole lines (`getpass`, sudo,
/// ssh) or with signals off as well (the MySQL clients). Line editors turn echo and whole lines off and leave
/// signals on: they paint what is typed.
pub(crate) fn judge_typing(modes: LocalModes) -> Typing {
    let silent = !modes.contains(LocalModes::ECHO);
    let whole_lines = modes.contains(LocalModes::ICANON);
    let signals = modes.contains(LocalModes::ISIG);
    if silent && (whole_lines || !signals) {
        Typing::Hidden
    } else {
        Typing::Shown
    }
}

/// A new pseudo-terminal: the relay holds both ends, so that the shell's end outlives the shell and nothing it
/// wrote last is lost.
#[derive(Debug)]
pub(crate) struct Pty {
    /// The relay's end, non-blocking.
    pub(crate) master: OwnedFd,
    /// The shell's end.
    pub(crate) slave: OwnedFd,
    path: PathBuf,
}

impl Pty {
    /// Opens one of this size.
    ///
    /// # Errors
    /// When the kernel has none left.
    pub(crate) fn open(size: Size) -> io::Result<Self> {
        let master =
            rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let path = PathBuf::from(OsString::from_vec(name.into_bytes()));
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(&path, flags, Mode::empty())?;
        set_nonblocking(&master)?;
        let pty = Self {
            master,
            slave,
            path,
        };
        pty.resize(size)?;
        Ok(pty)
    }

    /// The shell's end in the file system, `/dev/pts/N`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the shell's foreground program a new size.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub(crate) fn resize(&self, size: Size) -> io::Result<()> {
        let size = Winsize {
            ws_col: size.columns,
            ws_row: size.rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// What may be kept of the keys that are typed now. Hidden when the terminal does not say.
    pub(crate) fn typing(&self) -> Typing {
        rustix::termios::tcgetattr(&self.slave)
            .map_or(Typing::Hidden, |modes| judge_typing(modes.local_modes))
    }
}

/// Makes reads and writes return instead of waiting.
///
/// # Errors
/// When the descriptor refuses.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(&fd)?;
    Ok(rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// The operator's terminal, passing every byte as it is; it gets its own modes back when this is dropped.
#[derive(Debug)]
pub(crate) struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Takes a terminal; anything else is refused.
    ///
    /// # Errors
    /// When the descriptor is no terminal.
    pub(crate) fn take(terminal: OwnedFd) -> io::Result<Self> {
        let before = rustix::termios::tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no modes.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden_and_line_editors_are_not() {
        let all = LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        for (modes, expected) in [
            (all, Typing::Shown),
            (all - LocalModes::ECHO, Typing::Hidden),
            (LocalModes::ISIG, Typing::Shown),
            (LocalModes::empty(), Typing::Hidden),
            (LocalModes::ECHO, Typing::Shown),
        ] {
            assert_eq!(judge_typing(modes), expected, "{modes:?}");
        }
    }

    #[test]
    fn a_terminal_knows_its_size_and_path() {
        let pty = Pty::open(Size {
            columns: 132,
            rows: 43,
        })
        .unwrap();
        assert_eq!(
            Size::of(&pty.slave),
            Size {
                columns: 132,
                rows: 43
            }
        );
        assert!(pty.path().starts_with("/dev/pts/"));
        assert_eq!(
            Size {
                columns: 258,
                rows: 3
            }
            .payload(),
            [1, 2, 0, 3]
        );
    }
}
