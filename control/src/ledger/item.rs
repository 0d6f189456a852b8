//! A request as the ledger holds it, typed. Names that an auditor reads come from `protocol`; the rest is
//! control's own bookkeeping and named here.

use super::{Attributes, LedgerError, Value};
use jiff::Timestamp;
use powerpole_protocol::id::{
    AccountName, Attempt, ClusterId, Email, InstanceId, RequestId, SchemaName,
};
use powerpole_protocol::ledger::{State, attribute as a};
use powerpole_protocol::level::AccessLevel;
use std::str::FromStr;

/// Control's own attributes.
pub mod own {
    /// N: try that failed; equal to `attempt` until the next try begins.
    pub const FAILED_ATTEMPT: &str = "failed_attempt";
    /// BOOL: whether that failure may be answered with another try.
    pub const FAILED_RETRY: &str = "failed_retry";
    /// S: when the handoff of the current try was written.
    pub const HANDOFF_AT: &str = "handoff_at";
    /// S: when the handoff of the last try was found or made gone after the end.
    pub const HANDOFF_GONE_AT: &str = "handoff_gone_at";
    /// S: when the operator asked to finish early.
    pub const FINISH_ASKED_AT: &str = "finish_asked_at";
    /// N: the smallest warning, in seconds before the deadline, that was posted.
    pub const WARNED_S: &str = "warned_s";
    /// S: thread message of the receipt.
    pub const RECEIPT_TS: &str = "receipt_ts";
    /// S: until when one replica alone launches.
    pub const LAUNCH_CLAIM: &str = "launch_claim";
    /// S: until when one replica alone warns.
    pub const WARN_CLAIM: &str = "warn_claim";
    /// S: until when one replica alone posts the receipt.
    pub const RECEIPT_CLAIM: &str = "receipt_claim";
    /// S: seal of what was asked; see [`crate::seal`].
    pub const ASKED_SEAL: &str = "asked_seal";
    /// S: seal of what was approved.
    pub const APPROVAL_SEAL: &str = "approval_seal";
    /// S: seal of the current try.
    pub const TRY_SEAL: &str = "try_seal";
    /// L of S: the subnet of every try up to the current one; under the try's seal.
    pub const SUBNETS: &str = "subnets";
    /// N: so many seconds before the wanted start the current try was allowed to begin; under the try's seal.
    pub const LAUNCH_AHEAD_S: &str = "launch_ahead_s";
    /// S: seal of the bastion that redeemed the current try's handoff.
    pub const BASTION_SEAL: &str = "bastion_seal";
}

/// The messages that stand for a request and are updated as it moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PostKind {
    /// The card with the buttons, in the approvals channel.
    Card,
    /// The operator's direct message.
    Dm,
    /// One line in the requests channel, where there is one.
    Notice,
}

impl PostKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Card, Self::Dm, Self::Notice];

    /// Attribute with the channel's id.
    #[must_use]
    pub fn channel(self) -> &'static str {
        match self {
            Self::Card => "card_channel",
            Self::Dm => "dm_channel",
            Self::Notice => "notice_channel",
        }
    }

    /// Attribute with the message's timestamp.
    #[must_use]
    pub fn ts(self) -> &'static str {
        match self {
            Self::Card => "card_ts",
            Self::Dm => "dm_ts",
            Self::Notice => "notice_ts",
        }
    }

    /// Attribute with what the message shows.
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::Card => "card_shown",
            Self::Dm => "dm_shown",
            Self::Notice => "notice_shown",
        }
    }

    /// Attribute with the time until which one replica alone writes the message.
    #[must_use]
    pub fn claim(self) -> &'static str {
        match self {
            Self::Card => "card_claim",
            Self::Dm => "dm_claim",
            Self::Notice => "notice_claim",
        }
    }
}

/// A message that Slack has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Post {
    /// Channel id.
    pub channel: String,
    /// Slack's timestamp of the message: its id in the channel.
    pub ts: String,
    /// What it shows.
    pub shown: String,
}

/// A failure of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The step.
    pub step: String,
    /// Stable code.
    pub code: String,
    /// For a person.
    pub message: String,
    /// Whether another try may help.
    pub retry: bool,
}

/// How a window ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// When.
    pub at: Timestamp,
    /// Why: a close reason's spelling, or `lost`.
    pub reason: String,
    /// Whether the chain was sealed, shipped and anchored.
    pub sealed: bool,
    /// Whether the account was read back as gone.
    pub account_gone: bool,
    /// Final head: sequence number and hash; the latest that was heard of when the bastion was lost.
    pub head: Option<(u64, String)>,
    /// Logins admitted.
    pub sessions: u64,
    /// Logins refused.
    pub refused: u64,
    /// Statements.
    pub statements: u64,
    /// What did not go as it should.
    pub remarks: Vec<String>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub request: RequestId,
    /// Where it stands.
    pub state: State,
    /// Its number, from 1; 0 until the ledger has given it one.
    pub number: u64,
    /// Whether work is left.
    pub open: bool,
    /// When it was made.
    pub requested_at: Timestamp,
    /// Who asks.
    pub operator: Email,
    /// Their Slack user id.
    pub operator_slack: String,
    /// Their account's user name.
    pub account: AccountName,
    /// The principal that may log in.
    pub principal: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// How much.
    pub level: AccessLevel,
    /// Where.
    pub schemas: Vec<SchemaName>,
    /// How long, in seconds.
    pub duration_s: u64,
    /// Wanted start; none for now.
    pub start_at: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// Who decided.
    pub approver: Option<Email>,
    /// Their Slack user id.
    pub approver_slack: Option<String>,
    /// When it was approved.
    pub approved_at: Option<Timestamp>,
    /// Seal of what was asked.
    pub asked_seal: Option<String>,
    /// Seal of what was approved.
    pub approval_seal: Option<String>,
    /// Seal of the current try.
    pub try_seal: Option<String>,
    /// Seal of its bastion.
    pub bastion_seal: Option<String>,
    /// Why it was denied.
    pub denial: Option<String>,
    /// The current try; 0 before the first.
    pub attempt: Attempt,
    /// Its handoff's name.
    pub handoff: Option<String>,
    /// When it was launched.
    pub launched_at: Option<Timestamp>,
    /// Its image.
    pub image: Option<String>,
    /// The subnets of all tries, the current one's last.
    pub subnets: Vec<String>,
    /// So many seconds before the wanted start it was allowed to begin.
    pub launch_ahead_s: Option<u64>,
    /// Its instance.
    pub instance: Option<InstanceId>,
    /// When its handoff was written.
    pub handoff_at: Option<Timestamp>,
    /// When the handoff was found gone after the end.
    pub handoff_gone_at: Option<Timestamp>,
    /// Its bastion's public key.
    pub bastion_key: Option<String>,
    /// When its token was presented a second time.
    pub redeemed_twice_at: Option<Timestamp>,
    /// The anchors' prefix.
    pub anchor_prefix: Option<String>,
    /// When it was ready.
    pub ready_at: Option<Timestamp>,
    /// When the window ends.
    pub deadline: Option<Timestamp>,
    /// Count of the latest heartbeat.
    pub heartbeat: u64,
    /// When it came.
    pub heartbeat_at: Option<Timestamp>,
    /// The latest head.
    pub latest: Option<(u64, String)>,
    /// When the operator asked to finish.
    pub finish_asked_at: Option<Timestamp>,
    /// The smallest warning posted.
    pub warned_s: Option<u64>,
    /// How it ended.
    pub closing: Option<Closing>,
    /// The current try's failure, if it failed.
    pub failure: Option<Failure>,
    /// When EC2 said that the instance is terminated.
    pub terminated_at: Option<Timestamp>,
    /// The messages, as in [`PostKind::ALL`].
    pub posts: [Option<Post>; 3],
    /// The receipt's message.
    pub receipt_ts: Option<String>,
}

impl Item {
    /// The message of a kind.
    #[must_use]
    pub fn post(&self, kind: PostKind) -> Option<&Post> {
        let [card, dm, notice] = &self.posts;
        match kind {
            PostKind::Card => card.as_ref(),
            PostKind::Dm => dm.as_ref(),
            PostKind::Notice => notice.as_ref(),
        }
    }

    /// The attributes of a new request: what was asked for, nothing that follows.
    #[must_use]
    pub fn new_attributes(&self) -> Attributes {
        let mut to = Attributes::new();
        let mut put = |name: &str, value: Value| to.insert(name.to_owned(), value);
        put(a::REQUEST, self.request.as_str().into());
        put(a::STATE, self.state.into());
        put(a::OPEN, "open".into());
        put(a::UNROLLED, "unrolled".into());
        put(a::REQUESTED_AT, self.requested_at.into());
        put(a::OPERATOR, self.operator.as_str().into());
        put(a::OPERATOR_SLACK, self.operator_slack.as_str().into());
        put(a::ACCOUNT, self.account.as_str().into());
        put(a::PRINCIPAL, self.principal.as_str().into());
        put(a::CLUSTER, self.cluster.as_str().into());
        put(a::LEVEL, self.level.as_str().into());
        put(
            a::SCHEMAS,
            Value::List(self.schemas.iter().map(ToString::to_string).collect()),
        );
        put(a::DURATION_S, self.duration_s.into());
        put(a::REASON, self.reason.as_str().into());
        if let Some(start) = self.start_at {
            put(a::START_AT, start.into());
        }
        if let Some(seal) = &self.asked_seal {
            put(own::ASKED_SEAL, seal.as_str().into());
        }
        to
    }

    /// Reads an item.
    ///
    /// # Errors
    /// When an attribute that must be there is not, or one has another type or form.
    pub fn read(from: &Attributes) -> Result<Self, LedgerError> {
        let r = Reader(from);
        let attempt =
            Attempt(u32::try_from(r.number(a::ATTEMPT)?.unwrap_or(0)).unwrap_or(u32::MAX));
        let failed = r
            .number(own::FAILED_ATTEMPT)?
            .is_some_and(|n| n == u64::from(attempt.0));
        let state: State = r.must(a::STATE, State::parse)?;
        Ok(Self {
            request: r.must(a::REQUEST, parse)?,
            state,
            number: r
                .number(a::NUMBER)?
                .ok_or_else(|| r.fault("no number".to_owned()))?,
            open: r.text(a::OPEN)?.is_some(),
            requested_at: r.must(a::REQUESTED_AT, parse)?,
            operator: r.must(a::OPERATOR, parse)?,
            operator_slack: r.must(a::OPERATOR_SLACK, parse)?,
            account: r.must(a::ACCOUNT, parse)?,
            principal: r.must(a::PRINCIPAL, parse)?,
            cluster: r.must(a::CLUSTER, parse)?,
            level: r.must(a::LEVEL, AccessLevel::parse)?,
            schemas: r
                .list(a::SCHEMAS)?
                .iter()
                .map(|name| SchemaName::parse(name).map_err(|e| r.fault(e.to_string())))
                .collect::<Result<_, _>>()?,
            duration_s: r
                .number(a::DURATION_S)?
                .ok_or_else(|| r.fault("no duration_s".to_owned()))?,
            start_at: r.may(a::START_AT, parse)?,
            reason: r.text(a::REASON)?.unwrap_or_default().to_owned(),
            approver: r.may(a::APPROVER, parse)?,
            approver_slack: r.may(a::APPROVER_SLACK, parse)?,
            approved_at: r.may(a::APPROVED_AT, parse)?,
            asked_seal: r.may(own::ASKED_SEAL, parse)?,
            approval_seal: r.may(own::APPROVAL_SEAL, parse)?,
            try_seal: r.may(own::TRY_SEAL, parse)?,
            bastion_seal: r.may(own::BASTION_SEAL, parse)?,
            denial: r.may(a::DENIAL, parse)?,
            attempt,
            handoff: r.may(a::HANDOFF, parse)?,
            launched_at: r.may(a::LAUNCHED_AT, parse)?,
            image: r.may(a::IMAGE, parse)?,
            subnets: r.list(own::SUBNETS)?.to_vec(),
            launch_ahead_s: r.number(own::LAUNCH_AHEAD_S)?,
            instance: r.may(a::INSTANCE, parse)?,
            handoff_at: r.may(own::HANDOFF_AT, parse)?,
            handoff_gone_at: r.may(own::HANDOFF_GONE_AT, parse)?,
            bastion_key: r.may(a::BASTION_KEY, parse)?,
            redeemed_twice_at: r.may(a::REDEEMED_TWICE_AT, parse)?,
            anchor_prefix: r.may(a::ANCHOR_PREFIX, parse)?,
            ready_at: r.may(a::READY_AT, parse)?,
            deadline: r.may(a::DEADLINE, parse)?,
            heartbeat: r.number(a::HEARTBEAT)?.unwrap_or(0),
            heartbeat_at: r.may(a::HEARTBEAT_AT, parse)?,
            latest: r.head(a::LATEST_SEQ, a::LATEST_HEAD)?,
            finish_asked_at: r.may(own::FINISH_ASKED_AT, parse)?,
            warned_s: r.number(own::WARNED_S)?,
            closing: r.closing()?,
            failure: if failed || state == State::Failed {
                r.failure()?
            } else {
                None
            },
            terminated_at: r.may(a::TERMINATED_AT, parse)?,
            posts: [
                r.post(PostKind::Card)?,
                r.post(PostKind::Dm)?,
                r.post(PostKind::Notice)?,
            ],
            receipt_ts: r.may(own::RECEIPT_TS, parse)?,
        })
    }
}

fn parse<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

struct Reader<'a>(&'a Attributes);

impl<'a> Reader<'a> {
    fn fault(&self, fault: String) -> LedgerError {
        let request = match self.0.get(a::REQUEST) {
            Some(Value::Text(text)) => text.clone(),
            _ => "without a key".to_owned(),
        };
        LedgerError::Item { request, fault }
    }

    fn text(&self, name: &str) -> Result<Option<&'a str>, LedgerError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(format!("{name} is not a text"))),
        }
    }

    fn number(&self, name: &str) -> Result<Option<u64>, LedgerError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(*number)),
            Some(_) => Err(self.fault(format!("{name} is not a number"))),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, LedgerError> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Flag(flag)) => Ok(*flag),
            Some(_) => Err(self.fault(format!("{name} is not a truth value"))),
        }
    }

    fn list(&self, name: &str) -> Result<&'a [String], LedgerError> {
        match self.0.get(name) {
            None => Ok(&[]),
            Some(Value::List(list)) => Ok(list),
            Some(_) => Err(self.fault(format!("{name} is not a list of texts"))),
        }
    }

    fn may<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, LedgerError> {
        match self.text(name)? {
            None => Ok(None),
            Some(text) => read(text)
                .map(Some)
                .ok_or_else(|| self.fault(format!("{name} cannot be read"))),
        }
    }

    fn must<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, LedgerError> {
        self.may(name, read)?
            .ok_or_else(|| self.fault(format!("no {name}")))
    }

    fn head(&self, seq: &str, hash: &str) -> Result<Option<(u64, String)>, LedgerError> {
        Ok(self.number(seq)?.zip(self.may(hash, parse)?))
    }

    fn post(&self, kind: PostKind) -> Result<Option<Post>, LedgerError> {
        let channel: Option<String> = self.may(kind.channel(), parse)?;
        let ts: Option<String> = self.may(kind.ts(), parse)?;
        let shown = self.text(kind.shown())?.unwrap_or_default().to_owned();
        Ok(channel
            .zip(ts)
            .map(|(channel, ts)| Post { channel, ts, shown }))
    }

    fn failure(&self) -> Result<Option<Failure>, LedgerError> {
        let Some(code) = self.may(a::FAILED_CODE, parse)? else {
            return Ok(None);
        };
        Ok(Some(Failure {
            step: self.text(a::FAILED_STEP)?.unwrap_or_default().to_owned(),
            code,
            message: self.text(a::FAILED_MESSAGE)?.unwrap_or_default().to_owned(),
            retry: self.flag(own::FAILED_RETRY)?,
        }))
    }

    fn closing(&self) -> Result<Option<Closing>, LedgerError> {
        let Some(at) = self.may(a::CLOSED_AT, parse)? else {
            return Ok(None);
        };
        Ok(Some(Closing {
            at,
            reason: self.text(a::CLOSE_REASON)?.unwrap_or_default().to_owned(),
            sealed: self.flag(a::SEALED)?,
            account_gone: self.flag(a::ACCOUNT_GONE)?,
            head: self.head(a::FINAL_SEQ, a::FINAL_HEAD)?,
            sessions: self.number(a::SESSIONS)?.unwrap_or(0),
            refused: self.number(a::REFUSED)?.unwrap_or(0),
            statements: self.number(a::STATEMENTS)?.unwrap_or(0),
            remarks: self.list(a::REMARKS)?.to_vec(),
        }))
    }
}
