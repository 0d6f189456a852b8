//! The person's own terminal: raw while a session lasts, as it was on every way out.

use super::wire::Size;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::io;

/// What the real plugin takes where the output is no terminal.
const NO_TERMINAL: Size = Size {
    columns: 300,
    rows: 100,
};

/// Standard input in raw mode; dropping it restores what was.
pub(crate) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Nothing where standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Option<Self>> {
        let input = io::stdin();
        if !isatty(&input) {
            return Ok(None);
        }
        let before = tcgetattr(&input)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that was closed cannot be restored and needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// The size of the terminal that output goes to.
pub(crate) fn size() -> Size {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: size.ws_col,
            rows: size.ws_row,
        },
        _ => NO_TERMINAL,
    }
}
