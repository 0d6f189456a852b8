//! Faults on request, and Slack's rate limit: what the Web API does to a caller who must survive it.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Messages that may come at once in one channel before the limit of one a second holds.
const BURST: u64 = 5;
/// One message a second and channel.
const INTERVAL_US: u64 = 1_000_000;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Answered `ok: false` with this code; nothing is done.
    Error {
        /// Slack's code.
        #[serde(default = "fatal")]
        error: String,
    },
    /// Answered late; it is done.
    Delay {
        /// Milliseconds.
        delay_ms: u64,
    },
    /// HTTP 429 with Retry-After; nothing is done.
    #[serde(rename = "429")]
    TooMany {
        /// Seconds.
        #[serde(default = "one")]
        retry_after_s: u64,
    },
    /// HTTP 500; nothing is done.
    #[serde(rename = "500")]
    Broken,
    /// The connection breaks; nothing is done.
    Drop,
    /// It is done, and then the connection breaks.
    ApplyThenFail,
}

fn fatal() -> String {
    "fatal_error".into()
}

fn one() -> u64 {
    1
}

/// A fault for the next so many calls of a method (`*` for any).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Planned {
    /// `chat.postMessage`, or `*`.
    pub(crate) method: String,
    /// How many calls it meets.
    #[serde(default = "one")]
    pub(crate) times: u64,
    /// What happens.
    #[serde(flatten)]
    pub(crate) fault: Fault,
}

/// The faults that are planned and the rate limit's books.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    planned: Vec<Planned>,
    rate_limited: bool,
    /// By channel: when the bucket would be full again.
    full_at_us: HashMap<String, u64>,
}

impl Faults {
    /// With or without Slack's rate limit.
    pub(crate) fn new(rate_limited: bool) -> Self {
        Self {
            rate_limited,
            ..Self::default()
        }
    }

    /// Adds one to the end of the queue.
    pub(crate) fn plan(&mut self, fault: Planned) {
        self.planned.push(fault);
    }

    /// Forgets all planned ones.
    pub(crate) fn clear(&mut self) {
        self.planned.clear();
    }

    /// What is still planned.
    pub(crate) fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// Switches the rate limit.
    pub(crate) fn limit_rate(&mut self, on: bool) {
        self.rate_limited = on;
    }

    /// The fault that meets this call, if one does. It is used up.
    #[must_use]
    pub(crate) fn take(&mut self, method: &str) -> Option<Fault> {
        let found = self.planned.iter_mut().find(|planned| {
            planned.times > 0 && (planned.method == method || planned.method == "*")
        })?;
        found.times -= 1;
        let fault = found.fault.clone();
        self.planned.retain(|planned| planned.times > 0);
        Some(fault)
    }

    /// Counts one message of a channel; `Some(seconds)` if it comes too soon.
    #[must_use]
    pub(crate) fn over_rate(&mut self, now_us: u64, channel: &str) -> Option<u64> {
        if !self.rate_limited {
            return None;
        }
        let full_at = self.full_at_us.entry(channel.into()).or_default();
        let debt = full_at.saturating_sub(now_us);
        if debt > (BURST - 1) * INTERVAL_US {
            return Some(
                (debt - (BURST - 1) * INTERVAL_US)
                    .div_ceil(1_000_000)
                    .max(1),
            );
        }
        *full_at = now_us.max(*full_at) + INTERVAL_US;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_the_named_method_so_many_times() {
        let mut faults = Faults::new(false);
        faults.plan(
            serde_json::from_str(r#"{"method":"views.open","times":2,"kind":"drop"}"#).unwrap(),
        );
        assert_eq!(faults.take("chat.postMessage"), None);
        assert_eq!(faults.take("views.open"), Some(Fault::Drop));
        assert_eq!(faults.take("views.open"), Some(Fault::Drop));
        assert_eq!(faults.take("views.open"), None);
    }

    #[test]
    fn every_kind_of_fault_can_be_written_down() {
        for (written, fault) in [
            (
                r#"{"method":"*","kind":"429","retry_after_s":7}"#,
                Fault::TooMany { retry_after_s: 7 },
            ),
            (
                r#"{"method":"*","kind":"error","error":"x"}"#,
                Fault::Error { error: "x".into() },
            ),
            (
                r#"{"method":"*","kind":"delay","delay_ms":5}"#,
                Fault::Delay { delay_ms: 5 },
            ),
            (
                r#"{"method":"*","kind":"apply-then-fail"}"#,
                Fault::ApplyThenFail,
            ),
            (r#"{"method":"*","kind":"500"}"#, Fault::Broken),
        ] {
            assert_eq!(
                serde_json::from_str::<Planned>(written).unwrap().fault,
                fault
            );
        }
    }

    #[test]
    fn a_burst_is_taken_and_then_one_a_second_in_each_channel() {
        let mut faults = Faults::new(true);
        for _ in 0..BURST {
            assert_eq!(faults.over_rate(0, "C1"), None);
        }
        assert_eq!(faults.over_rate(0, "C1"), Some(1));
        assert_eq!(faults.over_rate(0, "C2"), None);
        assert_eq!(faults.over_rate(INTERVAL_US, "C1"), None);
        assert_eq!(faults.over_rate(INTERVAL_US, "C1"), Some(1));
    }

    #[test]
    fn without_the_rate_limit_nothing_is_too_soon() {
        let mut faults = Faults::new(false);
        assert!((0..100).all(|_| faults.over_rate(0, "C1").is_none()));
    }
}
