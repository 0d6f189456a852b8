//! The relay: bytes between the operator's terminal and the shell's, each kept in the spool before it is shown.
//!
//! What the shell writes is recorded and then shown; what is typed is recorded and then handed on, unless the
//! program has turned echo off, when only the number of bytes is. Anything that cannot be recorded ends the
//! session.
//!
//! A session has a thread of its own, which waits for its terminals and for nothing else. The agent's other work (TLS,
//! statements, batches of a megabyte) then never stands between a key and its echo. What comes from outside is posted
//! to it.

use super::pty::{Pty, RawTerminal, Size};
use super::wire::{Event, Wire};
use crate::evidence::{EvidenceError, Recorder};
use rustix::fd::OwnedFd;
use std::io;
use std::process::ExitStatus;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

/// What reaches a session from outside.
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    /// The operator's terminal may have another size.
    Resized,
    /// A text for the operator's terminal.
    Warn(String),
    /// End, for this reason.
    End(String),
    /// The login's own process is gone.
    Gone,
}

/// How a session ended.
#[derive(Debug)]
#[must_use]
pub(crate) enum Ending {
    /// The shell ended by itself.
    Exited(ExitStatus),
    /// It was ended from outside, for this reason.
    Ended(String),
    /// The operator's side is gone.
    HungUp,
    /// It could not be recorded, so it could not go on.
    Unrecorded(EvidenceError),
    /// The terminal failed.
    Broken(io::Error),
}

/// Bytes that a session moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Shown.
    pub(crate) output: u64,
    /// Typed.
    pub(crate) input: u64,
}

/// A session's two terminals and what was moved between them.
pub(super) struct Terminals {
    pub(super) session: u32,
    pub(super) recorder: Recorder,
    pub(super) pty: Pty,
    pub(super) typed: OwnedFd,
    pub(super) screen: OwnedFd,
    pub(super) size: Size,
    pub(super) moved: Moved,
    // Dropped last: the operator's terminal gets its modes back when all was said.
    _raw: RawTerminal,
}

/// A session's relay.
pub(crate) struct Relay {
    /// `None` while the session's thread has them.
    terminals: Option<Terminals>,
}

impl Relay {
    /// Takes the operator's terminal and a new pseudo-terminal for the shell.
    ///
    /// # Errors
    /// When one of them is no terminal.
    pub(crate) fn new(
        session: u32,
        recorder: Recorder,
        pty: Pty,
        typed: OwnedFd,
        screen: OwnedFd,
    ) -> io::Result<Self> {
        let raw = RawTerminal::take(screen.try_clone()?)?;
        Ok(Self {
            terminals: Some(Terminals {
                session,
                recorder,
                pty,
                typed,
                size: Size::of(&screen),
                screen,
                moved: Moved::default(),
                _raw: raw,
            }),
        })
    }

    /// Relays until the session ends. The shell may go on living afterwards: ending it is the caller's.
    pub(crate) async fn run(
        &mut self,
        mut shell: Child,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> (Ending, Moved) {
        let Some(terminals) = self.terminals.take() else {
            return (gone(), Moved::default());
        };
        let mut gate = terminals.recorder.gate();
        let (mut wire, post) = match Wire::new(terminals) {
            Ok(wire) => wire,
            Err(error) => return (Ending::Broken(error), Moved::default()),
        };
        let (done, ended) = oneshot::channel();
        let started = std::thread::Builder::new()
            .name("login".to_owned())
            .spawn(move || {
                let ending = wire.run();
                // Nobody waits for a session whose task is gone.
                let _ = done.send((wire.release(), ending));
            });
        if let Err(error) = started {
            return (Ending::Broken(error), Moved::default());
        }
        tokio::pin!(ended);
        let (mut listening, mut gated, mut living) = (true, true, true);
        let ended = loop {
            let event = tokio::select! {
                biased;
                ended = &mut ended => break ended,
                signal = signals.recv(), if listening => {
                    listening = signal.is_some();
                    Event::Signal(signal)
                }
                changed = gate.changed(), if gated => {
                    gated = changed.is_ok();
                    Event::Gate
                }
                status = shell.wait(), if living => {
                    living = false;
                    Event::Exited(status)
                }
            };
            post.send(event);
        };
        match ended {
            Ok((terminals, ending)) => {
                let moved = terminals.moved;
                self.terminals = Some(terminals);
                (ending, moved)
            }
            Err(_) => (gone(), Moved::default()),
        }
    }

    /// Shows a last text, if the terminal takes it within two seconds.
    pub(crate) async fn say(&mut self, text: &str) {
        let Some(terminals) = self.terminals.take() else {
            return;
        };
        let text = text.to_owned();
        let saying = tokio::task::spawn_blocking(move || {
            let (mut wire, _post) = Wire::new(terminals).ok()?;
            wire.say(&text);
            Some(wire.release())
        });
        self.terminals = saying.await.ok().flatten();
    }
}

fn gone() -> Ending {
    Ending::Broken(io::Error::other("the session's thread is gone"))
}
