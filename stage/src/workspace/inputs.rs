//! What a person put into a modal's inputs, in Slack's shape (`view.state.values`), and what
//! Slack's own client checks before it sends anything.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Values by block and action, in plain JSON: text, number, an option's value, or a list of those.
pub(crate) type Typed = BTreeMap<String, BTreeMap<String, Value>>;

/// Slack's words for an empty field.
pub(crate) const REQUIRED: &str = "Please complete this required field.";

/// What was filled in.
#[derive(Debug, PartialEq)]
pub(crate) enum Filled {
    /// Ready to be sent.
    State(Value),
    /// Refused by the client itself, by block.
    Errors(BTreeMap<String, String>),
}

/// Reads the inputs of a view. What is not typed keeps the element's initial value.
pub(crate) fn fill(view: &Value, typed: &Typed) -> Filled {
    let mut values = Map::new();
    let mut errors = BTreeMap::new();
    for block in view
        .get("blocks")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let block_id = text(block, "block_id");
        for element in elements(block) {
            let action_id = text(element, "action_id");
            let given = typed
                .get(block_id)
                .and_then(|actions| actions.get(action_id));
            let read = match given {
                Some(value) => state_of(element, value),
                None => Ok(initial_of(element)),
            };
            let optional = block
                .get("optional")
                .and_then(Value::as_bool)
                .unwrap_or(false);
            let is_input = text(block, "type") == "input";
            match read {
                Err(problem) => {
                    errors.insert(block_id.to_owned(), problem);
                }
                Ok(state) if is_input && !optional && is_empty(&state) => {
                    errors.insert(block_id.to_owned(), REQUIRED.to_owned());
                }
                Ok(state) if text(element, "type") != "button" => {
                    let actions = values.entry(block_id).or_insert_with(|| json!({}));
                    if let Some(actions) = actions.as_object_mut() {
                        actions.insert(action_id.to_owned(), state);
                    }
                }
                Ok(_) => {}
            }
        }
    }
    if errors.is_empty() {
        Filled::State(json!({"values": values}))
    } else {
        Filled::Errors(errors)
    }
}

/// The block ids of a view's inputs: what field errors may name.
pub(crate) fn input_blocks(view: &Value) -> Vec<&str> {
    let blocks = view.get("blocks").and_then(Value::as_array);
    blocks
        .into_iter()
        .flatten()
        .filter(|block| text(block, "type") == "input")
        .map(|block| text(block, "block_id"))
        .collect()
}

/// The interactive elements of a block.
pub(crate) fn elements(block: &Value) -> Vec<&Value> {
    let list = match text(block, "type") {
        "actions" => block.get("elements").and_then(Value::as_array),
        _ => None,
    };
    let single = ["element", "accessory"]
        .into_iter()
        .filter_map(|key| block.get(key));
    list.into_iter()
        .flatten()
        .chain(single)
        .filter(|found| text(found, "type") != "image")
        .collect()
}

/// The option of an element that has this value.
pub(crate) fn option_of<'v>(element: &'v Value, value: &str) -> Option<&'v Value> {
    let plain = element
        .get("options")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let groups = element
        .get("option_groups")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let grouped = groups
        .filter_map(|g| g.get("options").and_then(Value::as_array))
        .flatten();
    plain
        .chain(grouped)
        .find(|option| text(option, "value") == value)
}

/// The state of one element for a value that a person gave.
pub(crate) fn state_of(element: &Value, value: &Value) -> Result<Value, String> {
    let kind = text(element, "type");
    let key = state_key(kind);
    let state = match kind {
        "static_select" | "radio_buttons" | "overflow" => match as_text(value) {
            None => Value::Null,
            Some(wanted) => option_of(element, &wanted)
                .cloned()
                .ok_or("That is not one of the choices.")?,
        },
        "multi_static_select" | "checkboxes" => {
            let wanted = match value {
                Value::Array(items) => items.iter().filter_map(as_text).collect(),
                other => as_text(other).into_iter().collect::<Vec<_>>(),
            };
            let most = element.get("max_selected_items").and_then(Value::as_u64);
            if most.is_some_and(|most| wanted.len() as u64 > most) {
                return Err(format!("Choose at most {}.", most.unwrap_or_default()));
            }
            let picked: Option<Vec<Value>> = wanted
                .iter()
                .map(|item| option_of(element, item).cloned())
                .collect();
            Value::Array(picked.ok_or("That is not one of the choices.")?)
        }
        "datetimepicker" => match value {
            Value::Number(number) => json!(number.as_i64().ok_or("That is not a time.")?),
            other => match as_text(other) {
                None => Value::Null,
                Some(written) => json!(parse_time(&written).ok_or("That is not a time.")?),
            },
        },
        "number_input" => match as_text(value) {
            None => Value::Null,
            Some(written) => json!(check_number(element, written)?),
        },
        "plain_text_input" => match as_text(value) {
            None => Value::Null,
            Some(written) => json!(check_length(element, written)?),
        },
        _ => as_text(value).map_or(Value::Null, Value::String),
    };
    Ok(json!({"type": kind, key: state}))
}

fn parse_time(written: &str) -> Option<i64> {
    if let Ok(seconds) = written.parse() {
        return Some(seconds);
    }
    written
        .parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_second)
}

fn check_number(element: &Value, written: String) -> Result<String, String> {
    let number: f64 = written
        .trim()
        .parse()
        .map_err(|_| "Enter a number.".to_owned())?;
    let decimal = element
        .get("is_decimal_allowed")
        .and_then(Value::as_bool)
        .unwrap_or(false);
    if !decimal && number.fract() != 0.0 {
        return Err("Enter a whole number.".into());
    }
    let bound = |key: &str| {
        element
            .get(key)
            .and_then(Value::as_str)?
            .parse::<f64>()
            .ok()
    };
    if let Some(least) = bound("min_value")
        && number < least
    {
        return Err(format!("Enter a number of at least {least}."));
    }
    if let Some(most) = bound("max_value")
        && number > most
    {
        return Err(format!("Enter a number of at most {most}."));
    }
    Ok(written.trim().to_owned())
}

fn check_length(element: &Value, written: String) -> Result<String, String> {
    let length = written.chars().count() as u64;
    let bound = |key: &str| element.get(key).and_then(Value::as_u64);
    if let Some(least) = bound("min_length")
        && length < least
    {
        return Err(format!("Please use at least {least} characters."));
    }
    let most = bound("max_length").unwrap_or(3000);
    if length > most {
        return Err(format!("Please use at most {most} characters."));
    }
    Ok(written)
}

fn initial_of(element: &Value) -> Value {
    let kind = text(element, "type");
    let initial = match kind {
        "static_select" | "radio_buttons" => "initial_option",
        "multi_static_select" | "checkboxes" => "initial_options",
        "datetimepicker" => "initial_date_time",
        "datepicker" => "initial_date",
        "timepicker" => "initial_time",
        "users_select" => "initial_user",
        _ => "initial_value",
    };
    let empty = match kind {
        "multi_static_select" | "checkboxes" => json!([]),
        _ => Value::Null,
    };
    json!({"type": kind, state_key(kind): element.get(initial).cloned().unwrap_or(empty)})
}

fn state_key(kind: &str) -> &'static str {
    match kind {
        "static_select" | "radio_buttons" | "overflow" => "selected_option",
        "multi_static_select" | "checkboxes" => "selected_options",
        "datetimepicker" => "selected_date_time",
        "datepicker" => "selected_date",
        "timepicker" => "selected_time",
        "users_select" => "selected_user",
        _ => "value",
    }
}

fn is_empty(state: &Value) -> bool {
    let kind = text(state, "type");
    match state.get(state_key(kind)) {
        None | Some(Value::Null) => true,
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::String(written)) => written.trim().is_empty(),
        Some(_) => false,
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(written) if written.is_empty() => None,
        Value::String(written) => Some(written.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(_) => value.get("value").and_then(as_text),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(value: &str) -> Value {
        json!({"text": {"type": "plain_text", "text": value.to_uppercase()}, "value": value})
    }

    fn view(element: Value, optional: bool) -> Value {
        json!({"blocks": [{"type": "input", "block_id": "b", "optional": optional,
            "label": {"type": "plain_text", "text": "L"}, "element": element}]})
    }

    fn typed(value: Value) -> Typed {
        BTreeMap::from([("b".to_owned(), BTreeMap::from([("a".to_owned(), value)]))])
    }

    fn state(element: Value, value: Value) -> Value {
        match fill(&view(element, true), &typed(value)) {
            Filled::State(state) => state["values"]["b"]["a"].clone(),
            Filled::Errors(errors) => json!(errors["b"]),
        }
    }

    #[test]
    fn every_kind_of_input_has_slacks_shape() {
        let options = json!([option("x"), option("y")]);
        let with = |kind: &str| json!({"type": kind, "action_id": "a", "options": options});
        let cases = [
            (
                json!({"type": "plain_text_input", "action_id": "a"}),
                json!("why"),
                json!({"type": "plain_text_input", "value": "why"}),
            ),
            (
                with("static_select"),
                json!("y"),
                json!({"type": "static_select", "selected_option": option("y")}),
            ),
            (
                with("radio_buttons"),
                json!("x"),
                json!({"type": "radio_buttons", "selected_option": option("x")}),
            ),
            (
                with("multi_static_select"),
                json!(["x", "y"]),
                json!({"type": "multi_static_select", "selected_options": [option("x"), option("y")]}),
            ),
            (
                with("checkboxes"),
                json!([]),
                json!({"type": "checkboxes", "selected_options": []}),
            ),
            (
                json!({"type": "datetimepicker", "action_id": "a"}),
                json!("2026-11-23T10:00:00Z"),
                json!({"type": "datetimepicker", "selected_date_time": 1_795_428_000}),
            ),
            (
                json!({"type": "number_input", "action_id": "a", "is_decimal_allowed": false}),
                json!("90"),
                json!({"type": "number_input", "value": "90"}),
            ),
        ];
        for (element, value, expected) in cases {
            assert_eq!(state(element, value), expected);
        }
    }

    #[test]
    fn an_empty_required_field_is_refused_before_anything_is_sent() {
        let element = json!({"type": "plain_text_input", "action_id": "a"});
        let Filled::Errors(errors) = fill(&view(element.clone(), false), &typed(json!("  ")))
        else {
            panic!("taken");
        };
        assert_eq!(errors["b"], REQUIRED);
        let filled = fill(&view(element, true), &Typed::new());
        assert_eq!(
            filled,
            Filled::State(json!({"values": {"b": {"a":
            {"type": "plain_text_input", "value": null}}}}))
        );
    }

    #[test]
    fn a_choice_that_is_not_offered_is_refused() {
        let element = json!({"type": "static_select", "action_id": "a", "options": [option("x")]});
        assert_eq!(
            state(element, json!("z")),
            "That is not one of the choices."
        );
    }

    #[test]
    fn numbers_keep_their_bounds() {
        let element = json!({"type": "number_input", "action_id": "a", "is_decimal_allowed": false,
            "min_value": "1", "max_value": "9"});
        assert_eq!(
            state(element.clone(), json!("0")),
            "Enter a number of at least 1."
        );
        assert_eq!(
            state(element.clone(), json!("10")),
            "Enter a number of at most 9."
        );
        assert_eq!(state(element, json!("1.5")), "Enter a whole number.");
    }

    #[test]
    fn an_initial_value_counts_as_filled_in() {
        let element = json!({"type": "static_select", "action_id": "a", "options": [option("x")],
            "initial_option": option("x")});
        let Filled::State(state) = fill(&view(element, false), &Typed::new()) else {
            panic!("refused");
        };
        assert_eq!(state["values"]["b"]["a"]["selected_option"], option("x"));
    }
}
