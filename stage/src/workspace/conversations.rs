//! The Web API's answers about conversations.

use super::people::{self, BOT_USER, Conversation};
use super::web_api::{Answer, Args, Refusal, conversation, string};
use serde_json::{Value, json};

pub(crate) fn open_conversation(args: &Args) -> Answer {
    let users = match args.get("users") {
        Some(Value::Array(list)) => list
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect::<Vec<_>>(),
        Some(Value::String(list)) => list
            .split(',')
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty())
            .collect(),
        _ => Vec::new(),
    };
    let found = match (users.as_slice(), string(args, "channel")) {
        ([user], _) => {
            let person = people::person(user).ok_or(Refusal::Code("user_not_found"))?;
            people::conversation(&person.dm())
        }
        ([], Some(channel)) => people::conversation(&channel).filter(|c| c.dm_with.is_some()),
        ([], None) => return Err(Refusal::Code("users_list_not_supplied")),
        _ => return Err(Refusal::Code("method_not_supported_for_channel_type")),
    };
    let found = found.ok_or(Refusal::Code("channel_not_found"))?;
    let whole = args.get("return_im").is_some_and(|value| match value {
        Value::Bool(on) => *on,
        Value::String(written) => written == "true" || written == "1",
        other => other == &json!(1),
    });
    let channel = if whole {
        conversation_json(&found)
    } else {
        json!({"id": found.id})
    };
    Ok(json!({"no_op": true, "already_open": true, "channel": channel}))
}

pub(crate) fn members(args: &Args) -> Answer {
    let found = conversation(args)?;
    let mut ids: Vec<&str> = found.members.clone();
    ids.push(BOT_USER);
    Ok(json!({"members": ids, "response_metadata": {"next_cursor": ""}}))
}

pub(crate) fn conversation_json(found: &Conversation) -> Value {
    match found.dm_with {
        Some(user) => json!({
            "id": found.id, "created": 1_700_000_000, "is_im": true, "is_org_shared": false,
            "user": user, "is_open": true, "priority": 0,
        }),
        None => json!({
            "id": found.id, "name": found.name, "name_normalized": found.name,
            "created": 1_700_000_000, "creator": BOT_USER, "is_channel": true, "is_im": false,
            "is_private": false, "is_archived": false, "is_member": true, "is_general": false,
            "num_members": found.members.len() + 1,
        }),
    }
}
