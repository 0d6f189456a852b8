//! The agent's only unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime.
///
/// # Errors
/// When the descriptor cannot be polled.
pub(crate) fn async_fd(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `register` asks that the descriptor stays open and the same while it is registered. An `OwnedFd`
    // answers `as_raw_fd` with the one descriptor that it owns and closes it only when it is dropped, and
    // `AsyncFd` gives out shared references alone, through which an `OwnedFd` can be neither closed nor replaced.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}
