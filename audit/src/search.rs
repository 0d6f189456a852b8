//! The search for other bastions that began a record of the same request.
//!
//! The bucket is sorted by bastion, not by request: so every bastion's folder is looked into, and their number is
//! bounded. The search sees what was deleted behind a marker, too.

use tokio::task::JoinSet;

use crate::{
    aws::bucket,
    error::CheckError,
    place::{Contradiction, Folder},
    text::count,
};

/// So many folders are looked into where `--search` says no number.
pub(crate) const MOST: &str = "10000";
/// Looks that are under way at once.
const AT_ONCE: usize = 16;
/// So many are named.
pub(crate) const SHOWN: usize = 16;
/// Progress is told after so many folders.
const TOLD_EVERY: usize = 500;

/// What a search found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Searched {
    /// Folders of bastions that were looked into.
    pub(crate) bastions: usize,
    /// Instances that anchored a beginning of the same request.
    pub(crate) others: Vec<String>,
}

impl Searched {
    /// A request has one bastion a try. More of them than tries that failed before this one are a contradiction.
    pub(crate) fn against(&self, attempt: u32) -> Option<Contradiction> {
        let earlier = usize::try_from(attempt)
            .unwrap_or(usize::MAX)
            .saturating_sub(1);
        (self.others.len() > earlier).then(|| Contradiction {
            code: "other-genesis",
            detail: format!(
                "other bastions began a record of this request: {}; by the ledger {} before this one",
                self.others.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", "),
                count(earlier as u64, "try was", "tries were")
            ),
        })
    }
}

/// Looks into the folder of every bastion of the role but the request's own; more than `most` of them stop the check
/// before the first look. Progress goes to standard error.
pub(crate) async fn others(
    settings: &aws_config::SdkConfig,
    bucket: &str,
    own: &Folder,
    most: usize,
) -> Result<Searched, CheckError> {
    let client = bucket::client(settings);
    let role = format!("{}:", own.role_id);
    let folders = bucket::folders(&client, bucket, &role, most)
        .await?
        .ok_or(CheckError::TooMany { most })?;
    let count = folders.len();
    let mut searched = Searched {
        bastions: count,
        others: Vec::new(),
    };
    let mut looks = JoinSet::new();
    let mut done = 0;
    for user in folders {
        let name = user.strip_prefix(&role).unwrap_or(&user);
        let instance = name.trim_end_matches('/').to_owned();
        if instance == own.instance {
            done += 1;
            continue;
        }
        let (client, bucket) = (client.clone(), bucket.to_owned());
        let key = format!("{user}{}/genesis.json", own.request);
        looks.spawn(async move {
            let there = bucket::ever_written(&client, &bucket, &key).await?;
            Ok::<_, CheckError>(there.then_some(instance))
        });
        if looks.len() >= AT_ONCE {
            take(&mut looks, &mut searched, (&mut done, count)).await?;
        }
    }
    while !looks.is_empty() {
        take(&mut looks, &mut searched, (&mut done, count)).await?;
    }
    searched.others.sort();
    Ok(searched)
}

async fn take(
    looks: &mut JoinSet<Result<Option<String>, CheckError>>,
    searched: &mut Searched,
    (done, count): (&mut usize, usize),
) -> Result<(), CheckError> {
    if let Some(look) = looks.join_next().await {
        let found = look.map_err(|error| CheckError::Aws {
            operation: "s3 ListObjectVersions",
            detail: error.to_string(),
        })??;
        searched.others.extend(found);
        *done += 1;
        if *done % TOLD_EVERY == 0 {
            eprintln!("looked into {done} of {count} bastions' folders");
        }
    }
    Ok(())
}
