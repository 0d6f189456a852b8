//! What Slack sends, read into typed events. Called only with bodies whose signature was accepted.

use super::view::{action, block, callback};
use crate::request::Form;
use powerpole_protocol::id::RequestId;
use serde::Deserialize;
use serde_json::Value;

/// A slash command.
#[derive(Debug, Deserialize)]
pub struct SlashCommand {
    /// `/powerpole`.
    pub command: String,
    /// Who typed it.
    pub user_id: String,
    /// The workspace where it was typed.
    pub team_id: String,
    /// Opens a modal, for 3 s.
    pub trigger_id: String,
}

/// An interaction.
#[derive(Debug)]
pub enum Interaction {
    /// A button on a card or a DM.
    Button(Button),
    /// The request's modal was submitted.
    Request {
        /// Who.
        user: String,
        /// The id that was drawn when the modal was opened: a repeated submission is the same request.
        request: RequestId,
        /// What.
        form: Form,
    },
    /// The denial's modal was submitted.
    Denial {
        /// Who.
        user: String,
        /// Which request.
        request: RequestId,
        /// Why.
        reason: String,
    },
    /// Something that needs no answer.
    Other,
}

/// A click.
#[derive(Debug)]
pub struct Button {
    /// Who.
    pub user: String,
    /// On which button.
    pub press: Press,
    /// Which request.
    pub request: RequestId,
    /// Opens a modal, for 3 s.
    pub trigger: String,
    /// Channel of the message.
    pub channel: String,
}

/// Which button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Press {
    /// Approve.
    Approve,
    /// Deny.
    Deny,
    /// Finish early.
    Finish,
}

/// A body that is not what Slack sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is not {0}")]
pub struct Malformed(pub &'static str);

#[derive(Deserialize)]
struct Wrapped {
    payload: String,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: Id,
    #[serde(default)]
    team: Option<Id>,
    #[serde(default)]
    trigger_id: String,
    #[serde(default)]
    channel: Option<Id>,
    #[serde(default)]
    actions: Vec<Action>,
    #[serde(default)]
    view: Option<View>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    #[serde(default)]
    value: Option<String>,
}

#[derive(Deserialize)]
struct View {
    #[serde(default)]
    callback_id: String,
    #[serde(default)]
    private_metadata: String,
    state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    values: Value,
}

/// Reads a slash command.
///
/// # Errors
/// When the body is not one.
pub fn slash_command(body: &[u8]) -> Result<SlashCommand, Malformed> {
    decode_form(body, "a slash command")
}

/// Reads an interaction. `team` is the only workspace whose interactions count.
///
/// # Errors
/// When the body is not an interaction of ours.
pub fn interaction(body: &[u8], team: &str) -> Result<Interaction, Malformed> {
    let wrapped: Wrapped = decode_form(body, "an interaction")?;
    let payload: Payload =
        serde_json::from_str(&wrapped.payload).map_err(|_| Malformed("an interaction"))?;
    if payload.team.as_ref().is_none_or(|theirs| theirs.id != team) {
        return Err(Malformed("of our workspace"));
    }
    match payload.kind.as_str() {
        "block_actions" => button(payload),
        "view_submission" => submission(payload),
        _ => Ok(Interaction::Other),
    }
}

fn button(payload: Payload) -> Result<Interaction, Malformed> {
    let Some(first) = payload.actions.into_iter().next() else {
        return Ok(Interaction::Other);
    };
    let press = match first.action_id.as_str() {
        action::APPROVE => Press::Approve,
        action::DENY => Press::Deny,
        action::FINISH => Press::Finish,
        _ => return Ok(Interaction::Other),
    };
    let request = first
        .value
        .as_deref()
        .and_then(|v| RequestId::parse(v).ok())
        .ok_or(Malformed("a click on a request"))?;
    Ok(Interaction::Button(Button {
        user: payload.user.id,
        press,
        request,
        trigger: payload.trigger_id,
        channel: payload.channel.map(|c| c.id).unwrap_or_default(),
    }))
}

fn submission(payload: Payload) -> Result<Interaction, Malformed> {
    let view = payload.view.ok_or(Malformed("a submission"))?;
    let values = view.state.map(|s| s.values).unwrap_or_default();
    let element = |block: &str| values.get(block).and_then(|b| b.get(block));
    let text = |block: &str| {
        element(block)
            .and_then(|e| e.get("value"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let chosen = |block: &str| {
        let option = element(block).and_then(|e| e.get("selected_option"));
        option
            .and_then(|o| o.get("value"))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let request =
        RequestId::parse(&view.private_metadata).map_err(|_| Malformed("a submission of ours"))?;
    let user = payload.user.id;
    match view.callback_id.as_str() {
        callback::REQUEST => {
            let schemas = element(block::SCHEMAS)
                .and_then(|e| e.get("selected_options"))
                .and_then(Value::as_array);
            let form = Form {
                cluster: chosen(block::CLUSTER),
                level: chosen(block::LEVEL),
                schemas: schemas
                    .into_iter()
                    .flatten()
                    .filter_map(|o| o.get("value").and_then(Value::as_str).map(str::to_owned))
                    .collect(),
                duration: chosen(block::DURATION),
                start: element(block::START)
                    .and_then(|e| e.get("selected_date_time"))
                    .and_then(Value::as_i64),
                reason: text(block::REASON),
            };
            Ok(Interaction::Request {
                user,
                request,
                form,
            })
        }
        callback::DENIAL => Ok(Interaction::Denial {
            user,
            request,
            reason: text(block::REASON),
        }),
        _ => Ok(Interaction::Other),
    }
}

fn decode_form<T: serde::de::DeserializeOwned>(
    body: &[u8],
    what: &'static str,
) -> Result<T, Malformed> {
    serde_urlencoded::from_bytes(body).map_err(|_| Malformed(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const REQUEST: &str = "req-01jd8z3v5k9q4m2n7p6r8s1t0w";

    fn read(payload: &Value) -> Result<Interaction, Malformed> {
        let body = serde_urlencoded::to_string([("payload", payload.to_string())]).unwrap();
        interaction(body.as_bytes(), "T1")
    }

    #[test]
    fn a_click_names_who_what_and_which() {
        let mut payload = json!({"type": "block_actions", "user": {"id": "U1"}, "team": {"id": "T1"},
            "trigger_id": "t", "channel": {"id": "C1"},
            "actions": [{"action_id": "approve", "block_id": "decision", "value": REQUEST}]});
        let Interaction::Button(button) = read(&payload).unwrap() else {
            panic!()
        };
        assert_eq!(
            (button.user.as_str(), button.press, button.request.as_str()),
            ("U1", Press::Approve, REQUEST)
        );
        for elsewhere in [json!({"id": "T2"}), Value::Null] {
            payload["team"] = elsewhere;
            assert!(read(&payload).is_err());
        }
        payload["team"] = json!({"id": "T1"});
        payload["actions"][0]["value"] = "req-1".into();
        assert!(read(&payload).is_err());
    }

    #[test]
    fn a_submission_is_read_field_by_field_and_an_empty_one_is_an_empty_form() {
        let chosen = |v: &str| json!({"type": "static_select", "selected_option": {"value": v}});
        let mut payload = json!({"type": "view_submission", "user": {"id": "U1"}, "team": {"id": "T1"},
            "view": {"callback_id": callback::REQUEST, "private_metadata": REQUEST, "state": {"values": {
                "cluster": {"cluster": chosen("orders-prod")}, "level": {"level": chosen("READ")},
                "schemas": {"schemas": {"selected_options": [{"value": "orders-prod/orders"}]}},
                "duration": {"duration": chosen("900")},
                "start": {"start": {"selected_date_time": 1_700_000_000}},
                "reason": {"reason": {"value": "why"}}}}}});
        let Interaction::Request { form, .. } = read(&payload).unwrap() else {
            panic!()
        };
        assert_eq!(
            (form.start, form.duration.as_str(), form.schemas.len()),
            (Some(1_700_000_000), "900", 1)
        );
        payload["view"]["state"]["values"] = json!({});
        let Interaction::Request { form, .. } = read(&payload).unwrap() else {
            panic!()
        };
        assert_eq!(form, Form::default());
    }

    #[test]
    fn what_is_not_slacks_is_malformed() {
        for body in [&b"payload=%7B"[..], b"", b"\xff", b"payload=%7B%7D"] {
            assert!(interaction(body, "T1").is_err());
        }
        let command = b"command=%2Fpowerpole&user_id=U1&team_id=T1&trigger_id=t";
        assert_eq!(slash_command(command).unwrap().team_id, "T1");
        assert!(slash_command(b"command=%2Fpowerpole&user_id=U1&trigger_id=t").is_err());
    }
}
