//! The page, its live updates, and the same acts over HTTP for scripts (`/_stage/…`).
//!
//! Everything here stands in for a person at Slack's client; whoever reaches the address may act as
//! anyone. It listens inside the stage and is forwarded to loopback only.

use super::act::{self, ActError};
use super::click::{self, Click};
use super::faults::Planned;
use super::inputs::Typed;
use super::people;
use super::submit::{self, Submitted};
use super::{Workspace, clock};
use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

type Shared = State<Arc<Workspace>>;

/// One file of the page.
pub(crate) fn file(name: &str) -> Option<Response> {
    let (kind, body) = match name {
        "" => ("text/html; charset=utf-8", include_str!("page/index.html")),
        "style.css" => ("text/css; charset=utf-8", include_str!("page/style.css")),
        "app.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/app.js"),
        ),
        "icons.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/icons.js"),
        ),
        "mrkdwn.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/mrkdwn.js"),
        ),
        "blocks.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/blocks.js"),
        ),
        "inputs.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/inputs.js"),
        ),
        "dialogs.js" => (
            "text/javascript; charset=utf-8",
            include_str!("page/dialogs.js"),
        ),
        "icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    Some((headers, body).into_response())
}

/// Who looks.
#[derive(Deserialize)]
pub(crate) struct Viewer {
    user: String,
}

/// `GET /_stage/state?user=`: all that one person sees.
pub(crate) async fn state(State(workspace): Shared, Query(viewer): Query<Viewer>) -> Response {
    let Some(me) = people::person_named(&viewer.user) else {
        return refuse(&ActError::UnknownPerson);
    };
    let store = workspace.store();
    let messages: Vec<Value> = store
        .messages()
        .iter()
        .filter(|message| message.visible_to(me.id))
        .map(|message| {
            let mut out = message.json();
            if let Some(fields) = out.as_object_mut() {
                fields.insert("channel".into(), json!(message.channel));
                fields.insert("by_app".into(), json!(message.by_app));
                fields.insert("ephemeral".into(), json!(message.only_for.is_some()));
                fields.insert("from_slack".into(), json!(message.from_slack));
            }
            out
        })
        .collect();
    let channels: Vec<Value> = people::conversations()
        .iter()
        .filter(|found| found.has(me.id))
        .map(|found| {
            json!({"id": found.id, "name": found.name, "dm": found.dm_with.is_some(),
                   "members": found.members})
        })
        .collect();
    let views: Vec<&Value> = store.views(me.id).iter().map(|open| &open.json).collect();
    Json(json!({
        "revision": store.revision(), "me": me.id, "people": cast(), "channels": channels,
        "messages": messages, "views": views, "control": workspace.control.base(),
    }))
    .into_response()
}

/// `GET /_stage/people`: the cast, for scripts.
pub(crate) async fn everybody() -> Json<Value> {
    let channels: Vec<Value> = people::conversations()
        .iter()
        .map(|found| json!({"id": found.id, "name": found.name, "members": found.members}))
        .collect();
    Json(json!({
        "ok": true, "people": cast(), "channels": channels,
        "bot_user": people::BOT_USER, "bot": people::BOT, "app": people::APP, "team": people::TEAM,
    }))
}

fn cast() -> Vec<Value> {
    people::PEOPLE
        .iter()
        .map(|p| {
            json!({"id": p.id, "name": p.name, "real_name": p.real_name, "email": p.email(),
                   "role": p.role, "dm": p.dm()})
        })
        .collect()
}

/// `GET /_stage/events`: the number of the last change, whenever there is one.
pub(crate) async fn events(
    State(workspace): Shared,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = workspace.store().watch();
    let numbers = stream::unfold((changes, true), |(mut changes, first)| async move {
        if !first && changes.changed().await.is_err() {
            return None;
        }
        let number = *changes.borrow_and_update();
        Some((
            Ok(Event::default().data(number.to_string())),
            (changes, false),
        ))
    });
    Sse::new(numbers).keep_alive(KeepAlive::default())
}

/// `GET /_stage/messages`: every message with its edits, the deleted and ephemeral ones too.
pub(crate) async fn journal(State(workspace): Shared) -> Json<Value> {
    Json(json!({"ok": true, "messages": workspace.store().messages()}))
}

/// A slash command.
#[derive(Deserialize)]
pub(crate) struct CommandBody {
    user: String,
    channel: String,
    text: String,
}

/// `POST /_stage/act/command`: answers with the modal that control opened, if it did.
pub(crate) async fn command(State(workspace): Shared, Json(body): Json<CommandBody>) -> Response {
    match act::command(&workspace, &body.user, &body.channel, &body.text).await {
        Err(error) => refuse(&error),
        Ok(outcome) => Json(json!({
            "ok": outcome.failure.is_none(),
            "error": outcome.failure.as_ref().map(|failure| failure.command_code()),
            "view_id": outcome.view.as_ref().map(|view| &view.id),
            "view": outcome.view.as_ref().map(|view| &view.json),
            "message": outcome.message.as_ref().map(super::messages::Message::json),
        }))
        .into_response(),
    }
}

/// A message that a person writes.
#[derive(Deserialize)]
pub(crate) struct PostBody {
    user: String,
    channel: String,
    text: String,
    thread_ts: Option<String>,
}

/// `POST /_stage/act/post`
pub(crate) async fn post(State(workspace): Shared, Json(body): Json<PostBody>) -> Response {
    match act::post(
        &workspace,
        &body.user,
        &body.channel,
        &body.text,
        body.thread_ts,
    ) {
        Err(error) => refuse(&error),
        Ok(message) => Json(json!({"ok": true, "ts": message.ts})).into_response(),
    }
}

/// A modal's submission.
#[derive(Deserialize)]
pub(crate) struct SubmitBody {
    user: String,
    view_id: String,
    #[serde(default)]
    values: Typed,
}

/// `POST /_stage/act/submit`: `outcome` is closed, errors, updated, pushed or failed.
pub(crate) async fn submit(State(workspace): Shared, Json(body): Json<SubmitBody>) -> Response {
    let answer = match submit::submit(&workspace, &body.user, &body.view_id, &body.values).await {
        Err(error) => return refuse(&error),
        Ok(Submitted::Closed) => json!({"ok": true, "outcome": "closed"}),
        Ok(Submitted::Errors(errors)) => {
            json!({"ok": false, "outcome": "errors", "errors": errors})
        }
        Ok(Submitted::Updated(view)) => {
            json!({"ok": true, "outcome": "updated", "view_id": view.id, "view": view.json})
        }
        Ok(Submitted::Pushed(view)) => {
            json!({"ok": true, "outcome": "pushed", "view_id": view.id, "view": view.json})
        }
        Ok(Submitted::Failed(error)) => json!({"ok": false, "outcome": "failed", "error": error}),
    };
    Json(answer).into_response()
}

/// A click, in a message or a modal.
#[derive(Deserialize)]
pub(crate) struct ClickBody {
    user: String,
    channel: Option<String>,
    ts: Option<String>,
    view_id: Option<String>,
    action_id: String,
    block_id: Option<String>,
    value: Option<Value>,
    #[serde(default)]
    values: Typed,
    #[serde(default)]
    wait_view: bool,
}

/// `POST /_stage/act/click`: `ack` says whether control took it in time. With `wait_view` the
/// modal that control opens upon it is waited for and answered.
pub(crate) async fn click(State(workspace): Shared, Json(body): Json<ClickBody>) -> Response {
    let wanted = Click {
        message: body.channel.zip(body.ts),
        view_id: body.view_id,
        action_id: body.action_id,
        block_id: body.block_id,
        value: body.value,
        values: body.values,
        wait_view: body.wait_view,
    };
    match click::click(&workspace, &body.user, &wanted).await {
        Err(error) => refuse(&error),
        Ok(clicked) => {
            let failure = clicked.ack.as_ref().err();
            Json(json!({
                "ok": failure.is_none(),
                "ack": if failure.is_none() { "ok" } else { "failed" },
                "error": failure.map(super::outbound::NoAck::button_text),
                "view_id": clicked.view.as_ref().map(|view| &view.id),
                "view": clicked.view.as_ref().map(|view| &view.json),
            }))
            .into_response()
        }
    }
}

/// Closing a modal by hand.
#[derive(Deserialize)]
pub(crate) struct CloseBody {
    user: String,
    view_id: String,
    #[serde(default)]
    all: bool,
}

/// `POST /_stage/act/close`
pub(crate) async fn close(State(workspace): Shared, Json(body): Json<CloseBody>) -> Response {
    match act::close(&workspace, &body.user, &body.view_id, body.all).await {
        Err(error) => refuse(&error),
        Ok(()) => Json(json!({"ok": true})).into_response(),
    }
}

/// `POST /_stage/faults`: plans a fault.
pub(crate) async fn plan_fault(
    State(workspace): Shared,
    Json(fault): Json<Planned>,
) -> Json<Value> {
    workspace.faults().plan(fault);
    planned_faults(State(workspace)).await
}

/// `GET /_stage/faults`: those still planned.
pub(crate) async fn planned_faults(State(workspace): Shared) -> Json<Value> {
    Json(json!({"ok": true, "faults": workspace.faults().planned()}))
}

/// `DELETE /_stage/faults`
pub(crate) async fn clear_faults(State(workspace): Shared) -> Json<Value> {
    workspace.faults().clear();
    planned_faults(State(workspace)).await
}

/// Slack's limits, switched.
#[derive(Deserialize)]
pub(crate) struct LimitsBody {
    rate_limit: bool,
}

/// `POST /_stage/limits`
pub(crate) async fn limits(State(workspace): Shared, Json(body): Json<LimitsBody>) -> Json<Value> {
    workspace.faults().limit_rate(body.rate_limit);
    Json(json!({"ok": true, "rate_limit": body.rate_limit}))
}

/// `GET /_stage/health`
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"ok": true, "now": clock::now_s()}))
}

fn refuse(error: &ActError) -> Response {
    let body = json!({"ok": false, "error": error.code(), "message": error.to_string()});
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
