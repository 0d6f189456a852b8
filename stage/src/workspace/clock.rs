//! The one place of the workspace that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch, UTC.
#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the workspace lives here"
)]
pub(crate) fn now_us() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// Whole seconds since the Unix epoch, UTC.
pub(crate) fn now_s() -> u64 {
    now_us() / 1_000_000
}
