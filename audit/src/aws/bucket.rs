//! S3: every version of every object under one prefix, oldest first.

use aws_sdk_s3::{Client, config::Builder, primitives::DateTimeFormat};

use crate::{error::CheckError, object::ObjectVersion};

/// No anchor is longer.
pub(crate) const LONGEST_ANCHOR: i64 = 64 * 1024;
/// No roll is longer: two lists of 100,000 entries.
pub(crate) const LONGEST_ROLL: i64 = 64 << 20;

/// Fetches the objects below `prefix`; one that is longer than `longest` bytes stops the check.
pub(crate) async fn read_versions(
    settings: &aws_config::SdkConfig,
    bucket: &str,
    prefix: &str,
    longest: i64,
) -> Result<Vec<ObjectVersion>, CheckError> {
    let own_endpoint = settings.endpoint_url().is_some();
    let client = Client::from_conf(
        Builder::from(settings)
            .force_path_style(own_endpoint)
            .build(),
    );
    let mut objects = Vec::new();
    let mut key_marker: Option<String> = None;
    let mut version_marker: Option<String> = None;
    loop {
        let page = client
            .list_object_versions()
            .bucket(bucket)
            .prefix(prefix)
            .set_key_marker(key_marker.clone())
            .set_version_id_marker(version_marker.clone())
            .send()
            .await
            .map_err(super::failed("s3 ListObjectVersions"))?;
        for version in page.versions() {
            let key = version.key().unwrap_or_default();
            let id = version.version_id().unwrap_or_default();
            if version.size().unwrap_or_default() > longest {
                return Err(CheckError::Object {
                    key: key.to_owned(),
                    detail: format!("longer than {longest} bytes"),
                });
            }
            let body = read_version(&client, bucket, key, id).await?;
            let last_modified = version
                .last_modified()
                .and_then(|time| time.fmt(DateTimeFormat::DateTime).ok())
                .unwrap_or_default();
            objects.push(ObjectVersion {
                key: key.to_owned(),
                version_id: id.to_owned(),
                last_modified,
                body,
            });
        }
        if !page.is_truncated().unwrap_or_default() {
            break;
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        version_marker = page.next_version_id_marker().map(str::to_owned);
        if key_marker.is_none() {
            break;
        }
    }
    objects.reverse();
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(objects)
}

async fn read_version(
    client: &Client,
    bucket: &str,
    key: &str,
    version: &str,
) -> Result<String, CheckError> {
    let answer = client
        .get_object()
        .bucket(bucket)
        .key(key)
        .version_id(version)
        .send()
        .await
        .map_err(super::failed("s3 GetObject"))?;
    let bytes = answer
        .body
        .collect()
        .await
        .map_err(super::failed("s3 GetObject"))?;
    String::from_utf8(bytes.to_vec()).map_err(|_| CheckError::Object {
        key: key.to_owned(),
        detail: "not UTF-8".to_owned(),
    })
}
