//! The bastion API: the HTTP side of `protocol::callback`. Owns sizes, times, statuses and the signing of
//! answers; [`answer`] holds what each message does. Logs no body.

pub mod answer;
pub mod ready;

use crate::listener::in_time;
use crate::service::{Service, StepError};
use answer::{Answered, Refusing};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use powerpole_protocol::callback::{
    self, Answer, Closed, Failed, Heartbeat, Hello, Ready, Refusal,
};
use powerpole_protocol::envelope::{Envelope, body_digest};
use std::sync::Arc;
use std::time::Duration;

/// The largest body that is read, in bytes.
const BODY_LIMIT: usize = 64 * 1024;
/// No answer waits longer for its work, which goes on; agents wait 20 s.
const TIMEOUT: Duration = Duration::from_secs(18);
/// No request takes longer, however slowly its body comes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// The routes of the bastion API, and `/healthz`.
pub fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(callback::HELLO, post(hello))
        .route(callback::READY, post(ready))
        .route(callback::HEARTBEAT, post(heartbeat))
        .route(callback::CLOSED, post(closed))
        .route(callback::FAILED, post(failed))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(|request, next| {
            in_time(REQUEST_TIMEOUT, request, next)
        }))
        .with_state(service)
}

async fn hello(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Some((message, to)) = clear::<Hello>(&body) else {
        return malformed();
    };
    let worker = Arc::clone(&service);
    let work = async move { answer::hello(&worker, &message).await };
    respond(&service, "hello", to, work).await
}

async fn failed(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Some((message, to)) = clear::<Failed>(&body) else {
        return malformed();
    };
    let worker = Arc::clone(&service);
    let work = async move { answer::failed(&worker, &message).await };
    respond(&service, "failed", to, work).await
}

async fn ready(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) else {
        return malformed();
    };
    let to = envelope.digest();
    let worker = Arc::clone(&service);
    let work = async move {
        let (message, item) = answer::open::<Ready>(&worker, &envelope).await?;
        ready::ready(&worker, &message, item).await
    };
    respond(&service, "ready", to, work).await
}

async fn heartbeat(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) else {
        return malformed();
    };
    let to = envelope.digest();
    let worker = Arc::clone(&service);
    let work = async move {
        let (message, item) = answer::open::<Heartbeat>(&worker, &envelope).await?;
        answer::heartbeat(&worker, &message, item).await
    };
    respond(&service, "heartbeat", to, work).await
}

async fn closed(State(service): State<Arc<Service>>, body: Bytes) -> Response {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) else {
        return malformed();
    };
    let to = envelope.digest();
    let worker = Arc::clone(&service);
    let work = async move {
        let (message, item) = answer::open::<Closed>(&worker, &envelope).await?;
        answer::closed(&worker, &message, item).await
    };
    respond(&service, "closed", to, work).await
}

/// A message in clear JSON, and the digest of its body.
fn clear<T: serde::de::DeserializeOwned>(body: &Bytes) -> Option<(T, String)> {
    let text = std::str::from_utf8(body).ok()?;
    Some((serde_json::from_str(text).ok()?, body_digest(text)))
}

async fn respond(
    service: &Service,
    kind: &'static str,
    to: String,
    work: impl Future<Output = Result<Answered, Refusing>> + Send + 'static,
) -> Response {
    // Beside the connection: an agent that hangs up must not leave a DM written and its claim taken.
    let running = service.tasks.spawn(work);
    let worked = match tokio::time::timeout(TIMEOUT, running).await {
        Ok(Ok(worked)) => worked,
        Ok(Err(_)) | Err(_) => Err(Refusing::NotYet("it took too long")),
    };
    match worked {
        Ok(Answered { deadline, commands }) => {
            let answer = Answer {
                to,
                deadline,
                commands,
            };
            match Envelope::sign(&answer, &service.keys.signing) {
                Ok(envelope) => Json(envelope).into_response(),
                Err(_) => refuse(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "the answer cannot be written",
                ),
            }
        }
        Err(refusing) => {
            let (status, code, message) = refusal(&refusing);
            tracing::warn!(kind, code, status = status.as_u16(), error = %refusing, "refused a bastion's message");
            refuse(status, code, message)
        }
    }
}

fn refusal(refusing: &Refusing) -> (StatusCode, &'static str, &'static str) {
    match refusing {
        Refusing::Malformed(_) => (
            StatusCode::BAD_REQUEST,
            "malformed",
            "the message is not what this path takes",
        ),
        Refusing::Unauthorised(_) => (
            StatusCode::UNAUTHORIZED,
            "unauthorised",
            "this is not known here",
        ),
        Refusing::Redeemed => (
            StatusCode::CONFLICT,
            "redeemed",
            "the handoff's token was redeemed by another key",
        ),
        Refusing::Superseded => (StatusCode::CONFLICT, "superseded", "this try is over"),
        Refusing::NotYet(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not_yet",
            "repeat in a moment",
        ),
        Refusing::Step(
            StepError::Ledger(_)
            | StepError::Cloud(_)
            | StepError::Chat(_)
            | StepError::Key(_)
            | StepError::Doubt(_)
            | StepError::Refused(_)
            | StepError::Early
            | StepError::Over
            | StepError::Document(_),
        ) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "repeat in a moment",
        ),
    }
}

fn refuse(status: StatusCode, code: &str, message: &str) -> Response {
    (
        status,
        Json(Refusal {
            code: code.to_owned(),
            message: message.to_owned(),
        }),
    )
        .into_response()
}

fn malformed() -> Response {
    refuse(
        StatusCode::BAD_REQUEST,
        "malformed",
        "the message is not what this path takes",
    )
}
