//! Who says where evidence lies: the shipped command against moto (`POWERPOLE_TEST_AWS`), with a ledger that somebody
//! edited, a bastion that nobody launched, and rolls that name another end.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod account;
mod beside;
mod place;
mod rolls;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
