//! Anchors as objects: key, version, time, body. The first version of a key counts.

use powerpole_chain::Anchor;
use serde::{Deserialize, Serialize};

use crate::error::CheckError;

/// One version of one object of the bucket, as a line of ANCHORS.jsonl.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AnchorObject {
    /// `<aws userid>/<request>/<name>`.
    pub(crate) key: String,
    /// S3's version id.
    pub(crate) version_id: String,
    /// RFC 3339, by S3's clock.
    pub(crate) last_modified: String,
    /// The object's bytes as text.
    pub(crate) body: String,
}

/// The anchors that count.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) anchors: Vec<Anchor>,
    /// Later versions of a key: they say nothing, but somebody wrote them.
    pub(crate) overwritten: u64,
}

/// Reads ANCHORS.jsonl.
pub(crate) fn parse_lines(text: &str) -> Result<Vec<AnchorObject>, CheckError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| CheckError::Anchor {
                key: format!("in line {}", index + 1),
                detail: error.to_string(),
            })
        })
        .collect()
}

/// Takes the first version of each key. Any object that cannot be read stops the check: a head that
/// is silently ignored could be the one that a cut tail contradicts.
pub(crate) fn select(mut objects: Vec<AnchorObject>) -> Result<Anchors, CheckError> {
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
    let mut chosen = Anchors::default();
    let mut last_key: Option<&str> = None;
    for object in &objects {
        if last_key == Some(object.key.as_str()) {
            chosen.overwritten += 1;
            continue;
        }
        last_key = Some(&object.key);
        let anchor = Anchor::parse(object.body.as_bytes())
            .map_err(|error| wrong(&object.key, &error.to_string()))?;
        let mut parts = object.key.rsplit('/');
        let named = parts.next() == Some(anchor.object_name().as_str())
            && parts.next() == Some(anchor.request.as_str())
            && parts.next().is_some_and(|userid| {
                userid
                    .split_once(':')
                    .is_some_and(|(_, instance)| instance == anchor.instance)
            })
            && parts.next().is_none();
        if !named {
            return Err(wrong(&object.key, "its body belongs under another key"));
        }
        chosen.anchors.push(anchor);
    }
    Ok(chosen)
}

fn wrong(key: &str, detail: &str) -> CheckError {
    CheckError::Anchor {
        key: key.to_owned(),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_chain::AnchorKind;

    fn object(version: &str, time: &str, head: u8) -> AnchorObject {
        let anchor = Anchor {
            kind: AnchorKind::Head,
            request: "req-1".to_owned(),
            stream: "req-1/i-1".to_owned(),
            instance: "i-1".to_owned(),
            seq: 7,
            head: [head; 32],
            epoch: 0,
            t_us: 1,
        };
        AnchorObject {
            key: format!("AROA:i-1/req-1/{}", anchor.object_name()),
            version_id: version.to_owned(),
            last_modified: time.to_owned(),
            body: anchor.to_json(),
        }
    }

    #[test]
    fn the_first_version_of_a_key_counts() {
        let objects = vec![
            object("b", "2026-01-01T00:00:09Z", 2),
            object("a", "2026-01-01T00:00:01Z", 1),
        ];
        let chosen = select(objects).unwrap();
        assert_eq!((chosen.anchors.len(), chosen.overwritten), (1, 1));
        assert_eq!(chosen.anchors[0].head, [1; 32]);
    }

    #[test]
    fn an_anchor_under_another_bastions_prefix_is_no_anchor() {
        let mut other = object("a", "2026-01-01T00:00:01Z", 1);
        other.key = other.key.replace("i-1/", "i-2/");
        assert_eq!(select(vec![other]).unwrap_err().code(), "anchor-form");
    }
}
