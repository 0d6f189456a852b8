//! The evidence's time: the wall clock at the start plus what a clock that never jumps has counted since.

/// Where time comes from.
pub(crate) trait Clock: Send + Sync + 'static {
    /// UTC, in microseconds since the epoch.
    fn utc_us(&self) -> u64;
    /// Microseconds on a clock that never jumps and counts suspended time.
    fn monotonic_us(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn utc_us(&self) -> u64 {
        u64::try_from(crate::clock::utc().as_microsecond()).unwrap_or(0)
    }
    fn monotonic_us(&self) -> u64 {
        u64::try_from(crate::clock::boottime().0.as_micros()).unwrap_or(u64::MAX)
    }
}

/// Difference between wall clock and recorded time above which a jump is recorded.
const JUMP_US: u64 = 500_000;

/// Turns clock readings into record times.
#[derive(Debug)]
pub(crate) struct Timeline {
    start_utc_us: u64,
    start_monotonic_us: u64,
    last_us: u64,
    known_offset_us: i64,
}

impl Timeline {
    /// Starts now.
    pub(crate) fn start(clock: &dyn Clock) -> Self {
        let start_utc_us = clock.utc_us();
        Self {
            start_utc_us,
            start_monotonic_us: clock.monotonic_us(),
            last_us: start_utc_us,
            known_offset_us: 0,
        }
    }

    /// Now, never before an earlier answer.
    pub(crate) fn now_us(&mut self, clock: &dyn Clock) -> u64 {
        let elapsed = clock.monotonic_us().saturating_sub(self.start_monotonic_us);
        self.last_us = self.last_us.max(self.start_utc_us.saturating_add(elapsed));
        self.last_us
    }

    /// By how many microseconds the wall clock has jumped since this was last asked, if it has.
    pub(crate) fn jump_us(&mut self, clock: &dyn Clock) -> Option<i64> {
        let expected = self.now_us(clock);
        let offset = i64::try_from(clock.utc_us())
            .ok()?
            .checked_sub(i64::try_from(expected).ok()?)?;
        let jump = offset.checked_sub(self.known_offset_us)?;
        (jump.unsigned_abs() > JUMP_US).then(|| {
            self.known_offset_us = offset;
            jump
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A clock that moves when told to.
    #[derive(Debug, Default)]
    pub(crate) struct ManualClock {
        pub(crate) utc: AtomicU64,
        pub(crate) monotonic: AtomicU64,
    }

    impl Clock for ManualClock {
        fn utc_us(&self) -> u64 {
            self.utc.load(Ordering::SeqCst)
        }
        fn monotonic_us(&self) -> u64 {
            self.monotonic.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn time_follows_the_monotonic_clock_and_a_jump_is_told_once() {
        let clock = ManualClock::default();
        clock.utc.store(1_000_000_000, Ordering::SeqCst);
        let mut timeline = Timeline::start(&clock);
        clock.utc.store(400_000_000, Ordering::SeqCst);
        clock.monotonic.store(5, Ordering::SeqCst);
        assert_eq!(timeline.now_us(&clock), 1_000_000_005);
        assert_eq!(timeline.jump_us(&clock), Some(-600_000_005));
        assert_eq!(timeline.jump_us(&clock), None);
    }
}
