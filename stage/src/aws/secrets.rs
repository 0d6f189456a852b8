//! Deletion of a secret as AWS does it: answered at once, visible a little later.

use super::{
    clock,
    upstream::{Upstream, UpstreamError},
};
use bytes::Bytes;
use hyper::http::request::Parts;
use serde_json::{Value, json};
use std::time::Duration;

/// Answers a DeleteSecret with ForceDeleteWithoutRecovery and has moto do it after `delay`.
///
/// Nothing where the call is another kind of deletion or the secret is not there: moto answers then.
pub(crate) async fn delete_later(
    upstream: &Upstream,
    parts: &Parts,
    body: &Bytes,
    delay: Duration,
) -> Result<Option<Value>, UpstreamError> {
    let input: Value = serde_json::from_slice(body).unwrap_or_default();
    let forced = input
        .get("ForceDeleteWithoutRecovery")
        .and_then(Value::as_bool)
        == Some(true);
    if !forced || delay.is_zero() {
        return Ok(None);
    }
    let ask = json!({ "SecretId": input.get("SecretId") });
    let (status, secret) = upstream
        .json("secretsmanager", "secretsmanager.DescribeSecret", &ask)
        .await?;
    if status != 200 {
        return Ok(None);
    }
    let (upstream, parts, body) = (upstream.clone(), parts.clone(), body.clone());
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        if let Err(error) = upstream.exchange(&parts, body).await {
            tracing::error!(%error, "secret was not deleted");
        }
    });
    Ok(Some(json!({
        "ARN": secret.get("ARN"),
        "Name": secret.get("Name"),
        "DeletionDate": clock::now().as_second(),
    })))
}
