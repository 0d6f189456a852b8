//! What the workspace holds: messages with their edit history, open modals, triggers and
//! response addresses. Messages are written to the state folder; the rest lives with the process,
//! as a person's open modal does. It decides nothing about people's rights: that is control's work.

use super::messages::{Message, Revision};
use super::people::TEAM;
use super::views::{OpenView, complete_ids, new_view, random_id, view_json};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// How long a trigger opens a modal: 3 s.
pub(crate) const TRIGGER_LIFE_US: u64 = 3_000_000;
/// How long a response address is good for: 30 minutes.
const RESPONSE_LIFE_US: u64 = 30 * 60 * 1_000_000;
/// How often a response address is good for.
const RESPONSE_USES: u32 = 5;
/// How many modals may lie on each other.
const VIEW_STACK_MAX: usize = 3;

#[derive(Debug, Clone)]
struct Trigger {
    user: String,
    born_us: u64,
    used: bool,
    from_view: bool,
    opened: Option<String>,
}

/// Where an app may answer later.
#[derive(Debug, Clone)]
pub(crate) struct ResponseUrl {
    /// Conversation of the interaction.
    pub(crate) channel: String,
    /// Who acted.
    pub(crate) user: String,
    /// The message acted upon.
    pub(crate) message: Option<String>,
    born_us: u64,
    uses: u32,
}

/// What the trigger was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TriggerError {
    /// Never handed out.
    Invalid,
    /// Older than 3 s.
    Expired,
    /// Used before.
    Exchanged,
    /// Three modals are open already.
    PushLimit,
}

impl TriggerError {
    /// Slack's error code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Invalid => "invalid_trigger_id",
            Self::Expired => "expired_trigger_id",
            Self::Exchanged => "exchanged_trigger_id",
            Self::PushLimit => "push_limit_reached",
        }
    }
}

/// Everything the workspace holds.
pub(crate) struct Store {
    messages: Vec<Message>,
    views: BTreeMap<String, Vec<OpenView>>,
    triggers: HashMap<String, Trigger>,
    responses: HashMap<String, ResponseUrl>,
    last_us: u64,
    file: Option<PathBuf>,
    changed: watch::Sender<u64>,
}

impl Store {
    /// Opens what an earlier run left in the file, if there is one.
    pub(crate) fn open(file: Option<PathBuf>) -> anyhow::Result<Self> {
        let messages: Vec<Message> = match &file {
            Some(path) if path.exists() => serde_json::from_slice(&std::fs::read(path)?)?,
            _ => Vec::new(),
        };
        Ok(Self {
            messages,
            views: BTreeMap::new(),
            triggers: HashMap::new(),
            responses: HashMap::new(),
            last_us: 0,
            file,
            changed: watch::Sender::new(0),
        })
    }

    /// Tells of every change by a growing number.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The number of the last change.
    pub(crate) fn revision(&self) -> u64 {
        *self.changed.borrow()
    }

    /// All messages, oldest first, with the deleted and the ephemeral ones.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Finds a message that is not deleted.
    pub(crate) fn message(&self, channel: &str, ts: &str) -> Option<&Message> {
        self.messages
            .iter()
            .find(|m| m.channel == channel && m.ts == ts && !m.deleted)
    }

    /// Adds a message; returns it with its timestamp.
    pub(crate) fn post(&mut self, now_us: u64, mut message: Message) -> Message {
        message.ts = self.next_ts(now_us);
        complete_ids(&mut message.blocks);
        self.messages.push(message.clone());
        self.messages_changed();
        message
    }

    /// Replaces text and blocks; `None` keeps what is there, as Slack does.
    pub(crate) fn edit(
        &mut self,
        now_us: u64,
        channel: &str,
        ts: &str,
        text: Option<String>,
        blocks: Option<Value>,
    ) -> Option<Message> {
        let edited = self.next_ts(now_us);
        let found = self
            .messages
            .iter_mut()
            .find(|m| m.channel == channel && m.ts == ts && !m.deleted)?;
        found.history.push(Revision {
            at_us: now_us,
            text: found.text.clone(),
            blocks: found.blocks.clone(),
        });
        if let Some(text) = text {
            found.text = text;
        }
        if let Some(blocks) = blocks {
            let none = blocks.as_array().is_some_and(Vec::is_empty);
            found.blocks = if none { Value::Null } else { blocks };
            complete_ids(&mut found.blocks);
        }
        found.edited = Some(edited);
        let out = found.clone();
        self.messages_changed();
        Some(out)
    }

    /// Takes a message from people's sight.
    pub(crate) fn delete(&mut self, channel: &str, ts: &str) -> bool {
        let found = self
            .messages
            .iter_mut()
            .find(|m| m.channel == channel && m.ts == ts && !m.deleted);
        let Some(message) = found else { return false };
        message.deleted = true;
        self.messages_changed();
        true
    }

    /// A trigger for what this person just did.
    pub(crate) fn new_trigger(&mut self, now_us: u64, user: &str, from_view: bool) -> String {
        self.triggers
            .retain(|_, t| now_us.saturating_sub(t.born_us) < 60_000_000);
        let id = format!(
            "{}.{}.{}",
            now_us / 1000,
            TEAM,
            random_id("", 32).to_lowercase()
        );
        self.triggers.insert(
            id.clone(),
            Trigger {
                user: user.into(),
                born_us: now_us,
                used: false,
                from_view,
                opened: None,
            },
        );
        id
    }

    /// The view that was opened by a trigger, if one was.
    pub(crate) fn opened_by(&self, trigger: &str) -> Option<OpenView> {
        let found = self.triggers.get(trigger)?;
        let id = found.opened.as_deref()?;
        self.view(&found.user, id).cloned()
    }

    /// Opens a modal for the person whom the trigger belongs to. The trigger is used up.
    pub(crate) fn open_view(
        &mut self,
        now_us: u64,
        trigger: &str,
        view: &Value,
    ) -> Result<OpenView, TriggerError> {
        let found = self
            .triggers
            .get_mut(trigger)
            .ok_or(TriggerError::Invalid)?;
        if found.used {
            return Err(TriggerError::Exchanged);
        }
        if now_us.saturating_sub(found.born_us) > TRIGGER_LIFE_US {
            return Err(TriggerError::Expired);
        }
        let (user, from_view) = (found.user.clone(), found.from_view);
        let stack = self.views.entry(user).or_default();
        if !from_view {
            stack.clear();
        } else if stack.len() >= VIEW_STACK_MAX {
            return Err(TriggerError::PushLimit);
        }
        let opened = new_view(view, stack.last());
        stack.push(opened.clone());
        found.used = true;
        found.opened = Some(opened.id.clone());
        self.touch();
        Ok(opened)
    }

    /// Puts a further modal on top of the person's open ones.
    pub(crate) fn push_view(&mut self, user: &str, view: &Value) -> Option<OpenView> {
        let stack = self.views.entry(user.into()).or_default();
        if stack.len() >= VIEW_STACK_MAX {
            return None;
        }
        let opened = new_view(view, stack.last());
        stack.push(opened.clone());
        self.touch();
        Some(opened)
    }

    /// Replaces a modal's content. Its id stays, its hash changes.
    pub(crate) fn update_view(&mut self, view_id: &str, view: &Value) -> Option<OpenView> {
        let slot = self
            .views
            .values_mut()
            .flatten()
            .find(|open| open.id == view_id)?;
        slot.json = view_json(view, view_id, &slot.json);
        let out = slot.clone();
        self.touch();
        Some(out)
    }

    /// The view of that id, whoever has it open.
    pub(crate) fn any_view(&self, view_id: &str) -> Option<&OpenView> {
        self.views
            .values()
            .flatten()
            .find(|open| open.id == view_id)
    }

    /// The view of that external id.
    pub(crate) fn view_of_external_id(&self, external_id: &str) -> Option<&OpenView> {
        self.views
            .values()
            .flatten()
            .find(|open| open.json.get("external_id").and_then(Value::as_str) == Some(external_id))
    }

    /// A person's open modals, the top one last.
    pub(crate) fn views(&self, user: &str) -> &[OpenView] {
        self.views.get(user).map_or(&[], Vec::as_slice)
    }

    /// One of a person's open modals.
    pub(crate) fn view(&self, user: &str, view_id: &str) -> Option<&OpenView> {
        self.views(user).iter().find(|open| open.id == view_id)
    }

    /// Closes one modal, or all of the person's.
    pub(crate) fn close_view(&mut self, user: &str, view_id: &str, all: bool) {
        if let Some(stack) = self.views.get_mut(user) {
            if all {
                stack.clear();
            } else {
                stack.retain(|open| open.id != view_id);
            }
        }
        self.touch();
    }

    /// An address for later answers.
    pub(crate) fn new_response_url(
        &mut self,
        now_us: u64,
        channel: &str,
        user: &str,
        message: Option<String>,
    ) -> String {
        self.responses
            .retain(|_, r| now_us.saturating_sub(r.born_us) < RESPONSE_LIFE_US);
        let key = random_id("", 24);
        self.responses.insert(
            key.clone(),
            ResponseUrl {
                channel: channel.into(),
                user: user.into(),
                message,
                born_us: now_us,
                uses: 0,
            },
        );
        key
    }

    /// Takes one use of a response address: 5 in 30 minutes.
    pub(crate) fn use_response_url(&mut self, now_us: u64, key: &str) -> Option<ResponseUrl> {
        let found = self.responses.get_mut(key)?;
        if now_us.saturating_sub(found.born_us) >= RESPONSE_LIFE_US || found.uses >= RESPONSE_USES {
            return None;
        }
        found.uses += 1;
        Some(found.clone())
    }

    fn next_ts(&mut self, now_us: u64) -> String {
        let newest = self
            .messages
            .last()
            .and_then(|m| m.ts.replace('.', "").parse().ok());
        let floor = self.last_us.max(newest.unwrap_or(0));
        self.last_us = now_us.max(floor + 1);
        format!(
            "{}.{:06}",
            self.last_us / 1_000_000,
            self.last_us % 1_000_000
        )
    }

    fn messages_changed(&self) {
        self.touch();
        let Some(file) = &self.file else { return };
        // A crash between write and rename leaves the older journal whole.
        let beside = file.with_extension("tmp");
        let written = serde_json::to_vec(&self.messages)
            .map_err(std::io::Error::from)
            .and_then(|bytes| write_private(&beside, &bytes))
            .and_then(|()| std::fs::rename(&beside, file));
        if let Err(error) = written {
            tracing::error!(%error, "the journal could not be written");
        }
    }

    fn touch(&self) {
        self.changed.send_modify(|revision| *revision += 1);
    }
}

/// The journal holds what Slack would hold, a DM's password included: it is its owner's alone.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::messages::blank_message;
    use super::super::people::{BOT_USER, CHANNEL_ALL, CHANNEL_APPROVALS, person_named};
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt;

    fn store() -> Store {
        Store::open(None).unwrap()
    }

    fn view() -> Value {
        json!({"type": "modal", "title": {"type": "plain_text", "text": "T"}, "blocks": []})
    }

    #[test]
    fn a_trigger_opens_one_modal_within_three_seconds_and_never_a_second() {
        let mut store = store();
        let trigger = store.new_trigger(0, "U0ALICE0001", false);
        assert!(store.open_view(TRIGGER_LIFE_US, &trigger, &view()).is_ok());
        let again = store
            .open_view(TRIGGER_LIFE_US, &trigger, &view())
            .unwrap_err();
        assert_eq!(again, TriggerError::Exchanged);
        let late = store.new_trigger(0, "U0ALICE0001", false);
        let error = store
            .open_view(TRIGGER_LIFE_US + 1, &late, &view())
            .unwrap_err();
        assert_eq!(error, TriggerError::Expired);
        assert_eq!(
            store.open_view(0, "x", &view()).unwrap_err(),
            TriggerError::Invalid
        );
    }

    #[test]
    fn timestamps_never_repeat_even_when_the_clock_stands_still() {
        let mut store = store();
        let one = store.post(5, blank_message(CHANNEL_ALL, BOT_USER));
        let two = store.post(5, blank_message(CHANNEL_ALL, BOT_USER));
        assert!(one.ts < two.ts);
    }

    #[test]
    fn an_edit_keeps_what_it_does_not_name_and_remembers_what_was_there() {
        let mut store = store();
        let mut message = blank_message(CHANNEL_ALL, BOT_USER);
        message.text = "secret".into();
        message.blocks = json!([{"type": "divider"}]);
        let posted = store.post(1, message);
        let edited = store
            .edit(2, CHANNEL_ALL, &posted.ts, Some("gone".into()), None)
            .unwrap();
        assert_eq!(
            edited.blocks, posted.blocks,
            "text alone leaves the blocks, as in Slack"
        );
        assert_eq!(edited.history[0].text, "secret");
        let edited = store
            .edit(3, CHANNEL_ALL, &posted.ts, None, Some(json!([])))
            .unwrap();
        assert_eq!(edited.blocks, Value::Null);
    }

    #[test]
    fn people_see_only_their_own_conversations_and_ephemeral_messages() {
        let mallory = person_named("mallory").unwrap().id;
        let mut message = blank_message(CHANNEL_APPROVALS, BOT_USER);
        assert!(!message.visible_to(mallory));
        message.channel = CHANNEL_ALL.into();
        assert!(message.visible_to(mallory));
        message.only_for = Some(person_named("alice").unwrap().id.into());
        assert!(!message.visible_to(mallory));
    }

    #[test]
    fn a_response_address_is_good_for_five_answers() {
        let mut store = store();
        let key = store.new_response_url(0, CHANNEL_ALL, "U0ALICE0001", None);
        for _ in 0..5 {
            assert!(store.use_response_url(1, &key).is_some());
        }
        assert!(store.use_response_url(1, &key).is_none());
    }

    #[test]
    fn the_journal_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.json");
        let mut first = Store::open(Some(file.clone())).unwrap();
        let posted = first.post(7, blank_message(CHANNEL_ALL, BOT_USER));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = Store::open(Some(file)).unwrap();
        assert_eq!(second.messages(), [posted]);
    }
}
