//! Running the host's own tools (`ip`, `nft`, …) and keeping what they said when they fail.

use super::HubError;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a tool to its end; its standard output on success, its words on failure.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, HubError> {
    run_with_input(program, args, "")
}

/// As [`run`], with text on its standard input.
pub(crate) fn run_with_input(
    program: &str,
    args: &[&str],
    input: &str,
) -> Result<String, HubError> {
    let start = |source| HubError::Start {
        program: program.to_owned(),
        source,
    };
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that fails early closes its input; what it said explains more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr)
        .trim()
        .replace('\n', "; ");
    Err(HubError::Failed {
        program: format!("{program} {}", args.join(" ")),
        said,
    })
}
