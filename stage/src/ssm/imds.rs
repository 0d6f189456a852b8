//! What an instance's parts ask of its metadata service (version 2).

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use std::time::Duration;

const LINK_LOCAL: &str = "http://169.254.169.254";
const PATIENCE: Duration = Duration::from_secs(2);

/// Why the metadata service told nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImdsError {
    #[error("request for {0} cannot be made")]
    Request(String, #[source] hyper::http::Error),
    #[error("no answer for {0}")]
    Call(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{0} was answered with status {1}")]
    Status(String, u16),
    #[error("{0} was not answered in time")]
    Late(String),
}

/// Who this instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) instance: String,
    pub(crate) region: String,
}

/// Asks for id and region. `POWERPOLE_STAGE_SSM_INSTANCE` spares the asking (tests without IMDS),
/// `AWS_EC2_METADATA_SERVICE_ENDPOINT` names another service.
pub(crate) async fn identity() -> Result<Identity, ImdsError> {
    if let Ok(instance) = std::env::var("POWERPOLE_STAGE_SSM_INSTANCE") {
        return Ok(Identity {
            instance,
            region: "us-east-1".to_owned(),
        });
    }
    let base = std::env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        .unwrap_or_else(|_| LINK_LOCAL.to_owned());
    let base = base.trim_end_matches('/');
    let lifetime = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
    let token = ask(Method::PUT, format!("{base}/latest/api/token"), lifetime).await?;
    let with = ("x-aws-ec2-metadata-token", token.as_str());
    let meta = |name: &str| format!("{base}/latest/meta-data/{name}");
    Ok(Identity {
        instance: ask(Method::GET, meta("instance-id"), with).await?,
        region: ask(Method::GET, meta("placement/region"), with).await?,
    })
}

async fn ask(method: Method, uri: String, header: (&str, &str)) -> Result<String, ImdsError> {
    let request = Request::builder()
        .method(method)
        .uri(&uri)
        .header(header.0, header.1)
        .body(Empty::<Bytes>::new())
        .map_err(|source| ImdsError::Request(uri.clone(), source))?;
    let exchange = async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let response = client
            .request(request)
            .await
            .map_err(|source| ImdsError::Call(uri.clone(), source.into()))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|source| ImdsError::Call(uri.clone(), source.into()))?
            .to_bytes();
        if !status.is_success() {
            return Err(ImdsError::Status(uri.clone(), status.as_u16()));
        }
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    };
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(ImdsError::Late(uri)),
    }
}
