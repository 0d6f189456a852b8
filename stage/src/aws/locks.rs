//! What moto's object lock lacks: a retention that cannot be shortened, versioning that cannot be
//! suspended, and reading a retention.
//!
//! moto itself refuses to delete a locked version, keeps versions on overwriting, and applies the
//! bucket's default retention.

use super::{
    answer::{Body, Refusal, respond, xml_text},
    call::query_value,
    upstream::{Upstream, UpstreamError},
};
use bytes::Bytes;
use hyper::{Method, Response, StatusCode, http::request::Parts};
use jiff::Timestamp;

/// A version's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Retention {
    mode: String,
    until: Timestamp,
}

/// Whether a new retention may be put on a version; what it has now comes from moto.
pub(crate) async fn judge_retention(
    upstream: &Upstream,
    parts: &Parts,
    body: &[u8],
) -> Result<Result<(), Refusal>, UpstreamError> {
    let Some(current) = retention(upstream, parts).await? else {
        return Ok(Ok(()));
    };
    let text = String::from_utf8_lossy(body);
    let wanted = xml_text(&text, "Mode").zip(xml_text(&text, "RetainUntilDate"));
    let wanted = wanted.and_then(|(mode, until)| {
        Some(Retention {
            mode: mode.to_owned(),
            until: until.parse().ok()?,
        })
    });
    let bypass = parts
        .headers
        .get("x-amz-bypass-governance-retention")
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    Ok(may_replace(&current, wanted.as_ref(), bypass))
}

/// GetObjectRetention, which moto answers with an internal error.
pub(crate) async fn show_retention(
    upstream: &Upstream,
    parts: &Parts,
) -> Result<Result<Response<Body>, Refusal>, UpstreamError> {
    Ok(match retention(upstream, parts).await? {
        Some(Retention { mode, until }) => Ok(respond(
            200,
            "application/xml",
            format!(
                "<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
            ),
        )),
        None => Err(Refusal::new(
            "NoSuchObjectLockConfiguration",
            "The specified object does not have a ObjectLock configuration",
        )
        .with_status(404)),
    })
}

/// Refuses to suspend versioning where the bucket has object lock.
pub(crate) async fn judge_versioning(
    upstream: &Upstream,
    parts: &Parts,
    body: &[u8],
) -> Result<Result<(), Refusal>, UpstreamError> {
    if xml_text(&String::from_utf8_lossy(body), "Status") != Some("Suspended") {
        return Ok(Ok(()));
    }
    let mut ask = parts.clone();
    ask.method = Method::GET;
    if let Ok(uri) = format!("{}?object-lock", parts.uri.path()).parse() {
        ask.uri = uri;
    }
    let answer = upstream.exchange(&ask, Bytes::new()).await?;
    if answer.status() != StatusCode::OK {
        return Ok(Ok(()));
    }
    Ok(Err(Refusal::new(
        "InvalidBucketState",
        "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed.",
    )
    .with_status(409)))
}

fn may_replace(
    current: &Retention,
    wanted: Option<&Retention>,
    bypass: bool,
) -> Result<(), Refusal> {
    let longer = wanted.is_some_and(|wanted| wanted.until >= current.until);
    let kept_mode =
        wanted.is_some_and(|wanted| wanted.mode == "COMPLIANCE" || wanted.mode == current.mode);
    if (longer && kept_mode) || (current.mode == "GOVERNANCE" && bypass) {
        return Ok(());
    }
    Err(Refusal::new(
        "AccessDenied",
        "Access Denied because object protected by object lock.",
    )
    .with_status(403))
}

async fn retention(upstream: &Upstream, parts: &Parts) -> Result<Option<Retention>, UpstreamError> {
    let mut ask = parts.clone();
    ask.method = Method::HEAD;
    let uri = match query_value(parts, "versionId") {
        Some(version) => format!("{}?versionId={version}", parts.uri.path()),
        None => parts.uri.path().to_owned(),
    };
    if let Ok(uri) = uri.parse() {
        ask.uri = uri;
    }
    let answer = upstream.exchange(&ask, Bytes::new()).await?;
    let text = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
    Ok(text("x-amz-object-lock-mode")
        .zip(text("x-amz-object-lock-retain-until-date"))
        .and_then(|(mode, until)| {
            Some(Retention {
                mode,
                until: until.parse().ok()?,
            })
        }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(mode: &str, until: &str) -> Retention {
        Retention {
            mode: mode.into(),
            until: until.parse().unwrap(),
        }
    }

    #[test]
    fn compliance_can_only_grow() {
        let current = retention("COMPLIANCE", "2027-01-01T00:00:00Z");
        for (wanted, bypass, allowed) in [
            (
                Some(retention("COMPLIANCE", "2028-01-01T00:00:00Z")),
                false,
                true,
            ),
            (
                Some(retention("COMPLIANCE", "2026-01-01T00:00:00Z")),
                true,
                false,
            ),
            (
                Some(retention("GOVERNANCE", "2028-01-01T00:00:00Z")),
                true,
                false,
            ),
            (None, true, false),
        ] {
            assert_eq!(
                may_replace(&current, wanted.as_ref(), bypass).is_ok(),
                allowed
            );
        }
    }

    #[test]
    fn governance_gives_way_to_a_bypass_only() {
        let current = retention("GOVERNANCE", "2027-01-01T00:00:00Z");
        let shorter = retention("GOVERNANCE", "2026-01-01T00:00:00Z");
        assert!(may_replace(&current, Some(&shorter), false).is_err());
        assert!(may_replace(&current, Some(&shorter), true).is_ok());
    }
}
