//! Control against real HTTP: moto as AWS, a recording stand-in as Slack's Web API, the shipped binary.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod failures;
mod fixture;
mod forgeries;
mod launches;
mod ledger;
mod members;
mod path;
mod process;
mod races;
mod rolls;
mod seals;
mod slow;
mod tickets;
mod tries;
