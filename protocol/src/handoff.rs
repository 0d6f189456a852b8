//! The handoff: the one-time secret by which control gives a bastion what it needs.
//!
//! Control writes it after the launch, readable by that one instance; the agent fetches it, deletes it,
//! confirms that it is gone and redeems its token, once.

use crate::id::{
    AccountName, Attempt, ClusterId, Email, GrantorSecretName, InstanceId, RequestId, SchemaName,
};
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
    /// Where the way to the database is written down; control has no say in that way.
    pub database: DatabaseAccess,
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

/// Where the way to the database is written down. No host, port, certificate or user is named here: those are the
/// database's owner's to say ([`crate::grantor::GrantorSecret`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseAccess {
    /// Name of the grantor's secret.
    pub grantor_secret: GrantorSecretName,
    /// Where this grant's sessions connect. Accounts are opened and closed on the writer in any case.
    pub session: SessionServer,
}

/// The server of the cluster that a grant's sessions connect to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionServer {
    /// The writer.
    #[default]
    Writer,
    /// The first of the cluster's readers.
    Reader,
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

/// A bastion holds evidence back no longer than this before it freezes its sessions, whatever control says.
pub const MAX_FREEZE_AFTER_S: u64 = 60;
/// And no longer than this before it ends.
pub const MAX_END_AFTER_S: u64 = 300;

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
    /// Evidence not shipped for this long freezes sessions: 30. At most [`MAX_FREEZE_AFTER_S`].
    pub freeze_after_s: u64,
    /// Evidence not shipped for this long ends the bastion: 120. At most [`MAX_END_AFTER_S`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn document() -> Value {
        json!({
            "v": 1, "request": "req-01jd8z3v5k9q4m2n7p6r8s1t0w", "attempt": 1, "instance": "i-0123456789abcdef0",
            "token": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
            "grant": {
                "operator": "alice@example.com", "account": "alice", "principal": "arn:aws:sts::1:assumed-role/R/alice",
                "cluster": "orders-prod", "level": "READ", "schemas": ["orders"], "reason": "why",
                "approver": "bob@example.com", "approved_at": "2026-11-26T10:00:00Z", "duration_s": 900,
            },
            "database": { "grantor_secret": "powerpole/grantor/orders-prod", "session": "writer" },
            "ticket": {
                "key_id": "k1", "request": "req-01jd8z3v5k9q4m2n7p6r8s1t0w", "account": "alice", "level": "READ",
                "schemas": ["orders"], "not_after": 1_800_000_000u64, "nonce": "30313233343536373839616263646566",
                "mac": "0f".repeat(32),
            },
            "evidence": { "log_group": "g", "log_stream": "s", "anchor_bucket": "b" },
            "times": {
                "warn_before_s": [60], "renew_lease_s": 15, "heartbeat_s": 15, "freeze_after_s": 30, "end_after_s": 120,
            },
        })
    }

    fn read(document: &Value) -> Result<Handoff, HandoffError> {
        Handoff::parse(
            &Secret::new(document.to_string()),
            &"req-01jd8z3v5k9q4m2n7p6r8s1t0w".parse().unwrap(),
            Attempt::FIRST,
            &"i-0123456789abcdef0".parse().unwrap(),
        )
    }

    #[test]
    fn a_handoff_is_what_it_was_written_as() {
        let handoff = read(&document()).unwrap();
        let again: Value = serde_json::from_str(handoff.to_secret().unwrap().expose()).unwrap();
        assert_eq!(again, document());
    }

    /// The attack: a control that was taken over sends the agent, and with it the grantor's password, to its own server.
    #[test]
    fn control_cannot_name_a_server_a_certificate_or_a_user() {
        for (at, value) in [
            ("host", json!("10.66.6.6")),
            ("port", json!(3306)),
            ("ca_pem", json!("-----BEGIN CERTIFICATE-----")),
            ("username", json!("powerpole_grantor")),
            ("readers", json!([{ "host": "10.66.6.6", "port": 3306 }])),
        ] {
            let mut forged = document();
            forged["database"][at] = value.clone();
            assert!(
                matches!(read(&forged), Err(HandoffError::Malformed { .. })),
                "{at}"
            );
            let mut forged = document();
            forged[at] = value;
            assert!(
                matches!(read(&forged), Err(HandoffError::Malformed { .. })),
                "{at}"
            );
        }
        let mut forged = document();
        forged["session"] = json!({ "host": "10.66.6.6", "port": 3306 });
        assert!(read(&forged).is_err());
        forged = document();
        forged["database"]["session"] = json!({ "host": "10.66.6.6", "port": 3306 });
        assert!(read(&forged).is_err());
    }

    /// Control may write secrets of its own below `powerpole/handoff/`, and secrets of another account by their ARN.
    #[test]
    fn control_cannot_name_a_secret_that_is_not_the_owners() {
        for name in [
            "powerpole/handoff/0123456789abcdef0123456789abcdef",
            "arn:aws:secretsmanager:us-east-1:666666666666:secret:powerpole/grantor/orders-prod-AbCdEf",
            "powerpole/grantor/",
            "powerpole/grantor/../handoff/x",
            " powerpole/grantor/orders-prod",
            "POWERPOLE/grantor/orders-prod",
            "",
        ] {
            let mut forged = document();
            forged["database"]["grantor_secret"] = name.into();
            assert!(
                matches!(read(&forged), Err(HandoffError::Malformed { .. })),
                "{name}"
            );
        }
    }
}
