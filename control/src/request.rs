//! A request's validation: what the modal sent becomes a request, or an error a field. Pure.

use crate::clock::after;
use crate::config::{Config, Times};
use crate::ledger::item::Item;
use crate::slack::view::{block, duration};
use jiff::Timestamp;
use powerpole_protocol::id::{AccountName, Attempt, ClusterId, Email, RequestId, SchemaName};
use powerpole_protocol::ledger::State;
use powerpole_protocol::level::AccessLevel;
use powerpole_protocol::text::is_unseen;
use std::collections::BTreeMap;

/// The longest reason, in characters: SSM's limit for a session's reason.
pub const REASON_LIMIT: usize = 256;

/// What the modal sent, unchecked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Cluster id.
    pub cluster: String,
    /// Level.
    pub level: String,
    /// Schemas, each as `<cluster>/<schema>`.
    pub schemas: Vec<String>,
    /// Duration in seconds.
    pub duration: String,
    /// Wanted start in seconds since 1970; none for now.
    pub start: Option<i64>,
    /// Why.
    pub reason: String,
}

/// What was asked for, valid against the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The cluster.
    pub cluster: ClusterId,
    /// How much.
    pub level: AccessLevel,
    /// Where, sorted.
    pub schemas: Vec<SchemaName>,
    /// How long, in seconds.
    pub duration_s: u64,
    /// When; none for now.
    pub start_at: Option<Timestamp>,
    /// Why, on one line.
    pub reason: String,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Slack user id.
    pub slack: String,
    /// Email address.
    pub email: Email,
}

/// Errors by block id, as Slack shows them.
pub type FieldErrors = BTreeMap<&'static str, String>;

impl Form {
    /// Checks every field.
    ///
    /// # Errors
    /// With a text for every field that is wrong, by block id.
    pub fn validate(&self, config: &Config, now: Timestamp) -> Result<Wish, FieldErrors> {
        let mut errors = FieldErrors::new();
        let mut wrong = |field, text: &str| {
            errors.insert(field, text.to_owned());
        };
        let cluster = ClusterId::parse(&self.cluster)
            .ok()
            .and_then(|id| config.cluster(&id));
        if cluster.is_none() {
            wrong(block::CLUSTER, "Choose a cluster.");
        }
        let level = AccessLevel::parse(&self.level);
        match (level, cluster) {
            (None, _) => wrong(block::LEVEL, "Choose an access level."),
            (Some(level), Some(cluster)) if !cluster.levels.contains(&level) => {
                wrong(block::LEVEL, "This cluster does not give this level.");
            }
            _ => {}
        }
        let mut schemas = Vec::new();
        if let Some(cluster) = cluster {
            for chosen in &self.schemas {
                let schema = chosen
                    .split_once('/')
                    .filter(|(id, _)| *id == cluster.id.as_str())
                    .and_then(|(_, name)| SchemaName::parse(name).ok())
                    .filter(|name| cluster.schemas.contains(name));
                match schema {
                    Some(schema) => schemas.push(schema),
                    None => wrong(block::SCHEMAS, "Choose schemas of this cluster only."),
                }
            }
        }
        if self.schemas.is_empty() {
            wrong(block::SCHEMAS, "Choose at least one schema.");
        }
        schemas.sort();
        schemas.dedup();
        let duration_s = self
            .duration
            .parse()
            .ok()
            .filter(|s| config.times.durations_s.contains(s));
        match (duration_s, cluster) {
            (None, _) => wrong(block::DURATION, "Choose a duration."),
            (Some(s), Some(cluster)) if s > cluster.max_duration_s => {
                wrong(
                    block::DURATION,
                    "This cluster does not give that long a window.",
                );
            }
            _ => {}
        }
        let start_at = match start(self.start, &config.times, now) {
            Ok(start_at) => start_at,
            Err(text) => {
                wrong(block::START, &text);
                None
            }
        };
        let reason = one_line(&self.reason);
        match reason.chars().count() {
            0 => wrong(block::REASON, "Say why; approvers and auditors read it."),
            n if n > REASON_LIMIT => wrong(block::REASON, "At most 256 characters."),
            _ => {}
        }
        match (cluster, level, duration_s) {
            (Some(cluster), Some(level), Some(duration_s)) if errors.is_empty() => Ok(Wish {
                cluster: cluster.id.clone(),
                level,
                schemas,
                duration_s,
                start_at,
                reason,
            }),
            _ => Err(errors),
        }
    }
}

impl Wish {
    /// The ledger's new item for this wish.
    #[must_use]
    pub fn into_item(
        self,
        request: RequestId,
        person: &Person,
        account: AccountName,
        principal: String,
        now: Timestamp,
    ) -> Item {
        Item {
            request,
            state: State::Requested,
            number: 0,
            open: true,
            requested_at: now,
            operator: person.email.clone(),
            operator_slack: person.slack.clone(),
            account,
            principal,
            cluster: self.cluster,
            level: self.level,
            schemas: self.schemas,
            duration_s: self.duration_s,
            start_at: self.start_at,
            reason: self.reason,
            approver: None,
            approver_slack: None,
            approved_at: None,
            asked_seal: None,
            approval_seal: None,
            try_seal: None,
            bastion_seal: None,
            denial: None,
            attempt: Attempt(0),
            handoff: None,
            launched_at: None,
            image: None,
            subnets: Vec::new(),
            launch_ahead_s: None,
            instance: None,
            handoff_at: None,
            handoff_gone_at: None,
            bastion_key: None,
            redeemed_twice_at: None,
            anchor_prefix: None,
            ready_at: None,
            deadline: None,
            heartbeat: 0,
            heartbeat_at: None,
            latest: None,
            finish_asked_at: None,
            warned_s: None,
            closing: None,
            failure: None,
            terminated_at: None,
            posts: [None, None, None],
            receipt_ts: None,
        }
    }
}

/// Another person's unfinished request whose account has the same name on the same cluster, if there is one.
/// Equal local parts under two domains are two people, and nobody could tell their statements apart by name.
#[must_use]
pub fn namesake<'a>(
    operator: &Email,
    account: &AccountName,
    cluster: &ClusterId,
    open: &'a [Item],
) -> Option<&'a Item> {
    open.iter().find(|other| {
        !other.state.is_final()
            && other.account == *account
            && other.cluster == *cluster
            && other.operator != *operator
    })
}

/// A text on one line, without control characters (which carry meaning in terminals and in our templates) and without
/// any other that is not seen: the approver must see what the auditor will.
#[must_use]
pub fn one_line(text: &str) -> String {
    let spaced: String = text
        .chars()
        .map(|c| {
            if c.is_control() || c.is_whitespace() {
                ' '
            } else {
                c
            }
        })
        .filter(|c| !is_unseen(*c))
        .collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn start(wanted: Option<i64>, times: &Times, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let Some(seconds) = wanted else {
        return Ok(None);
    };
    let at = Timestamp::from_second(seconds).map_err(|_| "This is not a time.".to_owned())?;
    if at <= now {
        // Who picked a minute that has just begun means now.
        return if after(at, 300) >= now {
            Ok(None)
        } else {
            Err("This lies in the past.".to_owned())
        };
    }
    if at > after(now, times.start_within_s) {
        let days = times.start_within_s / 86_400;
        return Err(format!(
            "This lies too far ahead: at most {}.",
            if days > 1 {
                format!("{days} days")
            } else {
                duration(times.start_within_s)
            }
        ));
    }
    Ok(Some(at))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::tests::EXAMPLE;

    pub(crate) fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    pub(crate) fn config() -> Config {
        Config::parse(EXAMPLE).unwrap()
    }

    fn form() -> Form {
        Form {
            cluster: "orders-prod".into(),
            level: "READ".into(),
            schemas: vec!["orders-prod/orders".into()],
            duration: "900".into(),
            start: None,
            reason: "look at order 7".into(),
        }
    }

    pub(crate) fn item(operator: &str, number: u8) -> Item {
        let email = Email::parse(operator).unwrap();
        let account = email.account_name().unwrap();
        let person = Person {
            slack: "U0ALICE0001".into(),
            email,
        };
        let principal = config().principal_of(&person.email);
        let wish = form().validate(&config(), now()).unwrap();
        wish.into_item(
            RequestId::from_parts(u64::from(number), [number; 10]),
            &person,
            account,
            principal,
            now(),
        )
    }

    #[test]
    fn a_good_form_becomes_a_wish() {
        let wish = form().validate(&config(), now()).unwrap();
        assert_eq!((wish.duration_s, wish.level), (900, AccessLevel::Read));
        assert_eq!(wish.schemas, vec![SchemaName::parse("orders").unwrap()]);
    }

    #[test]
    fn every_wrong_field_is_told_under_its_own_block() {
        type Case = (&'static str, fn(&mut Form));
        let cases: [Case; 10] = [
            (block::CLUSTER, |f| f.cluster = "other".into()),
            (block::LEVEL, |f| f.level = "ROOT".into()),
            (block::SCHEMAS, |f| f.schemas.clear()),
            (block::SCHEMAS, |f| {
                f.schemas.push("orders-prod/mysql".into())
            }),
            (block::SCHEMAS, |f| f.schemas.push("other/orders".into())),
            (block::DURATION, |f| f.duration = "901".into()),
            (block::START, |f| f.start = Some(now().as_second() - 3600)),
            (block::START, |f| {
                f.start = Some(now().as_second() + 604_801)
            }),
            (block::REASON, |f| f.reason = " \n\t ".into()),
            (block::REASON, |f| f.reason = "x".repeat(257)),
        ];
        for (field, change) in cases {
            let mut form = form();
            change(&mut form);
            let errors = form.validate(&config(), now()).unwrap_err();
            assert!(errors.contains_key(field), "{field}: {errors:?}");
        }
        let all = Form::default().validate(&config(), now()).unwrap_err();
        assert_eq!(all.len(), 5, "{all:?}");
    }

    #[test]
    fn a_minute_that_has_just_begun_means_now_and_a_reason_loses_control_characters() {
        let wish = Form {
            start: Some(now().as_second() - 30),
            reason: "a\u{1}b\r\nc".into(),
            ..form()
        };
        let wish = wish.validate(&config(), now()).unwrap();
        assert_eq!((wish.start_at, wish.reason.as_str()), (None, "a b c"));
    }

    #[test]
    fn a_reason_cannot_turn_its_letters_around_hide_some_or_consist_of_nothing_that_is_seen() {
        let reason = |reason: &str| Form {
            reason: reason.into(),
            ..form()
        };
        let wish = reason("\u{202e}read\u{2066}-only\u{200b}\u{2028}copy\u{feff}\u{61c}")
            .validate(&config(), now())
            .unwrap();
        assert_eq!(wish.reason, "read-only copy");
        for empty in ["\u{202e}\u{200b}", "\u{3164}", "\u{ad} \u{2029}"] {
            let errors = reason(empty).validate(&config(), now()).unwrap_err();
            assert!(errors.contains_key(block::REASON), "{empty:?}");
        }
    }

    #[test]
    fn a_namesake_of_another_domain_is_found_and_ones_own_request_is_not() {
        let mut theirs = item("alice@example.org", 1);
        let (account, cluster) = (theirs.account.clone(), theirs.cluster.clone());
        let alice = Email::parse("alice@example.com").unwrap();
        assert!(namesake(&alice, &account, &cluster, std::slice::from_ref(&theirs)).is_some());
        assert!(
            namesake(
                &theirs.operator,
                &account,
                &cluster,
                std::slice::from_ref(&theirs)
            )
            .is_none()
        );
        theirs.state = State::Closed;
        assert!(namesake(&alice, &account, &cluster, &[theirs]).is_none());
    }
}
