//! The recorder beside other recorders: how much slower output and typing get, what it costs, what is lost.
//!
//! `make bench` runs it with all that it compares to. It prints a table in markdown and asserts no time: what counts are
//! ratios of medians of rounds in which all take turns.
//!
//! The agent is a binary, and its code stays private to it. This program therefore compiles the same files a second
//! time, as modules, instead of making the agent a library with an interface that nothing but a benchmark would use:
//! what is measured is the relay, the spool, the sealer and the shipper to the letter, between a pseudo-terminal and a
//! shell as at a login. The one part that is not the agent's is the service at the other end, see [`cloud`].
//!
//! It is an example and no bench target, because cargo builds bench targets and all that they need with other settings
//! than the release that ships (panics unwind).
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub
)]

// The folder stands for the agent's `src`; nothing of it but what is declared here is compiled.
#[path = "../../src"]
#[allow(dead_code, reason = "most of the agent is not measured here")]
mod agent {
    pub(crate) mod aws;
    pub(crate) mod clock;
    pub(crate) mod config;
    pub(crate) mod evidence;
    pub(crate) mod failure;
    pub(crate) mod mounts;
    pub(crate) mod session;
}
// The agent's files call each other by their places in the agent's crate.
use agent::{aws, clock, config, evidence, failure, mounts};

mod candidates;
mod cloud;
mod measures;
mod programs;
mod table;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mode = (!arguments.is_empty()).then(|| arguments.remove(0));
    let rest = arguments;
    match mode.as_ref().and_then(|mode| mode.to_str()) {
        Some("floor") => programs::floor(&rest),
        Some("recorder") => programs::recorder(&rest),
        Some("echo") => programs::echo(),
        Some("export") => programs::export(&rest),
        Some("time") => programs::time(&rest),
        None | Some("compare") => table::compare(&rest),
        Some(other) => {
            eprintln!(
                "{other}? compare [rounds=N] [bytes=MIB] [only=NAME,…], or one of the programs it starts"
            );
            ExitCode::from(64)
        }
    }
}
