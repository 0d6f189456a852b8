//! Files that the owner names.

use powerpole_protocol::secret::Secret;
use std::path::PathBuf;
use zeroize::Zeroizing;

use super::error::CommandError;

/// A password.
pub(super) fn first_line_of(path: &PathBuf) -> Result<Secret, CommandError> {
    let all = Zeroizing::new(text(path)?);
    Ok(Secret::new(
        all.lines().next().unwrap_or_default().to_owned(),
    ))
}

/// A file of text.
pub(super) fn text(path: &PathBuf) -> Result<String, CommandError> {
    std::fs::read_to_string(path).map_err(|source| CommandError::File {
        path: path.clone(),
        source,
    })
}

/// A file of bytes.
pub(super) fn read(path: &PathBuf) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|source| CommandError::File {
        path: path.clone(),
        source,
    })
}
