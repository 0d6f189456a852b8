//! What a request asks for: AWS service, operation, caller and the thing it is about.
//!
//! Nothing here verifies a signature or judges a right: the stage has no IAM. The summary of the
//! thing is made of names only, never of a value that could be a secret.

use hyper::http::request::Parts;
use serde_json::Value;

/// How a service speaks, which decides the form of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `application/x-amz-json-1.x` with `X-Amz-Target`.
    Json,
    /// Form parameters in, XML out.
    Query,
    /// Form parameters in, EC2's own XML out.
    Ec2,
    /// S3's REST.
    S3,
}

/// One identified request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// Signing name: `ec2`, `ssm`, `logs`, `s3`, `secretsmanager`, `dynamodb`, `sts`, `kms`.
    pub(crate) service: String,
    /// Operation's name as in the SDK, `RunInstances`.
    pub(crate) operation: String,
    /// Access key id of the caller, where the request is signed.
    pub(crate) access_key: Option<String>,
    /// Names of what the call is about, `bucket/key` or `group/stream`.
    pub(crate) resource: String,
    /// Form of answers.
    pub(crate) protocol: Protocol,
}

/// Identifies a request; `body` is given where it was read into memory.
pub(crate) fn identify(parts: &Parts, body: Option<&[u8]>) -> Call {
    let (access_key, scope_service) = credential(parts);
    if let Some(target) = header(parts, "x-amz-target") {
        let (prefix, operation) = target.split_once('.').unwrap_or(("", target));
        return Call {
            service: scope_service.unwrap_or_else(|| service_of_target(prefix)),
            operation: operation.to_owned(),
            access_key,
            resource: body.map(json_resource).unwrap_or_default(),
            protocol: Protocol::Json,
        };
    }
    let form = if is_form(parts) {
        body.map(form).unwrap_or_default()
    } else {
        parts
            .uri
            .query()
            .map(|query| form(query.as_bytes()))
            .unwrap_or_default()
    };
    if let Some(action) = value(&form, "Action") {
        let service = scope_service.unwrap_or_else(|| "unknown".to_owned());
        return Call {
            protocol: if service == "ec2" {
                Protocol::Ec2
            } else {
                Protocol::Query
            },
            operation: action.to_owned(),
            resource: form_resource(&form),
            access_key,
            service,
        };
    }
    Call {
        service: scope_service.unwrap_or_else(|| "s3".to_owned()),
        operation: s3_operation(parts).to_owned(),
        access_key,
        resource: parts.uri.path().trim_start_matches('/').to_owned(),
        protocol: Protocol::S3,
    }
}

/// Whether the body must be read to know what the request asks for, or to judge it.
pub(crate) fn wants_body(parts: &Parts) -> bool {
    parts.headers.contains_key("x-amz-target")
        || is_form(parts)
        || (parts.method == "PUT"
            && (has_query(parts, "retention") || has_query(parts, "versioning")))
}

/// Whether the query string has this key, with or without a value.
pub(crate) fn has_query(parts: &Parts, key: &str) -> bool {
    query_value(parts, key).is_some()
}

/// The value of a key in the query string.
pub(crate) fn query_value(parts: &Parts, key: &str) -> Option<String> {
    let query = parts.uri.query()?;
    form(query.as_bytes())
        .into_iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value)
}

/// Decodes `a=b&c=d`.
pub(crate) fn form(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes).into_owned().collect()
}

/// First value of a form's key.
pub(crate) fn value<'a>(form: &'a [(String, String)], key: &str) -> Option<&'a str> {
    form.iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}

/// A header as text.
pub(crate) fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

fn is_form(parts: &Parts) -> bool {
    header(parts, "content-type")
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

fn credential(parts: &Parts) -> (Option<String>, Option<String>) {
    let scope = match header(parts, "authorization") {
        Some(authorization) => authorization
            .split_once("Credential=")
            .map(|(_, rest)| rest.split([',', ' ']).next().unwrap_or_default().to_owned()),
        None => query_value(parts, "X-Amz-Credential"),
    };
    let Some(scope) = scope else {
        return (None, None);
    };
    let mut pieces = scope.split('/');
    let key = pieces.next().map(str::to_owned);
    let service = pieces.nth(2).map(str::to_owned);
    (key, service)
}

fn service_of_target(prefix: &str) -> String {
    match prefix.split('_').next().unwrap_or_default() {
        "AmazonSSM" => "ssm",
        "Logs" => "logs",
        "DynamoDB" => "dynamodb",
        "TrentService" => "kms",
        other => other,
    }
    .to_owned()
}

fn json_resource(body: &[u8]) -> String {
    const NAMES: [&str; 9] = [
        "SecretId",
        "logGroupName",
        "logStreamName",
        "TableName",
        "Target",
        "SessionId",
        "KeyId",
        "Name",
        "InstanceId",
    ];
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return String::new();
    };
    let mut found: Vec<&str> = NAMES
        .iter()
        .filter_map(|name| fields.get(*name)?.as_str())
        .collect();
    let key = fields
        .get("Key")
        .or_else(|| fields.get("Item"))
        .and_then(|key| key.get("request"));
    found.extend(key.and_then(|request| request.get("S")?.as_str()));
    found.join("/")
}

fn form_resource(form: &[(String, String)]) -> String {
    [
        "InstanceId.1",
        "InstanceId",
        "ResourceId.1",
        "ClientToken",
        "ImageId",
        "RoleArn",
    ]
    .iter()
    .filter_map(|key| value(form, key))
    .collect::<Vec<_>>()
    .join("/")
}

fn s3_operation(parts: &Parts) -> &'static str {
    let path = parts.uri.path().trim_matches('/');
    let has = |key: &str| has_query(parts, key);
    match (parts.method.as_str(), path.is_empty(), path.contains('/')) {
        (_, true, _) => "ListBuckets",
        ("PUT", _, false) if has("versioning") => "PutBucketVersioning",
        ("PUT", _, false) if has("object-lock") => "PutObjectLockConfiguration",
        ("PUT", _, false) if has("policy") => "PutBucketPolicy",
        ("PUT", _, false) => "CreateBucket",
        ("GET", _, false) if has("versions") => "ListObjectVersions",
        ("GET", _, false) if has("object-lock") => "GetObjectLockConfiguration",
        ("GET", _, false) if has("versioning") => "GetBucketVersioning",
        ("GET", _, false) => "ListObjectsV2",
        ("POST", _, false) if has("delete") => "DeleteObjects",
        ("HEAD", _, false) => "HeadBucket",
        ("DELETE", _, false) => "DeleteBucket",
        ("PUT", _, true) if has("retention") => "PutObjectRetention",
        ("PUT", _, true) if has("legal-hold") => "PutObjectLegalHold",
        ("PUT", _, true) => "PutObject",
        ("GET", _, true) if has("retention") => "GetObjectRetention",
        ("GET", _, true) => "GetObject",
        ("HEAD", _, true) => "HeadObject",
        ("DELETE", _, true) => "DeleteObject",
        ("POST", _, true) => "MultipartUpload",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=AKIASTAGEALICE000000/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00";

    #[test]
    fn a_query_call_is_known_by_its_action_and_its_scope() {
        let parts = parts(
            "POST",
            "/",
            &[
                ("authorization", SIGNED),
                (
                    "content-type",
                    "application/x-www-form-urlencoded; charset=utf-8",
                ),
            ],
        );
        let call = identify(
            &parts,
            Some(b"Action=RunInstances&ClientToken=req-1-1&ImageId=ami-1"),
        );
        assert_eq!(
            (
                call.service.as_str(),
                call.operation.as_str(),
                call.resource.as_str()
            ),
            ("ec2", "RunInstances", "req-1-1/ami-1")
        );
        assert_eq!(call.access_key.as_deref(), Some("AKIASTAGEALICE000000"));
        assert_eq!(call.protocol, Protocol::Ec2);
    }

    #[test]
    fn a_json_call_is_known_by_its_target_and_never_shows_a_value() {
        let parts = parts(
            "POST",
            "/",
            &[("x-amz-target", "secretsmanager.PutSecretValue")],
        );
        let call = identify(&parts, Some(br#"{"SecretId":"a/b","SecretString":"hush"}"#));
        assert_eq!(
            (call.service.as_str(), call.resource.as_str()),
            ("secretsmanager", "a/b")
        );
    }

    #[test]
    fn s3_is_known_by_method_path_and_query() {
        for (method, uri, expected) in [
            ("PUT", "/bucket/a/b", "PutObject"),
            ("PUT", "/bucket/a?retention", "PutObjectRetention"),
            ("PUT", "/bucket?versioning", "PutBucketVersioning"),
            ("DELETE", "/bucket/a?versionId=1", "DeleteObject"),
            ("GET", "/bucket?list-type=2", "ListObjectsV2"),
            ("GET", "/", "ListBuckets"),
        ] {
            assert_eq!(
                identify(&parts(method, uri, &[]), None).operation,
                expected,
                "{uri}"
            );
        }
    }
}
