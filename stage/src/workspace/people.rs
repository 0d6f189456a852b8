//! The fixed cast of the workspace: people, channels, and the app itself. Ids are stable, so that
//! settings, scripts and tests may name them.

use serde_json::{Value, json};

/// The workspace (team) itself.
pub(crate) const TEAM: &str = "T0POWERPOLE";
/// The workspace's domain.
pub(crate) const DOMAIN: &str = "powerpole-stage";
/// The app that control is.
pub(crate) const APP: &str = "A0POWERPOLE";
/// The app's bot.
pub(crate) const BOT: &str = "B0POWERPOLE";
/// The app's bot user.
pub(crate) const BOT_USER: &str = "U0POWERPOLE";
/// Where everybody is.
pub(crate) const CHANNEL_ALL: &str = "C0POWERPOLE";
/// Where approvers decide.
pub(crate) const CHANNEL_APPROVALS: &str = "C0APPROVALS";

/// A person whom one can act as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Person {
    /// `U…`
    pub(crate) id: &'static str,
    /// Handle; also the email's local part.
    pub(crate) name: &'static str,
    /// What others read.
    pub(crate) real_name: &'static str,
    /// What this person may do, in words for the page. Control decides; this only informs.
    pub(crate) role: &'static str,
    /// Member of the approvers' channel.
    pub(crate) approver: bool,
}

/// Everybody, in the order of the page's switcher.
pub(crate) const PEOPLE: [Person; 5] = [
    Person {
        id: "U0ALICE0001",
        name: "alice",
        real_name: "Alice Amsel",
        role: "operator",
        approver: false,
    },
    Person {
        id: "U0BOB000001",
        name: "bob",
        real_name: "Bob Bussard",
        role: "operator, approver",
        approver: true,
    },
    Person {
        id: "U0CAROL0001",
        name: "carol",
        real_name: "Carol Condor",
        role: "approver",
        approver: true,
    },
    Person {
        id: "U0DAVE00001",
        name: "dave",
        real_name: "Dave Drossel",
        role: "approver",
        approver: true,
    },
    Person {
        id: "U0MALLORY01",
        name: "mallory",
        real_name: "Mallory Merle",
        role: "neither",
        approver: false,
    },
];

/// One conversation as Slack knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    /// `C…` or `D…`
    pub(crate) id: String,
    /// Without `#`; `directmessage` for a DM.
    pub(crate) name: String,
    /// The person at the other end, for a DM with the app.
    pub(crate) dm_with: Option<&'static str>,
    /// The people in it, without the app.
    pub(crate) members: Vec<&'static str>,
}

impl Conversation {
    /// May this person see it?
    pub(crate) fn has(&self, user: &str) -> bool {
        self.members.contains(&user)
    }
}

impl Person {
    /// `name@example.com`.
    pub(crate) fn email(&self) -> String {
        format!("{}@example.com", self.name)
    }

    /// The id of this person's DM with the app.
    pub(crate) fn dm(&self) -> String {
        self.id.replacen('U', "D", 1)
    }

    /// The user object of Slack's Web API.
    pub(crate) fn user_json(&self) -> Value {
        let first = self.real_name.split(' ').next().unwrap_or_default();
        let last = self.real_name.split(' ').nth(1).unwrap_or_default();
        json!({
            "id": self.id, "team_id": TEAM, "name": self.name, "deleted": false,
            "real_name": self.real_name, "tz": "Etc/UTC", "tz_label": "UTC", "tz_offset": 0,
            "profile": {
                "real_name": self.real_name, "real_name_normalized": self.real_name,
                "display_name": self.name, "display_name_normalized": self.name,
                "first_name": first, "last_name": last, "email": self.email(), "team": TEAM,
                "title": self.role, "phone": "", "status_text": "", "status_emoji": "",
            },
            "is_admin": false, "is_owner": false, "is_primary_owner": false,
            "is_restricted": false, "is_ultra_restricted": false, "is_bot": false,
            "is_app_user": false, "is_email_confirmed": true, "updated": 1_700_000_000,
        })
    }
}

/// The app's own user object.
pub(crate) fn bot_user_json() -> Value {
    json!({
        "id": BOT_USER, "team_id": TEAM, "name": "powerpole", "deleted": false,
        "real_name": "PowerPole", "tz": "Etc/UTC", "tz_label": "UTC", "tz_offset": 0,
        "profile": {
            "real_name": "PowerPole", "display_name": "powerpole", "team": TEAM,
            "api_app_id": APP, "bot_id": BOT,
        },
        "is_bot": true, "is_app_user": false, "updated": 1_700_000_000,
    })
}

/// Finds a person by id.
pub(crate) fn person(id: &str) -> Option<&'static Person> {
    PEOPLE.iter().find(|person| person.id == id)
}

/// Finds a person by id or handle, for scripts.
pub(crate) fn person_named(id_or_name: &str) -> Option<&'static Person> {
    PEOPLE
        .iter()
        .find(|person| person.id == id_or_name || person.name == id_or_name)
}

/// Finds a conversation by id or (for a channel) by name, with or without `#`.
pub(crate) fn conversation(id_or_name: &str) -> Option<Conversation> {
    let name = id_or_name.strip_prefix('#').unwrap_or(id_or_name);
    conversations()
        .into_iter()
        .find(|found| found.id == id_or_name || (found.dm_with.is_none() && found.name == name))
}

/// All conversations there are.
pub(crate) fn conversations() -> Vec<Conversation> {
    let mut all = vec![
        Conversation {
            id: CHANNEL_ALL.into(),
            name: "powerpole".into(),
            dm_with: None,
            members: PEOPLE.iter().map(|person| person.id).collect(),
        },
        Conversation {
            id: CHANNEL_APPROVALS.into(),
            name: "db-approvals".into(),
            dm_with: None,
            members: PEOPLE.iter().filter(|p| p.approver).map(|p| p.id).collect(),
        },
    ];
    all.extend(PEOPLE.iter().map(|person| Conversation {
        id: person.dm(),
        name: "directmessage".into(),
        dm_with: Some(person.id),
        members: vec![person.id],
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_only_approvers_are_in_their_channel() {
        let all = conversations();
        let mut ids: Vec<_> = all.iter().map(|c| c.id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
        let approvals = conversation("#db-approvals").unwrap();
        assert!(approvals.has(person_named("bob").unwrap().id));
        assert!(!approvals.has(person_named("mallory").unwrap().id));
    }
}
