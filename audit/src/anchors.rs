//! Anchors as objects: key, version, time, body. The first version of a key counts.

use std::collections::BTreeSet;

use powerpole_chain::Anchor;

use crate::{
    error::CheckError,
    object::{ObjectVersion, first_versions, wrong},
    place::{Contradiction, Folder},
};

/// The anchors that count.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) anchors: Vec<Anchor>,
    /// Later versions of a key: they say nothing, but somebody wrote them.
    pub(crate) overwritten: u64,
    /// The folders in which they lie.
    pub(crate) folders: BTreeSet<Folder>,
    /// Folders of another role than the auditor says. Their anchors do not count.
    pub(crate) strangers: Vec<Contradiction>,
}

/// Takes the first version of each key. Any object that cannot be read stops the check: a head that
/// is silently ignored could be the one that a cut tail contradicts. Where the auditor says the bastions' role, an anchor
/// that another one wrote is a contradiction and no anchor.
pub(crate) fn select(
    objects: Vec<ObjectVersion>,
    role_id: Option<&str>,
) -> Result<Anchors, CheckError> {
    let (objects, overwritten) = first_versions(objects)?;
    let mut chosen = Anchors {
        overwritten,
        ..Anchors::default()
    };
    let mut strangers = BTreeSet::new();
    for object in &objects {
        let anchor = Anchor::parse(object.body.as_bytes())
            .map_err(|error| wrong(&object.key, &error.to_string()))?;
        let name = anchor.object_name();
        let folder = object
            .key
            .strip_suffix(name.as_str())
            .and_then(Folder::parse)
            .filter(|f| f.request == anchor.request && f.instance == anchor.instance)
            .filter(|f| object.key == format!("{}{name}", f.prefix()))
            .ok_or_else(|| wrong(&object.key, "its body belongs under another key"))?;
        if role_id.is_some_and(|role_id| role_id != folder.role_id) {
            strangers.insert(folder);
            continue;
        }
        chosen.folders.insert(folder);
        chosen.anchors.push(anchor);
    }
    chosen.strangers = strangers
        .iter()
        .map(|folder| Contradiction {
            code: "place-role-id",
            detail: format!(
                "the anchors under {} were written by another role than {}",
                folder.prefix(),
                role_id.unwrap_or_default()
            ),
        })
        .collect();
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use powerpole_chain::AnchorKind;

    fn object(version: &str, time: &str, head: u8) -> ObjectVersion {
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
        ObjectVersion {
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
        let chosen = select(objects, None).unwrap();
        assert_eq!((chosen.anchors.len(), chosen.overwritten), (1, 1));
        assert_eq!(chosen.anchors[0].head, [1; 32]);
    }

    #[test]
    fn an_anchor_under_another_bastions_prefix_is_no_anchor() {
        let mut other = object("a", "2026-01-01T00:00:01Z", 1);
        other.key = other.key.replace("i-1/", "i-2/");
        assert_eq!(select(vec![other], None).unwrap_err().code(), "object-form");
    }

    #[test]
    fn an_anchor_of_another_role_is_told_and_does_not_count() {
        let anchors = || vec![object("a", "2026-01-01T00:00:01Z", 1)];
        let own = select(anchors(), Some("AROA")).unwrap();
        assert_eq!((own.anchors.len(), own.strangers.len()), (1, 0));
        let foreign = select(anchors(), Some("AROAOTHER")).unwrap();
        assert_eq!((foreign.anchors.len(), foreign.strangers.len()), (0, 1));
        assert_eq!(foreign.strangers[0].code, "place-role-id");
        assert!(foreign.folders.is_empty());
    }
}
