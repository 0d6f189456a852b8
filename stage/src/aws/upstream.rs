//! The way to moto.

use super::answer::{Body, full};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request, Response, Uri, body::Incoming, http::request::Parts};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

/// Why moto gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("address {0} of moto cannot be used")]
    Address(String),
    #[error("moto did not answer")]
    Call(#[source] hyper_util::client::legacy::Error),
    #[error("moto did not answer within {} s", LIMIT.as_secs())]
    Slow,
    #[error("moto's answer broke off")]
    Body(#[source] hyper::Error),
}

/// Longest time for one call.
const LIMIT: Duration = Duration::from_secs(20);

/// A client of one moto server. Calls take turns: moto's threads share dictionaries without locks, and two calls
/// at once can fail with "dictionary changed size during iteration" or lose a write.
#[derive(Clone)]
pub(crate) struct Upstream {
    client: Client<HttpConnector, Body>,
    turn: Arc<Mutex<()>>,
    base: String,
}

impl Upstream {
    /// `base` is `http://host:port`.
    pub(crate) fn new(base: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            turn: Arc::default(),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// Sends a request on, streaming.
    pub(crate) async fn send(
        &self,
        parts: &Parts,
        body: Body,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let address = format!("{}{path}", self.base);
        let uri: Uri = address
            .parse()
            .map_err(|_| UpstreamError::Address(address))?;
        let mut request = Request::new(body);
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = parts.headers.clone();
        for hop in ["connection", "keep-alive", "transfer-encoding", "expect"] {
            request.headers_mut().remove(hop);
        }
        // moto has done its work when the answer begins.
        let _turn = self.turn.lock().await;
        tokio::time::timeout(LIMIT, self.client.request(request))
            .await
            .map_err(|_| UpstreamError::Slow)?
            .map_err(UpstreamError::Call)
    }

    /// Sends a request whose body is in memory, and reads the whole answer.
    pub(crate) async fn exchange(
        &self,
        parts: &Parts,
        body: Bytes,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let mut parts = parts.clone();
        parts.headers.remove("content-length");
        let response = self.send(&parts, full(body)).await?;
        let (mut head, body) = response.into_parts();
        head.headers.remove("transfer-encoding");
        head.headers.remove("content-length");
        head.headers.remove("connection");
        let body = body
            .collect()
            .await
            .map_err(UpstreamError::Body)?
            .to_bytes();
        Ok(Response::from_parts(head, body))
    }

    /// One call of the stage's own to a query-protocol service; the answer is XML.
    pub(crate) async fn query(&self, service: &str, form: String) -> Result<String, UpstreamError> {
        let parts = own_request(service, "application/x-www-form-urlencoded", None);
        let answer = self.exchange(&parts, form.into()).await?;
        Ok(String::from_utf8_lossy(answer.body()).into_owned())
    }

    /// One call of the stage's own to a JSON-protocol service: status and answer.
    pub(crate) async fn json(
        &self,
        service: &str,
        target: &str,
        body: &serde_json::Value,
    ) -> Result<(u16, serde_json::Value), UpstreamError> {
        let parts = own_request(service, "application/x-amz-json-1.1", Some(target));
        let answer = self.exchange(&parts, body.to_string().into()).await?;
        let value = serde_json::from_slice(answer.body()).unwrap_or_default();
        Ok((answer.status().as_u16(), value))
    }
}

fn own_request(service: &str, kind: &str, target: Option<&str>) -> Parts {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIASTAGEITSELF00000/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
    );
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = hyper::Method::POST;
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = value.parse() {
            parts.headers.insert(name, value);
        }
    };
    insert("authorization", &authorization);
    insert("content-type", kind);
    if let Some(target) = target {
        insert("x-amz-target", target);
    }
    parts
}
