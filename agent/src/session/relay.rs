//! The relay: bytes between the operator's terminal and the shell's, each kept in the spool before it is shown.
//!
//! What the shell writes is recorded and then shown; what is typed is recorded and then handed on, unless the
//! program has turned echo off, when only the number of bytes is. Anything that cannot be recorded ends the
//! session. One task a session, no thread, no allocation for each byte.

use super::pty::{Pty, RawTerminal, Size, Typing, set_nonblocking};
use crate::evidence::{EvidenceError, Gate, MAX_PAYLOAD, Recorder};
use crate::unsafe_os::async_fd;
use powerpole_chain::Kind;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};

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

/// First byte of an input record: the bytes follow.
pub(crate) const INPUT_SHOWN: u8 = 0;
/// First byte of an input record: their number follows, as a u32.
pub(crate) const INPUT_HIDDEN: u8 = 1;

/// The kernel hands over at most this much of a terminal's output at once; a full read means that more is waiting.
const TERMINAL_READ: usize = 4095;
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A session's two terminals.
pub(crate) struct Relay {
    session: u32,
    recorder: Recorder,
    gate: watch::Receiver<Gate>,
    pty: Pty,
    master: AsyncFd<OwnedFd>,
    typed: AsyncFd<OwnedFd>,
    screen: AsyncFd<OwnedFd>,
    size: Size,
    moved: Moved,
    to_screen: Pending,
    to_shell: Pending,
    /// The shell's end reports an error; nothing more is read from it.
    hung_up: bool,
    // Dropped last: the operator's terminal gets its modes back when all was said.
    _raw: RawTerminal,
}

/// Bytes on their way to a descriptor that may not take them all at once.
#[derive(Debug)]
struct Pending {
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

impl Pending {
    fn new() -> Self {
        Self {
            buffer: vec![0; MAX_PAYLOAD],
            from: 0,
            to: 0,
        }
    }
    fn is_empty(&self) -> bool {
        self.from == self.to
    }
    fn rest(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }
    fn set(&mut self, from: usize, to: usize) {
        (self.from, self.to) = (from, to);
    }
    /// Writes what the descriptor takes now.
    fn write(&mut self, fd: &OwnedFd) -> io::Result<()> {
        while !self.is_empty() {
            match rustix::io::write(fd, self.rest()) {
                Ok(written) => self.from += written,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

enum Step {
    Signal(Option<Signal>),
    Gate,
    Exited(io::Result<ExitStatus>),
    // `None`: the descriptor was not ready after all.
    Screen(io::Result<Option<()>>),
    Shell(io::Result<Option<()>>),
    Output(io::Result<Option<usize>>),
    Input(io::Result<Option<usize>>),
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
        set_nonblocking(&typed)?;
        set_nonblocking(&screen)?;
        Ok(Self {
            session,
            gate: recorder.gate(),
            recorder,
            master: async_fd(pty.master.try_clone()?)?,
            size: Size::of(&screen),
            pty,
            typed: async_fd(typed)?,
            screen: async_fd(screen)?,
            moved: Moved::default(),
            to_screen: Pending::new(),
            to_shell: Pending::new(),
            hung_up: false,
            _raw: raw,
        })
    }

    /// Relays until the session ends. The shell may go on living afterwards: ending it is the caller's.
    pub(crate) async fn run(
        &mut self,
        mut shell: Child,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> (Ending, Moved) {
        let ending = loop {
            match self.step(&mut shell, signals).await {
                Ok(None) => {}
                Ok(Some(ending)) => break ending,
                Err(ending) => break ending,
            }
        };
        (ending, self.moved)
    }

    /// Shows a last text, if the terminal takes it within two seconds.
    pub(crate) async fn say(&mut self, text: &str) {
        if self.warn(text).is_ok() {
            let _ = tokio::time::timeout(LAST_WORDS, self.flush_screen()).await;
        }
    }

    async fn step(
        &mut self,
        shell: &mut Child,
        signals: &mut mpsc::Receiver<Signal>,
    ) -> Result<Option<Ending>, Ending> {
        let open = *self.gate.borrow() == Gate::Open;
        let (screen_waits, shell_waits) = (!self.to_screen.is_empty(), !self.to_shell.is_empty());
        // In this order: what comes from outside first, and typing before output, so that Ctrl-C is heard
        // while output floods.
        let step = tokio::select! {
            biased;
            signal = signals.recv() => Step::Signal(signal),
            changed = self.gate.changed() => match changed {
                Ok(()) => Step::Gate,
                Err(_) => return Err(Ending::Unrecorded(EvidenceError::Lost)),
            },
            ready = self.screen.writable(), if screen_waits => {
                Step::Screen(when_ready(ready, |fd| self.to_screen.write(fd)))
            }
            ready = self.master.writable(), if shell_waits => {
                Step::Shell(when_ready(ready, |fd| self.to_shell.write(fd)))
            }
            ready = self.typed.readable(), if open && !shell_waits => {
                Step::Input(when_ready(ready, |fd| read_typed(fd, &mut self.to_shell.buffer)))
            }
            ready = self.master.readable(), if open && !screen_waits && !self.hung_up => {
                Step::Output(when_ready(ready, |fd| read_output(fd, &mut self.to_screen.buffer)))
            }
            status = shell.wait() => Step::Exited(status),
        };
        match step {
            Step::Signal(signal) => self.take_signal(signal),
            Step::Gate => self.follow_gate(),
            Step::Screen(wrote) => wrote.map(|_| None).map_err(hang_up),
            // The shell's end may be hung up while the shell is still on its way out.
            Step::Shell(wrote) => {
                if wrote.is_err() {
                    self.to_shell.set(0, 0);
                }
                Ok(None)
            }
            Step::Output(Ok(None)) | Step::Input(Ok(None)) => Ok(None),
            Step::Output(Ok(Some(length))) => self.show(length).map(|()| None),
            Step::Output(Err(_)) => {
                self.hung_up = true;
                Ok(None)
            }
            Step::Input(Ok(Some(0))) => Ok(Some(Ending::HungUp)),
            Step::Input(Ok(Some(length))) => self.hand_on(length).map(|()| None),
            Step::Input(Err(e)) => Err(hang_up(e)),
            Step::Exited(status) => {
                self.drain().await?;
                status
                    .map(|status| Some(Ending::Exited(status)))
                    .map_err(Ending::Broken)
            }
        }
    }

    fn take_signal(&mut self, signal: Option<Signal>) -> Result<Option<Ending>, Ending> {
        match signal {
            None | Some(Signal::Gone) => Ok(Some(Ending::HungUp)),
            Some(Signal::End(reason)) => Ok(Some(Ending::Ended(reason))),
            Some(Signal::Warn(text)) => self.warn(&text).map(|()| None),
            Some(Signal::Resized) => self.resize().map(|()| None),
        }
    }

    fn follow_gate(&mut self) -> Result<Option<Ending>, Ending> {
        let gate = *self.gate.borrow_and_update();
        match gate {
            Gate::Open => {
                return self
                    .warn("Evidence is being kept again. Go on.")
                    .map(|()| None);
            }
            Gate::Frozen => {}
            Gate::Ended => return Err(Ending::Unrecorded(EvidenceError::Lost)),
        }
        let text =
            "Evidence is not being taken at the moment. This session waits; nothing is lost.";
        self.warn(text).map(|()| None)
    }

    fn resize(&mut self) -> Result<(), Ending> {
        let size = Size::of(self.screen.get_ref());
        if size == self.size {
            return Ok(());
        }
        self.record(Kind::Resize, &size.payload())?;
        self.size = size;
        self.pty.resize(size).map_err(Ending::Broken)
    }

    /// Shows a text of ours on a line of its own. It is recorded as a warning, not as output of the shell.
    fn warn(&mut self, text: &str) -> Result<(), Ending> {
        self.record(Kind::Warning, text.as_bytes())?;
        let framed = format!("\r\n\x07*** PowerPole: {text}\r\n");
        let mut bytes = self.to_screen.rest().to_vec();
        bytes.extend_from_slice(framed.as_bytes());
        let length = bytes.len();
        if self.to_screen.buffer.len() < length {
            self.to_screen.buffer.resize(length, 0);
        }
        if let Some(space) = self.to_screen.buffer.get_mut(..length) {
            space.copy_from_slice(&bytes);
        }
        self.to_screen.set(0, length);
        Ok(())
    }

    /// Keeps what the shell wrote and then shows it.
    fn show(&mut self, length: usize) -> Result<(), Ending> {
        let bytes = self.to_screen.buffer.get(..length).unwrap_or_default();
        self.recorder
            .record(Kind::Output, self.session, bytes)
            .map_err(Ending::Unrecorded)?;
        self.moved.output += length as u64;
        self.to_screen.set(0, length);
        // Most terminals take it at once; what they do not take waits for `write_some`.
        match self.to_screen.write(self.screen.get_ref()) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(hang_up(e)),
            _ => Ok(()),
        }
    }

    /// Keeps what was typed, or how much of it, and then hands it to the shell. The buffer's first byte is left
    /// free by [`read_typed`] for the record's form.
    fn hand_on(&mut self, length: usize) -> Result<(), Ending> {
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let hidden = [INPUT_HIDDEN, a, b, c, d];
        let typed = match self.pty.typing() {
            Typing::Shown => self.to_shell.buffer.get(..=length).unwrap_or_default(),
            Typing::Hidden => &hidden,
        };
        self.recorder
            .record(Kind::Input, self.session, typed)
            .map_err(Ending::Unrecorded)?;
        self.moved.input += length as u64;
        self.to_shell.set(1, length + 1);
        match self.to_shell.write(self.master.get_ref()) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.to_shell.set(0, 0),
            Ok(()) => {}
        }
        // A password does not stay in this buffer.
        if self.to_shell.is_empty() {
            self.to_shell
                .buffer
                .get_mut(..=length)
                .unwrap_or_default()
                .fill(0);
        }
        Ok(())
    }

    /// After the shell's end: what it wrote last is still in the terminal.
    async fn drain(&mut self) -> Result<(), Ending> {
        let last_words = async {
            loop {
                self.flush_screen().await.map_err(hang_up)?;
                match read_now(self.master.get_ref(), &mut self.to_screen.buffer) {
                    Ok(0) => return Ok(()),
                    Ok(length) => self.show(length)?,
                    Err(_) => return Ok(()),
                }
            }
        };
        tokio::time::timeout(LAST_WORDS, last_words)
            .await
            .unwrap_or(Ok(()))
    }

    async fn flush_screen(&mut self) -> io::Result<()> {
        while !self.to_screen.is_empty() {
            let ready = self.screen.writable().await;
            when_ready(ready, |fd| self.to_screen.write(fd))?;
        }
        Ok(())
    }

    fn record(&self, kind: Kind, payload: &[u8]) -> Result<(), Ending> {
        self.recorder
            .record(kind, self.session, payload)
            .map_err(Ending::Unrecorded)
    }
}

fn hang_up(error: io::Error) -> Ending {
    let gone = [Errno::IO.raw_os_error(), Errno::PIPE.raw_os_error()];
    if error
        .raw_os_error()
        .is_some_and(|code| gone.contains(&code))
    {
        Ending::HungUp
    } else {
        Ending::Broken(error)
    }
}

/// Acts on a descriptor that is said to be ready; `None` when it was not, and is waited for again.
fn when_ready<T>(
    ready: io::Result<AsyncFdReadyGuard<'_, OwnedFd>>,
    act: impl FnOnce(&OwnedFd) -> io::Result<T>,
) -> io::Result<Option<T>> {
    ready?
        .try_io(|fd| act(fd.get_ref()))
        .map_or(Ok(None), |acted| acted.map(Some))
}

/// Reads into the buffer's second byte and on; the first is the form of an input record.
fn read_typed(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let Some((form, space)) = buffer.split_first_mut() else {
        return Ok(0);
    };
    *form = INPUT_SHOWN;
    read_now(fd, space.get_mut(..MAX_PAYLOAD - 1).unwrap_or_default())
}

/// Reads until the terminal has no more or one record is full; a stream of output costs few records.
fn read_output(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let limit = buffer.len().min(MAX_PAYLOAD);
    let mut filled = 0;
    while let Some(space) = buffer
        .get_mut(filled..limit)
        .filter(|space| !space.is_empty())
    {
        match read_now(fd, space) {
            Ok(0) => break,
            Ok(length) => {
                filled += length;
                if length < TERMINAL_READ {
                    break;
                }
            }
            Err(_) if filled > 0 => break,
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

fn read_now(fd: &OwnedFd, space: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(fd, &mut *space) {
            Ok(length) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
