//! Submitting a modal, and what Slack makes of the answer (`response_action`).

use super::act::{ActError, actor, envelope, merge, text, with_state};
use super::inputs::{self, Filled, Typed};
use super::outbound::Ack;
use super::people::Person;
use super::views::OpenView;
use super::{Workspace, blocks, clock};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Slack's words in a modal whose submission failed.
pub(crate) const MODAL_TROUBLE: &str = "We had some trouble connecting. Try again?";

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
            .ok_or(ActError::ViewNotOpen)?
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
