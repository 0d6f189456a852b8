//! What the demo kept of the evidence: said at every end, also after Ctrl-C.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folder where evidence goes, and what was in it before.
pub(super) struct Kept {
    folder: PathBuf,
    /// Whether somebody named the folder (OUT=DIR); otherwise it is the stage's.
    named: bool,
    before: BTreeSet<String>,
}

impl Kept {
    /// Remembers what is there already.
    pub(super) fn in_folder(folder: PathBuf, named: bool) -> Self {
        let before = names(&folder);
        Self {
            folder,
            named,
            before,
        }
    }

    /// What is new there, and how to verify it once more with this `powerpole`.
    pub(super) fn lines(&self, powerpole: &Path) -> Vec<String> {
        let new: Vec<String> = names(&self.folder)
            .into_iter()
            .filter(|name| !self.before.contains(name))
            .filter(|name| self.named || name.starts_with("evidence-"))
            .collect();
        let folder = self.folder.display();
        if new.is_empty() {
            return match self.named {
                true => vec![format!(
                    "Nothing was kept in {folder}: no evidence was exported."
                )],
                false => vec!["No evidence was exported, so none was kept.".to_owned()],
            };
        }
        let mut lines = vec![format!("Kept in {folder}:")];
        lines.extend(new.iter().map(|name| format!("  {name}")));
        let verify = self.to_verify(&new, powerpole);
        if verify.is_empty() {
            lines.push("There is no evidence among it: none was exported.".to_owned());
        } else {
            lines.push("To verify it once more, which needs no stage:".to_owned());
            lines.extend(verify);
        }
        lines
    }

    fn to_verify(&self, new: &[String], powerpole: &Path) -> Vec<String> {
        let inner = new.iter().map(|name| self.folder.join(name));
        std::iter::once(self.folder.clone())
            .chain(inner)
            .filter(|folder| folder.join("LINES.jsonl").is_file())
            // The copy that the hand demo has somebody damage.
            .filter(|folder| !folder.to_string_lossy().ends_with("-damaged"))
            .map(|folder| {
                let rolls = folder.join("ROLLS.jsonl");
                let rolls = match rolls.is_file() {
                    true => format!(" --rolls {}", rolls.display()),
                    false => String::new(),
                };
                format!(
                    "  {} verify {}{rolls}",
                    powerpole.display(),
                    folder.display()
                )
            })
            .collect()
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, names: &[&str]) {
        std::fs::create_dir_all(folder).unwrap();
        for name in names {
            std::fs::write(folder.join(name), "x").unwrap();
        }
    }

    #[test]
    fn what_is_kept_is_told_with_the_line_that_verifies_it() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let program = Path::new("/p/powerpole");
        let told = |kept: &Kept| kept.lines(program).join("\n");

        let kept = Kept::in_folder(out.clone(), true);
        assert!(told(&kept).contains("Nothing was kept in"));
        write(&out, &["1-modal.png"]);
        assert!(
            told(&kept).contains("1-modal.png") && told(&kept).contains("no evidence among it")
        );
        write(&out, &["LINES.jsonl", "ROLLS.jsonl"]);
        let line = format!(
            "/p/powerpole verify {} --rolls {}",
            out.display(),
            out.join("ROLLS.jsonl").display()
        );
        assert!(told(&kept).contains(&line), "{}", told(&kept));
    }

    #[test]
    fn of_the_stages_own_folder_only_new_evidence_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let program = Path::new("/p/powerpole");
        write(&dir.path().join("evidence-req-old"), &["LINES.jsonl"]);
        let kept = Kept::in_folder(dir.path().to_owned(), false);
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        assert_eq!(kept.lines(program).len(), 1);
        write(&dir.path().join("evidence-req-new"), &["LINES.jsonl"]);
        write(
            &dir.path().join("evidence-req-new-damaged"),
            &["LINES.jsonl"],
        );
        let told = kept.lines(program).join("\n");
        assert!(
            !told.contains("req-old") && !told.contains("logs"),
            "{told}"
        );
        assert!(
            told.contains("verify ") && told.ends_with("evidence-req-new"),
            "{told}"
        );
    }
}
