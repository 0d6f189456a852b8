//! JSON over plain HTTP to the stage's own pages on loopback.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(15);
const LARGEST: usize = 16 * 1024 * 1024;

/// A page of the stage did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// No answer.
    #[error("no answer from {url}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer other than 2xx.
    #[error("{url} answered {status}: {body}")]
    Status {
        /// What was asked.
        url: String,
        /// The status.
        status: u16,
        /// The beginning of the body.
        body: String,
    },
}

/// Reads a page's JSON.
pub(crate) async fn get(url: &str) -> Result<Value, HttpError> {
    exchange(Method::GET, url, &[], None).await
}

/// Posts JSON and reads the answer's.
pub(crate) async fn post(url: &str, body: &Value) -> Result<Value, HttpError> {
    exchange(Method::POST, url, &[], Some(body)).await
}

/// Calls an AWS service that speaks JSON, as the stage's platform team. `target` is such as
/// `DynamoDB_20120810.GetItem`; `service` is the name in the credential's scope.
pub(crate) async fn aws(
    endpoint: &str,
    service: &str,
    target: &str,
    body: &Value,
) -> Result<Value, HttpError> {
    // The stage knows callers by their access key; it checks no signature.
    let scope = format!(
        "AWS4-HMAC-SHA256 Credential=AKIASTAGEPLATFORM000/20260101/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    );
    let headers = [
        ("x-amz-target", target.to_owned()),
        ("authorization", scope),
        ("x-amz-date", "20260101T000000Z".to_owned()),
    ];
    exchange(Method::POST, endpoint, &headers, Some(body)).await
}

async fn exchange(
    method: Method,
    url: &str,
    headers: &[(&str, String)],
    body: Option<&Value>,
) -> Result<Value, HttpError> {
    let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Unreachable {
        url: url.to_owned(),
        source,
    };
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let kind = if headers.is_empty() {
        "application/json"
    } else {
        "application/x-amz-json-1.0"
    };
    let request = request
        .header(header::CONTENT_TYPE, kind)
        .body(Full::new(bytes::Bytes::from(
            body.map(Value::to_string).unwrap_or_default(),
        )))
        .map_err(|error| unreachable(Box::new(error)))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = async {
        let answer = client
            .request(request)
            .await
            .map_err(|error| unreachable(Box::new(error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST)
            .collect()
            .await
            .map_err(unreachable)?;
        Ok((status, body.to_bytes()))
    };
    let (status, body) = tokio::time::timeout(LIMIT, answer)
        .await
        .map_err(|error| unreachable(Box::new(error)))??;
    if !status.is_success() {
        let body = String::from_utf8_lossy(&body).chars().take(500).collect();
        return Err(HttpError::Status {
            url: url.to_owned(),
            status: status.as_u16(),
            body,
        });
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| unreachable(Box::new(error)))
}
