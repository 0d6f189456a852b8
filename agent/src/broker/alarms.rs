//! What somebody has to look at, until control has heard of it.
//!
//! Each is in the chain too, but nobody reads that while the bastion lives, and the agent's log does not outlive the machine:
//! heartbeats and the last word bear these, and control alarms.

use powerpole_protocol::callback::Alarm;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often each thing happened that control does not know of yet, by its code.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Mutex<BTreeMap<&'static str, u64>>);

impl Alarms {
    /// Takes note of one more.
    pub(crate) fn raise(&self, code: &'static str) {
        let mut untold = self.untold();
        let count = untold.entry(code).or_default();
        *count = count.saturating_add(1);
    }

    /// What control has to hear. It stays until [`Alarms::heard`] takes it off, so that a heartbeat that was lost loses none.
    pub(crate) fn waiting(&self) -> Vec<Alarm> {
        let waiting = self.untold();
        let alarm = |(code, count): (&&'static str, &u64)| Alarm {
            code: (*code).to_owned(),
            count: *count,
        };
        waiting.iter().map(alarm).collect()
    }

    /// Control has answered what bore `alarms`. What happened since then waits on.
    pub(crate) fn heard(&self, alarms: &[Alarm]) {
        let mut untold = self.untold();
        for alarm in alarms {
            if let Some(count) = untold.get_mut(alarm.code.as_str()) {
                *count = count.saturating_sub(alarm.count);
            }
        }
        untold.retain(|_, count| *count > 0);
    }

    fn untold(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(code: &str, count: u64) -> Alarm {
        Alarm {
            code: code.to_owned(),
            count,
        }
    }

    #[test]
    fn what_was_not_heard_is_told_again_with_what_came_since() {
        let alarms = Alarms::default();
        assert_eq!(alarms.waiting(), []);
        alarms.raise("other_person");
        let lost = alarms.waiting();
        assert_eq!(lost, [alarm("other_person", 1)]);
        alarms.raise("other_person");
        alarms.raise("port_session");
        let both = [alarm("other_person", 2), alarm("port_session", 1)];
        assert_eq!(alarms.waiting(), both);
    }

    #[test]
    fn what_was_heard_is_not_told_again_and_what_came_meanwhile_is() {
        let alarms = Alarms::default();
        alarms.raise("other_person");
        let told = alarms.waiting();
        alarms.raise("other_person");
        alarms.heard(&told);
        assert_eq!(alarms.waiting(), [alarm("other_person", 1)]);
        alarms.heard(&told);
        assert_eq!(alarms.waiting(), []);
    }
}
