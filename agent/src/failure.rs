//! What a failed step tells control, the operator and the journal.

use std::time::Duration;

/// An error with a code that stays the same across releases.
pub(crate) trait Coded: std::error::Error {
    /// The stable code, such as `handoff_gone`.
    fn code(&self) -> &'static str;
}

/// A step of the boot that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The step's name.
    pub(crate) step: &'static str,
    /// The stable code.
    pub(crate) code: &'static str,
    /// What happened, with its causes, for a person.
    pub(crate) message: String,
}

impl Failure {
    /// The failure of `step` by `error`.
    pub(crate) fn of(step: &'static str, error: &dyn Coded) -> Self {
        let message = match error.source() {
            None => error.to_string(),
            Some(source) => format!("{error}: {}", causes(source)),
        };
        Self {
            step,
            code: error.code(),
            message: shorten(&message),
        }
    }

    /// The failure of `step` by running out of time.
    pub(crate) fn timed_out(step: &'static str, limit: Duration) -> Self {
        Self {
            step,
            code: "timed_out",
            message: format!("not done after {} s", limit.as_secs()),
        }
    }
}

/// An error and its causes, by their `Display` only: an SDK error's `Debug` would print a whole response,
/// secrets included. What an error says of its cause by itself is not said twice.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    // Some say the same twice in one breath.
    let mut parts: Vec<&str> = text.split(": ").collect();
    parts.dedup();
    parts.join(": ")
}

/// Control takes bodies of 64 KiB and people read less.
fn shorten(message: &str) -> String {
    const LIMIT: usize = 1000;
    match message.char_indices().nth(LIMIT) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the driver: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn what_an_error_says_of_its_cause_is_not_said_twice() {
        let error = Repeating(std::io::Error::other("connection refused"));
        assert_eq!(causes(&error), "the driver: connection refused");
        let twice = std::io::Error::other("input error: input error: connection refused");
        assert_eq!(causes(&twice), "input error: connection refused");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("it broke")]
    struct Broken(#[source] std::io::Error);
    impl Coded for Broken {
        fn code(&self) -> &'static str {
            "broken"
        }
    }

    #[test]
    fn a_failure_carries_its_causes() {
        let failure = Failure::of("patch", &Broken(std::io::Error::other("disk full")));
        assert_eq!(failure.message, "it broke: disk full");
        assert_eq!((failure.step, failure.code), ("patch", "broken"));
    }
}
