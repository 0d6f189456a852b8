//! The wire between two terminals while a session runs: what goes which way, in which order, and what is recorded first.
//!
//! Runs on the session's own thread, waits in poll(2) and nowhere else. Never shows what is not in the spool, and never
//! hands on what is typed before it is. No allocation for each byte.

use super::pty::{Size, Typing, set_nonblocking};
use super::relay::{Ending, Signal, Terminals};
use crate::clock::boottime;
use crate::evidence::{EvidenceError, Gate, MAX_PAYLOAD};
use powerpole_chain::Kind;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::io;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::sync::watch;

/// What reaches the session's thread.
#[derive(Debug)]
pub(super) enum Event {
    /// From outside; `None` when nothing will come any more.
    Signal(Option<Signal>),
    /// The evidence's gate has moved.
    Gate,
    /// The shell is gone.
    Exited(io::Result<ExitStatus>),
}

/// Puts events before the session's thread and wakes it.
pub(super) struct Post {
    events: Sender<Event>,
    wake: OwnedFd,
}

impl Post {
    /// Posts one; a thread that has ended takes none.
    pub(super) fn send(&self, event: Event) {
        // The event is there before the thread is woken for it.
        let _ = self.events.send(event);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// First byte of an input record: the bytes follow.
pub(crate) const INPUT_SHOWN: u8 = 0;
/// First byte of an input record: their number follows, as a u32.
pub(crate) const INPUT_HIDDEN: u8 = 1;

/// The kernel hands over at most this much of a terminal's output at once; a full read means that more is waiting.
const TERMINAL_READ: usize = 4095;
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Drop for Post {
    /// Whoever posted is gone: the session is too.
    fn drop(&mut self) {
        self.send(Event::Signal(None));
    }
}

/// Two terminals and what is on its way between them.
pub(super) struct Wire {
    at: Terminals,
    gate: watch::Receiver<Gate>,
    events: Receiver<Event>,
    wake: OwnedFd,
    to_screen: Pending,
    to_shell: Pending,
    /// The shell's end reports an error; nothing more is read from it.
    hung_up: bool,
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

impl Wire {
    /// Takes two terminals, and says where events for them go.
    ///
    /// # Errors
    /// When the kernel has no descriptor left.
    pub(super) fn new(at: Terminals) -> io::Result<(Self, Post)> {
        set_nonblocking(&at.typed)?;
        set_nonblocking(&at.screen)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (sender, events) = channel();
        let post = Post {
            events: sender,
            wake: wake.try_clone()?,
        };
        let wire = Self {
            gate: at.recorder.gate(),
            events,
            wake,
            at,
            to_screen: Pending::new(),
            to_shell: Pending::new(),
            hung_up: false,
        };
        Ok((wire, post))
    }

    /// Gives the terminals back; what waits for the operator's is lost, and was recorded.
    pub(super) fn release(self) -> Terminals {
        self.at
    }

    /// Relays until the session ends.
    pub(super) fn run(&mut self) -> Ending {
        loop {
            match self.step() {
                Ok(None) => {}
                Ok(Some(ending)) | Err(ending) => return ending,
            }
        }
    }

    /// Shows a last text, if the terminal takes it within two seconds.
    pub(super) fn say(&mut self, text: &str) {
        if self.warn(text).is_ok() {
            let _ = self.flush_screen(LAST_WORDS);
        }
    }

    fn step(&mut self) -> Result<Option<Ending>, Ending> {
        let open = *self.gate.borrow() == Gate::Open;
        let (screen_waits, shell_waits) = (!self.to_screen.is_empty(), !self.to_shell.is_empty());
        let mut from_shell = PollFlags::empty();
        from_shell.set(PollFlags::IN, open && !screen_waits && !self.hung_up);
        from_shell.set(PollFlags::OUT, shell_waits);
        let when = |flag, condition: bool| {
            if condition { flag } else { PollFlags::empty() }
        };
        let from_operator = when(PollFlags::IN, open && !shell_waits);
        let to_operator = when(PollFlags::OUT, screen_waits);
        let mut ready = [
            PollFd::new(&self.wake, PollFlags::IN),
            self.wanted(&self.at.typed, from_operator),
            self.wanted(&self.at.pty.master, from_shell),
            self.wanted(&self.at.screen, to_operator),
        ];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(None),
            Err(e) => return Err(Ending::Broken(e.into())),
        }
        let [woken, typed, master, screen] = ready.map(|fd| !fd.revents().is_empty());
        // In this order: what comes from outside first, and typing before output, so that Ctrl-C is heard while
        // output floods. One thing a turn; what is not done stays ready.
        if woken {
            return self.take_events();
        }
        if screen && screen_waits {
            return self.write_screen().map(|()| None);
        }
        if master && shell_waits {
            self.write_shell();
        }
        if typed && open && !shell_waits {
            return self.take_typed();
        }
        if master && from_shell.contains(PollFlags::IN) {
            return self.take_output();
        }
        Ok(None)
    }

    /// A descriptor of which nothing is wanted would still report its hang-up, again and again: the wake stands in.
    fn wanted<'a>(&'a self, fd: &'a OwnedFd, flags: PollFlags) -> PollFd<'a> {
        if flags.is_empty() {
            PollFd::new(&self.wake, PollFlags::IN)
        } else {
            PollFd::new(fd, flags)
        }
    }

    fn take_events(&mut self) -> Result<Option<Ending>, Ending> {
        // Cleared before the events are taken: one that comes in between wakes again.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        while let Ok(event) = self.events.try_recv() {
            let ending = match event {
                Event::Signal(signal) => self.take_signal(signal)?,
                Event::Gate => self.follow_gate()?,
                Event::Exited(status) => {
                    self.drain()?;
                    Some(status.map(Ending::Exited).map_err(Ending::Broken)?)
                }
            };
            if ending.is_some() {
                return Ok(ending);
            }
        }
        Ok(None)
    }

    fn take_typed(&mut self) -> Result<Option<Ending>, Ending> {
        match read_typed(&self.at.typed, &mut self.to_shell.buffer) {
            Ok(0) => Ok(Some(Ending::HungUp)),
            Ok(length) => self.hand_on(length).map(|()| None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(hang_up(e)),
        }
    }

    fn take_output(&mut self) -> Result<Option<Ending>, Ending> {
        match read_output(&self.at.pty.master, &mut self.to_screen.buffer) {
            Ok(0) => Ok(None),
            Ok(length) => self.show(length).map(|()| None),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(_) => {
                // The shell is on its way out, or has left its terminal behind.
                self.hung_up = true;
                Ok(None)
            }
        }
    }

    fn write_screen(&mut self) -> Result<(), Ending> {
        match self.to_screen.write(&self.at.screen) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(hang_up(e)),
            _ => Ok(()),
        }
    }

    fn write_shell(&mut self) {
        match self.to_shell.write(&self.at.pty.master) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // The shell's end may be hung up while the shell is still on its way out.
            Err(_) => self.to_shell.set(0, 0),
            Ok(()) => {}
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
        // Two moves may have been posted before the first was looked at.
        if !self.gate.has_changed().unwrap_or(true) {
            return Ok(None);
        }
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
        let size = Size::of(&self.at.screen);
        if size == self.at.size {
            return Ok(());
        }
        self.record(Kind::Resize, &size.payload())?;
        self.at.size = size;
        self.at.pty.resize(size).map_err(Ending::Broken)
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
        self.at
            .recorder
            .record(Kind::Output, self.at.session, bytes)
            .map_err(Ending::Unrecorded)?;
        self.at.moved.output += length as u64;
        self.to_screen.set(0, length);
        // Most terminals take it at once; what they do not take waits.
        self.write_screen()
    }

    /// Keeps what was typed, or how much of it, and then hands it to the shell. The buffer's first byte is left
    /// free by [`read_typed`] for the record's form.
    fn hand_on(&mut self, length: usize) -> Result<(), Ending> {
        let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let hidden = [INPUT_HIDDEN, a, b, c, d];
        let typed = match self.at.pty.typing() {
            Typing::Shown => self.to_shell.buffer.get(..=length).unwrap_or_default(),
            Typing::Hidden => &hidden,
        };
        self.at
            .recorder
            .record(Kind::Input, self.at.session, typed)
            .map_err(Ending::Unrecorded)?;
        self.at.moved.input += length as u64;
        self.to_shell.set(1, length + 1);
        self.write_shell();
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
    fn drain(&mut self) -> Result<(), Ending> {
        let until = boottime().plus(LAST_WORDS);
        loop {
            let left = until.since(boottime());
            self.flush_screen(left).map_err(hang_up)?;
            if !self.to_screen.is_empty() || left.is_zero() {
                return Ok(());
            }
            match read_now(&self.at.pty.master, &mut self.to_screen.buffer) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(length) => self.show(length)?,
            }
        }
    }

    /// Writes what waits for the operator's terminal, for at most this long.
    fn flush_screen(&mut self, limit: Duration) -> io::Result<()> {
        let until = boottime().plus(limit);
        loop {
            match self.to_screen.write(&self.at.screen) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let left = until.since(boottime());
            if left.is_zero() {
                return Ok(());
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let _ = poll(
                &mut [PollFd::new(&self.at.screen, PollFlags::OUT)],
                Some(&timeout),
            );
        }
    }

    fn record(&self, kind: Kind, payload: &[u8]) -> Result<(), Ending> {
        self.at
            .recorder
            .record(kind, self.at.session, payload)
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
    // A whole number of reads: the rest of the room would cost a call for a few bytes.
    let limit = buffer.len().min(MAX_PAYLOAD) / TERMINAL_READ * TERMINAL_READ;
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
