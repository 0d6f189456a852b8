//! S3: the rolls of requests below `rolls/` in the evidence's bucket, whose default retention locks each.

use crate::roll::{Kept, RollError, RollStore};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::future::BoxFuture;
use powerpole_chain::Roll;

const FOLDER: &str = "rolls/";

/// The adapter.
pub struct RollBucket {
    client: Client,
    bucket: String,
}

impl RollBucket {
    /// Takes the SDK's settings and the bucket's name. An endpoint that settings name gets the bucket in the path:
    /// S3's stand-ins need it.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, bucket: &str) -> Self {
        let own_endpoint = settings.endpoint_url().is_some();
        let config = aws_sdk_s3::config::Builder::from(settings)
            .force_path_style(own_endpoint)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
        }
    }

    async fn read(&self, key: &str) -> Result<Roll, RollError> {
        let got = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .send()
            .await
            .map_err(|error| unavailable("GetObject", &error))?;
        let body = got
            .body
            .collect()
            .await
            .map_err(|error| unavailable("GetObject", &error))?;
        Roll::parse(&body.into_bytes()).map_err(|_| RollError::Unreadable {
            key: key.to_owned(),
        })
    }
}

impl RollStore for RollBucket {
    fn latest(&self, after: u64) -> BoxFuture<'_, Result<Option<Roll>, RollError>> {
        Box::pin(async move {
            let mut highest: Option<String> = None;
            let mut from = (after > 0).then(|| format!("{FOLDER}{}", Roll::name_of(after - 1)));
            loop {
                let page = self
                    .client
                    .list_objects_v2()
                    .bucket(&self.bucket)
                    .prefix(FOLDER)
                    .set_start_after(from)
                    .send()
                    .await
                    .map_err(|error| unavailable("ListObjectsV2", &error))?;
                // S3 lists keys in the order of their bytes, which is that of the numbers.
                if let Some(key) = page.contents().last().and_then(|object| object.key()) {
                    highest = Some(key.to_owned());
                }
                if !page.is_truncated().unwrap_or(false) {
                    break;
                }
                from = highest.clone();
            }
            match highest {
                Some(key) => Ok(Some(self.read(&key).await?)),
                None => Ok(None),
            }
        })
    }

    fn keep<'a>(&'a self, roll: &'a Roll) -> BoxFuture<'a, Result<Kept, RollError>> {
        Box::pin(async move {
            let sent = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(format!("{FOLDER}{}", roll.object_name()))
                .if_none_match("*")
                .content_type("application/json")
                .body(ByteStream::from(roll.to_json().into_bytes()))
                .send()
                .await;
            match sent {
                Ok(_) => Ok(Kept::Ours),
                Err(error) if error.code() == Some("PreconditionFailed") => Ok(Kept::Theirs),
                Err(error) => Err(unavailable("PutObject", &error)),
            }
        })
    }
}

fn unavailable<E: std::error::Error>(operation: &'static str, error: &E) -> RollError {
    RollError::Unavailable {
        operation,
        detail: DisplayErrorContext(error).to_string(),
    }
}
