//! The ticket: control's single-use permission, checked by the database itself.
//!
//! Without one the grantor's credential opens nothing. The MAC is HMAC-SHA256 over [`Ticket::mac_input`] with
//! a key that only control's signer and the definer's schema hold. It covers the bastion's private address, which is
//! no field: control has it from EC2 and the database from the connection, so that a stolen ticket opens nothing
//! from another address, and no caller has a say in it. A ticket to extend an open account has the
//! same fields under another first line, so neither kind stands in for the other.
//!
//! Keys are 32 bytes, one a cluster: one key on two clusters would let a ticket for one be spent on the other.

use crate::id::{AccountName, RequestId, SchemaName};
use crate::level::AccessLevel;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;
use std::net::Ipv4Addr;

/// What a ticket permits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// Which of the cluster's ticket keys made the MAC.
    pub key_id: String,
    /// The request.
    pub request: RequestId,
    /// The account's user name; its host is the address that the server sees.
    pub account: AccountName,
    /// The level.
    pub level: AccessLevel,
    /// The schemas, in the order that was signed.
    pub schemas: Vec<SchemaName>,
    /// No account lives past this, in seconds since 1970.
    pub not_after: u64,
    /// Used once: 32 hexadecimal digits.
    pub nonce: String,
    /// HMAC-SHA256, 64 hexadecimal digits.
    pub mac: String,
}

/// Without what makes it worth having.
impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("request", &self.request)
            .field("account", &self.account)
            .field("level", &self.level)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Ticket {
    /// The bytes under the MAC: one line a field, in this order, each ended by a line feed.
    /// No field can hold a line feed or, but for the schemas' commas, its neighbour's separator. `bastion` is the address
    /// that the server will see.
    #[must_use]
    pub fn mac_input(&self, bastion: Ipv4Addr) -> Vec<u8> {
        self.spelled("powerpole-ticket-v2", bastion)
    }

    /// The bytes under the MAC of a ticket that extends.
    #[must_use]
    pub fn extension_mac_input(&self, bastion: Ipv4Addr) -> Vec<u8> {
        self.spelled("powerpole-extension-v2", bastion)
    }

    fn spelled(&self, first_line: &str, bastion: Ipv4Addr) -> Vec<u8> {
        let schemas: Vec<&str> = self.schemas.iter().map(SchemaName::as_str).collect();
        format!(
            "{first_line}\n{}\n{}\n{}\n{bastion}\n{}\n{}\n{}\n{}\n",
            self.key_id,
            self.request,
            self.account,
            self.level,
            schemas.join(","),
            self.not_after,
            self.nonce
        )
        .into_bytes()
    }

    /// Fills in the MAC of a ticket that opens.
    #[must_use]
    pub fn signed(mut self, key: &[u8], bastion: Ipv4Addr) -> Self {
        self.mac = hmac_hex(key, &self.mac_input(bastion));
        self
    }

    /// Takes a MAC that was made elsewhere over [`Ticket::mac_input`] or [`Ticket::extension_mac_input`].
    #[must_use]
    pub fn with_mac(mut self, mac: &[u8; 32]) -> Self {
        self.mac = data_encoding::HEXLOWER.encode(mac);
        self
    }

    /// Fills in the MAC of a ticket that extends.
    #[must_use]
    pub fn signed_extension(mut self, key: &[u8], bastion: Ipv4Addr) -> Self {
        self.mac = hmac_hex(key, &self.extension_mac_input(bastion));
        self
    }
}

fn hmac_hex(key: &[u8], input: &[u8]) -> String {
    // HMAC takes keys of any length; the error type is for MACs that do not.
    Hmac::<Sha256>::new_from_slice(key).map_or_else(
        |_| String::new(),
        |mut mac| {
            mac.update(input);
            data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
        },
    )
}
