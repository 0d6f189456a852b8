//! Ticket keys: added, replaced, ended.

use super::InstallError;
use crate::ticket::{KEY_LEN, hmac_blocks};

/// Adds a ticket key or replaces the one of that id. The statement is as secret as the key.
pub fn ticket_key_statement(key_id: &str, key: &[u8; KEY_LEN]) -> Result<String, InstallError> {
    check_key_id(key_id)?;
    let (inner, outer) = hmac_blocks(key);
    Ok(format!(
        "REPLACE INTO powerpole.ticket_keys (key_id, inner_block, outer_block) VALUES ('{key_id}', 0x{}, 0x{})",
        data_encoding::HEXLOWER.encode(&inner),
        data_encoding::HEXLOWER.encode(&outer),
    ))
}

/// Ends a key: its tickets open nothing from then on.
pub fn retire_key_statement(key_id: &str) -> Result<String, InstallError> {
    check_key_id(key_id)?;
    Ok(format!(
        "DELETE FROM powerpole.ticket_keys WHERE key_id = '{key_id}'"
    ))
}

fn check_key_id(key_id: &str) -> Result<(), InstallError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=32).contains(&key_id.len()) && key_id.bytes().all(plain) {
        Ok(())
    } else {
        Err(InstallError::KeyId(key_id.to_owned()))
    }
}
