//! Three tamperings of a copy of the evidence, each of which must show.

use anyhow::{Context as _, ensure};
use std::path::{Path, PathBuf};

/// Changes lines of the evidence.
type Change = fn(&mut Vec<String>);

/// What is done to a copy, and its name.
pub(crate) const TAMPERINGS: [(&str, Change); 3] = [
    ("one byte changed", change_a_byte),
    ("one record dropped", drop_a_record),
    ("the tail cut off", cut_the_tail),
];

/// Copies an export and applies a tampering to its lines; answers the copy's folder.
pub(crate) fn tampered_copy(export: &Path, into: &Path, change: Change) -> anyhow::Result<PathBuf> {
    if into.exists() {
        std::fs::remove_dir_all(into).with_context(|| format!("removing {}", into.display()))?;
    }
    std::fs::create_dir_all(into).with_context(|| format!("creating {}", into.display()))?;
    for file in ["LEDGER.json", "ANCHORS.jsonl"] {
        std::fs::copy(export.join(file), into.join(file))
            .with_context(|| format!("copying {file}"))?;
    }
    let text =
        std::fs::read_to_string(export.join("LINES.jsonl")).context("reading LINES.jsonl")?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    ensure!(
        lines.len() > 20,
        "the evidence has only {} lines",
        lines.len()
    );
    change(&mut lines);
    std::fs::write(into.join("LINES.jsonl"), lines.join("\n") + "\n")
        .context("writing LINES.jsonl")?;
    Ok(into.to_owned())
}

/// Changes one character of a payload in the middle, so that the line still reads well.
#[expect(clippy::ptr_arg, reason = "every tampering has the same type")]
fn change_a_byte(lines: &mut Vec<String>) {
    let middle = lines.len() / 2;
    let marks = ["\"d\":\"", "\\\"d\\\":\\\""];
    for line in lines.iter_mut().skip(middle) {
        let Some(start) = marks
            .iter()
            .find_map(|mark| line.find(mark).map(|at| at + mark.len()))
        else {
            continue;
        };
        let Some(old) = line.get(start..=start) else {
            continue;
        };
        if old.chars().all(|c| c.is_ascii_alphanumeric()) {
            let new = if old == "A" { "B" } else { "A" };
            line.replace_range(start..=start, new);
            return;
        }
    }
}

fn drop_a_record(lines: &mut Vec<String>) {
    lines.remove(lines.len() / 2);
}

fn cut_the_tail(lines: &mut Vec<String>) {
    lines.truncate(lines.len() - 5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tampering_changes_the_lines() {
        let original: Vec<String> = (0..30)
            .map(|n| format!("{{\"s\":{n},\"d\":\"QUJD\"}}"))
            .collect();
        for (name, change) in TAMPERINGS {
            let mut lines = original.clone();
            change(&mut lines);
            assert_ne!(lines, original, "{name}");
        }
    }
}
