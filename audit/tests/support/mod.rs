//! The binary under test.

use std::path::{Path, PathBuf};

/// In the folder that POWERPOLE_TEST_BIN names, or cargo's own, which another clone's build may take away meanwhile.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("POWERPOLE_TEST_BIN").map_or_else(
        || env!("CARGO_BIN_EXE_powerpole").into(),
        |folder| Path::new(&folder).join("powerpole"),
    )
}
