//! Who may do what. Pure: every answer is a value that must be used.

use crate::approval::Doubt;
use crate::config::{Cluster, Config};
use crate::ledger::item::Item;
use crate::request::{Person, Wish, namesake};
use powerpole_protocol::id::Email;
use powerpole_protocol::ledger::State;

/// An answer to "may this person?".
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a permission that is not looked at protects nothing"]
pub enum Permission {
    /// Yes.
    Granted,
    /// No, and why.
    Refused(Refused),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Not among the cluster's operators.
    NotOperator,
    /// Not among the cluster's approvers.
    NotApprover,
    /// One's own request.
    OwnRequest,
    /// Somebody decided already.
    Decided,
    /// The cluster is not in the configuration any more.
    NoCluster,
    /// The cluster does not give this any more: level, schema or duration.
    NoLonger,
    /// Another person's grant uses the same account name on this cluster.
    Namesake,
    /// The email address makes no account name.
    NoAccount,
    /// The ledger does not say any more what was asked.
    Altered,
}

impl Refused {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotOperator => "not_operator",
            Self::NotApprover => "not_approver",
            Self::OwnRequest => "own_request",
            Self::Decided => "already_decided",
            Self::NoCluster => "no_cluster",
            Self::NoLonger => "no_longer_offered",
            Self::Namesake => "namesake",
            Self::NoAccount => "no_account_name",
            Self::Altered => Doubt::Asked.code(),
        }
    }

    /// For the person.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotOperator => {
                "You may not ask for this cluster. Its owners keep the list of operators."
            }
            Self::NotApprover => "You are not an approver of this cluster.",
            Self::OwnRequest => "Nobody decides on their own request. Another approver has to.",
            Self::Decided => "This request is decided already; nothing was changed.",
            Self::NoCluster => "This cluster is not offered any more.",
            Self::NoLonger => {
                "This cluster does not offer this level, schema or duration any more."
            }
            Self::Namesake => {
                "Another person's request uses the same account name on this cluster. Wait until it has ended."
            }
            Self::Altered => Doubt::Asked.text(),
            Self::NoAccount => {
                "Your email address makes no database account name: its part before the @ must be 1 to 32 of a-z, 0-9, '.', '_', '-'."
            }
        }
    }
}

/// May this person ask for this cluster?
pub fn may_ask(cluster: &Cluster, email: &Email) -> Permission {
    let listed = cluster
        .operators
        .iter()
        .any(|operator| match operator.strip_prefix('*') {
            Some(domain) => email
                .as_str()
                .split_once('@')
                .is_some_and(|(_, theirs)| domain.strip_prefix('@') == Some(theirs)),
            None => operator == email.as_str(),
        });
    if listed {
        Permission::Granted
    } else {
        Permission::Refused(Refused::NotOperator)
    }
}

/// May this person make exactly this request, while these others are open?
pub fn may_request(config: &Config, wish: &Wish, person: &Person, open: &[Item]) -> Permission {
    let Some(cluster) = config.cluster(&wish.cluster) else {
        return Permission::Refused(Refused::NoCluster);
    };
    let Ok(account) = person.email.account_name() else {
        return Permission::Refused(Refused::NoAccount);
    };
    if namesake(&person.email, &account, &wish.cluster, open).is_some() {
        return Permission::Refused(Refused::Namesake);
    }
    may_ask(cluster, &person.email)
}

/// May this person decide on this request?
pub fn may_decide(config: &Config, item: &Item, person: &Person) -> Permission {
    let Some(cluster) = config.cluster(&item.cluster) else {
        return Permission::Refused(Refused::NoCluster);
    };
    // Own first: an approver who asked is told the true reason.
    if person.email == item.operator || person.slack == item.operator_slack {
        return Permission::Refused(Refused::OwnRequest);
    }
    if !cluster.approvers.contains(&person.email) {
        return Permission::Refused(Refused::NotApprover);
    }
    if item.state != State::Requested {
        return Permission::Refused(Refused::Decided);
    }
    Permission::Granted
}

/// May this person end this window early? The operator and the cluster's approvers may.
pub fn may_finish(config: &Config, item: &Item, person: &Person) -> Permission {
    let approver = config
        .cluster(&item.cluster)
        .is_some_and(|c| c.approvers.contains(&person.email));
    if approver || person.email == item.operator {
        Permission::Granted
    } else {
        Permission::Refused(Refused::NotApprover)
    }
}

/// Does the right to launch still hold, when the launch is due? `email` is the operator's address as Slack
/// knows it now; none when the person has left.
pub fn may_launch(
    config: &Config,
    item: &Item,
    email: Option<&Email>,
    open: &[Item],
) -> Permission {
    let Some(cluster) = config.cluster(&item.cluster) else {
        return Permission::Refused(Refused::NoCluster);
    };
    if email != Some(&item.operator) {
        return Permission::Refused(Refused::NotOperator);
    }
    let offered = cluster.levels.contains(&item.level)
        && item
            .schemas
            .iter()
            .all(|schema| cluster.schemas.contains(schema))
        && item.duration_s <= cluster.max_duration_s;
    if !offered {
        return Permission::Refused(Refused::NoLonger);
    }
    // Of two namesakes that were stored in the same moment the older goes first, whoever looks.
    let elder = open
        .iter()
        .filter(|other| other.attempt.0 > 0 || other.request < item.request);
    let elder: Vec<Item> = elder.cloned().collect();
    if namesake(&item.operator, &item.account, &item.cluster, &elder).is_some() {
        return Permission::Refused(Refused::Namesake);
    }
    may_ask(cluster, &item.operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{config, item};

    fn person(name: &str) -> Person {
        Person {
            slack: format!("U0{name}"),
            email: Email::parse(&format!("{name}@example.com")).unwrap(),
        }
    }

    #[test]
    fn only_another_listed_approver_decides_and_only_once() {
        let config = config();
        let mut request = item("bob@example.com", 1);
        request.operator_slack = "U0bob".into();
        for (who, expected) in [
            ("carol", Permission::Granted),
            ("bob", Permission::Refused(Refused::OwnRequest)),
            ("mallory", Permission::Refused(Refused::NotApprover)),
        ] {
            assert_eq!(
                may_decide(&config, &request, &person(who)),
                expected,
                "{who}"
            );
        }
        let renamed = Person {
            slack: "U0bob".into(),
            email: person("carol").email,
        };
        assert_eq!(
            may_decide(&config, &request, &renamed),
            Permission::Refused(Refused::OwnRequest)
        );
        request.state = State::Approved;
        assert_eq!(
            may_decide(&config, &request, &person("carol")),
            Permission::Refused(Refused::Decided)
        );
    }

    #[test]
    fn a_domain_wildcard_means_that_domain_and_no_other() {
        let mut cluster = config().clusters.remove(0);
        cluster.operators = vec!["*@example.com".into()];
        for (email, granted) in [
            ("zoe@example.com", true),
            ("zoe@evil-example.com", false),
            ("zoe@example.com.evil.org", false),
            ("zoe@sub.example.com", false),
        ] {
            let answer = may_ask(&cluster, &Email::parse(email).unwrap());
            assert_eq!(answer == Permission::Granted, granted, "{email}");
        }
    }

    #[test]
    fn a_launch_needs_the_right_as_it_is_now() {
        let config = config();
        let request = item("alice@example.com", 5);
        let alice = request.operator.clone();
        assert_eq!(
            may_launch(&config, &request, Some(&alice), &[]),
            Permission::Granted
        );
        assert_eq!(
            may_launch(&config, &request, None, &[]),
            Permission::Refused(Refused::NotOperator)
        );
        let mut narrower = config.clone();
        narrower.clusters[0].operators = vec!["bob@example.com".into()];
        assert_eq!(
            may_launch(&narrower, &request, Some(&alice), &[]),
            Permission::Refused(Refused::NotOperator)
        );
        let mut shorter = config.clone();
        shorter.clusters[0].max_duration_s = 60;
        assert_eq!(
            may_launch(&shorter, &request, Some(&alice), &[]),
            Permission::Refused(Refused::NoLonger)
        );
    }

    #[test]
    fn of_two_namesakes_only_the_elder_launches() {
        let config = config();
        let elder = item("alice@example.com", 1);
        let mut younger = item("alice@example.org", 2);
        let mut wide = config.clone();
        wide.clusters[0].operators.push("*@example.org".into());
        let both = [elder.clone(), younger.clone()];
        assert_eq!(
            may_launch(&wide, &elder, Some(&elder.operator), &both),
            Permission::Granted
        );
        assert_eq!(
            may_launch(&wide, &younger, Some(&younger.operator), &both),
            Permission::Refused(Refused::Namesake)
        );
        younger.attempt.0 = 1;
        let both = [elder.clone(), younger];
        assert_eq!(
            may_launch(&wide, &elder, Some(&elder.operator), &both),
            Permission::Refused(Refused::Namesake)
        );
    }
}
