//! The boot's steps: each is named, timed and bounded, and the first that fails ends the boot.

use crate::clock;
use crate::failure::{Coded, Failure};
use powerpole_protocol::callback::StepTime;
use std::time::Duration;

/// The steps done so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    times: Vec<StepTime>,
}

impl Steps {
    /// Does one step within `limit` and notes how long it took, whether it succeeded or not.
    ///
    /// # Errors
    /// The step's own error, or that its time ran out.
    pub(crate) async fn take<T, E: Coded>(
        &mut self,
        step: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        tracing::info!(step, "step begins");
        let start = clock::boottime();
        let outcome = tokio::time::timeout(limit, work).await;
        let ms = u64::try_from(clock::boottime().since(start).as_millis()).unwrap_or(u64::MAX);
        self.times.push(StepTime {
            step: step.to_owned(),
            ms,
        });
        let outcome = match outcome {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(Failure::of(step, &error)),
            Err(_elapsed) => Err(Failure::timed_out(step, limit)),
        };
        match &outcome {
            Ok(_) => tracing::info!(step, ms, "step done"),
            Err(failure) => {
                tracing::error!(
                    step,
                    ms,
                    code = failure.code,
                    message = failure.message,
                    "step failed"
                );
            }
        }
        outcome
    }

    /// How long each step took, in order.
    pub(crate) fn times(&self) -> Vec<StepTime> {
        self.times.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ControlError;

    #[tokio::test]
    async fn a_step_that_hangs_is_cut_and_named() {
        let mut steps = Steps::default();
        let hang = std::future::pending::<Result<(), ControlError>>();
        let failure = steps
            .take("patch", Duration::from_millis(20), hang)
            .await
            .unwrap_err();
        assert_eq!((failure.step, failure.code), ("patch", "timed_out"));
        assert_eq!(steps.times()[0].step, "patch");
    }
}
