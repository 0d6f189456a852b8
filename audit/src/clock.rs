//! The one place where the command reads a clock. Everywhere else time is an argument.

use jiff::Timestamp;

/// Now, in unix seconds.
#[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
pub(crate) fn now_s() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}
