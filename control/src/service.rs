//! What every part of control works with: settings, secrets, the clock and the four ports.

use crate::approval::Doubt;
use crate::aws::cloud::{Cloud, CloudError};
use crate::clock::Clock;
use crate::config::Config;
use crate::furthest::Furthest;
use crate::keys::{KeyError, Keys};
use crate::ledger::item::Item;
use crate::ledger::{Created, Ledger, LedgerError, Move, Moved};
use crate::policy::Refused;
use crate::roll::{RollMemory, RollStore};
use crate::slack::client::{Chat, ChatError};
use powerpole_protocol::id::RequestId;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// Control, put together.
pub struct Service {
    /// Settings.
    pub config: Config,
    /// Secrets.
    pub keys: Keys,
    /// The time.
    pub clock: Clock,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// AWS.
    pub cloud: Arc<dyn Cloud>,
    /// Slack.
    pub chat: Arc<dyn Chat>,
    /// The rolls of requests.
    pub rolls: Arc<dyn RollStore>,
    /// What this replica knows of them.
    pub roll_memory: RollMemory,
    /// How far this replica has seen each request go.
    pub furthest: Furthest,
    /// Requests to be looked at now and not at the next tick.
    pub nudges: mpsc::Sender<RequestId>,
    /// Work that outlives its HTTP request; waited for at shutdown.
    pub tasks: TaskTracker,
}

/// A step did not happen, or may have; whoever comes next repeats it.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// AWS.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Slack.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// Randomness.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The ledger does not say what control wrote.
    #[error("{}", .0.text())]
    Doubt(Doubt),
    /// The operator's right to the launch does not hold any more.
    #[error("{}", .0.text())]
    Refused(Refused),
    /// The wanted start has not come.
    #[error("its start has not come")]
    Early,
    /// The try's time is over; the next look fails it.
    #[error("the try's time is over")]
    Over,
    /// A document of ours that does not serialise, or lacks what it needs.
    #[error("cannot write the {0}")]
    Document(&'static str),
}

impl StepError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ledger(error) => error.code(),
            Self::Cloud(error) => error.code(),
            Self::Chat(error) => error.code(),
            Self::Key(_) => "no_randomness",
            Self::Doubt(doubt) => doubt.code(),
            Self::Refused(why) => why.code(),
            Self::Early => "early",
            Self::Over => "boot_timeout",
            Self::Document(_) => "document",
        }
    }
}

impl Service {
    /// Has this request looked at now. When the queue is full the next tick does it anyway.
    pub fn nudge(&self, request: &RequestId) {
        let _ = self.nudges.try_send(request.clone());
    }

    /// Makes a request's item, sealed under the number that it gets.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn create(&self, item: &Item) -> Result<Created, LedgerError> {
        let seal = |numbered: &Item| self.keys.seals.asked(numbered);
        self.ledger.create(item, &seal).await
    }

    /// Carries out a move; `None` when a condition did not hold.
    ///
    /// # Errors
    /// The ledger's.
    pub async fn apply(
        &self,
        request: &RequestId,
        step: Move,
    ) -> Result<Option<Item>, LedgerError> {
        Ok(match self.ledger.apply(request, &step).await? {
            Moved::Won(item) => Some(*item),
            Moved::Lost => None,
        })
    }
}
