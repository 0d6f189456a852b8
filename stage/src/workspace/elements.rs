//! What Slack refuses in Block Kit's elements: buttons, selects, inputs. Pure.

use super::blocks::Findings;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The kind of block that an element stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A section's accessory.
    Section,
    /// An actions block.
    Actions,
    /// An input block.
    Input,
    /// A context block.
    Context,
}

/// The elements of an actions or context block.
pub(crate) fn check_list(
    findings: &mut Findings,
    list: Option<&Value>,
    at: &str,
    most: usize,
    place: Place,
) {
    let Some(list) = list else { return };
    let here = format!("{at}/elements");
    let mut ids = HashSet::new();
    for (index, element) in findings.list(list, &here, 1, most).into_iter().enumerate() {
        let spot = format!("{here}/{index}");
        check(findings, element, &spot, place);
        if let Some(id) = element.get("action_id").and_then(Value::as_str)
            && !ids.insert(id.to_owned())
        {
            findings.add(
                &format!("{spot}/action_id"),
                format!("action_id `{id}` already exists"),
            );
        }
    }
}

/// One element.
pub(crate) fn check(findings: &mut Findings, element: &Value, at: &str, place: Place) {
    let kind = element
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if place == Place::Context && matches!(kind, "mrkdwn" | "plain_text") {
        findings.text(element, at, &["mrkdwn", "plain_text"], 2000);
        return;
    }
    let Some(fields) = known_fields(findings, element, kind, at, place) else {
        return;
    };
    findings.string(fields, at, "action_id", 255);
    findings.boolean(fields, at, "focus_on_load");
    if let Some(text) = fields.get("placeholder") {
        findings.text(text, &format!("{at}/placeholder"), &["plain_text"], 150);
    }
    if let Some(confirm) = fields.get("confirm") {
        check_confirm(findings, confirm, &format!("{at}/confirm"));
    }
    match kind {
        "button" => check_button(findings, fields, at),
        "static_select" | "multi_static_select" => check_options(findings, fields, at, 100),
        "radio_buttons" | "checkboxes" => check_options(findings, fields, at, 10),
        "overflow" => check_options(findings, fields, at, 5),
        "plain_text_input" => {
            findings.string(fields, at, "initial_value", 3000);
            findings.boolean(fields, at, "multiline");
            for key in ["min_length", "max_length"] {
                let length = fields.get(key);
                if length.is_some_and(|value| value.as_u64().is_none_or(|n| n > 3000)) {
                    findings.add(&format!("{at}/{key}"), "must be between 0 and 3000");
                }
            }
        }
        "number_input" => {
            findings.boolean(fields, at, "is_decimal_allowed");
            for key in ["initial_value", "min_value", "max_value"] {
                if fields
                    .get(key)
                    .is_some_and(|v| v.as_str().is_none_or(|text| text.parse::<f64>().is_err()))
                {
                    findings.add(&format!("{at}/{key}"), "must be a number in a string");
                }
            }
        }
        "datetimepicker" => {
            let initial = fields.get("initial_date_time");
            if initial.is_some_and(|v| {
                v.as_u64()
                    .is_none_or(|n| !(1_000_000_000..10_000_000_000).contains(&n))
            }) {
                findings.add(&format!("{at}/initial_date_time"), "must be 10 digits");
            }
        }
        _ => {}
    }
}

fn known_fields<'v>(
    findings: &mut Findings,
    element: &'v Value,
    kind: &str,
    at: &str,
    place: Place,
) -> Option<&'v Map<String, Value>> {
    use Place::{Actions, Context, Input, Section};
    type Shape = (
        &'static [&'static str],
        &'static [&'static str],
        &'static [Place],
    );
    let everywhere: &[Place] = &[Section, Actions, Input];
    let (required, optional, places): Shape = match kind {
        "button" => (
            &["type", "text"],
            &[
                "action_id",
                "url",
                "value",
                "style",
                "confirm",
                "accessibility_label",
            ],
            &[Section, Actions],
        ),
        "static_select" => (
            &["type"],
            &[
                "action_id",
                "options",
                "option_groups",
                "placeholder",
                "initial_option",
                "confirm",
                "focus_on_load",
            ],
            everywhere,
        ),
        "multi_static_select" => (
            &["type"],
            &[
                "action_id",
                "options",
                "option_groups",
                "placeholder",
                "initial_options",
                "confirm",
                "max_selected_items",
                "focus_on_load",
            ],
            &[Section, Input],
        ),
        "radio_buttons" => (
            &["type", "options"],
            &["action_id", "initial_option", "confirm", "focus_on_load"],
            everywhere,
        ),
        "checkboxes" => (
            &["type", "options"],
            &["action_id", "initial_options", "confirm", "focus_on_load"],
            everywhere,
        ),
        "overflow" => (
            &["type", "options"],
            &["action_id", "confirm"],
            &[Section, Actions],
        ),
        "plain_text_input" => (
            &["type"],
            &[
                "action_id",
                "initial_value",
                "multiline",
                "min_length",
                "max_length",
                "dispatch_action_config",
                "focus_on_load",
                "placeholder",
            ],
            &[Input],
        ),
        "email_text_input" | "url_text_input" => (
            &["type"],
            &[
                "action_id",
                "initial_value",
                "dispatch_action_config",
                "focus_on_load",
                "placeholder",
            ],
            &[Input],
        ),
        "number_input" => (
            &["type", "is_decimal_allowed"],
            &[
                "action_id",
                "initial_value",
                "min_value",
                "max_value",
                "dispatch_action_config",
                "focus_on_load",
                "placeholder",
            ],
            &[Input],
        ),
        "datetimepicker" => (
            &["type"],
            &["action_id", "initial_date_time", "confirm", "focus_on_load"],
            &[Actions, Input],
        ),
        "datepicker" => (
            &["type"],
            &[
                "action_id",
                "initial_date",
                "confirm",
                "focus_on_load",
                "placeholder",
            ],
            everywhere,
        ),
        "timepicker" => (
            &["type"],
            &[
                "action_id",
                "initial_time",
                "confirm",
                "focus_on_load",
                "placeholder",
                "timezone",
            ],
            everywhere,
        ),
        "users_select" => (
            &["type"],
            &[
                "action_id",
                "initial_user",
                "confirm",
                "focus_on_load",
                "placeholder",
            ],
            everywhere,
        ),
        "image" => (&["type", "image_url", "alt_text"], &[], &[Section, Context]),
        _ => (&[], &[], &[]),
    };
    if !places.contains(&place) {
        findings.add(at, format!("unsupported type: {kind}"));
        return None;
    }
    findings.object(element, at, required, optional)
}

fn check_button(findings: &mut Findings, fields: &Map<String, Value>, at: &str) {
    if let Some(text) = fields.get("text") {
        findings.text(text, &format!("{at}/text"), &["plain_text"], 75);
    }
    findings.string(fields, at, "value", 2000);
    findings.string(fields, at, "url", 3000);
    findings.string(fields, at, "accessibility_label", 75);
    if let Some(style) = fields.get("style")
        && !matches!(style.as_str(), Some("primary" | "danger"))
    {
        findings.add(&format!("{at}/style"), "must be one of: primary, danger");
    }
}

fn check_confirm(findings: &mut Findings, confirm: &Value, at: &str) {
    let required = ["title", "text", "confirm", "deny"];
    let Some(fields) = findings.object(confirm, at, &required, &["style"]) else {
        return;
    };
    let limits: [(&str, &[&str], usize); 4] = [
        ("title", &["plain_text"], 100),
        ("text", &["plain_text", "mrkdwn"], 300),
        ("confirm", &["plain_text"], 30),
        ("deny", &["plain_text"], 30),
    ];
    for (key, kinds, most) in limits {
        if let Some(text) = fields.get(key) {
            findings.text(text, &format!("{at}/{key}"), kinds, most);
        }
    }
}

fn check_options(findings: &mut Findings, fields: &Map<String, Value>, at: &str, most: usize) {
    let mut all = Vec::new();
    match (fields.get("options"), fields.get("option_groups")) {
        (Some(options), None) => {
            let here = format!("{at}/options");
            for (index, option) in findings
                .list(options, &here, 1, most)
                .into_iter()
                .enumerate()
            {
                check_option(findings, option, &format!("{here}/{index}"));
                all.push(option);
            }
        }
        (None, Some(groups)) => {
            let here = format!("{at}/option_groups");
            for (index, group) in findings.list(groups, &here, 1, 100).into_iter().enumerate() {
                let spot = format!("{here}/{index}");
                let Some(parts) = findings.object(group, &spot, &["label", "options"], &[]) else {
                    continue;
                };
                if let Some(label) = parts.get("label") {
                    findings.text(label, &format!("{spot}/label"), &["plain_text"], 75);
                }
                let Some(options) = parts.get("options") else {
                    continue;
                };
                let list = format!("{spot}/options");
                for (n, option) in findings
                    .list(options, &list, 1, most)
                    .into_iter()
                    .enumerate()
                {
                    check_option(findings, option, &format!("{list}/{n}"));
                    all.push(option);
                }
            }
        }
        _ => findings.add(at, "must provide either options or option_groups"),
    }
    if let Some(initial) = fields.get("initial_option")
        && !all.contains(&initial)
    {
        findings.add(
            &format!("{at}/initial_option"),
            "must be one of the provided options",
        );
    }
    if let Some(initial) = fields.get("initial_options") {
        let here = format!("{at}/initial_options");
        for option in findings.list(initial, &here, 1, most) {
            if !all.contains(&option) {
                findings.add(&here, "must be one of the provided options");
            }
        }
    }
}

fn check_option(findings: &mut Findings, option: &Value, at: &str) {
    let Some(fields) = findings.object(option, at, &["text", "value"], &["description", "url"])
    else {
        return;
    };
    if let Some(text) = fields.get("text") {
        findings.text(text, &format!("{at}/text"), &["plain_text", "mrkdwn"], 75);
    }
    findings.string(fields, at, "value", 150);
    if let Some(text) = fields.get("description") {
        findings.text(
            text,
            &format!("{at}/description"),
            &["plain_text", "mrkdwn"],
            75,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::blocks::check_message_blocks;
    use serde_json::{Value, json};

    fn select(count: usize, initial: Option<Value>) -> Value {
        let option = |n: usize| json!({"text": {"type": "plain_text", "text": format!("o{n}")}, "value": format!("{n}")});
        let mut element = json!({"type": "static_select", "action_id": "a",
            "options": (0..count).map(option).collect::<Vec<_>>()});
        if let Some(initial) = initial {
            element["initial_option"] = initial;
        }
        json!([{"type": "actions", "elements": [element]}])
    }

    #[test]
    fn a_select_has_one_to_a_hundred_options() {
        assert!(check_message_blocks(&select(1, None)).is_empty());
        assert!(check_message_blocks(&select(100, None)).is_empty());
        assert_eq!(check_message_blocks(&select(0, None)).len(), 1);
        assert_eq!(check_message_blocks(&select(101, None)).len(), 1);
    }

    #[test]
    fn an_initial_option_is_one_of_the_options() {
        let there = json!({"text": {"type": "plain_text", "text": "o1"}, "value": "1"});
        assert!(check_message_blocks(&select(2, Some(there))).is_empty());
        let not = json!({"text": {"type": "plain_text", "text": "other"}, "value": "1"});
        assert_eq!(check_message_blocks(&select(2, Some(not))).len(), 1);
    }

    #[test]
    fn an_input_element_outside_an_input_block_is_refused() {
        let blocks = json!([{"type": "actions", "elements": [
            {"type": "plain_text_input", "action_id": "a"}]}]);
        assert!(check_message_blocks(&blocks)[0].contains("unsupported type: plain_text_input"));
    }

    #[test]
    fn an_unknown_button_style_and_a_long_value_are_refused() {
        let button = |style: &str, length: usize| {
            json!([{"type": "actions", "elements": [{"type": "button", "action_id": "a",
                "style": style, "value": "v".repeat(length),
                "text": {"type": "plain_text", "text": "Go"}}]}])
        };
        assert!(check_message_blocks(&button("primary", 2000)).is_empty());
        assert_eq!(check_message_blocks(&button("green", 2000)).len(), 1);
        assert_eq!(check_message_blocks(&button("danger", 2001)).len(), 1);
    }
}
