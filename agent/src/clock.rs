//! The agent's only clocks: UTC for people and evidence, CLOCK_BOOTTIME for deadlines.
//!
//! CLOCK_BOOTTIME never jumps and counts suspended time, so neither a changed wall clock nor a paused
//! instance lengthens a window.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A point on CLOCK_BOOTTIME, as time since the machine was booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BootTime(pub(crate) Duration);

impl BootTime {
    /// Time from `earlier` to this point; zero when `earlier` is later.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The point that lies `span` later.
    pub(crate) fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// Now, on CLOCK_BOOTTIME.
pub(crate) fn boottime() -> BootTime {
    // The kernel refuses only clocks that it does not know; CLOCK_BOOTTIME is there since 2.6.39.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    BootTime(now)
}

/// Now, in UTC.
#[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
pub(crate) fn utc() -> Timestamp {
    Timestamp::now()
}
