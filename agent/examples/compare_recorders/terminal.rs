//! The operator's side of a terminal: starts a program on it, types, and sees.

use crate::agent::session::pty::{Pty, Size};
use nix::sys::resource::{UsageWho, getrusage};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program on a terminal of its own.
pub struct Running {
    screen: File,
    child: Child,
    user_before: Duration,
}

/// User time of all children that were waited for, and of theirs.
fn user_time() -> Duration {
    let user = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().user_time();
    let micros = u64::try_from(user.tv_sec() * 1_000_000 + user.tv_usec()).unwrap();
    Duration::from_micros(micros)
}

impl Running {
    pub fn start(argv: &[String], environment: &[(String, String)]) -> Self {
        let terminal = Pty::open(Size {
            columns: 80,
            rows: 24,
        })
        .unwrap();
        let flags = rustix::fs::fcntl_getfl(&terminal.master).unwrap();
        rustix::fs::fcntl_setfl(&terminal.master, flags - OFlags::NONBLOCK).unwrap();
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        let user_before = user_time();
        // Without `--wait` and from a child that leads no group, setsid becomes the program: its pid is the program's.
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(argv)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .env("LC_ALL", "C.UTF-8")
            .envs(environment.iter().cloned())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        Self {
            screen: File::from(terminal.master),
            child,
            user_before,
        }
    }

    /// What the screen shows next; empty when nothing will come any more.
    pub fn see<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let length = self.screen.read(buffer).unwrap_or(0);
        &buffer[..length]
    }

    /// Waits until the screen has shown this.
    pub fn wait_for(&mut self, text: &[u8]) {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(text.len()).any(|part| part == text) {
            let shown = self.see(&mut buffer);
            assert!(
                !shown.is_empty(),
                "the program ended and had shown {:?}",
                String::from_utf8_lossy(&seen)
            );
            seen.extend_from_slice(shown);
        }
    }

    /// Types one byte; returns how long it took until that byte was shown.
    pub fn round_trip(&mut self, byte: u8) -> Duration {
        let mut buffer = [0; 4096];
        let start = Instant::now();
        self.screen.write_all(&[byte]).unwrap();
        loop {
            let shown = self.see(&mut buffer);
            assert!(!shown.is_empty(), "the program ended");
            if shown.contains(&byte) {
                return start.elapsed();
            }
        }
    }

    pub fn type_byte(&mut self, byte: u8) {
        let _ = self.screen.write_all(&[byte]);
    }

    /// Everything that the screen still shows until the other side is closed, or silent for two seconds.
    pub fn rest(&mut self, seen: &mut Vec<u8>) {
        let mut buffer = vec![0; 64 << 10];
        let patience = Timespec {
            tv_sec: 2,
            tv_nsec: 0,
        };
        while poll(
            &mut [PollFd::new(&self.screen, PollFlags::IN)],
            Some(&patience),
        )
        .is_ok_and(|ready| ready > 0)
        {
            let shown = self.see(&mut buffer);
            if shown.is_empty() {
                return;
            }
            seen.extend_from_slice(shown);
        }
    }

    /// SIGKILL to the program that was started, and to nothing else.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits for the end; returns the user time of the program and all that it waited for.
    pub fn end(mut self) -> Duration {
        // What is still shown must be taken, or the program waits for ever.
        let mut rest = Vec::new();
        self.rest(&mut rest);
        drop(self.screen);
        let _ = self.child.wait();
        user_time().saturating_sub(self.user_before)
    }
}
