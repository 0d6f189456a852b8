//! S3: the rolls of requests below `rolls/` in the evidence's bucket, whose default retention locks each.

use crate::roll::{Kept, RollError, RollStore};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata as _};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use powerpole_chain::Roll;

const FOLDER: &str = "rolls/";
/// Rolls that are read at once.
const AT_ONCE: usize = 8;

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

    /// The numbers after this one that follow each other, by the names of what lies there. Whatever else lies there is no
    /// roll of control's, and says nothing.
    async fn row(&self, after: u64) -> Result<Vec<u64>, RollError> {
        let mut numbers: Vec<u64> = Vec::new();
        let mut from = (after > 0).then(|| format!("{FOLDER}{}", Roll::name_of(after)));
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
            for key in page.contents().iter().filter_map(|object| object.key()) {
                let last = numbers.last().copied().or((after > 0).then_some(after));
                match number_in(key) {
                    Some(number) if last.is_none_or(|last| last.checked_add(1) == Some(number)) => {
                        numbers.push(number);
                    }
                    _ => {
                        tracing::error!(
                            alarm = "roll_stray",
                            key,
                            "an object among the rolls is none of the row"
                        );
                    }
                }
            }
            from = page
                .contents()
                .last()
                .and_then(|object| object.key())
                .map(str::to_owned);
            if from.is_none() || !page.is_truncated().unwrap_or(false) {
                return Ok(numbers);
            }
        }
    }

    async fn read(&self, number: u64) -> Result<Roll, RollError> {
        let key = format!("{FOLDER}{}", Roll::name_of(number));
        let got = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(&key)
            .send()
            .await
            .map_err(|error| unavailable("GetObject", &error))?;
        let body = got
            .body
            .collect()
            .await
            .map_err(|error| unavailable("GetObject", &error))?;
        Roll::parse(&body.into_bytes())
            .ok()
            .filter(|roll| roll.number == number)
            .ok_or(RollError::Unreadable { key })
    }
}

/// The number of the roll that has this key; none unless it is spelt as control spells it.
fn number_in(key: &str) -> Option<u64> {
    let name = key.strip_prefix(FOLDER)?;
    let number: u64 = name
        .strip_prefix("roll-")?
        .strip_suffix(".json")?
        .parse()
        .ok()?;
    (number > 0 && Roll::name_of(number) == name).then_some(number)
}

impl RollStore for RollBucket {
    fn recent(&self, after: u64, count: usize) -> BoxFuture<'_, Result<Vec<Roll>, RollError>> {
        Box::pin(async move {
            let mut numbers = self.row(after).await?;
            numbers.drain(..numbers.len().saturating_sub(count));
            stream::iter(numbers)
                .map(|number| self.read(number))
                .buffered(AT_ONCE)
                .try_collect()
                .await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_rolls_in_its_one_spelling_alone() {
        assert_eq!(number_in("rolls/roll-00000000000000000012.json"), Some(12));
        for key in [
            "rolls/zzz",
            "rolls/roll-12.json",
            "rolls/roll-+0000000000000000012.json",
            "rolls/roll-00000000000000000000.json",
            "rolls/roll-99999999999999999999.json",
            "rolls/roll-00000000000000000012.json.json",
            "rolls/x/roll-00000000000000000012.json",
            "roll-00000000000000000012.json",
        ] {
            assert_eq!(number_in(key), None, "{key}");
        }
    }
}
