//! Control's configuration on a stage: the shipped binary, pointed at the stage by settings alone.

use super::files::StageFiles;
use super::keys;
use super::layout::{
    ANCHOR_BUCKET, CONTROL_BASTIONS, CONTROL_SLACK, IMAGE_PARAMETER, LEDGER_TABLE, LOG_GROUP,
    REGION, WORKSPACE, clusters,
};
use super::running::Times;
use crate::workspace::TEAM;
use serde_json::{Value, json};

/// What the stage's AWS account was made of; see `stage/aws/seed.py`.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Account {
    /// The image.
    pub(crate) ami: String,
    /// The bastions' subnet.
    pub(crate) subnet: String,
    /// Their security group.
    pub(crate) security_group: String,
    /// The unique id of the bastions' role.
    pub(crate) role_id: String,
}

/// The text of `control.toml`.
pub(crate) fn config(
    files: &StageFiles,
    account: &Account,
    times: &Times,
) -> Result<String, toml::ser::Error> {
    let clusters: Vec<Value> = clusters()
        .iter()
        .map(|cluster| {
            let (setting, key) = if cluster.key_in_kms {
                ("ticket_kms_key", json!(cluster.ticket_alias()))
            } else {
                ("ticket_key_file", json!(keys::ticket_key(files, cluster)))
            };
            json!({
                "id": cluster.id,
                "title": cluster.title,
                "grantor_secret": cluster.grantor_secret(),
                "ticket_key_id": "k1",
                setting: key,
                "schemas": cluster.schemas,
                "max_duration_s": 28_800,
                "approvers": ["bob@example.com", "carol@example.com", "dave@example.com"],
                "operators": ["alice@example.com", "bob@example.com"],
            })
        })
        .collect();
    toml::to_string(&json!({
        "region": REGION,
        "principal": "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/{email}",
        "ledger_table": LEDGER_TABLE,
        "listen": {
            "bastions": CONTROL_BASTIONS,
            "slack": CONTROL_SLACK,
            "public_url": format!("http://{CONTROL_BASTIONS}"),
        },
        "keys": {
            "signing_file": files.keys().join("control/signing.key"),
            "sealing_file": files.keys().join("control/sealing.key"),
            "derivation_file": files.keys().join("control/derivation.key"),
        },
        "bastion": {
            "image_parameter": IMAGE_PARAMETER,
            "instance_type": "t3.micro",
            "subnets": [account.subnet],
            "security_groups": [account.security_group],
            "instance_profile": "PowerPoleBastion",
            "role_id": account.role_id,
        },
        "evidence": { "log_group": LOG_GROUP, "anchor_bucket": ANCHOR_BUCKET },
        "slack": {
            "api_url": format!("http://{WORKSPACE}/api/"),
            "bot_token_file": keys::bot_token(files),
            "signing_secret_file": keys::signing_secret(files),
            "team": TEAM,
            "requests_channel": "C0POWERPOLE",
            "approvals_channel": "C0APPROVALS",
        },
        "times": {
            "tick_s": times.tick_s,
            "roll_every_s": times.roll_every_s,
            "roll_delay_s": 1,
            "attempt_timeout_s": times.attempt_timeout_s,
            "max_attempts": 1,
            "durations_s": times.durations_s,
            "warn_before_s": times.warn_before_s,
            "renew_lease_s": 15,
            "heartbeat_s": times.heartbeat_s,
            "heartbeat_doubt_s": times.heartbeat_s * 2,
            "heartbeat_lost_s": times.heartbeat_s * 30,
            "deadline_grace_s": 150,
            "freeze_after_s": 30,
            "end_after_s": 120,
        },
        "clusters": clusters,
    }))
}
