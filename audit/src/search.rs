//! The search for other bastions that began a record of the same request.
//!
//! The bucket is sorted by bastion, not by request: so every bastion's folder is looked into, and their number is
//! bounded. The search sees what was deleted behind a marker, too.
//!
//! A bastion may write any request's name into its own folder. What it cannot do is to have been another request's
//! bastion: it serves one request, and anchored the genesis of that one before anybody could log in. So an instance whose
//! folder holds an earlier genesis of another request is a stranger, and what it wrote is told and changes no verdict;
//! neither does what was written after this request's own genesis, or is no anchor. The same is asked of the instance
//! whose chain is verified. Times alone decide, never how much there is: where more lies in the way than is looked at, and
//! it could be held against the request, there is no verdict.

use aws_sdk_s3::Client;
use jiff::Timestamp;
use powerpole_chain::AnchorKind;
use tokio::task::JoinSet;

use crate::{
    anchors,
    aws::bucket::{self, First, Listed, Pages, read_body},
    chosen::{LONGEST, split},
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
/// Pages of 1,000 versions that are turned over of one instance's folder, and of one key: two days of anchors are 18.
const PAGES: usize = 2000;

/// What a search found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Searched {
    /// Folders of bastions that were looked into.
    pub(crate) bastions: usize,
    /// Instances that wrote a beginning of the same request.
    pub(crate) others: Vec<Other>,
    /// What the request's own instance wrote of other requests.
    pub(crate) own: Own,
}

/// Another instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Other {
    pub(crate) instance: String,
    pub(crate) is: Is,
}

/// What is known of another instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Is {
    /// It may have been this request's bastion: nothing says that it was another's.
    Unexplained,
    /// It wrote after the request's own bastion had begun.
    Later,
    /// It began another request's record before.
    Stranger,
    /// What it wrote is no genesis of this request and instance.
    NoAnchor,
    /// More lies there than was looked at.
    Undecided,
}

impl Is {
    /// For a person.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Is::Unexplained => "nothing says that it was another request's bastion",
            Is::Later => "after this request's own bastion had begun",
            Is::Stranger => "and was another request's bastion",
            Is::NoAnchor => "with something that is no anchor",
            Is::Undecided => "and so much that nobody can tell when",
        }
    }
}

/// What an instance wrote of other requests than one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Own {
    /// Nothing, or nothing that came before.
    #[default]
    First,
    /// The beginning of this one's record, before.
    Another(String),
    /// More lies there than was looked at, and nothing of it came before.
    Undecided,
}

impl Searched {
    /// Instances of whom nothing says that they were another request's bastion.
    pub(crate) fn unexplained(&self) -> impl Iterator<Item = &str> {
        let others = self.others.iter();
        others
            .filter(|other| other.is == Is::Unexplained)
            .map(|other| other.instance.as_str())
    }

    /// An instance of which it has to be known, and is not, when it began which record; `own` is the name of the verified
    /// one. None where no answer would be a contradiction.
    pub(crate) fn undecided(&self, attempt: u32, own: &str) -> Option<String> {
        if self.own == Own::Undecided {
            return Some(own.to_owned());
        }
        let undecided = || self.others.iter().filter(|o| o.is == Is::Undecided);
        let possible = self.unexplained().count() + undecided().count();
        let first = undecided().next()?;
        (possible > earlier(attempt)).then(|| first.instance.clone())
    }

    /// A request has one bastion a try, and a bastion one request. More bastions than tries that failed before this one
    /// are a contradiction, and so is one that was another request's before.
    pub(crate) fn against(&self, attempt: u32) -> Vec<Contradiction> {
        let earlier = earlier(attempt);
        let others = (self.unexplained().count() > earlier).then(|| Contradiction {
            code: "other-genesis",
            detail: format!(
                "other bastions began a record of this request: {}; by the ledger {} before this one",
                self.unexplained().take(SHOWN).collect::<Vec<_>>().join(", "),
                count(earlier as u64, "try was", "tries were")
            ),
        });
        let own = match &self.own {
            Own::First | Own::Undecided => None,
            Own::Another(request) => Some(format!(
                "the instance began a record of {request} before this one: it was that request's bastion"
            )),
        };
        let own = own.map(|detail| Contradiction {
            code: "other-request",
            detail,
        });
        others.into_iter().chain(own).collect()
    }
}

/// Tries before this one.
fn earlier(attempt: u32) -> usize {
    usize::try_from(attempt)
        .unwrap_or(usize::MAX)
        .saturating_sub(1)
}

/// Whose record the search is about.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    /// The folder of the bastion that is verified.
    pub(crate) folder: Folder,
    /// When its genesis was anchored; none where it was not.
    pub(crate) genesis_at: Option<Timestamp>,
}

/// Looks into the folder of every bastion of the role; more than `most` of them stop the check before the first look.
/// Progress goes to standard error.
pub(crate) async fn others(
    settings: &aws_config::SdkConfig,
    bucket: &str,
    sought: &Sought,
    most: usize,
) -> Result<Searched, CheckError> {
    let client = bucket::client(settings);
    let own = &sought.folder;
    let role = format!("{}:", own.role_id);
    let folders = bucket::folders(&client, bucket, &role, most)
        .await?
        .ok_or(CheckError::TooMany { most })?;
    let count = folders.len();
    let mut searched = Searched {
        bastions: count,
        others: Vec::new(),
        own: wrote_before(&client, bucket, own, sought.genesis_at, PAGES).await?,
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
        let folder = Folder {
            instance,
            ..own.clone()
        };
        let (client, bucket, own_at) = (client.clone(), bucket.to_owned(), sought.genesis_at);
        looks.spawn(async move { look(&client, &bucket, folder, own_at).await });
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
    looks: &mut JoinSet<Result<Option<Other>, CheckError>>,
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

/// Whether another instance wrote a genesis of the request, and what is known of it.
async fn look(
    client: &Client,
    bucket: &str,
    folder: Folder,
    own_at: Option<Timestamp>,
) -> Result<Option<Other>, CheckError> {
    let genesis = format!("{}genesis.json", folder.prefix());
    let is = match bucket::first_version(client, bucket, &genesis, PAGES).await? {
        First::Never => return Ok(None),
        First::NothingWhole => Is::NoAnchor,
        First::Unknown => Is::Undecided,
        First::At(version) if own_at.is_some_and(|own_at| version.time > own_at) => Is::Later,
        First::At(version) => judge(client, bucket, &folder, version).await?,
    };
    Ok(Some(Other {
        instance: folder.instance,
        is,
    }))
}

async fn judge(
    client: &Client,
    bucket: &str,
    folder: &Folder,
    version: Listed,
) -> Result<Is, CheckError> {
    let body = read_body(client, bucket, &version.key, &version.version_id, LONGEST).await?;
    let at = version.time;
    let object = version.object(body.unwrap_or_default());
    let anchor = anchors::read(&object, folder);
    if anchor.is_none_or(|anchor| anchor.kind != AnchorKind::Genesis) {
        return Ok(Is::NoAnchor);
    }
    Ok(
        match wrote_before(client, bucket, folder, Some(at), PAGES).await? {
            Own::First => Is::Unexplained,
            Own::Another(_) => Is::Stranger,
            Own::Undecided => Is::Undecided,
        },
    )
}

/// Whether the folder's instance began another request's record before this one, which it began at `at`, or never.
async fn wrote_before(
    client: &Client,
    bucket: &str,
    folder: &Folder,
    at: Option<Timestamp>,
    most: usize,
) -> Result<Own, CheckError> {
    let user = format!("{}:{}/", folder.role_id, folder.instance);
    let mut pages = Pages::of(client, bucket, &user, most);
    while let Some(page) = pages.next().await? {
        let mut before = page
            .versions
            .iter()
            .filter(|version| at.is_none_or(|at| version.time < at));
        if let Some(other) = before.find_map(|version| begun(version, folder)) {
            return Ok(Own::Another(other));
        }
    }
    Ok(if pages.is_cut() {
        Own::Undecided
    } else {
        Own::First
    })
}

/// The other request whose beginning lies at this name.
fn begun(version: &Listed, folder: &Folder) -> Option<String> {
    let (other, place) = split(&version.key)?;
    (place == 0 && !version.in_parts && other != *folder).then_some(other.request)
}

#[cfg(test)]
mod tests;
