//! PowerPole's control: the thin service between Slack, the ledger and the bastions.
//!
//! Owns policy, ledger, launches and messages. Trusts the ledger's conditional updates, Slack's signature
//! and `users.info`, and a bastion's messages as far as their signatures go. Opens no database connection,
//! reads no grantor's credential, and keeps no password.

pub mod approval;
pub mod aws;
pub mod bastion_api;
pub mod clock;
pub mod config;
pub mod furthest;
pub mod hardening;
pub mod instances;
pub mod keys;
pub mod launcher;
pub mod ledger;
pub mod listener;
pub mod policy;
pub mod request;
pub mod roll;
pub mod run;
pub mod seal;
pub mod service;
pub mod slack;
pub mod slack_api;
pub mod theft;
pub mod tick;
pub mod tickets;
