//! What a person reads: the verdict, what was proven and on what it rests, then the logins.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use powerpole_chain::{
    Kind,
    verify::{Report, Verdict},
};
use powerpole_protocol::text::is_unseen;

use crate::{
    place::{By, LOGS, Place},
    rolls_command::time as second,
    row::Row,
    search::{self, Searched},
    strict::Strange,
    verify_command::Around,
};

/// The whole text.
pub(crate) fn render(report: &Report, around: &Around) -> String {
    let mut out = String::new();
    match &report.could_not_check {
        Some(why) => line(&mut out, format_args!("COULD NOT CHECK: {why}")),
        None => line(
            &mut out,
            format_args!("{}: {}", report.verdict.word(), meaning(report)),
        ),
    }
    of_strict(&mut out, around);
    who(&mut out, report);
    proven(&mut out, report);
    rests_on(&mut out, report);
    of_aside(&mut out, around);
    read_from(&mut out, &around.place);
    of_rolls(
        &mut out,
        around.row.as_ref(),
        !around.contradictions.is_empty(),
    );
    of_search(&mut out, around.searched.as_ref());
    wrong(&mut out, report, around);
    beside(&mut out, report);
    sessions(&mut out, report);
    out.lines()
        .fold(String::new(), |text, line| text + &wrapped(line))
}

/// Of a line, where its words allow it.
const WIDTH: usize = 98;
/// Where what a line says begins, and goes on.
const INDENT: &str = "             ";

/// Between two words that belong together; no text of the evidence holds it, as [`plain`] replaces it there.
const GLUE: char = '\u{1}';

/// Breaks a line between words; a head, an id and what is glued stay whole.
fn wrapped(line: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for (n, word) in line.split(' ').enumerate() {
        let length = word.chars().count();
        if n > 0 && column > INDENT.len() && column + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(INDENT);
            column = INDENT.len();
        } else if n > 0 {
            out.push(' ');
            column += 1;
        }
        out.extend(word.chars().map(|c| if c == GLUE { ' ' } else { c }));
        column += length;
    }
    out.push('\n');
    out
}

/// So many of something: `1 line`, `2 lines`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn meaning(report: &Report) -> String {
    match report.verdict {
        Verdict::Valid => "sealed, complete, and anchored from genesis to seal".to_owned(),
        Verdict::Withheld if report.unauthorised == 0 => format!(
            "valid; {} withheld with authority",
            count(report.withheld, "payload was", "payloads were")
        ),
        Verdict::Withheld => format!(
            "{} withheld, {}without a manifest of a redactor that you trust",
            count(report.withheld, "payload is", "payloads are"),
            if report.unauthorised == report.withheld {
                String::new()
            } else {
                format!("{} of them ", report.unauthorised)
            }
        ),
        Verdict::Unanchored if report.anchors.genesis && report.anchors.seal => {
            "sealed, complete and anchored, but no ledger item that you gave says who approved it"
                .to_owned()
        }
        Verdict::Unanchored => {
            "sealed and complete, but no anchor that you fetched bears witness from genesis to seal"
                .to_owned()
        }
        Verdict::Unsealed => "the chain has no seal, and nobody knows of one".to_owned(),
        Verdict::Incomplete if report.genesis.is_none() => {
            "the chain's first record is not among these lines".to_owned()
        }
        Verdict::Incomplete => "records are missing".to_owned(),
        Verdict::Malformed => format!(
            "records are missing, and {} be read",
            count(report.unreadable, "line cannot", "lines cannot")
        ),
        Verdict::Tampered if report.findings.is_empty() => {
            "what is said of this evidence elsewhere contradicts it".to_owned()
        }
        Verdict::Tampered => "something contradicts the chain".to_owned(),
    }
}

/// What `--strict` makes of what lies beside the chain.
fn of_strict(out: &mut String, around: &Around) {
    let mut found: Vec<String> = around.strict.iter().flatten().map(Strange::text).collect();
    let Some(last) = found.pop() else { return };
    let said = match found.as_slice() {
        [] => last,
        others => format!("{} and {last}", others.join(", ")),
    };
    line(out, format_args!("STRICT: exit code 1 because of {said}"));
}

fn time(us: u64) -> String {
    i64::try_from(us)
        .ok()
        .and_then(|us| Timestamp::from_microsecond(us).ok())
        .map_or_else(|| format!("{us} µs"), |time| format!("{time:.3}"))
}

/// Text that somebody else chose must not command the reader's terminal, nor show as another text than it is.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if is_unseen(c) { '\u{fffd}' } else { c })
        .collect()
}

fn who(out: &mut String, report: &Report) {
    let Some(g) = &report.genesis else { return };
    line(out, format_args!(""));
    line(
        out,
        format_args!("  request    {} (attempt {})", plain(&g.request), g.attempt),
    );
    line(
        out,
        format_args!(
            "  grant      {} {} on {} ({}) as {}",
            plain(&g.operator),
            plain(&g.level),
            plain(&g.cluster),
            plain(&g.schemas.join(", ")),
            plain(&g.account)
        ),
    );
    line(
        out,
        format_args!(
            "  approved   {} at {}",
            plain(&g.approver),
            plain(&g.approved_at)
        ),
    );
    line(out, format_args!("  reason     {}", plain(&g.reason)));
    line(
        out,
        format_args!(
            "  bastion    {} in {} {}, agent {}",
            plain(&g.instance),
            plain(&g.aws_account),
            plain(&g.region),
            plain(&g.agent)
        ),
    );
}

fn proven(out: &mut String, report: &Report) {
    line(out, format_args!(""));
    match report.proven_to {
        Some(seq) => line(
            out,
            format_args!(
                "  proven     without a hole up to record {seq}; {} in {}, {} to {}",
                count(report.records, "record", "records"),
                count(report.epochs, "closed epoch", "closed epochs"),
                time(report.first_us),
                time(report.last_us)
            ),
        ),
        None => line(out, format_args!("  proven     nothing")),
    }
    if report.reached > report.proven_to
        && let Some(seq) = report.reached
    {
        line(
            out,
            format_args!("  beyond     proven records go on, after a hole, up to record {seq}"),
        );
    }
    if let Some(seal) = &report.seal {
        line(
            out,
            format_args!(
                "  seal       record {}, {}, reason {}, head {}",
                seal.seq,
                time(seal.t_us),
                seal.reason.word(),
                HEXLOWER.encode(&seal.head)
            ),
        );
    } else if let Some(head) = &report.reached_head {
        line(out, format_args!("  head       {}", HEXLOWER.encode(head)));
    }
    if let Some((seq, source)) = report.last_known {
        line(
            out,
            format_args!("  last known record {seq}, by the {}", source.word()),
        );
    }
}

fn rests_on(out: &mut String, report: &Report) {
    let a = report.anchors;
    let yes = |found: bool| if found { "found" } else { "not found" };
    line(
        out,
        format_args!(
            "  rests on   {} of {} (genesis {}, seal {}), {}",
            a.matched,
            count(a.given, "anchor", "anchors"),
            yes(a.genesis),
            yes(a.seal),
            count(report.epochs, "epoch signature", "epoch signatures")
        ),
    );
    if a.given == 0 {
        line(
            out,
            format_args!(
                "             no anchors: whoever held the last key could have rewritten all"
            ),
        );
    }
}

/// What lies beside the anchors and does not count.
fn of_aside(out: &mut String, around: &Around) {
    let aside = around.aside;
    let least = if around.more { "at least " } else { "" };
    for (n, one, many) in [
        (
            aside.later,
            "later version of anchors: only the first counts",
            "later versions of anchors: only the first counts",
        ),
        (
            aside.late,
            "anchor was written after a higher one and does not count: a bastion writes them in order",
            "anchors were written after a higher one and do not count: a bastion writes them in order",
        ),
        (
            aside.strange,
            "object beside the anchors that is none and says nothing: somebody wrote it",
            "objects beside the anchors that are none and say nothing: somebody wrote them",
        ),
    ] {
        if n > 0 {
            line(
                out,
                format_args!("             {least}{}", count(n, one, many)),
            );
        }
    }
}

/// Where lines and anchors came from, and what of it nobody but the ledger or the files says.
fn read_from(out: &mut String, place: &Place) {
    let part = |name| plain(place.part(name).unwrap_or("not known"));
    let anchors = match (&place.anchors, place.prefixes.as_slice()) {
        (None, _) => "no anchors".to_owned(),
        (Some(from), [prefix]) => format!("anchors {} {}", plain(from), plain(prefix)),
        (Some(from), prefixes) => format!(
            "anchors {}, {}",
            plain(from),
            count(prefixes.len() as u64, "folder", "folders")
        ),
    };
    let lines = if place.lines == LOGS {
        format!(
            "log group {} stream {}",
            part("log_group"),
            part("log_stream")
        )
    } else {
        format!("lines {}", plain(&place.lines))
    };
    line(out, format_args!("  read from  {anchors}; {lines}"));
    let mut only = |by, who: &str| {
        let parts: Vec<String> = place
            .only(by)
            .into_iter()
            .map(|name| format!("{} {}", name.replace('_', " "), part(name)))
            .collect();
        if !parts.is_empty() {
            line(
                out,
                format_args!("             {who}: {}", parts.join(", ")),
            );
        }
    };
    only(By::Ledger, "only the ledger says");
    only(By::File, "only the file of anchors says");
}

fn of_rolls(out: &mut String, row: Option<&Row>, contradicted: bool) {
    let Some(row) = row else {
        return line(
            out,
            format_args!(
                "             no roll was compared (--rolls): that this is the request's own bastion, and its last \
                 end, rests on the ledger"
            ),
        );
    };
    let until = second(row.until_s);
    let said = match (row.number, row.outcome) {
        _ if contradicted => format!("the rolls were compared, up to {until}"),
        (Some(n), Some(outcome)) => {
            format!("the rolls name it as no. {n}, {outcome}, with the ledger's last head")
        }
        (Some(n), None) => format!(
            "the rolls name it as no. {n} and no end of it up to {until}: its end rests on the ledger"
        ),
        (None, _) => format!(
            "no roll names it up to {until}: which bastion it had, and its end, rest on the ledger"
        ),
    };
    line(out, format_args!("             {said}"));
    if let Some(broken) = &row.broken {
        line(
            out,
            format_args!("             after that {}", plain(broken)),
        );
    }
    if let Some(ago) = row.late_s {
        line(
            out,
            format_args!(
                "             that is {} ago, and control has written no roll since",
                count(ago / 86_400, "day", "days")
            ),
        );
    }
}

fn of_search(out: &mut String, searched: Option<&Searched>) {
    let Some(searched) = searched else { return };
    let others: Vec<String> = searched
        .others
        .iter()
        .take(search::SHOWN)
        .map(|other| format!("{} ({})", plain(&other.instance), other.is.text()))
        .collect();
    let said = match others.as_slice() {
        [] => "none began another record of this request".to_owned(),
        others => format!(
            "{} wrote a beginning of this request, too: {}",
            searched.others.len(),
            others.join(", ")
        ),
    };
    line(
        out,
        format_args!(
            "  search     {} of the role; {said}",
            count(searched.bastions as u64, "bastion", "bastions")
        ),
    );
}

fn wrong(out: &mut String, report: &Report, around: &Around) {
    if let Some(seq) = report.first_bad() {
        line(out, format_args!(""));
        line(out, format_args!("  first bad record: {seq}"));
    } else if !around.contradictions.is_empty() {
        line(out, format_args!(""));
    }
    for contradiction in around.contradictions.iter().take(8) {
        line(
            out,
            format_args!(
                "  rule {} broken: {}",
                contradiction.code,
                plain(&contradiction.detail)
            ),
        );
    }
    for finding in report.findings.iter().take(8) {
        line(
            out,
            format_args!(
                "  rule {} broken at record {}: {}",
                finding.rule.code(),
                finding.seq,
                plain(&finding.detail)
            ),
        );
    }
    for missing in report.missing.iter().take(8) {
        let signed = report
            .gaps
            .iter()
            .any(|gap| gap.first <= missing.first && missing.last <= gap.last);
        let (what, whom) = if missing.last == missing.first {
            (format!("record {}", missing.first), "it")
        } else {
            (
                format!("records {} to {}", missing.first, missing.last),
                "them",
            )
        };
        let why = if signed {
            format!("; the chain itself says that the log service refused {whom}")
        } else {
            String::new()
        };
        line(out, format_args!("  missing    {what}{why}"));
    }
    let cause = match report.verdict {
        Verdict::Tampered if report.findings.is_empty() => {
            "an option that names another installation; otherwise somebody edited the ledger, wrote among the anchors, or began another record"
        }
        Verdict::Tampered => {
            "none is likely: a copy damaged on its way can look like this; fetch the stream again"
        }
        Verdict::Malformed => "the file was cut or re-encoded on its way; fetch the stream again",
        Verdict::Incomplete => {
            "a partial download, an expired log group, or a bastion lost before its last lines left"
        }
        Verdict::Unsealed => {
            "the window is still open, or the bastion or its agent died before it could seal"
        }
        Verdict::Unanchored if report.anchors.genesis && report.anchors.seal => {
            "the ledger's item was not given"
        }
        Verdict::Unanchored => {
            "the anchors were not fetched, or the bastion died before it wrote the last"
        }
        Verdict::Valid | Verdict::Withheld => return,
    };
    line(out, format_args!("  innocent cause: {cause}"));
}

fn beside(out: &mut String, report: &Report) {
    let counts = [
        (
            report.unproven,
            "line joins the proven chain and is proven by nothing",
            "lines join the proven chain and are proven by nothing",
        ),
        (
            report.unsealed,
            "frame was shipped without a key after the agent died; it proves nothing",
            "frames were shipped without a key after the agent died; they prove nothing",
        ),
        (
            report.foreign,
            "line is foreign: not of this chain, no effect on the verdict",
            "lines are foreign: not of this chain, no effect on the verdict",
        ),
        (
            report.unreadable,
            "line is in no spelling of the format",
            "lines are in no spelling of the format",
        ),
        (
            report.duplicates,
            "line is repeated to the byte, as the log service may do",
            "lines are repeated to the byte, as the log service may do",
        ),
        (
            report.retimed,
            "log event carries another time than its record",
            "log events carry another time than their records",
        ),
        (
            report.silences,
            "silence is longer than the policy allows",
            "silences are longer than the policy allows",
        ),
    ];
    for (n, one, many) in counts {
        if n > 0 {
            line(out, format_args!("  note       {}", count(n, one, many)));
        }
    }
    if let Some((seq, us)) = report.longest_silence {
        line(
            out,
            format_args!(
                "             the longest: {} s after record {seq}",
                us / 1_000_000
            ),
        );
    }
}

fn sessions(out: &mut String, report: &Report) {
    if report.records == 0 {
        return;
    }
    line(out, format_args!(""));
    let counts: Vec<String> = Kind::ALL
        .into_iter()
        .zip(report.kinds)
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count}{GLUE}{}", kind.word()))
        .collect();
    line(out, format_args!("  records    {}", counts.join(", ")));
    for (number, s) in &report.sessions {
        line(
            out,
            format_args!(
                "  login {number:<4} {}: {} ({} to {}), {} shown, {} typed, {}, {} to {}",
                report.session_verdict(s).word(),
                count(s.records, "record", "records"),
                s.first_seq,
                s.last_seq,
                count(s.output_bytes, "byte", "bytes"),
                s.input_bytes,
                match (s.started, s.ended, s.withheld) {
                    (_, _, withheld @ 1..) => format!("{withheld} withheld"),
                    (true, true, _) => "from its start to its end".to_owned(),
                    (true, false, _) => "no proven end".to_owned(),
                    (false, ..) => "no proven start".to_owned(),
                },
                time(s.first_us),
                time(s.last_us)
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_between_words_and_short_ones_stay_as_they_are() {
        let short = "  login 1    PROVEN: 3 records";
        assert_eq!(wrapped(short), format!("{short}\n"));
        let kinds = format!(
            "  records    {}",
            vec![format!("3{GLUE}statement-result"); 6].join(", ")
        );
        let lines = wrapped(&kinds);
        assert!(
            lines.lines().count() > 1
                && lines
                    .lines()
                    .all(|line| line.ends_with("result,") || line.ends_with("result")),
            "{lines}"
        );
        let head = "ab".repeat(32);
        let long = format!(
            "  seal       record 41, 2026-11-23T20:05:31.123Z, reason deadline, head {head}"
        );
        let lines = wrapped(&long);
        assert_eq!(
            lines,
            format!(
                "  seal       record 41, 2026-11-23T20:05:31.123Z, reason deadline, head\n{INDENT}{head}\n"
            )
        );
    }

    #[test]
    fn what_is_not_seen_shows_where_it_stood() {
        assert_eq!(
            plain("a\u{1b}[2J\u{202e}b\u{2066}c\u{200b}d\u{2028}e\u{61c}\u{feff}"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}\u{fffd}"
        );
        let seen = "Ordnung, заказ, תיקון, 注文";
        assert_eq!(plain(seen), seen);
    }
}
