//! The two modals: a request, and the reason of a denial.

use super::{action, block, callback, context, cut, duration, escape, name, plain};
use crate::config::{Cluster, Config, Times};
use crate::ledger::item::Item;
use crate::request::REASON_LIMIT;
use powerpole_protocol::id::RequestId;
use serde_json::{Value, json};

/// The request's modal for a person who may ask for these clusters; at least one.
#[must_use]
pub fn request(id: &RequestId, clusters: &[&Cluster], times: &Times) -> Value {
    let longest = clusters.iter().map(|c| c.max_duration_s).max().unwrap_or(0);
    let durations: Vec<Value> = times
        .durations_s
        .iter()
        .filter(|s| **s <= longest)
        .take(100)
        .map(|s| option(&duration(*s), &s.to_string()))
        .collect();
    let mut levels: Vec<_> = clusters
        .iter()
        .flat_map(|c| c.levels.iter().copied())
        .collect();
    levels.sort();
    levels.dedup();
    let levels: Vec<Value> = levels
        .into_iter()
        .map(|level| {
            let what = match level {
                powerpole_protocol::level::AccessLevel::Read => "read rows",
                powerpole_protocol::level::AccessLevel::Write => "read and change rows",
                powerpole_protocol::level::AccessLevel::Admin => "change rows and tables",
            };
            option(&format!("{level}: {what}"), level.as_str())
        })
        .collect();
    let names: Vec<Value> = clusters
        .iter()
        .take(100)
        .map(|c| option(&c.title, c.id.as_str()))
        .collect();
    let mut cluster =
        json!({"type": "static_select", "action_id": block::CLUSTER, "options": names});
    // One choice is no question.
    if let ([only], Some(fields)) = (names.as_slice(), cluster.as_object_mut()) {
        fields.insert("initial_option".to_owned(), only.clone());
    }
    json!({
        "type": "modal",
        "callback_id": callback::REQUEST,
        "private_metadata": id.as_str(),
        "title": plain("Database access", 24),
        "submit": plain("Request", 24),
        "close": plain("Cancel", 24),
        "blocks": [
            input(block::CLUSTER, "Cluster", &cluster, false, None),
            input(block::LEVEL, "Access level", &select(block::LEVEL, levels.as_slice()), false, None),
            input(block::SCHEMAS, "Schemas", &schemas(clusters), false, None),
            input(block::DURATION, "For how long", &select(block::DURATION, durations.as_slice()), false,
                Some("The clock starts when the bastion is ready.")),
            input(block::START, "Start", &json!({"type": "datetimepicker", "action_id": block::START}), true,
                Some("Leave empty to start as soon as it is approved.")),
            input(block::REASON, "Why", &json!({"type": "plain_text_input", "action_id": block::REASON,
                "multiline": true, "max_length": REASON_LIMIT}), false, None),
        ],
    })
}

/// The denial's modal.
#[must_use]
pub fn denial(item: &Item, config: &Config) -> Value {
    let of = format!(
        "{} asks for {}",
        escape(item.operator.as_str()),
        escape(&name(item, config))
    );
    json!({
        "type": "modal",
        "callback_id": callback::DENIAL,
        "private_metadata": item.request.as_str(),
        "title": plain("Deny the request", 24),
        "submit": plain("Deny", 24),
        "close": plain("Cancel", 24),
        "blocks": [context(&of), input(block::REASON, "Why not", &json!({"type": "plain_text_input",
            "action_id": block::REASON, "multiline": true, "max_length": REASON_LIMIT}), false,
            Some("The operator reads this."))],
    })
}

fn schemas(clusters: &[&Cluster]) -> Value {
    let options = |cluster: &Cluster| -> Vec<Value> {
        let value = |name| format!("{}/{name}", cluster.id);
        cluster
            .schemas
            .iter()
            .take(100)
            .map(|s| option(s.as_str(), &value(s.as_str())))
            .collect()
    };
    match clusters {
        [only] => {
            json!({"type": "multi_static_select", "action_id": block::SCHEMAS, "options": options(only)})
        }
        many => {
            let groups: Vec<Value> = many
                .iter()
                .take(100)
                .map(|c| json!({"label": plain(&c.title, 75), "options": options(c)}))
                .collect();
            json!({"type": "multi_static_select", "action_id": block::SCHEMAS, "option_groups": groups})
        }
    }
}

fn select(action_id: &str, options: &[Value]) -> Value {
    json!({"type": "static_select", "action_id": action_id, "options": options})
}

fn option(text: &str, value: &str) -> Value {
    json!({"text": plain(text, 75), "value": cut(value, 150)})
}

fn input(
    block_id: &str,
    label: &str,
    element: &Value,
    optional: bool,
    hint: Option<&str>,
) -> Value {
    let mut input = json!({"type": "input", "block_id": block_id, "label": plain(label, 2000),
        "element": element, "optional": optional});
    if let (Some(hint), Some(fields)) = (hint, input.as_object_mut()) {
        fields.insert("hint".to_owned(), plain(hint, 2000));
    }
    input
}

/// A button; its value is the request id.
pub(super) fn button(action_id: &str, text: &str, style: Option<&str>, id: &RequestId) -> Value {
    let mut button = json!({"type": "button", "action_id": action_id, "text": plain(text, 75), "value": id.as_str()});
    if let (Some(style), Some(fields)) = (style, button.as_object_mut()) {
        fields.insert("style".to_owned(), style.into());
    }
    button
}

/// The button that ends a window early; it asks back, and names the window.
pub(super) fn finish_button(item: &Item, config: &Config) -> Value {
    let mut button = button(action::FINISH, "Finish now", None, &item.request);
    if let Some(fields) = button.as_object_mut() {
        let text = format!(
            "{}. Open sessions end and the account is removed.",
            name(item, config)
        );
        fields.insert(
            "confirm".to_owned(),
            json!({
                "title": plain("Finish now?", 100),
                "text": plain(&text, 300),
                "confirm": plain("Finish", 30),
                "deny": plain("Keep working", 30),
            }),
        );
    }
    button
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{config, item};

    fn id() -> RequestId {
        RequestId::from_parts(1, [1; 10])
    }

    #[test]
    fn slack_morphisms_models_read_both_modals() {
        let config = config();
        let clusters: Vec<&Cluster> = config.clusters.iter().collect();
        let denied = item("alice@example.com", 1);
        for view in [
            request(&id(), &clusters, &config.times),
            denial(&denied, &config),
        ] {
            let read: slack_morphism::prelude::SlackView =
                serde_json::from_value(view.clone()).unwrap();
            let again = serde_json::to_value(read).unwrap();
            assert_eq!(
                again["blocks"].as_array().unwrap().len(),
                view["blocks"].as_array().unwrap().len()
            );
        }
    }

    #[test]
    fn a_title_at_its_limit_and_many_clusters_keep_slacks_limits() {
        let mut config = config();
        let mut second = config.clusters[0].clone();
        second.id = powerpole_protocol::id::ClusterId::parse("billing-prod").unwrap();
        second.title = "é".repeat(75);
        config.clusters.push(second);
        let clusters: Vec<&Cluster> = config.clusters.iter().collect();
        let view = request(&id(), &clusters, &config.times);
        let groups = view["blocks"][2]["element"]["option_groups"]
            .as_array()
            .unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            groups[1]["label"]["text"].as_str().unwrap().chars().count(),
            75
        );
        assert!(view["title"]["text"].as_str().unwrap().len() <= 24);
        assert!(view["blocks"][0]["element"].get("initial_option").is_none());
    }
}
