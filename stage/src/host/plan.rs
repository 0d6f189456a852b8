//! What to do about one instance: a pure decision from what EC2 says and what is seen of its machine.

use super::ec2::State;

/// What EC2 says of the instance; [`None`] once it has been unknown to EC2 for a while.
pub(crate) type Said = Option<State>;

/// What is seen of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// There was never one.
    Nothing,
    /// Some process of it lives.
    Alive,
    /// It was booted, and is off by its own doing.
    Off,
    /// The fault switch took it.
    Destroyed,
    /// EC2 stopped it; its root is kept.
    Stopped,
    /// Its root is removed.
    Gone,
}

/// The next step, to be repeated until the world agrees: every one may have happened already.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Nothing,
    /// Boot it on a root of its own.
    Boot,
    /// Tell EC2 that it powered itself off.
    ReportOff,
    /// Take its power away and keep its root.
    Halt,
    /// Take its power away if it has any, and remove its root and network.
    Remove,
}

/// Decides the next step.
pub(crate) fn next_step(said: Said, seen: Seen) -> Step {
    use State::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
    match (said, seen) {
        (_, Seen::Gone) => Step::Nothing,
        (Some(Pending | Running), Seen::Nothing | Seen::Stopped) => Step::Boot,
        (Some(Pending | Running), Seen::Alive) => Step::Nothing,
        (Some(Pending | Running), Seen::Off) => Step::ReportOff,
        (Some(Stopping | Stopped), Seen::Alive | Seen::Off) => Step::Halt,
        (Some(Stopping | Stopped), Seen::Nothing | Seen::Stopped) => Step::Nothing,
        (Some(ShuttingDown | Terminated) | None, Seen::Nothing) => Step::Nothing,
        // EC2 does not hear of a destroyed machine: its instance goes on "running" until someone terminates it.
        (_, Seen::Destroyed) => Step::Remove,
        (Some(ShuttingDown | Terminated) | None, Seen::Alive | Seen::Off | Seen::Stopped) => {
            Step::Remove
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Said; 7] = [
        Some(State::Pending),
        Some(State::Running),
        Some(State::ShuttingDown),
        Some(State::Terminated),
        Some(State::Stopping),
        Some(State::Stopped),
        None,
    ];

    #[test]
    fn what_is_gone_or_destroyed_is_never_booted_again_whatever_ec2_says() {
        for said in STATES {
            assert_eq!(next_step(said, Seen::Gone), Step::Nothing, "{said:?}");
            assert_eq!(next_step(said, Seen::Destroyed), Step::Remove, "{said:?}");
        }
    }

    #[test]
    fn a_living_machine_is_never_booted_and_never_reported() {
        for said in STATES {
            assert!(
                !matches!(next_step(said, Seen::Alive), Step::Boot | Step::ReportOff),
                "{said:?}"
            );
        }
    }

    #[test]
    fn every_other_pair_has_the_step_that_ec2_itself_would_take() {
        let table = [
            (Some(State::Pending), Seen::Nothing, Step::Boot),
            (Some(State::Running), Seen::Nothing, Step::Boot),
            (Some(State::Running), Seen::Stopped, Step::Boot),
            (Some(State::Running), Seen::Off, Step::ReportOff),
            (Some(State::Stopped), Seen::Off, Step::Halt),
            (Some(State::Stopping), Seen::Alive, Step::Halt),
            (Some(State::ShuttingDown), Seen::Alive, Step::Remove),
            (Some(State::Terminated), Seen::Off, Step::Remove),
            (Some(State::Terminated), Seen::Stopped, Step::Remove),
            (Some(State::Terminated), Seen::Nothing, Step::Nothing),
            (None, Seen::Alive, Step::Remove),
            (None, Seen::Nothing, Step::Nothing),
        ];
        for (said, seen, step) in table {
            assert_eq!(next_step(said, seen), step, "{said:?} {seen:?}");
        }
    }
}
