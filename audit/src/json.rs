//! `--json`: one object, keys stable from version 1 on.

use data_encoding::HEXLOWER;
use powerpole_chain::{Kind, verify::Report};
use powerpole_protocol::text::is_unseen;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

use crate::{
    place::{By, LOGS, Place},
    rolls_command::time,
    verify_command::Around,
};

/// The object as one line.
pub(crate) fn render(report: &Report, exit: u8, around: &Around) -> String {
    let kinds: Map<String, Value> = Kind::ALL
        .into_iter()
        .zip(report.kinds)
        .map(|(kind, count)| (kind.word().to_owned(), json!(count)))
        .collect();
    let sessions: Vec<Value> = report
        .sessions
        .iter()
        .map(|(number, s)| {
            json!({
                "session": number, "verdict": report.session_verdict(s).word(),
                "started": s.started, "ended": s.ended, "records": s.records, "bytes": s.bytes,
                "statements": s.statements, "output_bytes": s.output_bytes,
                "input_bytes": s.input_bytes, "withheld": s.withheld,
                "first_seq": s.first_seq, "last_seq": s.last_seq,
                "first_us": s.first_us, "last_us": s.last_us,
            })
        })
        .collect();
    let beside = around.contradictions.iter();
    let findings: Vec<Value> = beside
        .map(|c| json!({ "rule": c.code, "seq": 0, "detail": c.detail }))
        .chain(
            report
                .findings
                .iter()
                .map(|f| json!({ "rule": f.rule.code(), "seq": f.seq, "detail": f.detail })),
        )
        .take(64)
        .collect();
    let first_bad = match around.contradictions.as_slice() {
        [] => report.first_bad(),
        _ => Some(0),
    };
    let missing: Vec<Value> = report
        .missing
        .iter()
        .map(|m| json!({ "first": m.first, "last": m.last }))
        .collect();
    let gaps: Vec<Value> = report
        .gaps
        .iter()
        .map(|g| json!({ "first": g.first, "last": g.last }))
        .collect();
    let seal = report.seal.as_ref().map(|seal| {
        json!({
            "seq": seal.seq, "head": HEXLOWER.encode(&seal.head), "t_us": seal.t_us,
            "reason": seal.reason.word(),
        })
    });
    let verdict = report
        .could_not_check
        .is_none()
        .then(|| report.verdict.word());
    let object = json!({
        "v": 1,
        "verdict": verdict,
        "exit": exit,
        "could_not_check": report.could_not_check,
        "request": report.genesis.as_ref().map(|g| &g.request),
        "genesis_head": report.genesis_head.map(|head| HEXLOWER.encode(&head)),
        "proven_to": report.proven_to,
        "reached": report.reached,
        "reached_head": report.reached_head.map(|head| HEXLOWER.encode(&head)),
        "records": report.records,
        "epochs": report.epochs,
        "kinds": kinds,
        "sessions": sessions,
        "unproven": report.unproven,
        "foreign": report.foreign,
        "duplicates": report.duplicates,
        "unreadable": report.unreadable,
        "unsealed": report.unsealed,
        "unsealed_bytes": report.unsealed_bytes,
        "withheld": report.withheld,
        "unauthorised": report.unauthorised,
        "missing": missing,
        "missing_records": report.missing_records,
        "gaps": gaps,
        "findings": findings,
        "first_bad": first_bad,
        "last_known": report
            .last_known
            .map(|(seq, source)| json!({ "seq": seq, "source": source.word() })),
        "seal": seal,
        "anchors": {
            "given": report.anchors.given, "matched": report.anchors.matched,
            "genesis": report.anchors.genesis, "seal": report.anchors.seal,
            "overwritten": around.aside.later, "strange": around.aside.strange,
            "late": around.aside.late, "more": around.more,
        },
        "silences": report.silences,
        "retimed": report.retimed,
        "place": place(&around.place),
        "rolls": around.row.as_ref().map(|row| json!({
            "number": row.number, "outcome": row.outcome, "until": time(row.until_s), "late_s": row.late_s,
            "broken": row.broken,
        })),
        "search": around.searched.as_ref().map(|searched| json!({
            "bastions": searched.bastions,
            "others": searched.others.iter().map(|other| &other.instance).collect::<Vec<_>>(),
            "unexplained": searched.unexplained().collect::<Vec<_>>(),
        })),
        "strict": around.strict.as_ref().map(|found| {
            let each = found.iter().map(|one| json!({ "what": one.what, "count": one.count }));
            each.collect::<Vec<_>>()
        }),
    });
    spell(&object)
}

fn place(place: &Place) -> Value {
    json!({
        "lines": if place.lines == LOGS { Value::Null } else { json!(place.lines) },
        "anchors": place.anchors,
        "prefixes": place.prefixes,
        "bucket": place.part("bucket"),
        "role_id": place.part("role_id"),
        "instance": place.part("instance"),
        "log_group": place.part("log_group"),
        "log_stream": place.part("log_stream"),
        "by_you": place.only(By::You),
        "by_ledger": place.only(By::Ledger),
        "by_files": place.only(By::File),
    })
}

/// A value as one line, with every character that is not seen as an escape: it is read in terminals, too.
pub(crate) fn spell(value: &Value) -> String {
    // Outside of strings JSON is ASCII without control characters, so what is replaced stands in a string.
    let mut out = String::new();
    for c in value.to_string().chars() {
        if is_unseen(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_escaped_and_reads_back_as_it_was() {
        let value = json!({"a\u{202e}": "b\u{1b}\u{2066}\u{e0041}é"});
        let line = spell(&value);
        assert!(!line.chars().any(is_unseen), "{line}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
