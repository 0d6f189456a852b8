//! The installation on real servers. Where none is named, every test says SKIPPED.
#![allow(missing_docs)]
// The lints' exceptions for tests do not reach the functions that tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod account_lock;
mod expiry;
mod fuzz;
mod injection;
mod latecomers;
mod levels;
mod replica;
#[allow(unreachable_pub)]
mod support;
mod thief;
mod tickets;
mod window;
