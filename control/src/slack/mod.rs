//! Slack: its signature, what it sends, what it is shown, and the one client of its Web API.

pub mod client;
pub mod inbound;
mod spell;
pub mod verify;
pub mod view;
