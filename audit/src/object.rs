//! Versions of objects in the evidence's bucket. The first version of a key counts: later ones say nothing, but
//! somebody wrote them.

use serde::{Deserialize, Serialize};

use crate::error::CheckError;

/// One version of one object, as a line of ANCHORS.jsonl or ROLLS.jsonl.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ObjectVersion {
    /// The object's key.
    pub(crate) key: String,
    /// S3's version id.
    pub(crate) version_id: String,
    /// RFC 3339, by S3's clock.
    pub(crate) last_modified: String,
    /// It was written in parts: its time is when that was begun, so that it is no anchor and no roll.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) in_parts: bool,
    /// The object's bytes as text.
    pub(crate) body: String,
}

/// The first version of each key, by key, and how many later ones there are. Among equal times the earlier in the
/// list is the first.
pub(crate) fn first_versions(
    mut objects: Vec<ObjectVersion>,
) -> Result<(Vec<ObjectVersion>, u64), CheckError> {
    for object in &objects {
        if object.last_modified.parse::<jiff::Timestamp>().is_err() {
            return Err(wrong(&object.key, "last_modified is not RFC 3339"));
        }
    }
    objects.sort_by_cached_key(|object| {
        (
            object.key.clone(),
            object.last_modified.parse::<jiff::Timestamp>().ok(),
        )
    });
    let all = objects.len();
    objects.dedup_by(|later, first| later.key == first.key);
    let later = all - objects.len();
    Ok((objects, later as u64))
}

/// An object that cannot be used stops the check.
pub(crate) fn wrong(key: &str, detail: &str) -> CheckError {
    CheckError::Object {
        key: key.to_owned(),
        detail: detail.to_owned(),
    }
}
