//! Speaking to control: one POST a message, answers believed only when control signed them.
//!
//! The only file of the agent that speaks HTTP itself. Control's public key comes with the boot document.

use crate::failure::{Coded, causes};
use ed25519_dalek::{SigningKey, VerifyingKey};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use powerpole_protocol::boot::ControlEndpoint;
use powerpole_protocol::callback::{
    Answer, CLOSED, Closed, FAILED, Failed, HEARTBEAT, HELLO, Heartbeat, Hello, READY, Ready,
    Refusal,
};
use powerpole_protocol::envelope::{Envelope, Message, body_digest, parse_key};
use serde::Serialize;
use std::time::Duration;
use zeroize::Zeroizing;

/// Longest time for one exchange.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(20);
/// Largest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Control did not give an answer that counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// The boot document's address or keys are not usable.
    #[error("the boot document's control {0} is not usable")]
    Endpoint(&'static str),
    /// No answer came; the message may have arrived.
    #[error("control at {path} did not answer")]
    Unreachable {
        /// Which message.
        path: &'static str,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Control asks for a repetition.
    #[error("control asks to repeat {path}: {message}")]
    Later {
        /// Which message.
        path: &'static str,
        /// Control's words.
        message: String,
    },
    /// Control refuses for good.
    #[error("control refused {path}: {message} ({code})")]
    Refused {
        /// Which message.
        path: &'static str,
        /// Control's stable code.
        code: String,
        /// Control's words.
        message: String,
    },
    /// Somebody answered who does not hold control's key, or answered something else.
    #[error("the answer to {path} is not control's")]
    Forged {
        /// Which message.
        path: &'static str,
    },
}

impl Coded for ControlError {
    fn code(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "control_endpoint",
            Self::Unreachable { .. } => "control_unreachable",
            Self::Later { .. } => "control_not_yet",
            Self::Refused { code, .. } if code == "redeemed" => "handoff_redeemed",
            Self::Refused { .. } => "control_refused",
            Self::Forged { .. } => "control_forged",
        }
    }
}

impl ControlError {
    /// Whether the same message may be answered later.
    pub(crate) fn may_pass(&self) -> bool {
        // An unsigned or forged answer must not end the wait either: anyone on the path could send one.
        matches!(
            self,
            Self::Unreachable { .. } | Self::Later { .. } | Self::Forged { .. }
        )
    }
}

/// The way to control; clones share its connections.
#[derive(Clone)]
pub(crate) struct Control {
    client: Client<HttpsConnector<HttpConnector>, Full<bytes::Bytes>>,
    url: String,
    key: VerifyingKey,
    bastion: SigningKey,
}

impl Control {
    /// Prepares the way; nothing is sent.
    ///
    /// # Errors
    /// When the endpoint's address or key cannot be used.
    pub(crate) fn new(
        endpoint: &ControlEndpoint,
        bastion: SigningKey,
    ) -> Result<Self, ControlError> {
        let key =
            parse_key(&endpoint.signing_key).map_err(|_| ControlError::Endpoint("signing key"))?;
        let url = endpoint.url.trim_end_matches('/').to_owned();
        let uri: hyper::Uri = url.parse().map_err(|_| ControlError::Endpoint("address"))?;
        if uri.host().is_none() {
            return Err(ControlError::Endpoint("address"));
        }
        // Envelopes carry the truth, so plain HTTP inside a private network is a choice of the installation.
        let https = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|_| ControlError::Endpoint("address: the system has no root certificates"))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(https),
            url,
            key,
            bastion,
        })
    }

    /// Redeems the handoff's token.
    ///
    /// # Errors
    /// [`ControlError::Refused`] when the token was redeemed by another key or is not known.
    pub(crate) async fn hello(&self, hello: &Hello) -> Result<Answer, ControlError> {
        self.say_plainly(HELLO, hello).await
    }

    /// Gives up.
    ///
    /// # Errors
    /// When control gives no answer that counts.
    pub(crate) async fn failed(&self, failed: &Failed) -> Result<Answer, ControlError> {
        self.say_plainly(FAILED, failed).await
    }

    /// Says that the bastion is ready; answered when Slack has taken the operator's message.
    ///
    /// # Errors
    /// [`ControlError::Later`] until then.
    pub(crate) async fn ready(&self, ready: &Ready) -> Result<Answer, ControlError> {
        self.say_signed(READY, ready).await
    }

    /// Says that the bastion lives.
    ///
    /// # Errors
    /// When control gives no answer that counts.
    pub(crate) async fn heartbeat(&self, heartbeat: &Heartbeat) -> Result<Answer, ControlError> {
        self.say_signed(HEARTBEAT, heartbeat).await
    }

    /// Says the last word.
    ///
    /// # Errors
    /// When control gives no answer that counts.
    pub(crate) async fn closed(&self, closed: &Closed) -> Result<Answer, ControlError> {
        self.say_signed(CLOSED, closed).await
    }

    async fn say_plainly<M: Serialize>(
        &self,
        path: &'static str,
        message: &M,
    ) -> Result<Answer, ControlError> {
        let body = Zeroizing::new(serialise(path, message)?);
        let digest = body_digest(&body);
        self.post(path, &body, &digest).await
    }

    async fn say_signed<M: Message>(
        &self,
        path: &'static str,
        message: &M,
    ) -> Result<Answer, ControlError> {
        let envelope =
            Envelope::sign(message, &self.bastion).map_err(|error| ControlError::Unreachable {
                path,
                source: Box::new(error),
            })?;
        self.post(path, &serialise(path, &envelope)?, &envelope.digest())
            .await
    }

    async fn post(
        &self,
        path: &'static str,
        body: &str,
        digest: &str,
    ) -> Result<Answer, ControlError> {
        let exchange = self.exchange(path, body);
        let (status, text) = tokio::time::timeout(EXCHANGE_LIMIT, exchange)
            .await
            .map_err(|error| ControlError::Unreachable {
                path,
                source: Box::new(error),
            })??;
        if status != StatusCode::OK {
            return Err(refusal(path, status, &text));
        }
        let envelope: Envelope =
            serde_json::from_slice(&text).map_err(|_| ControlError::Forged { path })?;
        let answer: Answer = envelope
            .open(&self.key)
            .map_err(|_| ControlError::Forged { path })?;
        if answer.to == digest {
            Ok(answer)
        } else {
            Err(ControlError::Forged { path })
        }
    }

    async fn exchange(
        &self,
        path: &'static str,
        body: &str,
    ) -> Result<(StatusCode, bytes::Bytes), ControlError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| {
            ControlError::Unreachable { path, source }
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}{path}", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(bytes::Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|error| unreachable(Box::new(error)))?;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|error| unreachable(Box::new(error)))?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(unreachable)?;
        Ok((status, text.to_bytes()))
    }
}

fn serialise<M: Serialize>(path: &'static str, message: &M) -> Result<String, ControlError> {
    serde_json::to_string(message).map_err(|error| ControlError::Unreachable {
        path,
        source: Box::new(error),
    })
}

fn refusal(path: &'static str, status: StatusCode, text: &[u8]) -> ControlError {
    let refusal = serde_json::from_slice(text).unwrap_or_else(|_| Refusal {
        code: status.as_str().to_owned(),
        message: "without a reason".to_owned(),
    });
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        ControlError::Later {
            path,
            message: refusal.message,
        }
    } else {
        ControlError::Refused {
            path,
            code: refusal.code,
            message: refusal.message,
        }
    }
}

/// Repeats `exchange` with growing pauses until it is answered for good or `limit` has passed.
///
/// # Errors
/// The last error.
pub(crate) async fn persist<F, A>(limit: Duration, mut exchange: F) -> Result<Answer, ControlError>
where
    F: FnMut() -> A,
    A: Future<Output = Result<Answer, ControlError>>,
{
    let start = crate::clock::boottime();
    let mut pause = Duration::from_millis(250);
    loop {
        match exchange().await {
            Err(error) if error.may_pass() && crate::clock::boottime().since(start) < limit => {
                tracing::warn!(
                    error = causes(&error),
                    "control did not take a message, repeating"
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
            outcome => return outcome,
        }
    }
}
