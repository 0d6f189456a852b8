//! S3: every version of every object under one prefix, oldest first; the folders below a prefix.

use aws_sdk_s3::{Client, config::Builder, primitives::DateTimeFormat};

use std::collections::BTreeSet;

use crate::{
    error::CheckError,
    object::{ObjectVersion, wrong},
};

/// No anchor is longer.
pub(crate) const LONGEST_ANCHOR: i64 = 64 * 1024;
/// No roll is longer: two lists of 100,000 entries.
pub(crate) const LONGEST_ROLL: i64 = 64 << 20;

/// A client of the settings; an endpoint of one's own is asked with the bucket in the path.
pub(crate) fn client(settings: &aws_config::SdkConfig) -> Client {
    let own_endpoint = settings.endpoint_url().is_some();
    Client::from_conf(
        Builder::from(settings)
            .force_path_style(own_endpoint)
            .build(),
    )
}

/// Which objects are fetched.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Those whose key it answers true for; the others come without a body.
    pub(crate) key: fn(&str) -> bool,
    /// One that is longer than so many bytes stops the check.
    pub(crate) longest: i64,
}

/// Fetches the objects below `prefix`.
pub(crate) async fn read_versions(
    settings: &aws_config::SdkConfig,
    bucket: &str,
    prefix: &str,
    wanted: Wanted,
) -> Result<Vec<ObjectVersion>, CheckError> {
    let client = client(settings);
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
            let body = if (wanted.key)(key) {
                let size = version.size().unwrap_or_default();
                if size > wanted.longest {
                    let detail = format!("longer than {} bytes", wanted.longest);
                    return Err(wrong(key, &detail));
                }
                read_version(&client, bucket, key, id).await?
            } else {
                String::new()
            };
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
    String::from_utf8(bytes.to_vec()).map_err(|_| wrong(key, "not UTF-8"))
}

/// The folders whose names begin with `prefix`, at most `most`; none when there are more. A folder counts in which an
/// object was ever written, a deleted one too.
pub(crate) async fn folders(
    client: &Client,
    bucket: &str,
    prefix: &str,
    most: usize,
) -> Result<Option<BTreeSet<String>>, CheckError> {
    let mut folders = BTreeSet::new();
    let mut key_marker: Option<String> = None;
    let mut version_marker: Option<String> = None;
    loop {
        let page = client
            .list_object_versions()
            .bucket(bucket)
            .prefix(prefix)
            .delimiter("/")
            .set_key_marker(key_marker)
            .set_version_id_marker(version_marker)
            .send()
            .await
            .map_err(super::failed("s3 ListObjectVersions"))?;
        let names = page.common_prefixes().iter();
        folders.extend(names.filter_map(|name| name.prefix().map(str::to_owned)));
        if folders.len() > most {
            return Ok(None);
        }
        if !page.is_truncated().unwrap_or_default() {
            return Ok(Some(folders));
        }
        key_marker = page.next_key_marker().map(str::to_owned);
        version_marker = page.next_version_id_marker().map(str::to_owned);
        if key_marker.is_none() {
            return Err(wrong(prefix, "the list of folders breaks off"));
        }
    }
}

/// Whether an object was ever written under this key.
pub(crate) async fn ever_written(
    client: &Client,
    bucket: &str,
    key: &str,
) -> Result<bool, CheckError> {
    let page = client
        .list_object_versions()
        .bucket(bucket)
        .prefix(key)
        .max_keys(1)
        .send()
        .await
        .map_err(super::failed("s3 ListObjectVersions"))?;
    // A deleted object begins with its marker.
    Ok(!page.versions().is_empty() || !page.delete_markers().is_empty())
}
