//! The only file that talks to S3.

use super::anchor::{AnchorStore, AnchorStoreError, Put};
use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_s3::primitives::ByteStream;

/// The bucket that anchors go to. Its default retention locks every object; nothing here asks for less.
#[derive(Debug, Clone)]
pub(crate) struct AnchorBucket {
    client: Client,
    bucket: String,
}

impl AnchorBucket {
    /// The bucket of this name. `path_style` puts the bucket into the path instead of the host name, which
    /// S3's stand-ins need; it follows from an endpoint that settings name.
    pub(crate) fn new(config: &SdkConfig, bucket: &str) -> Self {
        let own_endpoint = config.endpoint_url().is_some()
            || ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
                .iter()
                .any(|name| std::env::var_os(name).is_some());
        let config = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(own_endpoint)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
        }
    }
}

impl AnchorStore for AnchorBucket {
    async fn put_once(&self, key: &str, body: Vec<u8>) -> Result<Put, AnchorStoreError> {
        let answer = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .if_none_match("*")
            .content_type("application/json")
            .body(ByteStream::from(body))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(Put::Stored),
            Err(e) if e.code() == Some("PreconditionFailed") => Ok(Put::WasThere),
            Err(e) => Err(AnchorStoreError {
                key: key.to_owned(),
                reason: DisplayErrorContext(&e).to_string(),
            }),
        }
    }
}
