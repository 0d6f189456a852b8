//! One message as the workspace keeps it: its wordings, who may see it, and how Slack shows it.

use super::people::{self, APP, BOT, BOT_USER, TEAM};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The wording of a message at one time.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub(crate) struct Revision {
    /// When it became so, microseconds since the epoch.
    pub(crate) at_us: u64,
    /// The text.
    pub(crate) text: String,
    /// Array of blocks, or null.
    pub(crate) blocks: Value,
}

/// One message.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub(crate) struct Message {
    /// Slack's timestamp, unique in the workspace.
    pub(crate) ts: String,
    /// Conversation id.
    pub(crate) channel: String,
    /// Author's user id.
    pub(crate) user: String,
    /// Sent by the app (and not by a person).
    pub(crate) by_app: bool,
    /// The text.
    pub(crate) text: String,
    /// Array of blocks, or null.
    pub(crate) blocks: Value,
    /// The thread's first message, if it is an answer.
    pub(crate) thread_ts: Option<String>,
    /// Timestamp of the last edit.
    pub(crate) edited: Option<String>,
    /// Removed for people; kept for the journal.
    pub(crate) deleted: bool,
    /// Ephemeral: only this user sees it.
    pub(crate) only_for: Option<String>,
    /// What Slack itself tells a person ("… failed with the error …").
    #[serde(default)]
    pub(crate) from_slack: bool,
    /// Earlier wordings, oldest first.
    pub(crate) history: Vec<Revision>,
    /// Metadata as sent.
    #[serde(default)]
    pub(crate) metadata: Value,
}

impl Message {
    /// The message as Slack's APIs show it.
    pub(crate) fn json(&self) -> Value {
        let mut out = json!({
            "type": "message", "user": self.user, "ts": self.ts, "text": self.text, "team": TEAM,
        });
        let Some(fields) = out.as_object_mut() else {
            return out;
        };
        if self.by_app {
            fields.insert("bot_id".into(), json!(BOT));
            fields.insert("app_id".into(), json!(APP));
            fields.insert("bot_profile".into(), bot_profile());
        }
        if !self.blocks.is_null() {
            fields.insert("blocks".into(), self.blocks.clone());
        }
        if let Some(thread) = &self.thread_ts {
            fields.insert("thread_ts".into(), json!(thread));
        }
        if let Some(edited) = &self.edited {
            fields.insert("edited".into(), json!({"user": self.user, "ts": edited}));
        }
        if !self.metadata.is_null() {
            fields.insert("metadata".into(), self.metadata.clone());
        }
        out
    }

    /// May this person see it now?
    pub(crate) fn visible_to(&self, user: &str) -> bool {
        !self.deleted
            && self.only_for.as_deref().is_none_or(|only| only == user)
            && people::conversation(&self.channel).is_some_and(|found| found.has(user))
    }
}

/// A message with nothing in it yet.
pub(crate) fn blank_message(channel: &str, user: &str) -> Message {
    Message {
        ts: String::new(),
        channel: channel.into(),
        user: user.into(),
        by_app: user == BOT_USER,
        text: String::new(),
        blocks: Value::Null,
        thread_ts: None,
        edited: None,
        deleted: false,
        only_for: None,
        from_slack: false,
        history: Vec::new(),
        metadata: Value::Null,
    }
}

fn bot_profile() -> Value {
    json!({
        "id": BOT, "app_id": APP, "user_id": BOT_USER, "name": "PowerPole", "team_id": TEAM,
        "deleted": false, "updated": 1_700_000_000, "icons": {},
    })
}
