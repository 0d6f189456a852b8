//! `powerpole database install|check|uninstall` as the owner of a cluster runs it, on real servers: those that
//! POWERPOLE_TEST_MYSQL and POWERPOLE_TEST_MARIADB name, their CA in POWERPOLE_TEST_CA.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod faults;
mod installing;
mod left_behind;
mod owner;
#[path = "../support/mod.rs"]
mod support;
