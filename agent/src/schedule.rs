//! When to warn, renew, report and end: pure decisions on CLOCK_BOOTTIME.

use crate::clock::BootTime;
use powerpole_protocol::handoff::BastionTimes;
use std::time::Duration;

/// What is due now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// The window is over.
    Deadline,
    /// The operator is to be told that this much is left.
    Warning(Duration),
    /// The account's lease is to be renewed.
    RenewLease,
    /// Control is to hear of us.
    Heartbeat,
}

/// The times of one grant.
#[derive(Debug)]
pub(crate) struct Schedule {
    deadline: BootTime,
    /// Not yet given, longest first.
    warnings: Vec<Duration>,
    renew: Repeat,
    heartbeat: Repeat,
}

#[derive(Debug)]
struct Repeat {
    every: Duration,
    next: BootTime,
}

impl Repeat {
    fn take(&mut self, now: BootTime) -> bool {
        let due = now >= self.next;
        if due {
            // From now, not from when it was due: a late pass is not made up for by a burst.
            self.next = now.plus(self.every);
        }
        due
    }
}

impl Schedule {
    /// The schedule of a window that ends `left` from `now`. Warnings that would come later than the window
    /// is long are not given.
    pub(crate) fn new(now: BootTime, left: Duration, times: &BastionTimes) -> Self {
        let mut warnings: Vec<Duration> = times
            .warn_before_s
            .iter()
            .map(|s| Duration::from_secs(*s))
            .filter(|w| *w < left)
            .collect();
        warnings.sort_unstable_by(|a, b| b.cmp(a));
        let every = |s: u64| Duration::from_secs(s.max(1));
        Self {
            deadline: now.plus(left),
            warnings,
            renew: Repeat {
                every: every(times.renew_lease_s),
                next: now,
            },
            heartbeat: Repeat {
                every: every(times.heartbeat_s),
                next: now,
            },
        }
    }

    /// What is due at `now`, most urgent first; each is answered once.
    pub(crate) fn due(&mut self, now: BootTime) -> Vec<Due> {
        if now >= self.deadline {
            return vec![Due::Deadline];
        }
        let left = self.left(now);
        let mut due = Vec::new();
        let passed = self
            .warnings
            .iter()
            .take_while(|warning| **warning >= left)
            .count();
        if let Some(warning) = self.warnings.drain(..passed).next_back() {
            due.push(Due::Warning(warning));
        }
        if self.renew.take(now) {
            due.push(Due::RenewLease);
        }
        if self.heartbeat.take(now) {
            due.push(Due::Heartbeat);
        }
        due
    }

    /// How much of the window is left.
    pub(crate) fn left(&self, now: BootTime) -> Duration {
        self.deadline.since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime(Duration::from_secs(seconds))
    }

    fn times() -> BastionTimes {
        BastionTimes {
            warn_before_s: vec![60, 600, 300],
            renew_lease_s: 15,
            heartbeat_s: 30,
            freeze_after_s: 30,
            end_after_s: 120,
        }
    }

    #[test]
    fn warnings_come_once_each_and_the_deadline_comes_alone() {
        let mut schedule = Schedule::new(at(100), Duration::from_secs(1000), &times());
        assert_eq!(schedule.due(at(100)), [Due::RenewLease, Due::Heartbeat]);
        assert_eq!(schedule.due(at(101)), []);
        assert_eq!(
            schedule.due(at(500))[0],
            Due::Warning(Duration::from_secs(600))
        );
        assert!(
            !schedule
                .due(at(520))
                .contains(&Due::Warning(Duration::from_secs(600)))
        );
        // A pass that slept through two warnings gives the nearer one only.
        assert_eq!(
            schedule.due(at(1060))[0],
            Due::Warning(Duration::from_secs(60))
        );
        assert_eq!(schedule.due(at(1100)), [Due::Deadline]);
        assert_eq!(schedule.due(at(2000)), [Due::Deadline]);
    }

    #[test]
    fn a_short_window_is_not_warned_of_what_it_never_had() {
        let mut schedule = Schedule::new(at(0), Duration::from_secs(90), &times());
        assert_eq!(schedule.due(at(1)), [Due::RenewLease, Due::Heartbeat]);
        assert_eq!(
            schedule.due(at(31))[0],
            Due::Warning(Duration::from_secs(60))
        );
    }

    #[test]
    fn late_passes_are_not_made_up_for() {
        let mut schedule = Schedule::new(at(0), Duration::from_secs(10_000), &times());
        schedule.due(at(0));
        assert_eq!(schedule.due(at(100)), [Due::RenewLease, Due::Heartbeat]);
        assert_eq!(schedule.due(at(101)), []);
    }
}
