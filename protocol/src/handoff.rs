//! The handoff: the one-time secret by which control gives a bastion what it needs.
//!
//! Control writes it after the launch, readable by that one instance; the agent fetches it, deletes it,
//! confirms that it is gone and redeems its token, once.

use crate::id::{AccountName, Attempt, ClusterId, Email, InstanceId, RequestId, SchemaName};
use crate::level::AccessLevel;
use crate::secret::{Secret, Token, expose_token};
use crate::ticket::Ticket;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// All that one bastion needs for one grant.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handoff {
    /// Version of this document: 1.
    pub v: u32,
    /// The request.
    pub request: RequestId,
    /// The try that this handoff belongs to.
    pub attempt: Attempt,
    /// The only instance that may use it.
    pub instance: InstanceId,
    /// Redeemed with control by `hello`, once.
    #[serde(serialize_with = "expose_token")]
    pub token: Token,
    /// What was approved.
    pub grant: Grant,
    /// The database's writer and the way to the grantor's credential.
    pub database: DatabaseTarget,
    /// The cluster's further instances, each by its own address: whoever is connected there is ended there too.
    /// Absent when there is none. An agent from before this field refuses a handoff that has it, so control's
    /// configuration names readers only once the image is of the same release.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub readers: Vec<DatabaseEndpoint>,
    /// Where this grant's sessions connect; absent: the writer. Accounts are opened and closed on the writer in any
    /// case. As new as `readers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<DatabaseEndpoint>,
    /// Control's permission that the database itself checks.
    pub ticket: Ticket,
    /// Where the evidence goes.
    pub evidence: EvidencePlaces,
    /// Times that this bastion keeps.
    pub times: BastionTimes,
}

/// An approved request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Who asked and works.
    pub operator: Email,
    /// The account's user name: the operator's email before `@`.
    pub account: AccountName,
    /// The AWS principal (ARN) that may log in; anyone else is refused.
    pub principal: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// How much.
    pub level: AccessLevel,
    /// Where; never empty.
    pub schemas: Vec<SchemaName>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who approved.
    pub approver: Email,
    /// When it was approved.
    pub approved_at: Timestamp,
    /// Length of the window in seconds; it starts when the bastion is ready.
    pub duration_s: u64,
}

/// How to reach the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseTarget {
    /// Writer endpoint's host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Certificates to trust in PEM; absent: the system's own roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
    /// Name of the grantor's credential in Secrets Manager: `{"username": …, "password": …}`.
    pub grantor_secret: String,
}

/// One more server of the same cluster: same certificates to trust, same grantor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseEndpoint {
    /// Host name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Where evidence is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvidencePlaces {
    /// CloudWatch log group.
    pub log_group: String,
    /// Log stream in it: `<request>/<instance>`.
    pub log_stream: String,
    /// Object-locked bucket for anchors; keys begin with the bastion's own `${aws:userid}`.
    pub anchor_bucket: String,
}

/// Times that a bastion keeps, all in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BastionTimes {
    /// When to warn before the deadline, longest first; 600, 300, 60 by default.
    pub warn_before_s: Vec<u64>,
    /// How often the account's lease (180 s) is renewed: 15.
    pub renew_lease_s: u64,
    /// How often control hears of the bastion: 15.
    pub heartbeat_s: u64,
    /// Evidence not shipped for this long freezes sessions: 30.
    pub freeze_after_s: u64,
    /// Evidence not shipped for this long ends the bastion: 120.
    pub end_after_s: u64,
}

/// A handoff that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandoffError {
    /// Not the document's JSON. Carries no text of it: it is a secret.
    #[error("the secret is not a handoff (line {line}, column {column})")]
    Malformed {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// Another version.
    #[error("the handoff has version {0}; this agent reads version 1")]
    Version(u32),
    /// Made for somebody else.
    #[error("the handoff was made for {field} {theirs}, this is {ours}")]
    NotOurs {
        /// Which of request, attempt and instance differs.
        field: &'static str,
        /// What the handoff names.
        theirs: String,
        /// What this bastion is.
        ours: String,
    },
}

impl Handoff {
    /// Reads a handoff and checks that it was made for this bastion.
    ///
    /// # Errors
    /// When the text is not a handoff of version 1, or names another request, attempt or instance.
    pub fn parse(
        text: &Secret,
        request: &RequestId,
        attempt: Attempt,
        instance: &InstanceId,
    ) -> Result<Self, HandoffError> {
        // serde_json quotes values in some of its messages; only the position is passed on.
        let handoff: Self =
            serde_json::from_str(text.expose()).map_err(|e| HandoffError::Malformed {
                line: e.line(),
                column: e.column(),
            })?;
        if handoff.v != 1 {
            return Err(HandoffError::Version(handoff.v));
        }
        let differs = |field, theirs: String, ours: String| {
            if theirs == ours {
                Ok(())
            } else {
                Err(HandoffError::NotOurs {
                    field,
                    theirs,
                    ours,
                })
            }
        };
        differs("request", handoff.request.to_string(), request.to_string())?;
        differs("attempt", handoff.attempt.to_string(), attempt.to_string())?;
        differs(
            "instance",
            handoff.instance.to_string(),
            instance.to_string(),
        )?;
        Ok(handoff)
    }

    /// The secret's text, tokens included.
    ///
    /// # Errors
    /// Never in practice: every field serialises.
    pub fn to_secret(&self) -> Result<Secret, serde_json::Error> {
        let mut text = Zeroizing::new(Vec::with_capacity(4096));
        serde_json::to_writer(&mut *text, self)?;
        Ok(Secret::new(String::from_utf8_lossy(&text).into_owned()))
    }
}
