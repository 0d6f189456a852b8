//! What people see in Slack, as pure functions from a request to Block Kit. Limits (FACTS: section 3000,
//! field 2000, header 150, option text 75, title 24) are kept by cutting. What somebody else wrote is shown as it was
//! written ([`quote`]), and escaped where it stands in mrkdwn ([`escape`]).

pub mod message;
pub mod modal;
mod outcome;

use crate::config::Config;
use crate::ledger::item::Item;
use jiff::Timestamp;
use powerpole_protocol::text::is_unseen;
use serde_json::{Value, json};

/// Block ids of the modals; each block's one element has the same text as its action id.
pub mod block {
    /// static_select, value = cluster id.
    pub const CLUSTER: &str = "cluster";
    /// static_select, value = READ, WRITE or ADMIN.
    pub const LEVEL: &str = "level";
    /// multi_static_select, value = `<cluster>/<schema>`.
    pub const SCHEMAS: &str = "schemas";
    /// static_select, value = seconds.
    pub const DURATION: &str = "duration";
    /// datetimepicker, optional; empty for now.
    pub const START: &str = "start";
    /// plain_text_input.
    pub const REASON: &str = "reason";
    /// The card's buttons.
    pub const DECISION: &str = "decision";
    /// The DM's button.
    pub const SESSION: &str = "session";
}

/// Action ids of the buttons; their value is the request id.
pub mod action {
    /// On the card.
    pub const APPROVE: &str = "approve";
    /// On the card; opens the denial's modal.
    pub const DENY: &str = "deny";
    /// On the DM of a running window.
    pub const FINISH: &str = "finish";
}

/// Callback ids of the modals; their private metadata is the request id.
pub mod callback {
    /// The request.
    pub const REQUEST: &str = "powerpole_request";
    /// The denial's reason.
    pub const DENIAL: &str = "powerpole_deny";
}

/// Stands for a secret in a message's texts. No text of a person can hold it: control characters are taken
/// out of everything that is shown.
pub const SECRET_MARK: char = '\u{1}';

/// A message: a text for notifications, and blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Read out by notifications.
    pub text: String,
    /// Block Kit.
    pub blocks: Value,
}

/// Cuts to a number of characters, with an ellipsis when something was lost.
#[must_use]
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars()
        .take(limit.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// Makes a text of ours or of a person harmless in mrkdwn: no mention, no link, no character that is not seen.
#[must_use]
pub fn escape(text: &str) -> String {
    let text: String = text.chars().filter(|c| !is_unseen(*c)).collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Which request, the same in every message: level, cluster and id. Plain text.
#[must_use]
pub fn name(item: &Item, config: &Config) -> String {
    format!(
        "{} on {} · {}",
        item.level,
        title(item, config),
        item.request
    )
}

pub(super) fn title(item: &Item, config: &Config) -> String {
    config
        .cluster(&item.cluster)
        .map_or_else(|| item.cluster.to_string(), |c| c.title.clone())
}

/// So many of something: `1 login`, `2 logins`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A duration for people: `15 min`, `1 h 30 min`, `90 s`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds % 3600 / 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, s) => format!("{s} s"),
        (0, 1, s) if s > 0 => format!("{seconds} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// A time in the reader's own zone; clients that cannot show UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    format!(
        "<!date^{}^{{date_short_pretty}} {{time_secs}}|{}>",
        at.as_second(),
        at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )
}

pub(super) fn plain(text: &str, limit: usize) -> Value {
    json!({"type": "plain_text", "text": cut(text, limit), "emoji": false})
}

/// As code in mrkdwn: Slack reads no formatting there.
pub(super) fn code(text: &str) -> String {
    format!("`{}`", escape(text).replace('`', "'"))
}

/// Somebody else's words as they are. In a text element of rich text Slack reads no formatting, mention, link or emoji, and
/// no escapes either.
pub(super) fn quote(words: &str) -> Value {
    json!({"type": "rich_text", "elements": [{"type": "rich_text_quote", "elements": [literal(words)]}]})
}

/// Lines of somebody else's words as they are, one below the other.
pub(super) fn bullets(lines: &[String]) -> Value {
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| json!({"type": "rich_text_section", "elements": [literal(line)]}))
        .collect();
    json!({"type": "rich_text", "elements": [{"type": "rich_text_list", "style": "bullet", "elements": lines}]})
}

fn literal(words: &str) -> Value {
    let seen: String = words.chars().filter(|c| !is_unseen(*c)).collect();
    json!({"type": "text", "text": if seen.is_empty() { "(nothing)".to_owned() } else { cut(&seen, 3000) }})
}

pub(super) fn section(text: &str) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": cut(text, 3000)}})
}

pub(super) fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": cut(text, 3000)}]})
}
