//! What Slack refuses in messages and modals: Block Kit's structure and limits, as findings in
//! Slack's own form (`[ERROR] text [json-pointer:/blocks/0]`). Pure; it renders and stores nothing.
//!
//! Limits: docs.slack.dev/reference/block-kit. Unknown properties are refused as Slack does.

use super::elements::{self, Place};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt::Display;

/// Longest plain text of a message, in characters, before `msg_too_long`.
pub(crate) const MESSAGE_TEXT_MAX: usize = 40_000;
/// Largest view, in bytes of JSON, before `view_too_large`.
pub(crate) const VIEW_BYTES_MAX: usize = 250_000;

const MESSAGE_BLOCKS_MAX: usize = 50;
const MODAL_BLOCKS_MAX: usize = 100;

/// Where blocks are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// A message.
    Message,
    /// A modal view.
    Modal,
}

/// Everything wrong with a message's blocks; empty if Slack would take them.
#[must_use]
pub(crate) fn check_message_blocks(blocks: &Value) -> Vec<String> {
    let mut findings = Findings::default();
    check_blocks(&mut findings, blocks, Surface::Message, "/blocks");
    findings.0
}

/// Everything wrong with a modal; empty if Slack would take it.
#[must_use]
pub(crate) fn check_view(view: &Value) -> Vec<String> {
    let mut findings = Findings::default();
    let at = "/view";
    let Some(fields) = findings.object(
        view,
        at,
        &["type", "title", "blocks"],
        &[
            "close",
            "submit",
            "private_metadata",
            "callback_id",
            "clear_on_close",
            "notify_on_close",
            "external_id",
            "submit_disabled",
        ],
    ) else {
        return findings.0;
    };
    if fields.get("type").and_then(Value::as_str) != Some("modal") {
        findings.add("/view/type", "must be one of: modal");
    }
    for key in ["title", "submit", "close"] {
        if let Some(text) = fields.get(key) {
            findings.text(text, &format!("{at}/{key}"), &["plain_text"], 24);
        }
    }
    findings.string(fields, at, "private_metadata", 3000);
    findings.string(fields, at, "callback_id", 255);
    findings.string(fields, at, "external_id", 255);
    for key in ["clear_on_close", "notify_on_close", "submit_disabled"] {
        findings.boolean(fields, at, key);
    }
    if let Some(blocks) = fields.get("blocks") {
        check_blocks(&mut findings, blocks, Surface::Modal, "/view/blocks");
        let has_input = blocks.as_array().is_some_and(|all| {
            all.iter()
                .any(|block| block.get("type").and_then(Value::as_str) == Some("input"))
        });
        if has_input && !fields.contains_key("submit") {
            findings.add(
                "/view/submit",
                "missing required field: submit, as there is an input block",
            );
        }
    }
    findings.0
}

fn check_blocks(findings: &mut Findings, blocks: &Value, surface: Surface, at: &str) {
    let Some(all) = blocks.as_array() else {
        findings.add(at, "must be an array");
        return;
    };
    let most = match surface {
        Surface::Message => MESSAGE_BLOCKS_MAX,
        Surface::Modal => MODAL_BLOCKS_MAX,
    };
    if all.len() > most {
        findings.add(at, format!("no more than {most} items allowed"));
    }
    let mut ids = HashSet::new();
    for (index, block) in all.iter().enumerate() {
        let here = format!("{at}/{index}");
        check_block(findings, block, surface, &here);
        if let Some(id) = block.get("block_id").and_then(Value::as_str)
            && !ids.insert(id.to_owned())
        {
            findings.add(
                &format!("{here}/block_id"),
                format!("block_id `{id}` already exists"),
            );
        }
    }
}

fn check_block(findings: &mut Findings, block: &Value, surface: Surface, at: &str) {
    let kind = block
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let (required, optional): (&[&str], &[&str]) = match kind {
        "header" => (&["type", "text"], &["block_id"]),
        "section" => (
            &["type"],
            &["block_id", "text", "fields", "accessory", "expand"],
        ),
        "context" | "actions" | "rich_text" => (&["type", "elements"], &["block_id"]),
        "divider" => (&["type"], &["block_id"]),
        "image" => (&["type", "image_url", "alt_text"], &["block_id", "title"]),
        "input" => (
            &["type", "label", "element"],
            &["block_id", "hint", "optional", "dispatch_action"],
        ),
        _ => {
            findings.add(at, format!("unsupported type: {kind}"));
            return;
        }
    };
    let Some(fields) = findings.object(block, at, required, optional) else {
        return;
    };
    findings.string(fields, at, "block_id", 255);
    match kind {
        "header" => {
            if let Some(text) = fields.get("text") {
                findings.text(text, &format!("{at}/text"), &["plain_text"], 150);
            }
        }
        "section" => check_section(findings, fields, surface, at),
        "context" => {
            let place = Place::Context;
            elements::check_list(findings, fields.get("elements"), at, 10, place);
        }
        "actions" => {
            let place = Place::Actions;
            elements::check_list(findings, fields.get("elements"), at, 25, place);
        }
        "input" => check_input(findings, fields, at),
        "rich_text" => check_rich_text(findings, fields.get("elements"), at),
        "image" => {
            findings.string(fields, at, "image_url", 3000);
            findings.string(fields, at, "alt_text", 2000);
        }
        _ => {}
    }
}

fn check_section(findings: &mut Findings, fields: &Map<String, Value>, _: Surface, at: &str) {
    if !fields.contains_key("text") && !fields.contains_key("fields") {
        findings.add(at, "missing required field: text or fields");
    }
    if let Some(text) = fields.get("text") {
        findings.text(text, &format!("{at}/text"), &["plain_text", "mrkdwn"], 3000);
    }
    if let Some(list) = fields.get("fields") {
        let here = format!("{at}/fields");
        for (index, text) in findings.list(list, &here, 1, 10).into_iter().enumerate() {
            findings.text(
                text,
                &format!("{here}/{index}"),
                &["plain_text", "mrkdwn"],
                2000,
            );
        }
    }
    if let Some(accessory) = fields.get("accessory") {
        elements::check(
            findings,
            accessory,
            &format!("{at}/accessory"),
            Place::Section,
        );
    }
}

fn check_input(findings: &mut Findings, fields: &Map<String, Value>, at: &str) {
    if let Some(label) = fields.get("label") {
        findings.text(label, &format!("{at}/label"), &["plain_text"], 2000);
    }
    if let Some(hint) = fields.get("hint") {
        findings.text(hint, &format!("{at}/hint"), &["plain_text"], 2000);
    }
    findings.boolean(fields, at, "optional");
    findings.boolean(fields, at, "dispatch_action");
    if let Some(element) = fields.get("element") {
        elements::check(findings, element, &format!("{at}/element"), Place::Input);
    }
}

fn check_rich_text(findings: &mut Findings, list: Option<&Value>, at: &str) {
    let here = format!("{at}/elements");
    let Some(list) = list else { return };
    for (index, part) in findings
        .list(list, &here, 0, usize::MAX)
        .into_iter()
        .enumerate()
    {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        let known = [
            "rich_text_section",
            "rich_text_list",
            "rich_text_preformatted",
            "rich_text_quote",
        ];
        if !known.contains(&kind) {
            findings.add(
                &format!("{here}/{index}"),
                format!("unsupported type: {kind}"),
            );
        }
        if !part.get("elements").is_some_and(Value::is_array) {
            findings.add(
                &format!("{here}/{index}"),
                "missing required field: elements",
            );
        }
    }
}

/// Findings in Slack's form.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<String>);

impl Findings {
    /// One more thing that is wrong.
    pub(crate) fn add(&mut self, at: &str, text: impl Display) {
        self.0.push(format!("[ERROR] {text} [json-pointer:{at}]"));
    }

    /// An object with these fields and no others.
    pub(crate) fn object<'v>(
        &mut self,
        value: &'v Value,
        at: &str,
        required: &[&str],
        optional: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Some(fields) = value.as_object() else {
            self.add(at, "must be an object");
            return None;
        };
        for key in required {
            if !fields.contains_key(*key) {
                self.add(at, format!("missing required field: {key}"));
            }
        }
        for key in fields.keys() {
            if !required.contains(&key.as_str()) && !optional.contains(&key.as_str()) {
                self.add(at, format!("invalid additional property: {key}"));
            }
        }
        Some(fields)
    }

    /// A text object of one of these kinds, 1 to `most` characters.
    pub(crate) fn text(&mut self, value: &Value, at: &str, kinds: &[&str], most: usize) {
        let optional: &[&str] = match value.get("type").and_then(Value::as_str) {
            Some("mrkdwn") => &["verbatim"],
            _ => &["emoji"],
        };
        let Some(fields) = self.object(value, at, &["type", "text"], optional) else {
            return;
        };
        let kind = fields
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !kinds.contains(&kind) {
            self.add(
                &format!("{at}/type"),
                format!("must be one of: {}", kinds.join(", ")),
            );
        }
        let here = format!("{at}/text");
        match fields.get("text").and_then(Value::as_str) {
            None => self.add(&here, "must be a string"),
            Some("") => self.add(&here, "must be more than 0 characters"),
            Some(text) if text.chars().count() > most => {
                self.add(&here, format!("must be less than {} characters", most + 1));
            }
            Some(_) => {}
        }
    }

    /// If the field is there: a string of at most `most` characters.
    pub(crate) fn string(&mut self, fields: &Map<String, Value>, at: &str, key: &str, most: usize) {
        let Some(value) = fields.get(key) else { return };
        match value.as_str() {
            None => self.add(&format!("{at}/{key}"), "must be a string"),
            Some(text) if text.chars().count() > most => self.add(
                &format!("{at}/{key}"),
                format!("must be less than {} characters", most + 1),
            ),
            Some(_) => {}
        }
    }

    /// If the field is there: true or false.
    pub(crate) fn boolean(&mut self, fields: &Map<String, Value>, at: &str, key: &str) {
        if fields.get(key).is_some_and(|value| !value.is_boolean()) {
            self.add(&format!("{at}/{key}"), "must be a boolean");
        }
    }

    /// A list of so many items.
    pub(crate) fn list<'v>(
        &mut self,
        value: &'v Value,
        at: &str,
        least: usize,
        most: usize,
    ) -> Vec<&'v Value> {
        let Some(items) = value.as_array() else {
            self.add(at, "must be an array");
            return Vec::new();
        };
        if items.len() < least {
            self.add(at, format!("no less than {least} items allowed"));
        }
        if items.len() > most {
            self.add(at, format!("no more than {most} items allowed"));
        }
        items.iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn section(text: &str) -> Value {
        json!({"type": "section", "text": {"type": "mrkdwn", "text": text}})
    }

    fn input(id: &str) -> Value {
        json!({"type": "input", "block_id": id, "label": {"type": "plain_text", "text": "Why"},
               "element": {"type": "plain_text_input", "action_id": "value"}})
    }

    fn modal(blocks: Value) -> Value {
        json!({"type": "modal", "title": {"type": "plain_text", "text": "T"},
               "submit": {"type": "plain_text", "text": "Go"}, "blocks": blocks})
    }

    #[test]
    fn a_message_at_every_limit_is_taken_and_one_past_it_is_not() {
        assert_eq!(
            check_message_blocks(&json!([section(&"x".repeat(3000))])),
            [""; 0]
        );
        let found = check_message_blocks(&json!([section(&"x".repeat(3001))]));
        assert_eq!(
            found,
            ["[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]"]
        );
        let many = |count: usize| Value::Array(vec![json!({"type": "divider"}); count]);
        assert!(check_message_blocks(&many(50)).is_empty());
        assert_eq!(
            check_message_blocks(&many(51)),
            ["[ERROR] no more than 50 items allowed [json-pointer:/blocks]"]
        );
    }

    #[test]
    fn unknown_properties_and_types_are_refused() {
        let mut block = section("x");
        block["colour"] = json!("red");
        assert!(check_message_blocks(&json!([block]))[0].contains("additional property: colour"));
        assert!(check_message_blocks(&json!([{"type": "table"}]))[0].contains("unsupported type"));
    }

    #[test]
    fn duplicate_ids_are_refused() {
        let found = check_view(&modal(json!([input("a"), input("a")])));
        assert!(
            found[0].contains("block_id `a` already exists"),
            "{found:?}"
        );
        let button = json!({"type": "button", "action_id": "go",
                            "text": {"type": "plain_text", "text": "Go"}});
        let found = check_message_blocks(
            &json!([{"type": "actions", "elements": [button.clone(), button]}]),
        );
        assert!(
            found[0].contains("action_id `go` already exists"),
            "{found:?}"
        );
    }

    #[test]
    fn an_input_without_submit_is_refused() {
        let mut view = modal(json!([input("a")]));
        assert!(check_view(&view).is_empty());
        view.as_object_mut().unwrap().remove("submit");
        assert!(check_view(&view)[0].contains("missing required field: submit"));
    }

    #[test]
    fn a_title_of_25_characters_is_refused() {
        let mut view = modal(json!([input("a")]));
        view["title"]["text"] = json!("x".repeat(25));
        assert_eq!(
            check_view(&view),
            ["[ERROR] must be less than 25 characters [json-pointer:/view/title/text]"]
        );
    }
}
