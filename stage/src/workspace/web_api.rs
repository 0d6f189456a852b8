//! Slack's Web API, as far as PowerPole uses it: who may call, what is refused, what is done.
//! Answers have Slack's shapes and error codes; limits are those of Slack's documentation.

use super::conversations::{conversation_json, members, open_conversation};
use super::faults::Fault;
use super::messages::{Message, blank_message};
use super::people::{self, BOT, BOT_USER, Conversation, TEAM};
use super::store::Store;
use super::views::OpenView;
use super::{Workspace, blocks, clock};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Largest request body, in bytes.
const BODY_MAX: usize = 1024 * 1024;

/// Why a call is refused.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Slack's code alone.
    Code(&'static str),
    /// The code with findings, as `response_metadata.messages`.
    Findings(&'static str, Vec<String>),
    /// Too many messages; seconds to wait.
    RateLimited(u64),
}

pub(crate) type Answer = Result<Value, Refusal>;
pub(crate) type Args = Map<String, Value>;

/// `/api/<method>`, by GET or POST.
pub(crate) async fn call(
    State(workspace): State<Arc<Workspace>>,
    Path(method): Path<String>,
    request: Request,
) -> Response {
    let fault = workspace.faults().take(&method);
    match &fault {
        Some(Fault::Error { error }) => return ok_json(&json!({"ok": false, "error": error})),
        Some(Fault::TooMany { retry_after_s }) => return too_many(*retry_after_s),
        Some(Fault::Broken) => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Some(Fault::Drop) => return broken_connection(),
        Some(Fault::Delay { delay_ms }) => {
            tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
        }
        Some(Fault::ApplyThenFail) | None => {}
    }
    let answer = match read_args(request).await {
        Ok((token, args)) => authorise(&workspace, token.as_deref())
            .and_then(|()| dispatch(&workspace, &method, &args)),
        Err(refusal) => Err(refusal),
    };
    if fault == Some(Fault::ApplyThenFail) {
        return broken_connection();
    }
    if let Err(refusal) = &answer {
        tracing::info!(method, ?refusal, "a call was refused");
    }
    match answer {
        Ok(mut body) => {
            if let Some(fields) = body.as_object_mut() {
                fields.insert("ok".into(), json!(true));
            }
            ok_json(&body)
        }
        Err(Refusal::Code(code)) => ok_json(&json!({"ok": false, "error": code})),
        Err(Refusal::Findings(code, messages)) => ok_json(&json!({
            "ok": false, "error": code, "errors": messages,
            "response_metadata": {"messages": messages},
        })),
        Err(Refusal::RateLimited(seconds)) => too_many(seconds),
    }
}

async fn read_args(request: Request) -> Result<(Option<String>, Args), Refusal> {
    let mut token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .map(str::to_owned);
    let kind = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase();
    let mut args = Args::new();
    let pairs = |bytes: &[u8]| -> Vec<(String, Value)> {
        form_urlencoded::parse(bytes)
            .map(|(k, v)| (k.into_owned(), json!(v)))
            .collect()
    };
    args.extend(pairs(request.uri().query().unwrap_or_default().as_bytes()));
    let body = axum::body::to_bytes(request.into_body(), BODY_MAX)
        .await
        .map_err(|_| Refusal::Code("request_too_large"))?;
    if kind.starts_with("application/json") {
        if !body.is_empty() {
            match serde_json::from_slice::<Value>(&body) {
                Ok(Value::Object(fields)) => args.extend(fields),
                Ok(_) => return Err(Refusal::Code("json_not_object")),
                Err(_) => return Err(Refusal::Code("invalid_json")),
            }
        }
    } else if kind.starts_with("application/x-www-form-urlencoded") {
        args.extend(pairs(&body));
    } else if !body.is_empty() {
        return Err(Refusal::Code("invalid_form_data"));
    }
    if let Some(Value::String(given)) = args.remove("token") {
        token.get_or_insert(given);
    }
    Ok((token, args))
}

fn authorise(workspace: &Workspace, token: Option<&str>) -> Result<(), Refusal> {
    match token {
        None | Some("") => Err(Refusal::Code("not_authed")),
        Some(given) if bool::from(given.as_bytes().ct_eq(workspace.token.as_bytes())) => Ok(()),
        Some(_) => Err(Refusal::Code("invalid_auth")),
    }
}

fn dispatch(workspace: &Workspace, method: &str, args: &Args) -> Answer {
    let now = clock::now_us();
    match method {
        "api.test" => Ok(json!({"args": args})),
        "auth.test" => Ok(json!({
            "url": format!("{}/", workspace.base_url), "team": "PowerPole stage", "user": "powerpole",
            "team_id": TEAM, "user_id": BOT_USER, "bot_id": BOT, "is_enterprise_install": false,
        })),
        "chat.postMessage" => post_message(workspace, now, args),
        "chat.postEphemeral" => post_ephemeral(&mut workspace.store(), now, args),
        "chat.update" => update_message(&mut workspace.store(), now, args),
        "chat.delete" => delete_message(&mut workspace.store(), args),
        "views.open" | "views.push" => open_view(&mut workspace.store(), now, args),
        "views.update" => update_view(&mut workspace.store(), args),
        "conversations.open" => open_conversation(args),
        "conversations.members" => members(args),
        "conversations.info" => {
            let found = conversation(args)?;
            Ok(json!({"channel": conversation_json(&found)}))
        }
        "users.info" => {
            let wanted = required(args, "user")?;
            if wanted == BOT_USER {
                return Ok(json!({"user": people::bot_user_json()}));
            }
            let found = people::person(&wanted).ok_or(Refusal::Code("user_not_found"))?;
            Ok(json!({"user": found.user_json()}))
        }
        "users.lookupByEmail" => {
            let wanted = required(args, "email")?.to_lowercase();
            let found = people::PEOPLE
                .iter()
                .find(|person| person.email() == wanted);
            let found = found.ok_or(Refusal::Code("users_not_found"))?;
            Ok(json!({"user": found.user_json()}))
        }
        "users.list" => {
            let mut all: Vec<Value> = people::PEOPLE
                .iter()
                .map(people::Person::user_json)
                .collect();
            all.push(people::bot_user_json());
            Ok(json!({"members": all, "cache_ts": now / 1_000_000,
                      "response_metadata": {"next_cursor": ""}}))
        }
        _ => Err(Refusal::Code("unknown_method")),
    }
}

fn post_message(workspace: &Workspace, now: u64, args: &Args) -> Answer {
    let place = destination(args)?;
    let (text, blocks) = content(args)?;
    if text.as_deref().unwrap_or_default().is_empty() && blocks.as_ref().is_none_or(is_empty) {
        return Err(Refusal::Code("no_text"));
    }
    let mut store = workspace.store();
    let thread_ts = string(args, "thread_ts");
    if let Some(ts) = &thread_ts
        && store.message(&place.id, ts).is_none()
    {
        return Err(Refusal::Code("thread_not_found"));
    }
    if let Some(seconds) = workspace.faults().over_rate(now, &place.id) {
        return Err(Refusal::RateLimited(seconds));
    }
    let mut message = blank_message(&place.id, BOT_USER);
    message.text = text.unwrap_or_default();
    message.blocks = blocks.filter(|b| !is_empty(b)).unwrap_or(Value::Null);
    message.thread_ts = thread_ts;
    message.metadata = parsed(args, "metadata").unwrap_or(Value::Null);
    let posted = store.post(now, message);
    Ok(json!({"channel": place.id, "ts": posted.ts, "message": posted.json()}))
}

fn post_ephemeral(store: &mut Store, now: u64, args: &Args) -> Answer {
    let place = conversation(args)?;
    let user = required(args, "user")?;
    if !place.has(&user) {
        return Err(Refusal::Code("user_not_in_channel"));
    }
    let (text, blocks) = content(args)?;
    if text.as_deref().unwrap_or_default().is_empty() && blocks.as_ref().is_none_or(is_empty) {
        return Err(Refusal::Code("no_text"));
    }
    let mut message = blank_message(&place.id, BOT_USER);
    message.text = text.unwrap_or_default();
    message.blocks = blocks.filter(|b| !is_empty(b)).unwrap_or(Value::Null);
    message.thread_ts = string(args, "thread_ts");
    message.only_for = Some(user);
    let posted = store.post(now, message);
    Ok(json!({"message_ts": posted.ts}))
}

fn update_message(store: &mut Store, now: u64, args: &Args) -> Answer {
    let place = conversation(args)?;
    let ts = required(args, "ts")?;
    own_message(store, &place, &ts, "cant_update_message")?;
    let (text, blocks) = content(args)?;
    if text.is_none() && blocks.is_none() {
        return Err(Refusal::Code("no_text"));
    }
    let edited = store
        .edit(now, &place.id, &ts, text, blocks)
        .ok_or(Refusal::Code("message_not_found"))?;
    Ok(json!({"channel": place.id, "ts": ts, "text": edited.text, "message": edited.json()}))
}

fn delete_message(store: &mut Store, args: &Args) -> Answer {
    let place = conversation(args)?;
    let ts = required(args, "ts")?;
    own_message(store, &place, &ts, "cant_delete_message")?;
    store.delete(&place.id, &ts);
    Ok(json!({"channel": place.id, "ts": ts}))
}

fn own_message(
    store: &Store,
    place: &Conversation,
    ts: &str,
    refused: &'static str,
) -> Result<(), Refusal> {
    let found: &Message = store
        .message(&place.id, ts)
        .ok_or(Refusal::Code("message_not_found"))?;
    // Slack knows no ephemeral message by its timestamp.
    if found.only_for.is_some() {
        return Err(Refusal::Code("message_not_found"));
    }
    if !found.by_app {
        return Err(Refusal::Code(refused));
    }
    Ok(())
}

fn open_view(store: &mut Store, now: u64, args: &Args) -> Answer {
    let view = checked_view(args)?;
    let trigger = required(args, "trigger_id")?;
    let external = view
        .get("external_id")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !external.is_empty() && store.view_of_external_id(external).is_some() {
        return Err(Refusal::Code("duplicate_external_id"));
    }
    let opened = store
        .open_view(now, &trigger, &view)
        .map_err(|error| Refusal::Code(error.code()))?;
    Ok(json!({"view": opened.json}))
}

fn update_view(store: &mut Store, args: &Args) -> Answer {
    let view = checked_view(args)?;
    let found: Option<&OpenView> = match (string(args, "view_id"), string(args, "external_id")) {
        (Some(id), _) => store.any_view(&id),
        (None, Some(external)) => store.view_of_external_id(&external),
        (None, None) => return Err(missing("view_id")),
    };
    let found = found.ok_or(Refusal::Code("not_found"))?;
    if let Some(hash) = string(args, "hash")
        && found.json.get("hash").and_then(Value::as_str) != Some(&hash)
    {
        return Err(Refusal::Code("hash_conflict"));
    }
    let id = found.id.clone();
    let updated = store
        .update_view(&id, &view)
        .ok_or(Refusal::Code("not_found"))?;
    Ok(json!({"view": updated.json}))
}

fn checked_view(args: &Args) -> Result<Value, Refusal> {
    let view = parsed(args, "view").ok_or_else(|| missing("view"))?;
    if view.to_string().len() > blocks::VIEW_BYTES_MAX {
        return Err(Refusal::Code("view_too_large"));
    }
    let findings = blocks::check_view(&view);
    if findings.is_empty() {
        Ok(view)
    } else {
        Err(Refusal::Findings("invalid_arguments", findings))
    }
}

/// Where a message goes; a user's id means the DM with that user, as in Slack.
fn destination(args: &Args) -> Result<Conversation, Refusal> {
    let wanted = required(args, "channel")?;
    match people::person(&wanted) {
        Some(person) => people::conversation(&person.dm()),
        None => people::conversation(&wanted),
    }
    .ok_or(Refusal::Code("channel_not_found"))
}

/// A conversation by its id alone.
pub(crate) fn conversation(args: &Args) -> Result<Conversation, Refusal> {
    let wanted = required(args, "channel")?;
    people::conversation(&wanted)
        .filter(|found| found.id == wanted)
        .ok_or(Refusal::Code("channel_not_found"))
}

pub(crate) fn content(args: &Args) -> Result<(Option<String>, Option<Value>), Refusal> {
    let text = string(args, "text");
    if text
        .as_ref()
        .is_some_and(|text| text.chars().count() > blocks::MESSAGE_TEXT_MAX)
    {
        return Err(Refusal::Code("msg_too_long"));
    }
    let blocks = match args.get("blocks") {
        None | Some(Value::Null) => None,
        Some(_) => Some(parsed(args, "blocks").ok_or(Refusal::Code("invalid_blocks_format"))?),
    };
    if let Some(blocks) = &blocks {
        let findings = blocks::check_message_blocks(blocks);
        if !findings.is_empty() {
            return Err(Refusal::Findings("invalid_blocks", findings));
        }
    }
    Ok((text, blocks))
}

/// A structured argument: in JSON as it is, in a form as a JSON string.
fn parsed(args: &Args, key: &str) -> Option<Value> {
    match args.get(key)? {
        Value::String(written) => serde_json::from_str(written).ok(),
        Value::Null => None,
        other => Some(other.clone()),
    }
}

pub(crate) fn string(args: &Args, key: &str) -> Option<String> {
    args.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn required(args: &Args, key: &str) -> Result<String, Refusal> {
    string(args, key)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| missing(key))
}

fn missing(key: &str) -> Refusal {
    Refusal::Findings(
        "invalid_arguments",
        vec![format!("[ERROR] missing required field: {key}")],
    )
}

fn is_empty(blocks: &Value) -> bool {
    blocks.as_array().is_none_or(Vec::is_empty)
}

fn ok_json(body: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json; charset=utf-8")],
        body.to_string(),
    )
        .into_response()
}

pub(crate) fn too_many(seconds: u64) -> Response {
    let body = json!({"ok": false, "error": "ratelimited"}).to_string();
    let headers = [
        (
            header::CONTENT_TYPE,
            "application/json; charset=utf-8".to_owned(),
        ),
        (header::RETRY_AFTER, seconds.to_string()),
    ];
    (StatusCode::TOO_MANY_REQUESTS, headers, body).into_response()
}

/// An answer whose body breaks off: the caller sees a broken connection, not a refusal.
fn broken_connection() -> Response {
    let broken = futures_util::stream::once(async {
        Err::<Bytes, _>(std::io::Error::other("the connection breaks on request"))
    });
    ([(header::CONTENT_LENGTH, "512")], Body::from_stream(broken)).into_response()
}
