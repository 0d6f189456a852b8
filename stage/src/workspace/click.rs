//! Clicks on buttons and choices in selects, in messages and in modals.

use super::act::{ActError, actor, envelope, merge, place_of, text, with_state};
use super::inputs::{self, Filled, Typed};
use super::outbound::{Ack, NoAck};
use super::people::{Conversation, Person};
use super::store::Store;
use super::views::OpenView;
use super::{Workspace, clock};
use serde_json::{Value, json};

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
    /// Wait for the modal that control opens upon it, up to the trigger's life.
    pub(crate) wait_view: bool,
}

/// What came of a click.
#[derive(Debug)]
pub(crate) struct Clicked {
    /// Control's acknowledgement.
    pub(crate) ack: Result<Ack, NoAck>,
    /// The modal that control opened, if it was waited for.
    pub(crate) view: Option<OpenView>,
}

/// Clicks a button or chooses from a select.
pub(crate) async fn click(
    workspace: &Workspace,
    user: &str,
    click: &Click,
) -> Result<Clicked, ActError> {
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
            (None, None) => return Err(ActError::UnknownAction),
        }
    };
    let ack = workspace.control.interaction(&payload).await;
    let view = match &ack {
        Ok(_) if click.wait_view => workspace.opened_by(text(&payload, "trigger_id")).await,
        _ => None,
    };
    Ok(Clicked { ack, view })
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
        .ok_or(ActError::UnknownAction)?
        .clone();
    if !message.visible_to(person.id) {
        return Err(ActError::UnknownAction);
    }
    let action = action_json(&message.blocks, click, now).ok_or(ActError::UnknownAction)?;
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
        .ok_or(ActError::ViewNotOpen)?
        .json
        .clone();
    let blocks = view.get("blocks").cloned().unwrap_or(Value::Null);
    let action = action_json(&blocks, click, now).ok_or(ActError::UnknownAction)?;
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

fn as_optional(view: &Value) -> Value {
    let mut view = view.clone();
    let list = view.get_mut("blocks").and_then(Value::as_array_mut);
    for block in list.into_iter().flatten() {
        merge(block, json!({"optional": true}));
    }
    view
}
