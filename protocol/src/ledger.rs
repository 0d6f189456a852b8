//! The ledger's words: one DynamoDB item a request, only ever moved forward by conditional updates.
//!
//! Control writes it, auditors read it; both take the names from here.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Names of an item's attributes. Times are RFC 3339 in UTC, numbers are whole.
pub mod attribute {
    /// Key (S): request id.
    pub const REQUEST: &str = "request";
    /// S: [`super::State`].
    pub const STATE: &str = "state";
    /// S, `"open"` while work is left: until the state is final and all that follows it is done (messages
    /// overwritten, receipt posted, instance terminated, handoff deleted). Partition key of the sparse
    /// index [`super::OPEN_INDEX`] that tick reads.
    pub const OPEN: &str = "open";
    /// N: the request's number, without gaps from 1, given when the item is made.
    pub const NUMBER: &str = "number";
    /// S, `"unrolled"` until a roll in the evidence's bucket names the request's end. Partition key of the
    /// sparse index [`super::UNROLLED_INDEX`].
    pub const UNROLLED: &str = "unrolled";
    /// N: number of the roll that names the request's end.
    pub const ROLL: &str = "roll";
    /// S: when the item was made.
    pub const REQUESTED_AT: &str = "requested_at";
    /// S: the operator's email address.
    pub const OPERATOR: &str = "operator";
    /// S: the operator's Slack user id.
    pub const OPERATOR_SLACK: &str = "operator_slack";
    /// S: the database account's user name.
    pub const ACCOUNT: &str = "account";
    /// S: AWS principal that may log in.
    pub const PRINCIPAL: &str = "principal";
    /// S: cluster id.
    pub const CLUSTER: &str = "cluster";
    /// S: READ, WRITE or ADMIN.
    pub const LEVEL: &str = "level";
    /// L of S: schemas.
    pub const SCHEMAS: &str = "schemas";
    /// N: length of the window in seconds.
    pub const DURATION_S: &str = "duration_s";
    /// S: wanted start; absent for now.
    pub const START_AT: &str = "start_at";
    /// S: why, in the operator's words.
    pub const REASON: &str = "reason";
    /// S: email address of who decided.
    pub const APPROVER: &str = "approver";
    /// S: Slack user id of who decided.
    pub const APPROVER_SLACK: &str = "approver_slack";
    /// S: when it was approved.
    pub const APPROVED_AT: &str = "approved_at";
    /// S: when it was denied.
    pub const DENIED_AT: &str = "denied_at";
    /// S: why it was denied.
    pub const DENIAL: &str = "denial";
    /// N: the current try.
    pub const ATTEMPT: &str = "attempt";
    /// S: name of the handoff of the current try.
    pub const HANDOFF: &str = "handoff";
    /// S: SHA-256 of the boot token of the current try, hexadecimal.
    pub const BOOT_TOKEN: &str = "boot_token_sha256";
    /// S: SHA-256 of the handoff's token of the current try, hexadecimal.
    pub const HANDOFF_TOKEN: &str = "handoff_token_sha256";
    /// S: when the current try was launched.
    pub const LAUNCHED_AT: &str = "launched_at";
    /// S: EC2 instance of the current try.
    pub const INSTANCE: &str = "instance";
    /// S: image of the current try.
    pub const IMAGE: &str = "image";
    /// S: the bastion's Ed25519 public key, set once a try by `hello`.
    pub const BASTION_KEY: &str = "bastion_key";
    /// S: when `hello` came.
    pub const HELLO_AT: &str = "hello_at";
    /// S: when the handoff's token was presented a second time; an alarm.
    pub const REDEEMED_TWICE_AT: &str = "redeemed_twice_at";
    /// S: CloudWatch log group of the evidence.
    pub const LOG_GROUP: &str = "log_group";
    /// S: log stream of the evidence.
    pub const LOG_STREAM: &str = "log_stream";
    /// S: bucket of the anchors.
    pub const ANCHOR_BUCKET: &str = "anchor_bucket";
    /// S: key prefix of the anchors.
    pub const ANCHOR_PREFIX: &str = "anchor_prefix";
    /// S: hash of the chain's genesis, hexadecimal.
    pub const GENESIS_HEAD: &str = "genesis_head";
    /// S: when it was ready and the DM was taken by Slack.
    pub const READY_AT: &str = "ready_at";
    /// S: when the window ends.
    pub const DEADLINE: &str = "deadline";
    /// S: JSON of the steps' times in milliseconds.
    pub const STEPS: &str = "steps";
    /// N: count of the latest heartbeat.
    pub const HEARTBEAT: &str = "heartbeat";
    /// S: when the latest heartbeat came.
    pub const HEARTBEAT_AT: &str = "heartbeat_at";
    /// N: sequence number of the latest head.
    pub const LATEST_SEQ: &str = "latest_seq";
    /// S: hash of the latest head, hexadecimal.
    pub const LATEST_HEAD: &str = "latest_head";
    /// N: security advisories open on the bastion at the latest heartbeat.
    pub const ADVISORIES: &str = "advisories";
    /// S: when it was closed.
    pub const CLOSED_AT: &str = "closed_at";
    /// S: why it was closed: the spelling of [`crate::callback::CloseReason`], or `lost` when the bastion
    /// went without a word.
    pub const CLOSE_REASON: &str = "close_reason";
    /// L of S: what did not go as it should, for a person.
    pub const REMARKS: &str = "remarks";
    /// BOOL: whether the chain was sealed, shipped and anchored.
    pub const SEALED: &str = "sealed";
    /// BOOL: whether the bastion read the account back as gone.
    pub const ACCOUNT_GONE: &str = "account_gone";
    /// N: sequence number of the final head.
    pub const FINAL_SEQ: &str = "final_seq";
    /// S: hash of the final head, hexadecimal.
    pub const FINAL_HEAD: &str = "final_head";
    /// N: logins that were admitted.
    pub const SESSIONS: &str = "sessions";
    /// N: logins that were refused.
    pub const REFUSED: &str = "refused";
    /// N: statements recorded.
    pub const STATEMENTS: &str = "statements";
    /// S: when EC2 said that the instance is terminated.
    pub const TERMINATED_AT: &str = "terminated_at";
    /// S: step that failed.
    pub const FAILED_STEP: &str = "failed_step";
    /// S: stable code of the failure.
    pub const FAILED_CODE: &str = "failed_code";
    /// S: what failed, for a person.
    pub const FAILED_MESSAGE: &str = "failed_message";
}

/// Name of the sparse index over [`attribute::OPEN`] (partition) and [`attribute::REQUEST`] (sort).
pub const OPEN_INDEX: &str = "open";

/// Name of the sparse index over [`attribute::UNROLLED`] (partition) and [`attribute::REQUEST`] (sort).
pub const UNROLLED_INDEX: &str = "unrolled";

/// Key of the one item that is no request: it counts them.
pub const COUNTER_KEY: &str = "#requests";
/// The counter's only other attribute, N: the number that was given last.
pub const COUNTER_LAST: &str = "last";

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Stored and posted to the approvers.
    Requested,
    /// An approver said no. Final.
    Denied,
    /// Nobody decided in time. Final.
    Lapsed,
    /// An approver said yes.
    Approved,
    /// A try is written down; its instance may or may not exist yet.
    Launching,
    /// The bastion said `hello`.
    Booting,
    /// The operator has the DM; the window runs.
    Ready,
    /// The window is over. Final.
    Closed,
    /// It never became ready. Final.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Requested,
        Self::Denied,
        Self::Lapsed,
        Self::Approved,
        Self::Launching,
        Self::Booting,
        Self::Ready,
        Self::Closed,
        Self::Failed,
    ];

    /// The state's spelling in the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::Denied => "DENIED",
            Self::Lapsed => "LAPSED",
            Self::Approved => "APPROVED",
            Self::Launching => "LAUNCHING",
            Self::Booting => "BOOTING",
            Self::Ready => "READY",
            Self::Closed => "CLOSED",
            Self::Failed => "FAILED",
        }
    }

    /// Reads the spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Denied | Self::Lapsed | Self::Closed | Self::Failed
        )
    }

    /// Whether an item may move from this state to the next. A new try goes back to `LAUNCHING` with a
    /// higher attempt number, which is forward all the same.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        match self {
            Self::Requested => matches!(next, Self::Approved | Self::Denied | Self::Lapsed),
            Self::Approved => matches!(next, Self::Launching | Self::Failed),
            Self::Launching => matches!(next, Self::Launching | Self::Booting | Self::Failed),
            Self::Booting => matches!(next, Self::Launching | Self::Ready | Self::Failed),
            Self::Ready => matches!(next, Self::Closed),
            Self::Denied | Self::Lapsed | Self::Closed | Self::Failed => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_final_state_and_every_other_state_can_end() {
        for state in State::ALL {
            let follows = State::ALL.into_iter().any(|next| state.may_become(next));
            assert_eq!(follows, !state.is_final(), "{state}");
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
    }
}
