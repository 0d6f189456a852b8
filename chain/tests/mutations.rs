//! Every class of change to a valid session, and the verdict that it must get.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

mod common;

use common::{Evidence, head_anchor, key, salt, session, verify};
use powerpole_chain::{
    AnchorKind, EpochKey, Kind, Redaction, SealReason, Sealer, unsealed_line,
    verify::{Rule, Verdict},
    withheld_line,
};

fn small() -> Evidence {
    session(1, 3, 6)
}

fn verdict(evidence: &Evidence) -> Verdict {
    let report = evidence.verify();
    assert_eq!(report.could_not_check, None);
    report.verdict
}

/// A small generator: sampling must be the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn an_untouched_session_is_valid_and_everything_in_it_is_proven() {
    let evidence = small();
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    assert_eq!(report.records, evidence.lines.len() as u64);
    assert_eq!(report.proven_to, Some(evidence.lines.len() as u64 - 1));
    assert_eq!(
        (report.foreign, report.unproven, report.unreadable),
        (0, 0, 0)
    );
    assert_eq!(report.sessions.len(), 3);
    assert_eq!(report.exit_code(true), 0);
}

#[test]
fn nothing_at_all_is_never_valid() {
    let mut evidence = small();
    evidence.lines.clear();
    assert_eq!(verdict(&evidence), Verdict::Incomplete);
    assert_eq!(
        verify(&Default::default(), std::iter::empty()).verdict,
        Verdict::Incomplete
    );
}

#[test]
fn without_anchors_a_sealed_session_is_unanchored() {
    assert_eq!(verdict(&small().without_anchors()), Verdict::Unanchored);
    assert_eq!(
        verdict(&small().without_anchors().without_ledger()),
        Verdict::Unanchored
    );
    let mut no_seal = small();
    no_seal
        .inputs
        .anchors
        .as_mut()
        .unwrap()
        .retain(|a| a.kind != AnchorKind::Seal);
    assert_eq!(verdict(&no_seal), Verdict::Unanchored);
    let mut no_genesis = small();
    no_genesis
        .inputs
        .anchors
        .as_mut()
        .unwrap()
        .retain(|a| a.kind != AnchorKind::Genesis);
    assert_eq!(verdict(&no_genesis), Verdict::Unanchored);
}

#[test]
fn every_changed_byte_shows() {
    for (evidence, anchored) in [
        (small(), true),
        (small().without_anchors(), false),
        (small().without_anchors().without_ledger(), false),
    ] {
        let mut seen = std::collections::BTreeMap::new();
        for index in 0..evidence.lines.len() {
            let original = evidence.lines[index].clone().into_bytes();
            for place in 0..original.len() {
                for flip in [0x01, 0x02, 0x10, 0x20] {
                    let mut changed = original.clone();
                    changed[place] ^= flip;
                    let lines = evidence.lines.iter().enumerate().map(|(i, line)| {
                        if i == index {
                            changed.as_slice()
                        } else {
                            line.as_bytes()
                        }
                    });
                    let report = verify(&evidence.inputs, lines);
                    *seen.entry(report.verdict.word()).or_insert(0u32) += 1;
                    let shown = match report.verdict {
                        Verdict::Tampered | Verdict::Malformed => true,
                        Verdict::Incomplete => !anchored || index == 0,
                        Verdict::Unsealed => !anchored,
                        Verdict::Valid | Verdict::Withheld | Verdict::Unanchored => false,
                    };
                    assert!(
                        shown,
                        "line {index}, byte {place}, {}: {:?}",
                        String::from_utf8_lossy(&changed),
                        report
                    );
                    assert!(
                        report.proven_to.is_none_or(|seq| seq < index as u64),
                        "line {index}, byte {place}: {report:?}"
                    );
                }
            }
        }
        println!("anchored {anchored}: {seen:?}");
    }
}

#[test]
fn every_dropped_record_shows() {
    for index in 0..small().lines.len() {
        let mut evidence = small();
        evidence.lines.remove(index);
        let report = evidence.verify();
        assert_eq!(report.verdict, Verdict::Incomplete, "{index}: {report:?}");
        assert_eq!(
            report.first_bad(),
            Some(index as u64),
            "{index}: {report:?}"
        );
        let bare = evidence.without_anchors();
        assert!(
            matches!(verdict(&bare), Verdict::Incomplete | Verdict::Unsealed),
            "{index} without anchors"
        );
    }
}

#[test]
fn a_dropped_record_leaves_what_follows_proven() {
    let mut evidence = small();
    evidence.lines.remove(3);
    let report = evidence.verify();
    assert_eq!(report.missing_records, 1);
    assert_eq!(report.missing[0].first, 3);
    assert_eq!(report.proven_to, Some(0));
    assert_eq!(report.reached, Some(21));
    assert_eq!(
        report.unproven, 2,
        "records 1 and 2 join, but nothing signed reaches them"
    );
}

#[test]
fn duplicates_and_any_order_change_nothing() {
    let mut dice = Dice(7);
    for _ in 0..200 {
        let mut evidence = small();
        for _ in 0..dice.roll(6) {
            let index = dice.roll(evidence.lines.len());
            evidence.lines.push(evidence.lines[index].clone());
        }
        let repeated = evidence.lines.len() as u64 - 22;
        for index in (1..evidence.lines.len()).rev() {
            evidence.lines.swap(index, dice.roll(index + 1));
        }
        let report = evidence.verify();
        assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
        assert_eq!(report.duplicates, repeated);
        assert_eq!(report.foreign, 0);
    }
}

#[test]
fn relabelled_records_show() {
    for index in 1..22 {
        for (from, to) in [
            ("\"s\":", "\"s\":1"),
            ("\"t\":", "\"t\":1"),
            ("\"n\":", "\"n\":1"),
        ] {
            let mut evidence = small();
            evidence.lines[index] = evidence.lines[index].replacen(from, to, 1);
            assert!(
                matches!(verdict(&evidence), Verdict::Tampered | Verdict::Malformed),
                "{index} {from}"
            );
        }
        for kind in Kind::ALL {
            let mut evidence = small();
            let place = evidence.lines[index].find("\"k\":\"").unwrap() + 5;
            let old = evidence.lines[index].as_bytes()[place];
            if old == kind.byte() {
                continue;
            }
            evidence.lines[index].replace_range(place..=place, &kind.letter().to_string());
            assert!(
                matches!(verdict(&evidence), Verdict::Tampered | Verdict::Malformed),
                "{index} {kind:?}"
            );
        }
    }
}

#[test]
fn two_records_that_change_places_under_each_others_number_show() {
    for index in 1..20 {
        let mut evidence = small();
        let (a, b) = (format!("\"s\":{index},"), format!("\"s\":{},", index + 1));
        evidence.lines[index] = evidence.lines[index].replacen(&a, &b, 1);
        evidence.lines[index + 1] = evidence.lines[index + 1].replacen(&b, &a, 1);
        assert_eq!(verdict(&evidence), Verdict::Tampered, "{index}");
    }
}

#[test]
fn another_sessions_records_in_the_place_of_ones_own_show() {
    let other = session(2, 3, 6);
    for index in 1..22 {
        let mut evidence = small();
        evidence.lines[index] = other.lines[index].clone();
        let report = evidence.verify();
        assert_eq!(report.verdict, Verdict::Incomplete, "{index}: {report:?}");
        assert_eq!(report.foreign, 1);
    }
}

#[test]
fn foreign_lines_are_counted_and_change_nothing() {
    let other = session(2, 4, 9);
    let mut evidence = small();
    for (index, line) in other.lines.iter().enumerate() {
        evidence
            .lines
            .insert((index * 3) % evidence.lines.len(), line.clone());
    }
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    assert_eq!(report.foreign, other.lines.len() as u64);
    assert_eq!((report.exit_code(false), report.exit_code(true)), (0, 1));
    evidence.lines.push("not a line of ours".to_owned());
    assert_eq!(verdict(&evidence), Verdict::Valid);
}

#[test]
fn foreign_forks_that_join_the_chain_change_nothing() {
    let mut evidence = small();
    for index in 1..21 {
        let line = evidence.lines[index].replace("\"n\":", "\"n\":7");
        evidence.lines.insert(0, line);
    }
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
}

#[test]
fn a_session_replayed_under_another_request_shows() {
    let mut evidence = small();
    evidence.lines = session(2, 3, 6).lines;
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Incomplete);
    assert_eq!(report.records, 0);
    let mut by_ledger = session(2, 3, 6).without_anchors();
    by_ledger.inputs.ledger = small().inputs.ledger;
    assert_eq!(verdict(&by_ledger), Verdict::Incomplete);
    let mut anchors_of_the_other = session(2, 3, 6);
    anchors_of_the_other.inputs.ledger = small().inputs.ledger;
    assert_eq!(verdict(&anchors_of_the_other), Verdict::Tampered);
}

#[test]
fn every_cut_tail_that_anchors_know_of_is_incomplete() {
    for keep in 0..22 {
        let mut evidence = small();
        evidence.lines.truncate(keep);
        let report = evidence.verify();
        assert_eq!(report.verdict, Verdict::Incomplete, "{keep}: {report:?}");
        let mut bare = evidence.without_anchors().without_ledger();
        bare.inputs.redactions.clear();
        let expected = if keep == 0 {
            Verdict::Incomplete
        } else {
            Verdict::Unsealed
        };
        assert_eq!(verdict(&bare), expected, "{keep} without anchors");
    }
}

#[test]
fn a_crash_is_unsealed_and_proven_up_to_the_last_signature() {
    for last in 8..21 {
        let evidence = small().crashed_after(last);
        let report = evidence.verify();
        assert_eq!(report.verdict, Verdict::Unsealed, "{last}: {report:?}");
        let proven = if last >= 14 { 14 } else { 7 };
        assert_eq!(report.proven_to, Some(proven), "{last}");
        assert_eq!(report.unproven, last - proven);
    }
}

#[test]
fn an_anchored_head_proves_what_no_checkpoint_does() {
    let mut evidence = small().crashed_after(18);
    let head = evidence.heads[17].hash;
    let anchors = evidence.inputs.anchors.as_mut().unwrap();
    let anchor = head_anchor(&anchors[0], 17, head);
    anchors.push(anchor);
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Unsealed, "{report:?}");
    assert_eq!(report.proven_to, Some(17));
}

#[test]
fn frames_shipped_without_a_key_are_shown_and_prove_nothing() {
    let mut evidence = small().crashed_after(16);
    for n in 0..4 {
        evidence
            .lines
            .push(unsealed_line(n, common::START, Kind::Output, 1, b"tail"));
    }
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Unsealed);
    assert_eq!((report.unsealed, report.unsealed_bytes), (4, 16));
    assert_eq!(report.proven_to, Some(14));
}

#[test]
fn a_wrong_anchor_is_a_contradiction() {
    for index in 0..4 {
        let mut evidence = small();
        let anchors = evidence.inputs.anchors.as_mut().unwrap();
        let Some(anchor) = anchors.get_mut(index) else {
            continue;
        };
        anchor.head[0] ^= 1;
        assert_eq!(verdict(&evidence), Verdict::Tampered, "{index}");
    }
    let mut evidence = small();
    evidence.inputs.ledger.as_mut().unwrap().latest = Some((9, [1; 32]));
    assert_eq!(verdict(&evidence), Verdict::Tampered);
}

#[test]
fn every_fact_of_the_ledger_is_compared() {
    type Change = fn(&mut powerpole_chain::verify::LedgerFacts);
    let changes: [Change; 13] = [
        |l| l.operator = Some("mallory@example.com".to_owned()),
        |l| l.principal = Some("arn:aws:iam::1:user/x".to_owned()),
        |l| l.approver = Some("dave@example.com".to_owned()),
        |l| l.approved_at = Some("2025-11-24T15:58:00Z".to_owned()),
        |l| l.reason = Some("other".to_owned()),
        |l| l.cluster = Some("other".to_owned()),
        |l| l.level = Some("READ".to_owned()),
        |l| l.schemas = Some(vec!["orders".to_owned()]),
        |l| l.account = Some("ali".to_owned()),
        |l| l.instance = Some("i-1".to_owned()),
        |l| l.log_group = Some("/other".to_owned()),
        |l| l.attempt = Some(2),
        |l| l.log_stream = Some("other/stream".to_owned()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut evidence = small();
        change(evidence.inputs.ledger.as_mut().unwrap());
        assert_eq!(verdict(&evidence), Verdict::Tampered, "change {index}");
    }
    let mut evidence = small();
    evidence
        .inputs
        .ledger
        .as_mut()
        .unwrap()
        .schemas
        .as_mut()
        .unwrap()
        .reverse();
    assert_eq!(verdict(&evidence), Verdict::Valid, "schemas are a set");
}

/// The last epoch written again with its own, stolen key.
fn forged_end(evidence: &Evidence) -> Vec<String> {
    let genesis = common::genesis(1);
    let (mut sealer, _) = Sealer::begin(&genesis, key(1, 0), salt(1, 0)).unwrap();
    let mut lines = Vec::new();
    for (index, line) in evidence.lines.iter().enumerate().skip(1) {
        let Ok(powerpole_chain::Parsed::Record(record)) =
            powerpole_chain::parse_line(line.as_bytes())
        else {
            panic!()
        };
        let powerpole_chain::Content::Full { salt, payload } = &record.content else {
            panic!()
        };
        match record.kind {
            Kind::Checkpoint => {
                let next = sealer.head().epoch + 1;
                let sealed = sealer.checkpoint(record.t_us, *salt, key(1, next)).unwrap();
                assert_eq!(&sealed.text, line, "the same inputs make the same chain");
            }
            Kind::Seal => {
                let sealed = sealer
                    .seal(record.t_us, *salt, SealReason::Finished)
                    .unwrap();
                lines.push(sealed.text);
                return lines;
            }
            kind => {
                let other = if index > 16 {
                    b"forged".as_slice()
                } else {
                    payload
                };
                let sealed = sealer
                    .append(record.t_us, kind, record.session, *salt, other)
                    .unwrap();
                if index > 16 {
                    lines.push(sealed.text);
                }
            }
        }
    }
    lines
}

#[test]
fn a_fork_that_is_signed_twice_is_tampered_in_any_order() {
    let evidence = small();
    let forged = forged_end(&evidence);
    let mut after = evidence.clone();
    after.lines.extend(forged.clone());
    let report = after.verify();
    assert_eq!(report.verdict, Verdict::Tampered);
    assert!(
        report.findings.iter().any(|f| f.rule == Rule::Fork),
        "{report:?}"
    );
    let mut before = evidence.clone();
    before.lines.splice(0..0, forged.clone());
    assert_eq!(verdict(&before), Verdict::Tampered);
    let mut bare = after.without_anchors();
    bare.inputs.ledger = None;
    assert_eq!(verdict(&bare), Verdict::Tampered);
}

#[test]
fn a_stolen_key_rewrites_only_what_no_anchor_and_no_checkpoint_holds() {
    let mut evidence = small();
    let forged = forged_end(&evidence);
    evidence.lines.truncate(17);
    evidence.lines.extend(forged);
    assert_eq!(
        verdict(&evidence),
        Verdict::Tampered,
        "the seal is anchored"
    );
    evidence.forget_after(14);
    let report = evidence.verify();
    assert_eq!(
        report.verdict,
        Verdict::Unanchored,
        "bounded by the epoch: {report:?}"
    );
}

#[test]
fn payloads_withheld_with_authority_keep_the_chain_verifiable() {
    let redactor = || EpochKey::from_seed([9; 32]);
    let mut evidence = small();
    for index in [3, 9] {
        evidence.lines[index] = withheld_line(evidence.lines[index].as_bytes()).unwrap();
    }
    let report = evidence.verify();
    assert_eq!((report.verdict, report.withheld), (Verdict::Withheld, 2));
    assert_eq!((report.unauthorised, report.exit_code(false)), (2, 1));
    let manifest = Redaction {
        genesis: evidence.heads[0].hash,
        redactor: "carol@example.com".to_owned(),
        reason: "a password was pasted".to_owned(),
        at: "2025-12-01T00:00:00Z".to_owned(),
        records: vec![3, 9],
        key: redactor().public(),
    }
    .sign(&redactor())
    .unwrap();
    evidence.inputs.redactions = vec![Redaction::parse(manifest.as_bytes()).unwrap()];
    assert_eq!(
        evidence.verify().exit_code(false),
        1,
        "the key is not trusted yet"
    );
    evidence.inputs.redactors = vec![redactor().public()];
    let report = evidence.verify();
    assert_eq!((report.unauthorised, report.exit_code(true)), (0, 0));
}

#[test]
fn what_carries_the_chain_cannot_be_withheld() {
    let evidence = small();
    for index in [0, 7, 21] {
        assert_eq!(withheld_line(evidence.lines[index].as_bytes()), None);
    }
}

/// One change of any class, to any line.
fn change(dice: &mut Dice, lines: &mut Vec<Vec<u8>>, strangers: &[String]) {
    let index = dice.roll(lines.len());
    let length = lines[index].len();
    match dice.roll(10) {
        0 => {
            lines.remove(index);
        }
        1 | 2 => lines[index][dice.roll(length)] ^= 1 << dice.roll(8),
        3 => lines[index] = strangers[dice.roll(strangers.len())].clone().into_bytes(),
        4 => {
            lines[index].remove(dice.roll(length));
        }
        5 => lines[index].insert(dice.roll(length), b'0' + dice.roll(10) as u8),
        6 => {
            let line = lines.remove(index);
            lines.insert(dice.roll(lines.len() + 1), line);
        }
        7 => lines.insert(dice.roll(lines.len() + 1), lines[index].clone()),
        8 => {
            let stranger = strangers[dice.roll(strangers.len())].clone();
            lines.insert(index, stranger.into_bytes());
        }
        _ => {
            if let Some(twin) = withheld_line(&lines[index]) {
                match dice.roll(2) {
                    0 => lines[index] = twin.into_bytes(),
                    _ => lines.insert(dice.roll(lines.len() + 1), twin.into_bytes()),
                }
            }
        }
    }
}

/// `POWERPOLE_PAIRS=200000` for the long run.
#[test]
fn pairs_of_changes_pass_exactly_when_every_line_is_still_there() {
    let rounds = std::env::var("POWERPOLE_PAIRS").map_or(20_000, |n| n.parse().unwrap());
    let evidence = small();
    let other = session(2, 3, 6);
    let mut dice = Dice(0x5eed);
    let mut seen = std::collections::BTreeMap::new();
    for round in 0..rounds {
        let mut lines: Vec<Vec<u8>> = evidence
            .lines
            .iter()
            .map(|line| line.clone().into_bytes())
            .collect();
        change(&mut dice, &mut lines, &other.lines);
        change(&mut dice, &mut lines, &other.lines);
        let whole = evidence
            .lines
            .iter()
            .all(|own| lines.iter().any(|line| line == own.as_bytes()));
        let report = verify(&evidence.inputs, lines.iter().map(Vec::as_slice));
        assert_eq!(report.could_not_check, None, "round {round}");
        assert_eq!(
            whole,
            report.exit_code(false) == 0,
            "round {round}: {report:?}"
        );
        *seen.entry(report.verdict.word()).or_insert(0u32) += 1;
    }
    println!("{rounds} pairs: {seen:?}");
}

#[test]
fn a_full_line_counts_however_late_it_follows_its_withheld_twin() {
    let mut evidence = small();
    let full = evidence.lines[3].clone();
    evidence.lines[3] = withheld_line(full.as_bytes()).unwrap();
    evidence.lines.push(full);
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    assert_eq!((report.withheld, report.unauthorised), (0, 0));
    assert_eq!(report.sessions[&1].withheld, 0);
}

#[test]
fn a_login_is_proven_by_itself_when_the_chain_is_cut_behind_it() {
    let genesis = common::genesis(1);
    let (mut sealer, first) = Sealer::begin(&genesis, key(1, 0), salt(1, 0)).unwrap();
    let mut lines = vec![first];
    for (n, (kind, login)) in [
        (Kind::SessionStart, 1),
        (Kind::Output, 1),
        (Kind::SessionStart, 2),
        (Kind::SessionEnd, 1),
        (Kind::Output, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let t = common::START + n as u64;
        lines.push(sealer.append(t, kind, login, [3; 16], b"x").unwrap());
    }
    lines.push(
        sealer
            .checkpoint(common::START + 9, [4; 16], key(1, 1))
            .unwrap(),
    );
    let inputs = powerpole_chain::verify::Inputs {
        anchors: Some(vec![lines[0].anchor(AnchorKind::Genesis, &genesis)]),
        ..Default::default()
    };
    let report = verify(&inputs, lines.iter().map(|line| line.text.as_bytes()));
    let words: Vec<_> = report
        .sessions
        .values()
        .map(|session| report.session_verdict(session).word())
        .collect();
    assert_eq!(report.verdict, Verdict::Unsealed);
    assert_eq!(words, ["PROVEN", "INCOMPLETE"]);
}

#[test]
fn a_fork_shows_also_where_a_checkpoint_before_it_is_missing() {
    let mut evidence = small();
    evidence.lines.extend(common::twin_end());
    evidence.lines.remove(7);
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Tampered, "{report:?}");
    assert!(report.findings.iter().any(|f| f.rule == Rule::Fork));
}

#[test]
fn a_copy_of_a_checkpoint_with_another_link_is_foreign_and_no_fork() {
    let mut evidence = small();
    for index in [7, 14, 21] {
        let place = evidence.lines[index].find("\"p\":\"").unwrap() + 5;
        let mut copy = evidence.lines[index].clone();
        let other = if copy.as_bytes()[place] == b'A' {
            "B"
        } else {
            "A"
        };
        copy.replace_range(place..=place, other);
        evidence.lines.insert(0, copy.clone());
        evidence.lines.push(copy);
    }
    let report = evidence.verify();
    assert_eq!(report.verdict, Verdict::Valid, "{report:?}");
    assert_eq!((report.foreign, report.duplicates), (3, 3));
}
