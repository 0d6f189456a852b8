//! The rolls in the evidence's bucket.
//!
//! They are numbered from 1 and listed by number, so that whatever somebody adds comes after what was there.

use aws_sdk_s3::Client;

use super::bucket::{self, Pages, read_body};
use crate::{
    error::CheckError,
    object::{ObjectVersion, wrong},
    rolls::{FOLDER, Objects, is_roll},
};

/// Rolls that are read: fifty years of days.
const MOST: usize = 20_000;
/// No roll is longer, in bytes: two lists of 100,000 entries.
const LONGEST: u64 = 64 << 20;
/// All rolls together, in bytes: ten years of a busy company.
const LONGEST_ALL: u64 = 1 << 30;
/// Pages of 1,000 versions that are read.
const PAGES: usize = 2000;
/// Objects that are no rolls, and later versions, that are kept by name.
const ASIDE: usize = 1000;

/// The first version of every roll, with its body, empty where it cannot be read; and what else lies there, without.
pub(crate) async fn read(
    settings: &aws_config::SdkConfig,
    bucket: &str,
) -> Result<Objects, CheckError> {
    let client = bucket::client(settings);
    let (mut firsts, mut found) = list(&client, bucket).await?;
    let mut all = 0;
    for (n, object) in firsts.iter_mut().enumerate() {
        let body = read_body(&client, bucket, &object.key, &object.version_id, LONGEST).await?;
        object.body = match body {
            // The auditor may not read here, or has to restore what is archived.
            Err(why) if n == 0 => return Err(wrong(&object.key, &why)),
            body => body.unwrap_or_default(),
        };
        all += object.body.len() as u64;
        if all > LONGEST_ALL {
            found.cut = true;
            firsts.truncate(n);
            break;
        }
    }
    firsts.append(&mut found.versions);
    found.versions = firsts;
    Ok(found)
}

async fn list(client: &Client, bucket: &str) -> Result<(Vec<ObjectVersion>, Objects), CheckError> {
    let mut firsts: Vec<ObjectVersion> = Vec::new();
    let mut found = Objects::default();
    let mut last_foreign = String::new();
    let mut pages = Pages::of(client, bucket, FOLDER, PAGES);
    while let Some(page) = pages.next().await? {
        for version in page.versions {
            let object = version.object(String::new());
            let is_roll = is_roll(&object);
            let full = firsts.len() == MOST;
            match firsts.last_mut() {
                // Of one key the newest comes first.
                Some(held) if is_roll && held.key == object.key => {
                    let later = std::mem::replace(held, object);
                    found.later += 1;
                    found.lay_aside(later, ASIDE);
                }
                _ if is_roll && full => {
                    found.cut = true;
                    return Ok((firsts, found));
                }
                _ if is_roll => firsts.push(object),
                _ if object.key != last_foreign => {
                    last_foreign.clone_from(&object.key);
                    found.foreign += 1;
                    found.lay_aside(object, ASIDE);
                }
                _ => {}
            }
        }
    }
    found.cut = pages.is_cut();
    Ok((firsts, found))
}
