//! The one file that talks to Slack's Web API. Thin, over hyper, so that no body is ever logged or kept: the
//! DM carries a password (docs/decisions/slack-client.md says why this is not slack-morphism's client).

use super::spell::spell;
use super::view::Message;
use crate::request::Person;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use powerpole_protocol::id::Email;
use powerpole_protocol::secret::Secret;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use zeroize::Zeroizing;

/// No call takes longer; shorter than a claim of the ledger.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// Slack did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// No answer, or not one of Slack's: it may have happened.
    #[error("slack's {method} did not answer: {detail}")]
    Unavailable {
        /// Which call.
        method: &'static str,
        /// What went wrong; never a body.
        detail: String,
    },
    /// Too many calls; nothing happened.
    #[error("slack's {method} asks to wait {wait_s} s")]
    Limited {
        /// Which call.
        method: &'static str,
        /// For how long.
        wait_s: u64,
    },
    /// Slack refused; nothing happened.
    #[error("slack's {method} refused: {code}")]
    Refused {
        /// Which call.
        method: &'static str,
        /// Slack's own code.
        code: String,
    },
}

impl ChatError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "slack_unavailable",
            Self::Limited { .. } => "slack_limited",
            Self::Refused { .. } => "slack_refused",
        }
    }

    /// Whether the message that should be updated is no more.
    #[must_use]
    pub fn message_is_gone(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "message_not_found")
    }
}

/// The conversation with people.
///
/// Contract: `post` may have happened after an error and is repeated under a claim of the ledger; at worst a
/// message without a secret shows twice. `update` is idempotent: whatever holds a password goes by `update`
/// of a message that was posted without it. Times out after 10 s.
pub trait Chat: Send + Sync {
    /// Who this user is now. `None` when they are deactivated, a bot, a guest, no member of our workspace, or have
    /// no address that Slack vouches for.
    fn person<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Option<Person>, ChatError>>;
    /// Opens a modal.
    fn open_view<'a>(
        &'a self,
        trigger: &'a str,
        view: &'a Value,
    ) -> BoxFuture<'a, Result<(), ChatError>>;
    /// The channel of the app's DM with this user.
    fn direct_channel<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<String, ChatError>>;
    /// Posts a message and gives its timestamp.
    fn post<'a>(
        &'a self,
        channel: &'a str,
        thread: Option<&'a str>,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<String, ChatError>>;
    /// Replaces a message. The secret, if any, goes where the message's mark stands.
    fn update<'a>(
        &'a self,
        channel: &'a str,
        ts: &'a str,
        message: &'a Message,
        secret: Option<&'a Secret>,
    ) -> BoxFuture<'a, Result<(), ChatError>>;
    /// Shows a text to one user only.
    fn whisper<'a>(
        &'a self,
        channel: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), ChatError>>;
}

/// Slack's Web API.
pub struct SlackApi {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    team: String,
    authorization: header::HeaderValue,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The system's certificates cannot be read.
    #[error("cannot read the system's certificates")]
    Roots(#[source] std::io::Error),
    /// The token cannot stand in a header.
    #[error("the bot token holds characters that no token has")]
    Token,
}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    error: Option<String>,
    ts: Option<String>,
    channel: Option<Value>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    is_stranger: bool,
    #[serde(default)]
    is_restricted: bool,
    #[serde(default)]
    is_ultra_restricted: bool,
    is_email_confirmed: Option<bool>,
    team_id: Option<String>,
    enterprise_user: Option<EnterpriseUser>,
    #[serde(default)]
    profile: Profile,
}

/// A person of an Enterprise Grid organisation belongs to workspaces of it.
#[derive(Deserialize)]
struct EnterpriseUser {
    #[serde(default)]
    teams: Vec<String>,
}

#[derive(Deserialize, Default)]
struct Profile {
    email: Option<String>,
}

impl User {
    /// Whether this is a full member of the workspace, at present, and Slack vouches for the address.
    ///
    /// `is_stranger` is false for people of other companies who share a channel with us (Slack Connect), so that
    /// membership alone counts.
    fn is_member(&self, team: &str) -> bool {
        let ours = self.team_id.as_deref() == Some(team)
            || self
                .enterprise_user
                .as_ref()
                .is_some_and(|user| user.teams.iter().any(|theirs| theirs == team));
        ours && !self.deleted
            && !self.is_bot
            && !self.is_stranger
            && !self.is_restricted
            && !self.is_ultra_restricted
            && self.is_email_confirmed != Some(false)
    }
}

impl SlackApi {
    /// A client of the Web API under this base URL (with a trailing slash). Only members of the workspace `team` are
    /// anybody.
    ///
    /// # Errors
    /// When the system's certificates or the token cannot be used.
    pub fn new(base: &str, token: &Secret, team: &str) -> Result<Self, ClientError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(
                tokio_rustls::rustls::crypto::aws_lc_rs::default_provider(),
            )
            .map_err(ClientError::Roots)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let line = Zeroizing::new(format!("Bearer {}", token.expose()));
        let mut authorization =
            header::HeaderValue::from_str(&line).map_err(|_| ClientError::Token)?;
        authorization.set_sensitive(true);
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            base: base.to_owned(),
            team: team.to_owned(),
            authorization,
        })
    }

    async fn json(
        &self,
        method: &'static str,
        body: &Value,
        secret: Option<&Secret>,
    ) -> Result<Answer, ChatError> {
        let text = spell(body, secret);
        let body = Bytes::from_owner(Owned(text));
        self.call(method, "application/json; charset=utf-8", body)
            .await
    }

    async fn form(
        &self,
        method: &'static str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, ChatError> {
        let body = serde_urlencoded::to_string(fields).map_err(|e| ChatError::Unavailable {
            method,
            detail: e.to_string(),
        })?;
        self.call(
            method,
            "application/x-www-form-urlencoded",
            Bytes::from(body),
        )
        .await
    }

    async fn call(
        &self,
        method: &'static str,
        kind: &'static str,
        body: Bytes,
    ) -> Result<Answer, ChatError> {
        let failed = |detail: String| ChatError::Unavailable { method, detail };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{method}", self.base))
            .header(header::AUTHORIZATION, self.authorization.clone())
            .header(header::CONTENT_TYPE, kind)
            .body(Full::new(body))
            .map_err(|e| failed(e.to_string()))?;
        let answered = async {
            let response = self
                .http
                .request(request)
                .await
                .map_err(|e| failed(chain(&e)))?;
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                let wait = response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|v| v.to_str().ok());
                let wait_s = wait.and_then(|v| v.parse().ok()).unwrap_or(1);
                return Err(ChatError::Limited { method, wait_s });
            }
            let status = response.status();
            let bytes = Limited::new(response.into_body(), ANSWER_LIMIT)
                .collect()
                .await
                .map_err(|_| failed("its answer broke off".to_owned()))?
                .to_bytes();
            // Slack echoes the message; the echo is wiped like the message.
            let bytes = Zeroizing::new(bytes.to_vec());
            serde_json::from_slice::<Answer>(&bytes)
                .map_err(|_| failed(format!("its answer is no JSON (HTTP {status})")))
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, answered)
            .await
            .map_err(|_| failed("no answer within 10 s".to_owned()))??;
        if answer.ok {
            Ok(answer)
        } else {
            Err(ChatError::Refused {
                method,
                code: answer.error.unwrap_or_else(|| "no reason".to_owned()),
            })
        }
    }
}

impl Chat for SlackApi {
    fn person<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<Option<Person>, ChatError>> {
        Box::pin(async move {
            let answer = self.form("users.info", &[("user", user)]).await?;
            let Some(found) = answer.user.filter(|found| found.id == user) else {
                return Err(incomplete("users.info"));
            };
            if !found.is_member(&self.team) {
                return Ok(None);
            }
            let email = found
                .profile
                .email
                .and_then(|text| Email::parse(&text.to_lowercase()).ok());
            Ok(email.map(|email| Person {
                slack: found.id,
                email,
            }))
        })
    }

    fn open_view<'a>(
        &'a self,
        trigger: &'a str,
        view: &'a Value,
    ) -> BoxFuture<'a, Result<(), ChatError>> {
        Box::pin(async move {
            let _ = self
                .json(
                    "views.open",
                    &json!({"trigger_id": trigger, "view": view}),
                    None,
                )
                .await?;
            Ok(())
        })
    }

    fn direct_channel<'a>(&'a self, user: &'a str) -> BoxFuture<'a, Result<String, ChatError>> {
        Box::pin(async move {
            let answer = self
                .json("conversations.open", &json!({"users": user}), None)
                .await?;
            let id = answer
                .channel
                .as_ref()
                .and_then(|c| c.get("id"))
                .and_then(Value::as_str);
            id.map(str::to_owned)
                .ok_or_else(|| incomplete("conversations.open"))
        })
    }

    fn post<'a>(
        &'a self,
        channel: &'a str,
        thread: Option<&'a str>,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<String, ChatError>> {
        Box::pin(async move {
            let mut body = json!({"channel": channel, "text": message.text, "blocks": message.blocks,
                "unfurl_links": false, "unfurl_media": false});
            if let (Some(thread), Some(fields)) = (thread, body.as_object_mut()) {
                fields.insert("thread_ts".to_owned(), thread.into());
            }
            let answer = self.json("chat.postMessage", &body, None).await?;
            answer.ts.ok_or_else(|| incomplete("chat.postMessage"))
        })
    }

    fn update<'a>(
        &'a self,
        channel: &'a str,
        ts: &'a str,
        message: &'a Message,
        secret: Option<&'a Secret>,
    ) -> BoxFuture<'a, Result<(), ChatError>> {
        Box::pin(async move {
            let body = json!({"channel": channel, "ts": ts, "text": message.text, "blocks": message.blocks});
            let _ = self.json("chat.update", &body, secret).await?;
            Ok(())
        })
    }

    fn whisper<'a>(
        &'a self,
        channel: &'a str,
        user: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), ChatError>> {
        Box::pin(async move {
            let _ = self
                .json(
                    "chat.postEphemeral",
                    &json!({"channel": channel, "user": user, "text": text}),
                    None,
                )
                .await?;
            Ok(())
        })
    }
}

struct Owned(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn incomplete(method: &'static str) -> ChatError {
    ChatError::Unavailable {
        method,
        detail: "its answer lacks what was asked for".to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text.push_str(": ");
        text.push_str(&next.to_string());
        source = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(more: Value) -> User {
        let mut user =
            json!({"id": "U1", "team_id": "T1", "profile": {"email": "alice@example.com"}});
        if let (Some(user), Some(more)) = (user.as_object_mut(), more.as_object()) {
            user.extend(more.clone());
        }
        serde_json::from_value(user).unwrap()
    }

    #[test]
    fn members_of_our_workspace_alone_are_anybody() {
        for member in [
            json!({}),
            json!({"is_stranger": false, "is_restricted": false, "is_email_confirmed": true}),
            json!({"team_id": "T2", "enterprise_user": {"id": "W1", "enterprise_id": "E1", "teams": ["T3", "T1"]}}),
        ] {
            assert!(user(member.clone()).is_member("T1"), "{member}");
        }
        for nobody in [
            json!({"team_id": "T2", "is_stranger": false}),
            json!({"team_id": null}),
            json!({"team_id": "E1", "enterprise_user": {"id": "W1", "enterprise_id": "E1"}}),
            json!({"team_id": "T2", "enterprise_user": {"id": "W1", "teams": ["T2", "T10"]}}),
            json!({"is_stranger": true}),
            json!({"is_restricted": true}),
            json!({"is_ultra_restricted": true}),
            json!({"deleted": true}),
            json!({"is_bot": true}),
            json!({"is_email_confirmed": false}),
        ] {
            assert!(!user(nobody.clone()).is_member("T1"), "{nobody}");
        }
    }
}
