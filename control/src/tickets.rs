//! Signs tickets: with a key that control holds, or through KMS with one that it can use and not read.
//!
//! Owns where a cluster's ticket key is. Trusts KMS to answer with the MAC of the message under that key; should it not,
//! the database refuses the ticket. Never: prints a key, or signs for a cluster with another's key.

use crate::approval::Approved;
use crate::service::{Service, StepError};
use powerpole_protocol::ticket::Ticket;
use std::net::Ipv4Addr;
use zeroize::Zeroizing;

/// Where a cluster's ticket key is.
pub enum TicketKey {
    /// Here, read from a file.
    Held(Zeroizing<Vec<u8>>),
    /// In KMS, under this id, ARN or alias.
    Kms(String),
}

impl TicketKey {
    /// Whether it is this very key.
    #[must_use]
    pub fn is(&self, key: &[u8]) -> bool {
        matches!(self, Self::Held(held) if held.as_slice() == key)
    }
}

/// Fills in the MAC of a ticket that opens an account on an approved request's cluster from this address. The same ticket gives the same MAC.
///
/// # Errors
/// When the cluster has no key, KMS refuses (the try fails) or does not answer (it is asked again at the next pass; the
/// SDK has asked three times by then).
pub async fn sign(
    service: &Service,
    item: Approved<'_>,
    ticket: Ticket,
    bastion: Ipv4Addr,
) -> Result<Ticket, StepError> {
    match service.keys.tickets.get(&item.cluster) {
        None => Err(StepError::Document("ticket without a key")),
        Some(TicketKey::Held(key)) => Ok(ticket.signed(key, bastion)),
        Some(TicketKey::Kms(name)) => {
            let mac = service.cloud.mac(name, &ticket.mac_input(bastion)).await?;
            Ok(ticket.with_mac(&mac))
        }
    }
}
