//! The one place where the hub and the instance host read the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the Unix epoch, UTC.
#[expect(clippy::disallowed_methods, reason = "the clock lives here")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// RFC 3339, UTC, whole milliseconds at most.
#[expect(clippy::disallowed_methods, reason = "the clock lives here")]
pub(crate) fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond)
        .unwrap_or(now)
        .to_string()
}
