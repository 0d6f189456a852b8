//! What a person does: commands, clicks, submissions. The page and the scripts go through these
//! same functions; each ends in one signed request to control and Slack's reading of its answer.

use super::messages::{Message, blank_message};
use super::outbound::{Ack, NoAck};
use super::people::{self, APP, Conversation, DOMAIN, Person, TEAM};
use super::store::TRIGGER_LIFE_US;
use super::views::OpenView;
use super::{Workspace, blocks, clock};
use serde_json::{Value, json};
use std::time::Duration;

/// Why an act could not even be tried.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ActError {
    /// Nobody of that id or name.
    #[error("there is no such person")]
    UnknownPerson,
    /// No such conversation, or the person is not in it.
    #[error("the person is not in such a conversation")]
    UnknownConversation,
    /// The message or the button is not there.
    #[error("there is no such message or action")]
    UnknownAction,
    /// The modal is not open.
    #[error("that modal is not open")]
    ViewNotOpen,
    /// Not an app's slash command.
    #[error("only /powerpole is a command here")]
    UnknownCommand,
}

impl ActError {
    /// Stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::UnknownPerson => "no_person",
            Self::UnknownConversation => "no_conversation",
            Self::UnknownAction => "no_action",
            Self::ViewNotOpen => "no_view",
            Self::UnknownCommand => "no_command",
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
        .ok_or(ActError::UnknownCommand)?;
    if !rest.is_empty() && !rest.starts_with(char::is_whitespace) {
        return Err(ActError::UnknownCommand);
    }
    let (trigger, response) = {
        let mut store = workspace.store();
        let now = clock::now_us();
        let trigger = store.new_trigger(now, person.id, false);
        let response = store.new_response_url(now, &place.id, person.id, None);
        (trigger, response)
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
    Ok(CommandOutcome {
        view: workspace.opened_by(&trigger).await,
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
            .ok_or(ActError::ViewNotOpen)?
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
    /// The modal that control opens with a trigger. It may acknowledge first and open after; the
    /// trigger's life bounds the wait.
    pub(crate) async fn opened_by(&self, trigger: &str) -> Option<OpenView> {
        let mut changes = self.store().watch();
        let waited = tokio::time::timeout(Duration::from_micros(TRIGGER_LIFE_US), async {
            loop {
                if let Some(view) = self.store().opened_by(trigger) {
                    return Some(view);
                }
                if changes.changed().await.is_err() {
                    return None;
                }
            }
        });
        waited.await.unwrap_or(None)
    }

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

pub(crate) fn actor(user: &str) -> Result<&'static Person, ActError> {
    people::person_named(user).ok_or(ActError::UnknownPerson)
}

pub(crate) fn place_of(person: &Person, channel: &str) -> Result<Conversation, ActError> {
    people::conversation(channel)
        .filter(|found| found.has(person.id))
        .ok_or(ActError::UnknownConversation)
}

pub(crate) fn envelope(kind: &str, person: &Person) -> Value {
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

pub(crate) fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

pub(crate) fn with_state(mut view: Value, state: Value) -> Value {
    merge(&mut view, json!({"state": state}));
    view
}

/// Slack's escaping of what people type.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

pub(crate) fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
