//! A modal as Slack shows it to an app, and the ids that Slack makes up where an app gave none.

use super::people::{APP, BOT, TEAM};
use rand::RngExt;
use serde_json::{Map, Value, json};

/// A modal that a person has open.
#[derive(Debug, Clone)]
pub(crate) struct OpenView {
    /// `V…`
    pub(crate) id: String,
    /// As Slack's APIs show it, with an empty state.
    pub(crate) json: Value,
}

pub(crate) fn new_view(view: &Value, parent: Option<&OpenView>) -> OpenView {
    let id = random_id("V0", 9);
    let root = parent
        .and_then(|open| open.json.get("root_view_id").cloned())
        .unwrap_or_else(|| json!(id));
    let old = json!({
        "previous_view_id": parent.map(|open| open.id.clone()),
        "root_view_id": root,
    });
    OpenView {
        json: view_json(view, &id, &old),
        id,
    }
}

pub(crate) fn view_json(view: &Value, id: &str, old: &Value) -> Value {
    let mut blocks = view.get("blocks").cloned().unwrap_or_else(|| json!([]));
    complete_ids(&mut blocks);
    let text = |key: &str| view.get(key).cloned().unwrap_or_else(|| json!(""));
    let flag = |key: &str| view.get(key).cloned().unwrap_or(Value::Bool(false));
    let optional = |key: &str| view.get(key).cloned().unwrap_or(Value::Null);
    let mut out = Map::new();
    let pairs = [
        ("id", json!(id)),
        ("team_id", json!(TEAM)),
        ("type", json!("modal")),
        ("blocks", blocks),
        ("private_metadata", text("private_metadata")),
        ("callback_id", text("callback_id")),
        ("state", json!({"values": {}})),
        ("hash", json!(random_id("", 16))),
        ("title", optional("title")),
        ("clear_on_close", flag("clear_on_close")),
        ("notify_on_close", flag("notify_on_close")),
        ("close", optional("close")),
        ("submit", optional("submit")),
        (
            "previous_view_id",
            old.get("previous_view_id").cloned().unwrap_or(Value::Null),
        ),
        (
            "root_view_id",
            old.get("root_view_id").cloned().unwrap_or(Value::Null),
        ),
        ("app_id", json!(APP)),
        ("external_id", text("external_id")),
        ("app_installed_team_id", json!(TEAM)),
        ("bot_id", json!(BOT)),
    ];
    for (key, value) in pairs {
        out.insert(key.into(), value);
    }
    Value::Object(out)
}

/// Gives every block and every element the id that Slack would make up.
pub(crate) fn complete_ids(blocks: &mut Value) {
    for block in blocks.as_array_mut().into_iter().flatten() {
        let Some(fields) = block.as_object_mut() else {
            continue;
        };
        fields
            .entry("block_id")
            .or_insert_with(|| json!(random_id("", 5)));
        for key in ["accessory", "element"] {
            if let Some(element) = fields.get_mut(key) {
                complete_action_id(element);
            }
        }
        if fields.get("type").and_then(Value::as_str) == Some("actions") {
            let list = fields.get_mut("elements").and_then(Value::as_array_mut);
            list.into_iter().flatten().for_each(complete_action_id);
        }
    }
}

fn complete_action_id(element: &mut Value) {
    if element.get("type").and_then(Value::as_str) == Some("image") {
        return;
    }
    if let Some(fields) = element.as_object_mut() {
        fields
            .entry("action_id")
            .or_insert_with(|| json!(random_id("", 5)));
    }
}

/// An id of Slack's look.
pub(crate) fn random_id(prefix: &str, length: usize) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHJKMNPQRSTUVWXYZ0123456789";
    let mut rng = rand::rng();
    let letters = (0..length).map(|_| {
        let index = rng.random_range(0..ALPHABET.len());
        char::from(ALPHABET.get(index).copied().unwrap_or(b'0'))
    });
    prefix.chars().chain(letters).collect()
}
