//! Findings as a person and a program read them.

use powerpole_database::check::{Facts, Finding, Severity};
use std::{io::Write as _, process::ExitCode};

/// A reader who closed the pipe has seen enough: errors of writing are not ours to report.
pub(super) fn show(found: &[Finding]) {
    let mut out = std::io::stdout().lock();
    if found.is_empty() {
        let _ = writeln!(out, "nothing is wrong");
    }
    for finding in found {
        let severity = finding.severity.as_str();
        let _ = writeln!(out, "{severity} {}: {}", finding.code, finding.what);
        let _ = writeln!(out, "    mend: {}", finding.mend);
    }
}

/// One object.
pub(super) fn as_json(facts: &Facts, found: &[Finding]) -> serde_json::Value {
    let found: Vec<serde_json::Value> = found
        .iter()
        .map(|finding| {
            serde_json::json!({
                "code": finding.code,
                "severity": finding.severity.as_str(),
                "what": finding.what,
                "mend": finding.mend,
            })
        })
        .collect();
    serde_json::json!({ "server": facts.version, "installed": facts.installed, "findings": found })
}

/// 1 where an error was found.
pub(super) fn exit_code(found: &[Finding]) -> ExitCode {
    if found
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    }
}
