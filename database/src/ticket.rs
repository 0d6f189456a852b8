//! The ticket as the procedures take it. Its type and its MAC are `powerpole_protocol::ticket`; the SQL side
//! is `powerpole.check_ticket`, which builds the same bytes from its arguments and the address that the server saw.
//!
//! Nine lines, each ended by one LF (0x0A), ASCII only; no field can hold an LF, so two different tickets
//! never share a spelling:
//!
//! ```text
//! powerpole-ticket-v2 | powerpole-extension-v2
//! <key id>       [0-9a-z-]{1,32}
//! <request>      req- and 26 of [0-9a-z]
//! <account>      [0-9a-z._-]{1,32}
//! <address>      the bastion's, IPv4, dotted decimal; no argument: the server takes it from USER()
//! <level>        READ | WRITE | ADMIN
//! <schemas>      [0-9A-Za-z_]{1,64}, joined by commas, in the order in which they are granted
//! <not after>    unix seconds, decimal, no sign, no leading zero
//! <nonce>        32 lower-case hexadecimal digits
//! ```

use powerpole_protocol::ticket::Ticket;

/// Bytes of a ticket key.
pub const KEY_LEN: usize = 32;

/// The schemas of a ticket as one argument.
pub fn schema_list(ticket: &Ticket) -> String {
    let names: Vec<&str> = ticket.schemas.iter().map(|name| name.as_str()).collect();
    names.join(",")
}

/// What HMAC hashes before the message and before the inner digest: the key padded to 64 bytes, each
/// XORed with 0x36 and 0x5c. The database keeps these two blocks in place of the key.
pub(crate) fn hmac_blocks(key: &[u8; KEY_LEN]) -> ([u8; 64], [u8; 64]) {
    let mut padded = [0u8; 64];
    for (to, from) in padded.iter_mut().zip(key) {
        *to = *from;
    }
    (padded.map(|b| b ^ 0x36), padded.map(|b| b ^ 0x5c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_protocol::level::AccessLevel;
    use sha2::{Digest, Sha256};
    use std::net::Ipv4Addr;

    const BASTION: Ipv4Addr = Ipv4Addr::new(10, 77, 64, 5);

    fn example() -> Ticket {
        Ticket {
            key_id: "k1".into(),
            request: "req-01jd8z3v5k9q4m2n7p6r8s1t0w".parse().unwrap(),
            account: "alice".parse().unwrap(),
            level: AccessLevel::Write,
            schemas: vec!["app_1".parse().unwrap(), "billing".parse().unwrap()],
            not_after: 1_800_000_000,
            nonce: "30313233343536373839616263646566".into(),
            mac: String::new(),
        }
    }

    /// The vectors of docs/database.md, made by `openssl dgst -sha256 -mac HMAC`.
    #[test]
    fn the_spelling_and_its_mac_are_frozen() {
        assert_eq!(
            String::from_utf8(example().mac_input(BASTION)).unwrap(),
            "powerpole-ticket-v2\nk1\nreq-01jd8z3v5k9q4m2n7p6r8s1t0w\nalice\n10.77.64.5\nWRITE\n\
             app_1,billing\n1800000000\n30313233343536373839616263646566\n"
        );
        let (open, extend) = include_str!("../tests/ticket-v2.mac")
            .trim()
            .split_once('\n')
            .unwrap();
        assert_eq!(example().signed(&[7; 32], BASTION).mac, open);
        assert_eq!(example().signed_extension(&[7; 32], BASTION).mac, extend);
    }

    #[test]
    fn the_stored_blocks_give_the_same_mac_as_the_key() {
        let (inner, outer) = hmac_blocks(&[7; 32]);
        let digest = Sha256::new()
            .chain_update(inner)
            .chain_update(example().mac_input(BASTION))
            .finalize();
        let mac = Sha256::new()
            .chain_update(outer)
            .chain_update(digest)
            .finalize();
        assert_eq!(
            example().signed(&[7; 32], BASTION).mac,
            data_encoding::HEXLOWER.encode(&mac)
        );
    }
}
