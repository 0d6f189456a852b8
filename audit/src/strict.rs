//! What `--strict` turns into exit 1 though the verdict stands: things beside the chain that somebody put there.

use powerpole_chain::verify::Report;

use crate::{chosen::Aside, search::Searched, text::count};

/// One kind of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strange {
    /// Stable.
    pub(crate) what: &'static str,
    /// How many there are; at least one.
    pub(crate) count: u64,
}

impl Strange {
    /// For a person.
    pub(crate) fn text(&self) -> String {
        let (one, many) = match self.what {
            "foreign" => ("foreign line", "foreign lines"),
            "unreadable" => ("line that nobody can read", "lines that nobody can read"),
            "unsealed" => (
                "frame shipped without a key",
                "frames shipped without a key",
            ),
            "strange-objects" => (
                "object beside the anchors that is none",
                "objects beside the anchors that are none",
            ),
            "late-anchors" => (
                "anchor that was written after a higher one",
                "anchors that were written after a higher one",
            ),
            _ => (
                "other bastion that began a record of this request",
                "other bastions that began a record of this request",
            ),
        };
        count(self.count, one, many)
    }
}

/// All that is there; empty where `--strict` has nothing against it.
pub(crate) fn strange(report: &Report, aside: &Aside, searched: Option<&Searched>) -> Vec<Strange> {
    let others = searched.map_or(0, |searched| searched.others.len() as u64);
    [
        ("foreign", report.foreign),
        ("unreadable", report.unreadable),
        ("unsealed", report.unsealed),
        ("strange-objects", aside.strange),
        ("late-anchors", aside.late),
        ("other-bastions", others),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(what, count)| Strange { what, count })
    .collect()
}
