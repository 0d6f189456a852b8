//! The rules between settings that their types cannot hold. All that are broken are told at once.

use super::{Cluster, Config, Times};
use crate::listener::CONNECTIONS;
use powerpole_protocol::callback::CLOSING_LIMIT_S;
use powerpole_protocol::handoff::{MAX_END_AFTER_S, MAX_FREEZE_AFTER_S};
use powerpole_protocol::id::Email;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// From a request to the end of its window, at the longest: 30 days. An auditor misses the end of one that the rolls know for
/// 31 days without it.
const LONGEST_REQUEST_S: u64 = 30 * 86_400;

impl Config {
    /// Every broken rule, one a line for a person.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut rule = |holds: bool, text: String| {
            if !holds {
                faults.push(text);
            }
        };
        let url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        rule(!self.region.is_empty(), "region is empty".to_owned());
        rule(
            self.principal.contains("{email}"),
            "principal must contain {email}".to_owned(),
        );
        rule(
            url(&self.listen.public_url),
            "listen.public_url must begin with https:// or http://".to_owned(),
        );
        for (name, most) in [
            ("bastions_per_source", self.listen.bastions_per_source),
            ("slack_per_source", self.listen.slack_per_source),
        ] {
            rule(
                (1..=CONNECTIONS).contains(&most),
                format!("listen.{name} must be 1 to {CONNECTIONS}"),
            );
        }
        rule(
            url(&self.slack.api_url) && self.slack.api_url.ends_with('/'),
            "slack.api_url must be a URL that ends in /".to_owned(),
        );
        rule(
            is_id(&self.slack.team, "T", 2..=20),
            "slack.team must be a workspace's id: T, then capital letters and digits".to_owned(),
        );
        rule(
            is_id(&self.bastion.role_id, "AROA", 12..=124),
            "bastion.role_id must be a role's unique id: AROA, then capital letters and digits (aws iam get-role shows it as RoleId)".to_owned(),
        );
        rule(
            !self.bastion.subnets.is_empty(),
            "bastion.subnets is empty".to_owned(),
        );
        rule(
            !self.bastion.security_groups.is_empty(),
            "bastion.security_groups is empty".to_owned(),
        );
        rule(
            !self
                .bastion
                .tags
                .keys()
                .any(|k| k.starts_with("powerpole:") || k == "Name"),
            "bastion.tags may not name Name or powerpole:…".to_owned(),
        );
        self.times.rules(&mut rule);
        rule(
            (1..=100).contains(&self.clusters.len()),
            "clusters must be 1 to 100".to_owned(),
        );
        let ids: BTreeSet<_> = self.clusters.iter().map(|c| &c.id).collect();
        rule(
            ids.len() == self.clusters.len(),
            "two clusters have the same id".to_owned(),
        );
        let mut kms_keys = BTreeSet::new();
        for cluster in &self.clusters {
            cluster.rules(&mut rule);
            let longest_s = self.times.longest_request_s(cluster);
            rule(
                longest_s <= LONGEST_REQUEST_S,
                format!(
                    "cluster {}: a request could last {longest_s} s, and may last {LONGEST_REQUEST_S}: lower max_duration_s, \
                     times.start_within_s, times.lapse_s, or times.attempt_timeout_s and max_attempts",
                    cluster.id
                ),
            );
            if let Some(key) = &cluster.ticket_kms_key {
                rule(
                    kms_keys.insert(key),
                    format!(
                        "cluster {}: ticket_kms_key is another cluster's; each needs its own",
                        cluster.id
                    ),
                );
            }
        }
        faults
    }
}

/// Whether this is a prefix and so many capital letters and digits.
fn is_id(text: &str, prefix: &str, rest: RangeInclusive<usize>) -> bool {
    text.strip_prefix(prefix).is_some_and(|id| {
        rest.contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    })
}

impl Times {
    /// Seconds from asking to the last thing that control does for it: it waits for its approver or its start, is built, is used.
    fn longest_request_s(&self, cluster: &Cluster) -> u64 {
        let building_s = self
            .attempt_timeout_s
            .saturating_mul(u64::from(self.max_attempts));
        self.lapse_s
            .max(self.start_within_s)
            .saturating_add(building_s)
            .saturating_add(cluster.max_duration_s)
            .saturating_add(self.deadline_grace_s)
    }

    fn rules(&self, rule: &mut impl FnMut(bool, String)) {
        for (name, value) in [
            ("attempt_timeout_s", self.attempt_timeout_s),
            ("max_attempts", u64::from(self.max_attempts)),
            ("lapse_s", self.lapse_s),
            ("tick_s", self.tick_s),
            ("renew_lease_s", self.renew_lease_s),
            ("heartbeat_s", self.heartbeat_s),
        ] {
            rule(value > 0, format!("times.{name} must be more than 0"));
        }
        rule(
            86_400u64.checked_rem(self.roll_every_s) == Some(0),
            "times.roll_every_s must divide a day (86400) without a rest".to_owned(),
        );
        rule(
            (1..=100).contains(&self.durations_s.len()) && !self.durations_s.contains(&0),
            "times.durations_s must be 1 to 100 durations over 0".to_owned(),
        );
        rule(
            self.renew_lease_s < 180,
            "times.renew_lease_s must be less than the lease of 180".to_owned(),
        );
        rule(
            self.warn_before_s
                .windows(2)
                .all(|pair| matches!(pair, [a, b] if a > b)),
            "times.warn_before_s must fall".to_owned(),
        );
        rule(
            self.heartbeat_s < self.heartbeat_doubt_s
                && self.heartbeat_doubt_s < self.heartbeat_lost_s,
            "times: heartbeat_s < heartbeat_doubt_s < heartbeat_lost_s does not hold".to_owned(),
        );
        for (name, value, before) in [
            // The last heartbeat may lie that far before the end.
            ("heartbeat_lost_s", self.heartbeat_lost_s, self.heartbeat_s),
            ("deadline_grace_s", self.deadline_grace_s, 0),
        ] {
            let least = CLOSING_LIMIT_S.saturating_add(before);
            rule(
                value >= least,
                format!(
                    "times.{name} must be {least} or more: for so long nothing may be heard of a bastion that closes its window"
                ),
            );
        }
        for (name, value, most) in [
            ("freeze_after_s", self.freeze_after_s, MAX_FREEZE_AFTER_S),
            ("end_after_s", self.end_after_s, MAX_END_AFTER_S),
        ] {
            rule(
                value <= most,
                format!("times.{name} must be {most} or less: bastions take no more"),
            );
        }
        rule(
            self.freeze_after_s < self.end_after_s,
            "times: freeze_after_s < end_after_s does not hold".to_owned(),
        );
    }
}

impl Cluster {
    fn rules(&self, rule: &mut impl FnMut(bool, String)) {
        let id = &self.id;
        rule(
            (1..=75).contains(&self.title.chars().count()),
            format!("cluster {id}: title must be 1 to 75 characters"),
        );
        rule(
            (1..=100).contains(&self.schemas.len()),
            format!("cluster {id}: schemas must be 1 to 100"),
        );
        let distinct: BTreeSet<_> = self.schemas.iter().collect();
        rule(
            distinct.len() == self.schemas.len(),
            format!("cluster {id}: a schema is named twice"),
        );
        rule(
            self.ticket_key_file.is_some() != self.ticket_kms_key.is_some(),
            format!(
                "cluster {id}: exactly one of ticket_key_file and ticket_kms_key must be given"
            ),
        );
        rule(
            !self.levels.is_empty(),
            format!("cluster {id}: levels is empty"),
        );
        rule(
            !self.approvers.is_empty(),
            format!("cluster {id}: approvers is empty: nobody could ever decide"),
        );
        rule(
            !self.operators.is_empty(),
            format!("cluster {id}: operators is empty"),
        );
        for operator in &self.operators {
            let valid = operator.strip_prefix('*').map_or_else(
                || Email::parse(operator).is_ok(),
                |domain| Email::parse(&format!("x{domain}")).is_ok(),
            );
            rule(
                valid,
                format!("cluster {id}: operator {operator:?} is neither an address nor *@domain"),
            );
        }
    }
}
