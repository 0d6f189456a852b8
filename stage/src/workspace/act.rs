//! What a person does: commands, clicks, submissions. The page and the scripts go through these
//! same functions; each ends in one signed request to control and Slack's reading of its answer.

use super::inputs::{self, Filled, Typed};
use super::outbound::{Ack, NoAck};
use super::people::{self, APP, Conversation, DOMAIN, Person, TEAM};
use super::store::{Message, OpenView, Store, TRIGGER_LIFE_US, blank_message};
use super::{Workspace, blocks, clock};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Slack's words in a modal whose submission failed.
pub(crate) const MODAL_TROUBLE: &str = "We had some trouble connecting. Try again?";

/// Why an act could not even be tried.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ActError {
    /// Nobody of that id or name.
    #[error("there is no such person")]
    NoPerson,
    /// No such conversation, or the person is not in it.
    #[error("the person is not in such a conversation")]
    NoConversation,
    /// The message or the button is not there.
    #[error("there is no such message or action")]
    NoAction,
    /// The modal is not open.
    #[error("that modal is not open")]
    NoView,
    /// Not an app's slash command.
    #[error("only /powerpole is a command here")]
    NoCommand,
}

impl ActError {
    /// Stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NoPerson => "no_person",
            Self::NoConversation => "no_conversation",
            Self::NoAction => "no_action",
            Self::NoView => "no_view",
            Self::NoCommand => "no_command",
        }
    }
}

/// What came of a slash command.
#[derive(Debug)]
pub(crate) struct CommandOutcome {
    /// The modal that control opened.
    pub(crate) view: Option<OpenView>,
    /// The message that answered instead.
    pub(crate) message: Option<Message>,
    /// Why control failed.
    pub(crate) failure: Option<NoAck>,
}

/// What came of a submission.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// The modal closed.
    Closed,
    /// It stays, with these errors by block.
    Errors(BTreeMap<String, String>),
    /// It shows another view now.
    Updated(OpenView),
    /// Another lies upon it.
    Pushed(OpenView),
    /// Control failed; the modal stays as it was.
    Failed(String),
}

/// Sends a slash command and waits for what it opens.
pub(crate) async fn command(
    workspace: &Workspace,
    user: &str,
    channel: &str,
    text: &str,
) -> Result<CommandOutcome, ActError> {
    let person = actor(user)?;
    let place = place_of(person, channel)?;
    let rest = text
        .trim()
        .strip_prefix("/powerpole")
        .ok_or(ActError::NoCommand)?;
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return Err(ActError::NoCommand);
    }
    let (trigger, response, mut changes) = {
        let mut store = workspace.store();
        let now = clock::now_us();
        let trigger = store.new_trigger(now, person.id, false);
        let response = store.new_response_url(now, &place.id, person.id, None);
        (trigger, response, store.watch())
    };
    let response_url = workspace.response_url(&response);
    let ack = workspace
        .control
        .command(&[
            ("token", "unused"),
            ("team_id", TEAM),
            ("team_domain", DOMAIN),
            ("channel_id", &place.id),
            ("channel_name", &place.name),
            ("user_id", person.id),
            ("user_name", person.name),
            ("command", "/powerpole"),
            ("text", rest.trim()),
            ("api_app_id", APP),
            ("is_enterprise_install", "false"),
            ("response_url", &response_url),
            ("trigger_id", &trigger),
        ])
        .await;
    let none = CommandOutcome {
        view: None,
        message: None,
        failure: None,
    };
    let ack = match ack {
        Ok(ack) => ack,
        Err(failure) => {
            let words = format!(
                "/powerpole failed with the error \"{}\"",
                failure.command_code()
            );
            let message = workspace.tell(person, &place, &words);
            return Ok(CommandOutcome {
                message: Some(message),
                failure: Some(failure),
                ..none
            });
        }
    };
    if let Some(answer) = answer_to_command(&ack, person, &place) {
        let message = workspace.store().post(clock::now_us(), answer);
        return Ok(CommandOutcome {
            message: Some(message),
            ..none
        });
    }
    // Control may acknowledge first and open the modal after; the trigger's life bounds the wait.
    let waited = tokio::time::timeout(Duration::from_micros(TRIGGER_LIFE_US), async {
        loop {
            if let Some(view) = workspace.store().opened_by(&trigger) {
                return Some(view);
            }
            if changes.changed().await.is_err() {
                return None;
            }
        }
    })
    .await;
    Ok(CommandOutcome {
        view: waited.unwrap_or(None),
        ..none
    })
}

/// Says something as a person.
pub(crate) fn post(
    workspace: &Workspace,
    user: &str,
    channel: &str,
    text: &str,
    thread_ts: Option<String>,
) -> Result<Message, ActError> {
    let person = actor(user)?;
    let place = place_of(person, channel)?;
    let mut message = blank_message(&place.id, person.id);
    message.text = escape(text);
    message.thread_ts = thread_ts;
    Ok(workspace.store().post(clock::now_us(), message))
}

/// What is clicked or chosen.
#[derive(Debug, Default, Clone)]
pub(crate) struct Click {
    /// In a message: its conversation and timestamp.
    pub(crate) message: Option<(String, String)>,
    /// In a modal: its id.
    pub(crate) view_id: Option<String>,
    /// The element.
    pub(crate) action_id: String,
    /// Needed only if the action id is not unique there.
    pub(crate) block_id: Option<String>,
    /// The chosen value; for a button, which of several with the same action id.
    pub(crate) value: Option<Value>,
    /// What else is filled in, for a modal.
    pub(crate) values: Typed,
}

/// Clicks a button or chooses from a select.
pub(crate) async fn click(
    workspace: &Workspace,
    user: &str,
    click: &Click,
) -> Result<Result<Ack, NoAck>, ActError> {
    let person = actor(user)?;
    let payload = {
        let mut store = workspace.store();
        let now = clock::now_us();
        match (&click.message, &click.view_id) {
            (Some((channel, ts)), _) => {
                let place = place_of(person, channel)?;
                click_in_message(workspace, &mut store, now, person, &place, ts, click)?
            }
            (None, Some(view_id)) => click_in_view(&mut store, now, person, view_id, click)?,
            (None, None) => return Err(ActError::NoAction),
        }
    };
    Ok(workspace.control.interaction(&payload).await)
}

fn click_in_message(
    workspace: &Workspace,
    store: &mut Store,
    now: u64,
    person: &Person,
    place: &Conversation,
    ts: &str,
    click: &Click,
) -> Result<Value, ActError> {
    let message = store
        .message(&place.id, ts)
        .ok_or(ActError::NoAction)?
        .clone();
    if !message.visible_to(person.id) {
        return Err(ActError::NoAction);
    }
    let action = action_json(&message.blocks, click, now).ok_or(ActError::NoAction)?;
    let trigger = store.new_trigger(now, person.id, false);
    let key = store.new_response_url(now, &place.id, person.id, Some(ts.to_owned()));
    let ephemeral = message.only_for.is_some();
    let mut payload = envelope("block_actions", person);
    merge(
        &mut payload,
        json!({
            "container": {"type": "message", "message_ts": ts, "channel_id": place.id,
                "is_ephemeral": ephemeral},
            "trigger_id": trigger,
            "channel": {"id": place.id, "name": place.name},
            "message": message.json(),
            "state": {"values": {}},
            "response_url": workspace.response_url(&key),
            "actions": [action],
        }),
    );
    Ok(payload)
}

fn click_in_view(
    store: &mut Store,
    now: u64,
    person: &Person,
    view_id: &str,
    click: &Click,
) -> Result<Value, ActError> {
    let view = store
        .view(person.id, view_id)
        .ok_or(ActError::NoView)?
        .json
        .clone();
    let blocks = view.get("blocks").cloned().unwrap_or(Value::Null);
    let action = action_json(&blocks, click, now).ok_or(ActError::NoAction)?;
    let trigger = store.new_trigger(now, person.id, true);
    // An action in a modal carries what is filled in so far, complete or not.
    let state = match inputs::fill(&as_optional(&view), &click.values) {
        Filled::State(state) => state,
        Filled::Errors(_) => json!({"values": {}}),
    };
    let mut payload = envelope("block_actions", person);
    merge(
        &mut payload,
        json!({
            "container": {"type": "view", "view_id": view_id},
            "trigger_id": trigger,
            "view": with_state(view, state),
            "actions": [action],
        }),
    );
    Ok(payload)
}

/// Submits a modal.
pub(crate) async fn submit(
    workspace: &Workspace,
    user: &str,
    view_id: &str,
    values: &Typed,
) -> Result<Submitted, ActError> {
    let person = actor(user)?;
    let (view, payload) = {
        let mut store = workspace.store();
        let view = store
            .view(person.id, view_id)
            .ok_or(ActError::NoView)?
            .json
            .clone();
        let state = match inputs::fill(&view, values) {
            Filled::Errors(errors) => return Ok(Submitted::Errors(errors)),
            Filled::State(state) => state,
        };
        let trigger = store.new_trigger(clock::now_us(), person.id, true);
        let mut payload = envelope("view_submission", person);
        let sent = with_state(view.clone(), state);
        merge(
            &mut payload,
            json!({"trigger_id": trigger, "view": sent, "response_urls": []}),
        );
        (view, payload)
    };
    match workspace.control.interaction(&payload).await {
        Err(failure) => {
            tracing::warn!(%failure, "a submission was not acknowledged");
            Ok(Submitted::Failed(MODAL_TROUBLE.into()))
        }
        Ok(ack) => Ok(after_submission(workspace, person, &view, &ack)),
    }
}

fn after_submission(workspace: &Workspace, person: &Person, view: &Value, ack: &Ack) -> Submitted {
    let view_id = text(view, "id");
    let mut store = workspace.store();
    if ack.body.trim().is_empty() {
        store.close_view(person.id, view_id, false);
        return Submitted::Closed;
    }
    let trouble = Submitted::Failed(MODAL_TROUBLE.into());
    let Ok(answer) = serde_json::from_str::<Value>(&ack.body) else {
        return trouble;
    };
    let next = answer
        .get("view")
        .filter(|next| blocks::check_view(next).is_empty());
    match text(&answer, "response_action") {
        "errors" => {
            let named: Option<BTreeMap<String, String>> = answer
                .get("errors")
                .and_then(|errors| serde_json::from_value(errors.clone()).ok());
            let inputs = inputs::input_blocks(view);
            match named {
                Some(errors)
                    if !errors.is_empty()
                        && errors.keys().all(|block| inputs.contains(&block.as_str())) =>
                {
                    Submitted::Errors(errors)
                }
                _ => trouble,
            }
        }
        "clear" => {
            store.close_view(person.id, view_id, true);
            Submitted::Closed
        }
        "update" => next
            .and_then(|next| store.update_view(view_id, next))
            .map_or(trouble, Submitted::Updated),
        "push" => next
            .and_then(|next| store.push_view(person.id, next))
            .map_or(trouble, Submitted::Pushed),
        "" if answer.as_object().is_some_and(serde_json::Map::is_empty) => {
            store.close_view(person.id, view_id, false);
            Submitted::Closed
        }
        _ => trouble,
    }
}

/// Closes a modal by hand; control hears of it if the view asks for that.
pub(crate) async fn close(
    workspace: &Workspace,
    user: &str,
    view_id: &str,
    all: bool,
) -> Result<(), ActError> {
    let person = actor(user)?;
    let view = {
        let mut store = workspace.store();
        let view = store
            .view(person.id, view_id)
            .ok_or(ActError::NoView)?
            .json
            .clone();
        let clears = view
            .get("clear_on_close")
            .and_then(Value::as_bool)
            .unwrap_or(false);
        store.close_view(person.id, view_id, all || clears);
        view
    };
    if view.get("notify_on_close").and_then(Value::as_bool) == Some(true) {
        let mut payload = envelope("view_closed", person);
        merge(&mut payload, json!({"view": view, "is_cleared": all}));
        if let Err(failure) = workspace.control.interaction(&payload).await {
            tracing::warn!(%failure, "a closed view was not acknowledged");
        }
    }
    Ok(())
}

impl Workspace {
    /// Slack itself tells one person something.
    pub(crate) fn tell(&self, person: &Person, place: &Conversation, words: &str) -> Message {
        let mut message = blank_message(&place.id, "USLACKBOT");
        message.text = escape(words);
        message.only_for = Some(person.id.into());
        message.from_slack = true;
        self.store().post(clock::now_us(), message)
    }
}

fn answer_to_command(ack: &Ack, person: &Person, place: &Conversation) -> Option<Message> {
    if ack.body.trim().is_empty() {
        return None;
    }
    let mut message = blank_message(&place.id, people::BOT_USER);
    match serde_json::from_str::<Value>(&ack.body) {
        Ok(Value::Object(fields)) => {
            let answer = Value::Object(fields);
            message.text = text(&answer, "text").to_owned();
            let wanted = answer
                .get("blocks")
                .filter(|b| blocks::check_message_blocks(b).is_empty());
            message.blocks = wanted.cloned().unwrap_or(Value::Null);
            if text(&answer, "response_type") != "in_channel" {
                message.only_for = Some(person.id.into());
            }
        }
        _ => {
            message.text = ack.body.clone();
            message.only_for = Some(person.id.into());
        }
    }
    (!message.text.is_empty() || !message.blocks.is_null()).then_some(message)
}

fn actor(user: &str) -> Result<&'static Person, ActError> {
    people::person_named(user).ok_or(ActError::NoPerson)
}

fn place_of(person: &Person, channel: &str) -> Result<Conversation, ActError> {
    people::conversation(channel)
        .filter(|found| found.has(person.id))
        .ok_or(ActError::NoConversation)
}

fn envelope(kind: &str, person: &Person) -> Value {
    json!({
        "type": kind,
        "user": {"id": person.id, "username": person.name, "name": person.name, "team_id": TEAM},
        "api_app_id": APP,
        "token": "unused",
        "team": {"id": TEAM, "domain": DOMAIN},
        "enterprise": null,
        "is_enterprise_install": false,
    })
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn with_state(mut view: Value, state: Value) -> Value {
    merge(&mut view, json!({"state": state}));
    view
}

fn as_optional(view: &Value) -> Value {
    let mut view = view.clone();
    let list = view.get_mut("blocks").and_then(Value::as_array_mut);
    for block in list.into_iter().flatten() {
        merge(block, json!({"optional": true}));
    }
    view
}

fn action_json(blocks: &Value, click: &Click, now_us: u64) -> Option<Value> {
    let wanted_value = click.value.as_ref().and_then(Value::as_str);
    let (block, element) = blocks
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|block| inputs::elements(block).into_iter().map(move |e| (block, e)))
        .filter(|(block, _)| {
            click
                .block_id
                .as_deref()
                .is_none_or(|id| text(block, "block_id") == id)
        })
        .filter(|(_, element)| text(element, "action_id") == click.action_id)
        .find(|(_, element)| {
            text(element, "type") != "button"
                || wanted_value.is_none_or(|value| text(element, "value") == value)
        })?;
    let mut action = json!({
        "action_id": click.action_id,
        "block_id": text(block, "block_id"),
        "action_ts": format!("{}.{:06}", now_us / 1_000_000, now_us % 1_000_000),
    });
    if text(element, "type") == "button" {
        for key in ["type", "text", "value", "style"] {
            if let Some(value) = element.get(key) {
                merge(&mut action, json!({key: value}));
            }
        }
    } else {
        let given = click.value.clone().unwrap_or(Value::Null);
        merge(&mut action, inputs::state_of(element, &given).ok()?);
    }
    Some(action)
}

/// Slack's escaping of what people type.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
