//! Anchors as objects: key, version, time, body. The first version of a key counts.

use powerpole_chain::Anchor;

use crate::{
    error::CheckError,
    object::{ObjectVersion, first_versions, wrong},
};

/// The anchors that count.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) anchors: Vec<Anchor>,
    /// Later versions of a key: they say nothing, but somebody wrote them.
    pub(crate) overwritten: u64,
}

/// Takes the first version of each key. Any object that cannot be read stops the check: a head that
/// is silently ignored could be the one that a cut tail contradicts.
pub(crate) fn select(objects: Vec<ObjectVersion>) -> Result<Anchors, CheckError> {
    let (objects, overwritten) = first_versions(objects)?;
    let mut chosen = Anchors {
        anchors: Vec::with_capacity(objects.len()),
        overwritten,
    };
    for object in &objects {
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
        let chosen = select(objects).unwrap();
        assert_eq!((chosen.anchors.len(), chosen.overwritten), (1, 1));
        assert_eq!(chosen.anchors[0].head, [1; 32]);
    }

    #[test]
    fn an_anchor_under_another_bastions_prefix_is_no_anchor() {
        let mut other = object("a", "2026-01-01T00:00:01Z", 1);
        other.key = other.key.replace("i-1/", "i-2/");
        assert_eq!(select(vec![other]).unwrap_err().code(), "object-form");
    }
}
