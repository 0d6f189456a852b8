//! What the workspace sends to control, as Slack sends it: form-encoded, signed, acknowledged
//! within 3 s or failed. Nothing is sent twice.

use super::clock;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::Sha256;
use std::time::Duration;

/// Largest acknowledgement that is read, in bytes.
const ACK_MAX: usize = 1024 * 1024;

/// Control as Slack sees it.
pub(crate) struct Control {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    signing_secret: String,
    ack_limit: Duration,
}

/// What control answered in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The body, often empty.
    pub(crate) body: String,
}

/// Why there is no acknowledgement.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum NoAck {
    /// Nothing within the limit.
    #[error("control did not answer in time")]
    Timeout,
    /// An answer that is not 200.
    #[error("control answered with status {0}")]
    Status(u16),
    /// No connection, or a broken one.
    #[error("control could not be reached")]
    Unreachable,
}

impl NoAck {
    /// What Slack calls it after a slash command.
    pub(crate) fn command_code(&self) -> &'static str {
        match self {
            Self::Timeout => "operation_timeout",
            Self::Status(_) | Self::Unreachable => "dispatch_failed",
        }
    }

    /// What Slack writes beside a button.
    pub(crate) fn button_text(&self) -> String {
        match self {
            Self::Timeout => {
                "Operation timed out. Apps need to respond within 3 seconds.".to_owned()
            }
            Self::Status(code) => format!("This app responded with Status Code {code}."),
            Self::Unreachable => "Slack could not reach this app.".to_owned(),
        }
    }
}

impl Control {
    /// Control at this address (`http://host:port`), without a slash at the end.
    pub(crate) fn new(base: &str, signing_secret: String, ack_limit: Duration) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()),
            base: base.trim_end_matches('/').to_owned(),
            signing_secret,
            ack_limit,
        }
    }

    /// Where control is said to be.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Sends a slash command.
    pub(crate) async fn command(&self, fields: &[(&str, &str)]) -> Result<Ack, NoAck> {
        self.send("/slack/commands", fields).await
    }

    /// Sends an interaction.
    pub(crate) async fn interaction(&self, payload: &serde_json::Value) -> Result<Ack, NoAck> {
        self.send("/slack/interactions", &[("payload", &payload.to_string())])
            .await
    }

    async fn send(&self, path: &str, fields: &[(&str, &str)]) -> Result<Ack, NoAck> {
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let timestamp = clock::now_s().to_string();
        let signature = sign(&self.signing_secret, &timestamp, &body);
        let request = Request::post(format!("{}{path}", self.base))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(
                header::USER_AGENT,
                "Slackbot 1.0 (+https://api.slack.com/robots)",
            )
            .header("x-slack-request-timestamp", timestamp)
            .header("x-slack-signature", signature)
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| NoAck::Unreachable)?;
        let exchange = async {
            let answer = self
                .client
                .request(request)
                .await
                .map_err(|_| NoAck::Unreachable)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ACK_MAX).collect().await;
            let body = body.map_err(|_| NoAck::Unreachable)?.to_bytes();
            if status != StatusCode::OK {
                return Err(NoAck::Status(status.as_u16()));
            }
            Ok(Ack {
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        tokio::time::timeout(self.ack_limit, exchange)
            .await
            .unwrap_or(Err(NoAck::Timeout))
    }
}

/// Slack's request signature: `v0=` and the hex HMAC-SHA256 of `v0:<timestamp>:<body>`.
pub(crate) fn sign(secret: &str, timestamp: &str, body: &str) -> String {
    // HMAC takes keys of any length, so there is nothing to report.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("v0:{timestamp}:{body}").as_bytes());
    let mut out = String::from("v0=");
    for byte in mac.finalize().into_bytes() {
        out.push_str(&format!("{byte:02x}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's page "Verifying requests from Slack".
    #[test]
    fn the_signature_is_slacks_own_example() {
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow\
            &channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner\
            &command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2F\
            commands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=\
            398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let body: String = body.split_whitespace().collect();
        assert_eq!(
            sign("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", &body),
            "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
        );
    }
}
