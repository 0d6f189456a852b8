//! `/response/<key>`: what an app answers later to a command or a click.

use super::messages::blank_message;
use super::people::BOT_USER;
use super::web_api::{Refusal, content, too_many};
use super::{Workspace, clock};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use std::sync::Arc;

/// `/response/<key>`: what an app answers later to an interaction.
pub(crate) async fn respond(
    State(workspace): State<Arc<Workspace>>,
    Path(key): Path<String>,
    body: Bytes,
) -> Response {
    let Ok(answer) = serde_json::from_slice::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "invalid_payload").into_response();
    };
    let mut store = workspace.store();
    let now = clock::now_us();
    let Some(found) = store.use_response_url(now, &key) else {
        return (StatusCode::NOT_FOUND, "used_url").into_response();
    };
    let flag = |key: &str| answer.get(key).and_then(Value::as_bool).unwrap_or(false);
    if flag("delete_original") {
        if let Some(ts) = &found.message {
            store.delete(&found.channel, ts);
        }
        return "ok".into_response();
    }
    let (text, blocks) = match content(answer.as_object().unwrap_or(&Map::new())) {
        Ok(content) => content,
        Err(Refusal::Code(code) | Refusal::Findings(code, _)) => {
            return (StatusCode::BAD_REQUEST, code).into_response();
        }
        Err(Refusal::RateLimited(seconds)) => return too_many(seconds),
    };
    if text.is_none() && blocks.is_none() {
        return (StatusCode::BAD_REQUEST, "no_text").into_response();
    }
    if flag("replace_original")
        && let Some(ts) = &found.message
    {
        store.edit(now, &found.channel, ts, text, blocks);
        return "ok".into_response();
    }
    let mut message = blank_message(&found.channel, BOT_USER);
    message.text = text.unwrap_or_default();
    message.blocks = blocks.unwrap_or(Value::Null);
    if answer.get("response_type").and_then(Value::as_str) != Some("in_channel") {
        message.only_for = Some(found.user);
    }
    store.post(now, message);
    "ok".into_response()
}
