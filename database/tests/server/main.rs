//! The installation on real servers. Where none is named, every test says SKIPPED.
#![allow(missing_docs)]

mod expiry;
mod injection;
mod levels;
#[allow(unreachable_pub)]
mod support;
mod tickets;
