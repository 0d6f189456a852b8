//! Access levels: how much a grant may do in its schemas. What each means on a server is data in `database/`.

use serde::{Deserialize, Serialize};
use std::fmt;

/// How much a grant may do, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessLevel {
    /// Read rows and view definitions.
    Read,
    /// Read, and change rows.
    Write,
    /// Write, and change tables.
    Admin,
}

impl AccessLevel {
    /// Every level, from least to most.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Admin];

    /// The level's spelling everywhere: in Slack, the ledger, the ticket and the registry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Admin => "ADMIN",
        }
    }

    /// Reads the spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

impl fmt::Display for AccessLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
