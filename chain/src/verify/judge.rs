//! The verdict: pure, at the end, from what was proven and what others know.

use super::{
    intake::Verifier,
    report::{Report, Rule, Verdict},
    tree::Tree,
};

pub(super) fn judge(mut v: Verifier) -> Report {
    let incomplete = if v.position.is_none() {
        no_genesis(&mut v)
    } else {
        tail(&mut v)
    };
    let accounted = v.report.records + v.report.duplicates + v.report.unproven;
    v.report.foreign = v.record_lines.saturating_sub(accounted);
    if v.report.reached == Some(0) && v.expected.is_none() {
        v.report.proven_to = None;
    }
    v.report.findings.sort_by_key(|finding| finding.seq);
    if let Some(finding) = v.report.findings.first() {
        let before = finding.seq.checked_sub(1);
        v.report.proven_to = v
            .report
            .proven_to
            .and_then(|seq| before.map(|bad| seq.min(bad)));
    }
    v.report.verdict = if !v.report.findings.is_empty() {
        Verdict::Tampered
    } else if incomplete || v.report.missing_records > 0 {
        if v.report.unreadable > 0 {
            Verdict::Malformed
        } else {
            Verdict::Incomplete
        }
    } else if !v.sealed {
        Verdict::Unsealed
    } else if !(v.report.anchors.genesis && v.report.anchors.seal && v.inputs.approved()) {
        Verdict::Unanchored
    } else if v.report.withheld > 0 {
        Verdict::Withheld
    } else {
        Verdict::Valid
    };
    if !v.sealed && v.report.findings.is_empty() && more_may_follow(&mut v) {
        v.give_up(
            "no seal was reached, and what would follow may have lain out of place by more than the window",
        );
    }
    v.report
}

/// Was a line pushed out that goes on where the chain at hand ends? Strangers' lines do not, however many they are: they
/// would have to name a head before its own line is here. Without anchors nobody knows how far the chain goes.
fn more_may_follow(v: &mut Verifier) -> bool {
    if v.store.evicted() == 0 {
        return false;
    }
    let Some(head) = v.position.as_ref().map(|position| position.hash) else {
        return true;
    };
    if v.inputs.anchors.as_ref().is_none_or(Vec::is_empty) || v.store.may_have_evicted_after(&head)
    {
        return true;
    }
    let tree = v.tree();
    v.store.nodes().any(|(number, node)| {
        tree.holds_number(number) && v.store.may_have_evicted_after(&node.hash)
    })
}

/// The chain's first record is not there.
fn no_genesis(v: &mut Verifier) -> bool {
    if v.expected.is_some() && v.strange_genesis {
        v.find(
            Rule::GenesisAltered,
            0,
            "the genesis of this request is not the one that is known",
        );
    }
    if v.expected.is_some() {
        let last = v.heads.last().map_or(0, |known| known.seq);
        v.miss(0, last);
    }
    true
}

/// What is known beyond the last proven record?
fn tail(v: &mut Verifier) -> bool {
    let Some(position) = &v.position else {
        return true;
    };
    let (reached, epoch) = (position.seq, position.epoch);
    if v.sealed {
        if let Some(known) = v.heads.iter().find(|known| known.seq > reached).copied() {
            let detail = format!("the {} lies after the seal", known.source.word());
            v.find(Rule::AfterSeal, known.seq, &detail);
        }
        return false;
    }
    let tree = v.tree();
    v.report.unproven += tree.len();
    let mut incomplete = false;
    let mut missing_to = None;
    let later: Vec<_> = v
        .heads
        .iter()
        .filter(|known| known.seq > reached)
        .copied()
        .collect();
    for known in later {
        if v.holds(&tree, &known.head) {
            continue;
        }
        incomplete = true;
        if let Some(seq) = v.contender(&tree, known.seq, &known.head) {
            let (rule, detail) = if seq != known.seq {
                (
                    Rule::RecordAltered,
                    "a line follows the chain under a wrong number".to_owned(),
                )
            } else if known.source.is_anchor() {
                (
                    Rule::AnchorDiffers,
                    format!("the {} names another head", known.source.word()),
                )
            } else {
                (
                    Rule::LedgerHeadDiffers,
                    format!("the {} names another head", known.source.word()),
                )
            };
            v.find(rule, seq, &detail);
            break;
        }
        if v.store.may_have_evicted(&known.head) {
            v.give_up("the last known head may have lain out of place by more than the window");
        }
        missing_to = Some(known.seq);
    }
    if let Some(last) = missing_to.filter(|last| *last > tree.end) {
        v.miss(tree.end.saturating_add(1), last);
    }
    incomplete |= v
        .inputs
        .ledger
        .as_ref()
        .is_some_and(|ledger| ledger.sealed == Some(true));
    if v.inputs.anchors.as_ref().is_none_or(Vec::is_empty) {
        incomplete |= unanchored_tail(v, &tree, reached, epoch);
    }
    incomplete
}

/// Without anchors nobody can tell a foreign line from one that should have joined: what does not
/// join counts against the chain.
fn unanchored_tail(v: &mut Verifier, tree: &Tree, reached: u64, epoch: u32) -> bool {
    let ends = v.store.controls_of(epoch);
    let unsigned = ends.iter().find(|hash| v.holds(tree, hash));
    if let Some(seq) = unsigned
        .and_then(|hash| v.store.node(hash))
        .map(|node| node.seq)
    {
        v.find(
            Rule::Signature,
            seq,
            "a checkpoint does not carry its epoch's signature",
        );
    }
    v.store
        .nodes()
        .any(|(number, node)| !node.proven() && node.seq > reached && !tree.holds_number(number))
}
