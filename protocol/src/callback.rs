//! What a bastion tells control, and what control answers.
//!
//! Each is one POST of JSON. Requests after `hello` travel in an [`Envelope`](crate::envelope::Envelope)
//! signed with the bastion's key, answers in one signed with control's; an answer names the body that it
//! answers, so it cannot be replayed for another. The transport's TLS hides, the envelopes prove.
//!
//! | path | request | answer | status other than 200 |
//! |---|---|---|---|
//! | `/v1/hello` | [`Hello`] in clear JSON | envelope of [`Answer`] | 401 token, 409 redeemed by another key |
//! | `/v1/ready` | envelope of [`Ready`] | envelope of [`Answer`] | 503 the DM was not taken yet: repeat |
//! | `/v1/heartbeat` | envelope of [`Heartbeat`] | envelope of [`Answer`] | 503 repeat |
//! | `/v1/closed` | envelope of [`Closed`] | envelope of [`Answer`] | 503 repeat |
//! | `/v1/failed` | [`Failed`] in clear JSON | envelope of [`Answer`] | 401 token |
//!
//! Every message may be repeated: the same message has the same effect once.

use crate::envelope::Message;
use crate::id::{Attempt, InstanceId, RequestId};
use crate::sealed::SealedSecret;
use crate::secret::{Token, expose_token};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Path of [`Hello`].
pub const HELLO: &str = "/v1/hello";
/// Path of [`Ready`].
pub const READY: &str = "/v1/ready";
/// Path of [`Heartbeat`].
pub const HEARTBEAT: &str = "/v1/heartbeat";
/// Path of [`Closed`].
pub const CLOSED: &str = "/v1/closed";
/// Path of [`Failed`].
pub const FAILED: &str = "/v1/failed";

/// The first word of a bastion: it redeems the handoff's token and names the bastion's key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The request.
    pub request: RequestId,
    /// The try.
    pub attempt: Attempt,
    /// Who speaks.
    pub instance: InstanceId,
    /// From the boot document.
    #[serde(serialize_with = "expose_token")]
    pub boot_token: Token,
    /// From the handoff; redeemed once, for one `bastion_key`.
    #[serde(serialize_with = "expose_token")]
    pub handoff_token: Token,
    /// Ed25519 public key that signs what follows, 32 bytes in standard base64.
    pub bastion_key: String,
    /// The agent's version.
    pub agent: String,
    /// The kernel's boot id.
    pub boot: String,
}

/// The account works and sessions can come.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The request.
    pub request: RequestId,
    /// The try.
    pub attempt: Attempt,
    /// Who speaks.
    pub instance: InstanceId,
    /// The account, `'alice'@'10.77.64.5'`.
    pub account: String,
    /// The line that opens the database from the bastion's shell, without the password.
    pub mysql_line: String,
    /// The one-time password, sealed to control.
    pub password: SealedSecret,
    /// Hash of the chain's genesis, 64 hexadecimal digits.
    pub genesis_head: String,
    /// The anchors' key prefix, `<aws userid>/<request>/`.
    pub anchor_prefix: String,
    /// How long each step of the boot took.
    pub steps: Vec<StepTime>,
}

/// How long a step of the boot took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepTime {
    /// The step's name.
    pub step: String,
    /// Its time in milliseconds.
    pub ms: u64,
}

/// A bastion lives.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The request.
    pub request: RequestId,
    /// The try.
    pub attempt: Attempt,
    /// Who speaks.
    pub instance: InstanceId,
    /// Counts heartbeats from 1; a lower one than the last seen is old and changes nothing.
    pub count: u64,
    /// The chain's latest head.
    pub head: ChainHead,
    /// Records spooled and not yet taken by CloudWatch.
    pub lag_records: u64,
    /// Age in milliseconds of the oldest of these; 0 when there is none.
    pub lag_ms: u64,
    /// Security advisories that are open on this machine.
    pub advisories: u32,
    /// Sessions open now.
    pub sessions: u32,
    /// Statements recorded so far.
    pub statements: u64,
    /// What happened since the last heartbeat that was answered; told again when an answer is lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

/// Something that somebody has to look at. The chain has a record of each; its code is the same there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm {
    /// What happened, such as `other_person`.
    pub code: String,
    /// How often.
    pub count: u64,
}

/// A place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// Sequence number of the record.
    pub seq: u64,
    /// Its link hash, 64 hexadecimal digits.
    pub hash: String,
}

/// A bastion that ends its window is silent, and off after so many seconds at most, whatever does not answer it: its parts'
/// limits and the last words to control together.
pub const CLOSING_LIMIT_S: u64 = 125;

/// The last word: sessions ended, account gone, chain sealed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// The request.
    pub request: RequestId,
    /// The try.
    pub attempt: Attempt,
    /// Who speaks.
    pub instance: InstanceId,
    /// Why it ended.
    pub reason: CloseReason,
    /// The chain's final head.
    pub head: ChainHead,
    /// Whether the chain ends in a seal that was shipped and anchored.
    pub sealed: bool,
    /// Whether the account was read back as gone, and its connections ended on every reader that the handoff names.
    pub account_gone: bool,
    /// Logins that were admitted.
    pub sessions: u32,
    /// Logins that were refused.
    pub refused: u32,
    /// Statements recorded.
    pub statements: u64,
    /// As in [`Heartbeat`]: what no answered heartbeat bore.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
    /// What did not go as it should, for a person to read; empty in the good case.
    pub remarks: Vec<String>,
}

/// Why a bastion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The deadline came.
    Deadline,
    /// The operator or an approver ended it early.
    Finished,
    /// Evidence could not be kept or shipped.
    EvidenceLost,
    /// The handoff's token was redeemed twice.
    Redeemed,
    /// A session went around the broker.
    Intrusion,
    /// A step failed after the account had been opened.
    Failed,
    /// The machine was told to shut down.
    Shutdown,
}

/// A bastion gives up before it was ready.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The request.
    pub request: RequestId,
    /// The try.
    pub attempt: Attempt,
    /// Who speaks.
    pub instance: InstanceId,
    /// From the boot document.
    #[serde(serialize_with = "expose_token")]
    pub boot_token: Token,
    /// The step that failed, as in [`StepTime`].
    pub step: String,
    /// The error's stable code, such as `handoff_gone`.
    pub code: String,
    /// What happened, for a person; holds no secret.
    pub message: String,
    /// How long the steps took until then.
    pub steps: Vec<StepTime>,
    /// As in [`Heartbeat`]: all there were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

/// What control answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// SHA-256 of the body that is answered, in lower-case hexadecimal.
    pub to: String,
    /// The grant's deadline, once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// What the bastion must do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
}

/// What control asks of a bastion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// End now.
    Finish {
        /// Why.
        reason: CloseReason,
    },
}

/// An error's answer, unsigned: it can make an agent wait or give up, never go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable code: `malformed`, `unauthorised`, `redeemed`, `superseded`, `not_yet`, `unavailable`.
    pub code: String,
    /// For a person.
    pub message: String,
}

impl Message for Ready {
    const DOMAIN: &'static str = "ready";
}
impl Message for Heartbeat {
    const DOMAIN: &'static str = "heartbeat";
}
impl Message for Closed {
    const DOMAIN: &'static str = "closed";
}
impl Message for Answer {
    const DOMAIN: &'static str = "answer";
}
