//! What control and a bastion say to each other, and the names both write into the ledger.
//!
//! Owns: identifiers, access levels, the boot document, the handoff, the grantor's secret, the ticket, the callbacks,
//! the envelope that authenticates them, and which characters of a text are not seen. Trusts nothing that it parses.
//! Never does I/O and never reads a clock.

pub mod boot;
pub mod callback;
pub mod envelope;
pub mod grantor;
pub mod handoff;
pub mod id;
pub mod ledger;
pub mod level;
pub mod sealed;
pub mod secret;
pub mod text;
pub mod ticket;
