//! Secrets Manager: the handoff. Its policy stands before its value does, so that at no moment another
//! bastion's role may read it. Control can write and delete handoffs and reads none.

use super::cloud::{CloudError, sort};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata as _;
use powerpole_protocol::id::InstanceId;
use powerpole_protocol::secret::Secret;

/// A deny for everybody but one session. EC2 names a role's session after the instance, and the role trusts EC2 alone, so
/// that `<role id>:<instance>` is that instance and nobody else. The role's id belongs to it: a session of any other role
/// may be named like an instance.
#[must_use]
pub fn policy(role_id: &str, instance: &InstanceId) -> String {
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "ThisBastionAlone",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:userid": format!("{role_id}:{instance}")}}
        }]
    })
    .to_string()
}

pub(super) async fn put(
    client: &Client,
    name: &str,
    value: &Secret,
    put_token: &str,
    (role_id, instance): (&str, &InstanceId),
) -> Result<(), CloudError> {
    let created = client
        .create_secret()
        .name(name)
        .description("PowerPole handoff, read once")
        .send()
        .await;
    if let Err(error) = created
        && error.code() != Some("ResourceExistsException")
    {
        return Err(sort("CreateSecret", &error));
    }
    client
        .put_resource_policy()
        .secret_id(name)
        .resource_policy(policy(role_id, instance))
        .block_public_policy(true)
        .send()
        .await
        .map_err(|error| sort("PutResourcePolicy", &error))?;
    client
        .put_secret_value()
        .secret_id(name)
        .client_request_token(put_token)
        .secret_string(value.expose())
        .send()
        .await
        .map_err(|error| sort("PutSecretValue", &error))?;
    Ok(())
}

pub(super) async fn delete(client: &Client, name: &str) -> Result<(), CloudError> {
    match client
        .delete_secret()
        .secret_id(name)
        .force_delete_without_recovery(true)
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(()),
        Err(error) => Err(sort("DeleteSecret", &error)),
    }
}
