//! A bastion's folder in the anchors' bucket.
//!
//! Anchors are asked for by name, so that nothing that lies beside them can hide them; what lies beside them is listed,
//! and counted as far as the list is followed.

use aws_sdk_s3::Client;
use tokio::task::JoinSet;

use super::bucket::{self, Pages, read_body};
use crate::{
    chosen::{Chooser, Chosen, LONGEST, split},
    error::CheckError,
    object::wrong,
    place::Folder,
};

/// Pages of 1,000 versions at one anchor's name, or at those of all heads, that are read.
const PAGES: usize = 2000;
/// Pages of the whole folder that are read to count what is no anchor.
const PAGES_BESIDE: usize = 200;
/// Bodies that are fetched at once.
const AT_ONCE: usize = 16;

/// What of the folder counts, with bodies; one that cannot be read is empty.
pub(crate) async fn read(
    settings: &aws_config::SdkConfig,
    bucket: &str,
    folder: &Folder,
) -> Result<Chosen, CheckError> {
    let client = bucket::client(settings);
    let mut chooser = Chooser::new(true);
    for name in ["genesis.json", "seal.json", "head-"] {
        list_anchors(
            &client,
            bucket,
            &format!("{}{name}", folder.prefix()),
            &mut chooser,
        )
        .await?;
    }
    list_others(&client, bucket, &folder.prefix(), &mut chooser).await?;
    let mut chosen = chooser.finish();
    fetch(&client, bucket, &mut chosen).await?;
    Ok(chosen)
}

/// The versions at anchors' names that begin so. A key comes before those that it begins, so a whole name's list ends
/// with its own key.
async fn list_anchors(
    client: &Client,
    bucket: &str,
    prefix: &str,
    chooser: &mut Chooser,
) -> Result<(), CheckError> {
    let whole = split(prefix).is_some();
    let mut pages = Pages::of(client, bucket, prefix, PAGES);
    while let Some(page) = pages.next().await? {
        for version in page.versions {
            if whole && version.key != prefix {
                return Ok(());
            }
            if split(&version.key).is_some() {
                chooser.take(version.object(String::new()))?;
            }
        }
    }
    if pages.is_cut() {
        chooser.cut();
    }
    Ok(())
}

async fn list_others(
    client: &Client,
    bucket: &str,
    prefix: &str,
    chooser: &mut Chooser,
) -> Result<(), CheckError> {
    let mut pages = Pages::of(client, bucket, prefix, PAGES_BESIDE);
    while let Some(page) = pages.next().await? {
        for version in page.versions {
            if split(&version.key).is_none() {
                chooser.take(version.object(String::new()))?;
            }
        }
    }
    if pages.is_cut() {
        chooser.more();
    }
    Ok(())
}

/// Fetches the bodies of what counts. One that cannot be read stays empty, unless it is the oldest: then the auditor may
/// not read here, or has to restore what is archived.
async fn fetch(client: &Client, bucket: &str, chosen: &mut Chosen) -> Result<(), CheckError> {
    let mut fetching = JoinSet::new();
    let mut bodies = Vec::new();
    for (n, object) in chosen.objects.iter().enumerate() {
        let (client, bucket) = (client.clone(), bucket.to_owned());
        let (key, version) = (object.key.clone(), object.version_id.clone());
        fetching.spawn(async move {
            let body = read_body(&client, &bucket, &key, &version, LONGEST).await?;
            match body {
                Err(why) if n == 0 => Err(wrong(&key, &why)),
                body => Ok((n, body.unwrap_or_default())),
            }
        });
        if fetching.len() >= AT_ONCE {
            bodies.extend(joined(&mut fetching).await?);
        }
    }
    while let Some(body) = joined(&mut fetching).await? {
        bodies.push(body);
    }
    for (n, body) in bodies {
        if let Some(object) = chosen.objects.get_mut(n) {
            object.body = body;
        }
    }
    Ok(())
}

async fn joined(
    fetching: &mut JoinSet<Result<(usize, String), CheckError>>,
) -> Result<Option<(usize, String)>, CheckError> {
    let Some(body) = fetching.join_next().await else {
        return Ok(None);
    };
    body.map_err(super::failed("s3 GetObject"))?.map(Some)
}
