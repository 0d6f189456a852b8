//! Control's configuration: one TOML file, read once at start.
//!
//! Owns the settings' names, units and defaults, and the rules between them. Secrets are named here by
//! file only. Unknown keys are refused with their line. The AWS endpoint and credentials are none of its
//! business: the SDK's usual settings (`AWS_ENDPOINT_URL`, profiles, roles) hold.

pub mod rules;

use powerpole_protocol::handoff::SessionServer;
use powerpole_protocol::id::{ClusterId, Email, GrantorSecretName, SchemaName};
use powerpole_protocol::level::AccessLevel;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// All of control's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// AWS region of everything that control makes, such as `us-east-1`.
    pub region: String,
    /// Principal (ARN) that may log in for a person; `{email}` stands for the address.
    /// Such as `arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/{email}`. The session's name must not be the
    /// caller's choice: docs/control.md says what the role's trust policy has to demand.
    pub principal: String,
    /// Where control listens.
    pub listen: Listen,
    /// Control's own keys, as `powerpole-control keygen` writes them.
    pub keys: KeyFiles,
    /// DynamoDB table of the ledger; key `request` (S), index `open` (partition `open`, sort `request`).
    pub ledger_table: String,
    /// What a bastion is made of.
    pub bastion: Bastion,
    /// Where bastions keep their evidence.
    pub evidence: Evidence,
    /// Slack.
    pub slack: Slack,
    /// Times that control keeps.
    #[serde(default)]
    pub times: Times,
    /// What the DM shows besides.
    #[serde(default)]
    pub links: Links,
    /// Clusters that may be asked for; at least one, at most 100 (Slack's limit of options).
    pub clusters: Vec<Cluster>,
}

/// Where control listens and is reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address of the bastion API and `/healthz`, such as `10.77.0.1:8080`.
    pub bastions: SocketAddr,
    /// Address of the Slack endpoint: `POST /slack/commands`, `POST /slack/interactions`.
    pub slack: SocketAddr,
    /// Base URL under which bastions reach the bastion API; goes into the boot document.
    pub public_url: String,
    /// Connections to the bastion API that one source may have at once, of 1,024 in all; 128. A source is an IPv4 address or
    /// an IPv6 /64; an IPv6 /48 may have twice as many. Behind a load balancer or a NAT everybody has its address: 1024 is no bound, and the bound belongs there.
    #[serde(default = "per_source")]
    pub bastions_per_source: usize,
    /// The same of the Slack endpoint; 128.
    #[serde(default = "per_source")]
    pub slack_per_source: usize,
}

/// Files of control's keys, each 32 bytes in base64, readable by control alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// Ed25519 key that signs answers to bastions.
    pub signing_file: PathBuf,
    /// X25519 key that bastions seal passwords to.
    pub sealing_file: PathBuf,
    /// Key from which boot tokens, handoff tokens and nonces are derived.
    pub derivation_file: PathBuf,
}

/// What a bastion is made of.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bastion {
    /// SSM parameter that holds the image id.
    pub image_parameter: String,
    /// EC2 instance type.
    pub instance_type: String,
    /// Subnets, tried in turn by attempt; at least one.
    pub subnets: Vec<String>,
    /// Security groups; at least one.
    pub security_groups: Vec<String>,
    /// Name of the instance profile.
    pub instance_profile: String,
    /// Unique id (`AROA…`) of the role in that profile: a handoff may be read by `<role id>:<instance id>` alone.
    pub role_id: String,
    /// Further tags, such as `{ Owner = "dba" }`. No personal data.
    #[serde(default)]
    pub tags: std::collections::BTreeMap<String, String>,
    /// Release to patch to; default `latest`.
    #[serde(default = "latest")]
    pub release: String,
}

/// Where bastions keep their evidence.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// CloudWatch log group, such as `/powerpole/prod/evidence`.
    pub log_group: String,
    /// Object-locked bucket of the anchors.
    pub anchor_bucket: String,
}

/// Slack.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// Base of the Web API with a trailing slash; default `https://slack.com/api/`.
    #[serde(default = "slack_api")]
    pub api_url: String,
    /// File with the bot token (`xoxb-…`).
    pub bot_token_file: PathBuf,
    /// File with the signing secret.
    pub signing_secret_file: PathBuf,
    /// The workspace's id (`T…`), also in an Enterprise Grid. Other workspaces' events are refused, and people who are
    /// no members of it are nobody.
    pub team: String,
    /// Channel id where each request is announced in one line; none by default.
    #[serde(default)]
    pub requests_channel: Option<String>,
    /// Channel id where approvers decide and receipts go.
    pub approvals_channel: String,
}

/// Times that control keeps, in whole seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Times {
    /// From launch to ready, for one attempt; 600.
    pub attempt_timeout_s: u64,
    /// Attempts a request gets; 2.
    pub max_attempts: u32,
    /// An undecided request lapses after this; 86400.
    pub lapse_s: u64,
    /// One tick every; 5.
    pub tick_s: u64,
    /// Length of the period for which a roll of requests is written, in step with midnight UTC; 86400. At most that.
    pub roll_every_s: u64,
    /// How long after its period a roll is written, so that no request of it is overlooked; 900.
    pub roll_delay_s: u64,
    /// How long before a wanted start the launch begins; 0. Access opens, and the window begins, as soon as the bastion is ready:
    /// more than a bastion takes to boot opens it before the start that was approved.
    pub launch_ahead_s: u64,
    /// The longest way ahead that a start may lie; 604800.
    pub start_within_s: u64,
    /// After the deadline, control ends what has not closed itself; 150. A bastion may take 120 s to close in the worst
    /// case, and its own timer ends it after 125 s: less here would cost a chain its seal.
    pub deadline_grace_s: u64,
    /// Without a heartbeat for this long EC2 is asked whether the instance lives; 45.
    pub heartbeat_doubt_s: u64,
    /// Without a heartbeat for this long the bastion is judged lost and terminated; 150.
    pub heartbeat_lost_s: u64,
    /// Durations that the modal offers, shortest first; at most 100.
    pub durations_s: Vec<u64>,
    /// When the operator is warned before the deadline, longest first; 600, 300, 60.
    pub warn_before_s: Vec<u64>,
    /// How often a bastion renews the account's lease; 15.
    pub renew_lease_s: u64,
    /// How often a bastion is heard of; 15.
    pub heartbeat_s: u64,
    /// Evidence not shipped for this long freezes sessions; 30.
    pub freeze_after_s: u64,
    /// Evidence not shipped for this long ends the bastion; 120.
    pub end_after_s: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            attempt_timeout_s: 600,
            max_attempts: 2,
            lapse_s: 86_400,
            tick_s: 5,
            roll_every_s: 86_400,
            roll_delay_s: 900,
            launch_ahead_s: 0,
            start_within_s: 604_800,
            deadline_grace_s: 150,
            heartbeat_doubt_s: 45,
            heartbeat_lost_s: 150,
            durations_s: vec![900, 1800, 3600, 7200, 14_400, 28_800],
            warn_before_s: vec![600, 300, 60],
            renew_lease_s: 15,
            heartbeat_s: 15,
            freeze_after_s: 30,
            end_after_s: 120,
        }
    }
}

/// What the DM shows besides; `{region}`, `{instance}` and `{request}` are filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Links {
    /// Link that opens a session in the browser.
    pub session_url: String,
    /// Line that opens a session in a terminal.
    pub session_command: String,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            session_url: "https://{region}.console.aws.amazon.com/systems-manager/session-manager/{instance}?region={region}".to_owned(),
            session_command: "aws ssm start-session --region {region} --target {instance} --reason '{request}'".to_owned(),
        }
    }
}

/// A database cluster that may be asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// RDS identifier.
    pub id: ClusterId,
    /// What people read; at most 75 characters.
    pub title: String,
    /// Name of the grantor's secret in Secrets Manager, `powerpole/grantor/…`: the credential and the way to the cluster,
    /// which its owner writes (docs/database.md). Control can neither read nor write it, and knows no server.
    pub grantor_secret: GrantorSecretName,
    /// Where sessions of READ grants connect: `writer`, or `reader`, the first that the secret names; `writer` by default.
    #[serde(default)]
    pub read_from: SessionServer,
    /// Which ticket key signs.
    pub ticket_key_id: String,
    /// File with that key: 64 hexadecimal digits, no other cluster's. Either this or `ticket_kms_key`.
    #[serde(default)]
    pub ticket_key_file: Option<PathBuf>,
    /// That key in KMS, by id, ARN or alias: spec HMAC_256, its material imported, no other cluster's. Control asks for
    /// MACs and never sees the key.
    #[serde(default)]
    pub ticket_kms_key: Option<String>,
    /// Schemas that may be asked for; 1 to 100.
    pub schemas: Vec<SchemaName>,
    /// Levels that may be asked for; all three by default.
    #[serde(default = "all_levels")]
    pub levels: Vec<AccessLevel>,
    /// The longest window in seconds; 28800. With `times.attempt_timeout_s` and a minute on top it must stay
    /// within the `max_window_s` that the database was installed with, or it refuses the tickets.
    #[serde(default = "eight_hours")]
    pub max_duration_s: u64,
    /// Email addresses of those who may decide.
    pub approvers: Vec<Email>,
    /// Who may ask: addresses, or `*@domain` for everybody of a domain.
    pub operators: Vec<String>,
}

impl Cluster {
    /// Where sessions of a grant of this level connect.
    #[must_use]
    pub fn session_of(&self, level: AccessLevel) -> SessionServer {
        match level {
            AccessLevel::Read => self.read_from,
            AccessLevel::Write | AccessLevel::Admin => SessionServer::Writer,
        }
    }
}

fn per_source() -> usize {
    crate::listener::PER_SOURCE
}
fn latest() -> String {
    "latest".to_owned()
}
fn slack_api() -> String {
    "https://slack.com/api/".to_owned()
}
fn all_levels() -> Vec<AccessLevel> {
    AccessLevel::ALL.to_vec()
}
fn eight_hours() -> u64 {
    28_800
}

/// A configuration that cannot be used. `faults` holds all that is wrong, one a line for a person.
#[derive(Debug, thiserror::Error)]
#[error("{} has {} fault(s):\n{}", file.display(), faults.len(), faults.join("\n"))]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// All faults that were found.
    pub faults: Vec<String>,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// With every fault at once: unknown keys with their lines, then broken rules.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|e| ConfigError {
            file: file.to_owned(),
            faults: vec![e.to_string()],
        })?;
        Self::parse(&text).map_err(|faults| ConfigError {
            file: file.to_owned(),
            faults,
        })
    }

    /// Reads and checks the text.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut rest = text.to_owned();
        // A parser stops at its first complaint; an unknown key is blanked out so that the next shows too.
        for _ in 0..64 {
            match toml::from_str::<Self>(&rest) {
                Ok(config) => {
                    faults.extend(config.faults());
                    return if faults.is_empty() {
                        Ok(config)
                    } else {
                        Err(faults)
                    };
                }
                Err(error) => {
                    let line = error.span().map(|span| line_at(&rest, span.start));
                    let place = line
                        .as_ref()
                        .map_or_else(String::new, |(n, _)| format!("line {n}: "));
                    faults.push(format!("{place}{}", error.message()));
                    match line {
                        Some((_, range))
                            if error.message().starts_with("unknown field")
                                && !rest
                                    .get(range.clone())
                                    .unwrap_or("")
                                    .trim_start()
                                    .starts_with('[') =>
                        {
                            rest.replace_range(range, "");
                        }
                        _ => return Err(faults),
                    }
                }
            }
        }
        Err(faults)
    }

    /// The cluster of this id.
    #[must_use]
    pub fn cluster(&self, id: &ClusterId) -> Option<&Cluster> {
        self.clusters.iter().find(|cluster| cluster.id == *id)
    }

    /// The principal that may log in for this person.
    #[must_use]
    pub fn principal_of(&self, email: &Email) -> String {
        self.principal.replace("{email}", email.as_str())
    }
}

fn line_at(text: &str, offset: usize) -> (usize, std::ops::Range<usize>) {
    let before = text.get(..offset).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = text
        .get(start..)
        .and_then(|rest| rest.find('\n'))
        .map_or(text.len(), |at| start + at);
    (before.matches('\n').count() + 1, start..end)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const EXAMPLE: &str = include_str!("../../../systemd/control.example.toml");

    #[test]
    fn the_shipped_example_is_valid() {
        let config = Config::parse(EXAMPLE).unwrap();
        assert_eq!(config.times.tick_s, 5);
    }

    #[test]
    fn every_unknown_key_and_every_broken_rule_is_told_at_once_with_its_line() {
        let text = EXAMPLE
            .replacen("region = ", "regoin = \"x\"\nregion = ", 1)
            .replacen("tick_s = 5", "tick_s = 0\ntock_s = 1", 1)
            .replacen("principal = \"", "principal = \"nobody\" # ", 1);
        let faults = Config::parse(&text).unwrap_err();
        let line = text.lines().position(|l| l.starts_with("regoin")).unwrap() + 1;
        assert!(
            faults
                .iter()
                .any(|f| f.starts_with(&format!("line {line}: unknown field `regoin`"))),
            "{faults:?}"
        );
        assert!(faults.iter().any(|f| f.contains("tock_s")), "{faults:?}");
        assert!(
            faults.iter().any(|f| f.contains("times.tick_s")),
            "{faults:?}"
        );
        assert!(faults.iter().any(|f| f.contains("{email}")), "{faults:?}");
    }

    #[test]
    fn a_cluster_has_one_ticket_key_of_its_own_and_only_its_read_sessions_leave_the_writer() {
        let file = "ticket_key_file = \"/etc/powerpole/orders-ticket.key\"";
        let kms = "ticket_kms_key = \"alias/orders\"";
        let with = |keys: &str, more: &str| {
            let text = EXAMPLE.replacen(file, &format!("{keys}\n{more}"), 1);
            Config::parse(&text)
        };
        let config = with(kms, "read_from = \"reader\"").unwrap();
        let cluster = &config.clusters[0];
        assert_eq!(
            AccessLevel::ALL.map(|level| cluster.session_of(level)),
            [
                SessionServer::Reader,
                SessionServer::Writer,
                SessionServer::Writer
            ]
        );

        for (keys, more, fault) in [
            ("", "", "exactly one of"),
            (&*format!("{file}\n{kms}"), "", "exactly one of"),
            (file, "read_from = \"moon\"", "moon"),
        ] {
            let faults = with(keys, more).unwrap_err();
            assert!(faults.iter().any(|f| f.contains(fault)), "{faults:?}");
        }

        let (_, cluster) = EXAMPLE.split_once("[[clusters]]").unwrap();
        let cluster = cluster.replacen(file, kms, 1);
        let other = cluster.replacen("orders-prod", "orders-test", 1);
        let text = EXAMPLE.replacen(file, kms, 1) + "\n[[clusters]]" + &other;
        let faults = Config::parse(&text).unwrap_err();
        assert!(
            faults.iter().any(|f| f.contains("another cluster")),
            "{faults:?}"
        );
    }

    #[test]
    fn the_workspace_and_the_bastions_role_are_named_and_have_the_form_of_ids() {
        let line = |key: &str| {
            EXAMPLE
                .lines()
                .find(|l| l.starts_with(key))
                .unwrap()
                .to_owned()
        };
        for (key, wrong) in [
            (
                "team = ",
                ["", "T", "E0POWERPOLE", "t0powerpole", "T0 POWERPOLE"],
            ),
            (
                "role_id = ",
                [
                    "",
                    "AROA",
                    "PowerPoleBastion",
                    "AIDASTAGEBASTION00000",
                    "AROA*:i-0123456789",
                ],
            ),
        ] {
            let right = line(key);
            let faults = Config::parse(&EXAMPLE.replace(&right, "")).unwrap_err();
            assert!(
                faults.iter().any(|f| f.contains("missing field")),
                "{faults:?}"
            );
            for wrong in wrong {
                let text = EXAMPLE.replace(&right, &format!("{key}{wrong:?}"));
                let faults = Config::parse(&text).unwrap_err();
                assert_eq!(faults.len(), 1, "{wrong}: {faults:?}");
                assert!(
                    faults[0].contains(key.trim_end_matches(" = ")),
                    "{faults:?}"
                );
            }
        }
    }

    #[test]
    fn no_request_lasts_longer_than_the_rolls_wait_for_its_end() {
        let month = 30 * 86_400;
        for (key, value, holds) in [
            ("start_within_s", month / 2, true),
            ("start_within_s", month, false),
            ("lapse_s", month, false),
            ("attempt_timeout_s", month / 2, false),
            ("lapse_s", i64::MAX, false),
        ] {
            let others: Vec<&str> = EXAMPLE
                .lines()
                .filter(|line| !line.starts_with(key))
                .collect();
            let text =
                others
                    .join("\n")
                    .replacen("[times]", &format!("[times]\n{key} = {value}"), 1);
            let read = Config::parse(&text);
            assert_eq!(read.is_ok(), holds, "{key} = {value}: {read:?}");
            if let Err(faults) = read {
                assert!(faults[0].contains("could last"), "{faults:?}");
            }
        }
    }

    #[test]
    fn a_cluster_names_no_server_and_no_secret_but_the_grantors() {
        let secret = "grantor_secret = \"powerpole/grantor/orders-prod\"";
        for way in [
            "host = \"10.77.0.1\"",
            "port = 3306",
            "ca_file = \"/etc/powerpole/orders-ca.pem\"",
            "readers = [{ host = \"10.77.0.2\", port = 3306 }]",
        ] {
            let text = EXAMPLE.replacen(secret, &format!("{secret}\n{way}"), 1);
            let faults = Config::parse(&text).unwrap_err();
            assert!(
                faults.iter().any(|f| f.contains("unknown field")),
                "{faults:?}"
            );
        }
        let other = EXAMPLE.replacen("powerpole/grantor/orders-prod", "powerpole/handoff/x", 1);
        let faults = Config::parse(&other).unwrap_err();
        assert!(
            faults.iter().any(|f| f.contains("powerpole/grantor/")),
            "{faults:?}"
        );
    }
}
