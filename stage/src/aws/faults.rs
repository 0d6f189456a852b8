//! Faults on request: which calls shall fail, and how.
//!
//! A rule counts the calls that it matches; the first rule that fires decides. `apply_then_…` is the
//! important pair to a plain failure: the call took effect and the caller is told that it did not.

use super::{answer::Refusal, call::Call};
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Answered with an error; nothing reaches moto.
    Error {
        /// AWS' error code.
        code: String,
        /// HTTP status, 500 unless given.
        #[serde(default = "server_error")]
        status: u16,
        /// Text.
        #[serde(default)]
        message: String,
    },
    /// Goes on after this many milliseconds.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// The connection is closed without an answer; nothing reaches moto.
    Drop,
    /// Takes effect, then is answered with an error.
    ApplyThenError {
        /// AWS' error code.
        code: String,
        /// HTTP status, 500 unless given.
        #[serde(default = "server_error")]
        status: u16,
    },
    /// Takes effect, then the connection is closed without an answer.
    ApplyThenDrop,
    /// EC2 has no such machine left.
    Capacity,
}

impl Action {
    /// The error that the caller sees, where the action is one.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let (code, status, message) = match self {
            Action::Error {
                code,
                status,
                message,
            } => (code.as_str(), *status, message.as_str()),
            Action::ApplyThenError { code, status } => {
                (code.as_str(), *status, "fault of the stage")
            }
            Action::Capacity => (
                "InsufficientInstanceCapacity",
                500,
                "We currently do not have sufficient capacity in the Availability Zone you requested.",
            ),
            Action::Delay { .. } | Action::Drop | Action::ApplyThenDrop => return None,
        };
        Some(Refusal::new(code, message).with_status(status))
    }
}

/// Which calls fail, as a test asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Service's signing name; any where absent.
    #[serde(default)]
    service: Option<String>,
    /// Operation; any where absent.
    #[serde(default)]
    operation: Option<String>,
    /// Text that the resource's summary contains; any where absent.
    #[serde(default)]
    resource: Option<String>,
    /// So many matching calls pass first.
    #[serde(default)]
    after: u64,
    /// So many calls fail then; 0 is for ever. 1 unless given.
    #[serde(default = "once")]
    count: u64,
    /// What happens.
    action: Action,
}

/// A rule with its number and how far it has come.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Armed {
    id: u64,
    matched: u64,
    fired: u64,
    #[serde(flatten)]
    rule: Rule,
}

/// All rules, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Faults {
    state: Mutex<(u64, Vec<Armed>)>,
}

impl Faults {
    /// Adds a rule and gives its number.
    pub(crate) fn add(&self, rule: Rule) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        let id = state.0;
        state.1.push(Armed {
            id,
            matched: 0,
            fired: 0,
            rule,
        });
        id
    }

    /// Removes one rule, or all.
    pub(crate) fn clear(&self, id: Option<u64>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.retain(|armed| id.is_some_and(|id| id != armed.id));
    }

    /// All rules with their counts.
    pub(crate) fn list(&self) -> Vec<Armed> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .1
            .clone()
    }

    /// The action for this call, and counts it.
    pub(crate) fn take(&self, call: &Call) -> Option<Action> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for armed in &mut state.1 {
            if !armed.rule.matches(call) {
                continue;
            }
            armed.matched += 1;
            let spent = armed.rule.count != 0 && armed.fired >= armed.rule.count;
            if armed.matched > armed.rule.after && !spent {
                armed.fired += 1;
                return Some(armed.rule.action.clone());
            }
        }
        None
    }
}

impl Rule {
    fn matches(&self, call: &Call) -> bool {
        let same = |wanted: &Option<String>, seen: &str| {
            wanted
                .as_deref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(seen))
        };
        same(&self.service, &call.service)
            && same(&self.operation, &call.operation)
            && self
                .resource
                .as_deref()
                .is_none_or(|part| call.resource.contains(part))
    }
}

fn server_error() -> u16 {
    500
}

fn once() -> u64 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::call::Protocol;

    fn call(operation: &str) -> Call {
        Call {
            service: "ec2".into(),
            operation: operation.into(),
            access_key: None,
            resource: "req-1-1".into(),
            protocol: Protocol::Ec2,
        }
    }

    #[test]
    fn a_rule_lets_pass_then_fails_as_often_as_asked() {
        let faults = Faults::default();
        let rule = r#"{"service":"ec2","operation":"RunInstances","after":1,"count":2,"action":{"kind":"capacity"}}"#;
        faults.add(serde_json::from_str(rule).unwrap());
        let fired: Vec<bool> = (0..5)
            .map(|_| faults.take(&call("RunInstances")).is_some())
            .collect();
        assert_eq!(fired, [false, true, true, false, false]);
        assert!(faults.take(&call("DescribeInstances")).is_none());
    }

    #[test]
    fn a_cleared_rule_no_longer_fires_and_an_unknown_key_is_refused() {
        let faults = Faults::default();
        let id =
            faults.add(serde_json::from_str(r#"{"count":0,"action":{"kind":"drop"}}"#).unwrap());
        assert_eq!(faults.take(&call("X")), Some(Action::Drop));
        faults.clear(Some(id));
        assert_eq!(faults.take(&call("X")), None);
        assert!(
            serde_json::from_str::<Rule>(r#"{"opertion":"X","action":{"kind":"drop"}}"#).is_err()
        );
    }
}
