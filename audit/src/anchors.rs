//! Anchors as objects: key, version, time, body. The first version of a key counts.

use std::collections::BTreeSet;

use jiff::Timestamp;
use powerpole_chain::{Anchor, AnchorKind};

use crate::{
    chosen::{Aside, Chosen, split},
    object::ObjectVersion,
    place::{Contradiction, Folder},
};

/// So many keys are named.
const SHOWN: usize = 3;

/// The anchors that count.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) anchors: Vec<Anchor>,
    /// What does not count, and somebody wrote.
    pub(crate) aside: Aside,
    /// Of that there may be more.
    pub(crate) more: bool,
    /// The folders in which they lie.
    pub(crate) folders: BTreeSet<Folder>,
    /// When the genesis was anchored.
    pub(crate) genesis_at: Option<Timestamp>,
    /// Objects that stand where an anchor should and are none, anchors of another role than the auditor says, and more
    /// objects than were looked at.
    pub(crate) contradictions: Vec<Contradiction>,
}

/// Reads what was chosen. An object at an anchor's name that is none of this bastion's is a contradiction: it could hide
/// the head that a cut tail contradicts. So is, where the auditor says the bastions' role, an anchor that another one
/// wrote. The others count all the same, so that what they prove stays known.
pub(crate) fn select(chosen: Chosen, role_id: Option<&str>) -> Anchors {
    let mut anchors = Anchors {
        aside: chosen.counts,
        more: chosen.more,
        ..Anchors::default()
    };
    let mut strangers = BTreeSet::new();
    let mut unreadable = Vec::new();
    for object in &chosen.objects {
        let Some((folder, _)) = split(&object.key) else {
            continue;
        };
        if role_id.is_some_and(|role_id| role_id != folder.role_id) {
            strangers.insert(folder);
            continue;
        }
        match read(object, &folder) {
            Some(anchor) => {
                if anchor.kind == AnchorKind::Genesis {
                    anchors.genesis_at = object.last_modified.parse().ok();
                }
                anchors.anchors.push(anchor);
            }
            None => unreadable.push(object.key.as_str()),
        }
        anchors.folders.insert(folder);
    }
    let found = &mut anchors.contradictions;
    found.extend(strangers.iter().map(|folder| Contradiction {
        code: "place-role-id",
        detail: format!(
            "the anchors under {} were written by another role than {}",
            folder.prefix(),
            role_id.unwrap_or_default()
        ),
    }));
    found.extend(of_unreadable(&unreadable));
    found.extend(chosen.cut.then(|| Contradiction {
        code: "anchors-cut",
        detail: "more objects lie at anchors' names than a bastion writes: not all of them were looked at".to_owned(),
    }));
    anchors
}

/// The anchor of this folder that belongs under the object's key.
pub(crate) fn read(object: &ObjectVersion, folder: &Folder) -> Option<Anchor> {
    let anchor = Anchor::parse(object.body.as_bytes()).ok()?;
    let key = format!("{}{}", folder.prefix(), anchor.object_name());
    let own = anchor.request == folder.request && anchor.instance == folder.instance;
    (own && object.key == key).then_some(anchor)
}

fn of_unreadable(keys: &[&str]) -> Option<Contradiction> {
    let more = match keys.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = keys.iter().take(SHOWN).copied().collect::<Vec<_>>();
    (!keys.is_empty()).then(|| Contradiction {
        code: "anchor-form",
        detail: format!("no anchor stands at {}{more}", shown.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chosen::Chooser;

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
            in_parts: false,
            body: anchor.to_json(),
        }
    }

    fn selected(objects: Vec<ObjectVersion>, role_id: Option<&str>) -> Anchors {
        let mut chooser = Chooser::new(false);
        for object in objects {
            chooser.take(object).unwrap();
        }
        select(chooser.finish(), role_id)
    }

    fn codes(anchors: &Anchors) -> Vec<&str> {
        anchors.contradictions.iter().map(|c| c.code).collect()
    }

    #[test]
    fn the_first_version_of_a_key_counts() {
        let objects = vec![
            object("b", "2026-01-01T00:00:09Z", 2),
            object("a", "2026-01-01T00:00:01Z", 1),
        ];
        let chosen = selected(objects, None);
        assert_eq!((chosen.anchors.len(), chosen.aside.later), (1, 1));
        assert_eq!(chosen.anchors[0].head, [1; 32]);
    }

    #[test]
    fn what_stands_at_an_anchor_s_name_and_is_none_is_a_contradiction_and_the_others_count() {
        let own = || object("a", "2026-01-01T00:00:01Z", 1);
        let mut under_another = own();
        under_another.key = own().key.replace("i-1/", "i-2/");
        let mut torn = own();
        torn.key = own().key.replace("07.json", "09.json");
        let mut empty = own();
        empty.key = own().key.replace("07.json", "11.json");
        empty.body = String::new();
        for other in [under_another, torn, empty] {
            let key = other.key.clone();
            let chosen = selected(vec![own(), other], None);
            assert_eq!(chosen.anchors.len(), 1);
            assert_eq!(codes(&chosen), ["anchor-form"]);
            assert!(chosen.contradictions[0].detail.contains(&key));
        }
        let mut strange = own();
        strange.key = own().key.replace("head-", "zzz-");
        let chosen = selected(vec![own(), strange], None);
        assert_eq!((chosen.anchors.len(), chosen.aside.strange), (1, 1));
        assert_eq!(codes(&chosen), Vec::<&str>::new());
    }

    #[test]
    fn a_list_that_broke_off_is_a_contradiction() {
        let chosen = Chosen {
            cut: true,
            ..Chosen::default()
        };
        assert_eq!(codes(&select(chosen, None)), ["anchors-cut"]);
    }

    #[test]
    fn an_anchor_of_another_role_is_told_and_does_not_count() {
        let anchors = || vec![object("a", "2026-01-01T00:00:01Z", 1)];
        let own = selected(anchors(), Some("AROA"));
        assert_eq!((own.anchors.len(), codes(&own).len()), (1, 0));
        let foreign = selected(anchors(), Some("AROAOTHER"));
        assert_eq!(foreign.anchors.len(), 0);
        assert_eq!(codes(&foreign), ["place-role-id"]);
        assert!(foreign.folders.is_empty());
    }
}
