//! Patching at boot: everything that the image lacks, before anybody may log in.
//!
//! Amazon Linux locks its repositories to the image's release; `--releasever` crosses to the one that the boot
//! document names (FACTS: a plain `dnf upgrade` finds nothing there). amazon-ssm-agent stays masked meanwhile,
//! because its scriptlet would start it before the recorder is there.

use crate::config::Config;
use crate::failure::Coded;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// A patch that did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatchError {
    /// A program could not be started.
    #[error("cannot run {program}")]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{what} failed ({status}): {tail}")]
    Failed {
        /// What was done.
        what: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines of what it said.
        tail: String,
    },
    /// Advisories are still open after the upgrade.
    #[error("{0} security advisories are still open after the upgrade")]
    StillOpen(u32),
    /// The release in the boot document is not one.
    #[error("the release {0:?} is neither 'latest' nor digits and dots")]
    Release(String),
}

impl Coded for PatchError {
    fn code(&self) -> &'static str {
        match self {
            Self::Spawn { .. } => "patch_not_started",
            Self::Failed { .. } => "patch_failed",
            Self::StillOpen(_) => "patch_incomplete",
            Self::Release(_) => "release_malformed",
        }
    }
}

/// Upgrades all packages to `release` and checks that no security advisory is left open.
///
/// # Errors
/// When dnf cannot be run, fails, or leaves an advisory open.
pub(crate) async fn upgrade(config: &Config, release: &str) -> Result<(), PatchError> {
    let plain = release.chars().all(|c| c.is_ascii_digit() || c == '.');
    if release != "latest" && (release.is_empty() || !plain) {
        return Err(PatchError::Release(release.to_owned()));
    }
    let release = format!("--releasever={release}");
    systemctl(&["mask", "--runtime", &config.ssm_unit]).await?;
    let upgraded = dnf(
        config,
        &["--assumeyes", "--refresh", &release, "upgrade"],
        "dnf upgrade",
    )
    .await;
    systemctl(&["unmask", "--runtime", &config.ssm_unit]).await?;
    upgraded?;
    match open_advisories(config, &release).await? {
        0 => Ok(()),
        open => Err(PatchError::StillOpen(open)),
    }
}

/// Counts the security advisories that are open on this machine.
///
/// # Errors
/// When dnf cannot be run or fails.
pub(crate) async fn count_advisories(config: &Config, release: &str) -> Result<u32, PatchError> {
    open_advisories(config, &format!("--releasever={release}")).await
}

async fn open_advisories(config: &Config, release: &str) -> Result<u32, PatchError> {
    let arguments = ["--quiet", release, "updateinfo", "list", "--security"];
    let output = dnf(config, &arguments, "dnf updateinfo").await?;
    Ok(count_lines(&output.stdout))
}

/// Every line of `updateinfo list` is an advisory that applies to an installed package.
fn count_lines(stdout: &[u8]) -> u32 {
    let lines = stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty());
    u32::try_from(lines.count()).unwrap_or(u32::MAX)
}

async fn dnf(
    config: &Config,
    arguments: &[&str],
    what: &'static str,
) -> Result<Output, PatchError> {
    // Whatever a repository's own file says: one that cannot be had fails the patch.
    let mut all = vec!["--setopt=*.skip_if_unavailable=False"];
    all.extend_from_slice(arguments);
    run(&config.dnf, &all, what).await
}

async fn systemctl(arguments: &[&str]) -> Result<(), PatchError> {
    run(Path::new("/usr/bin/systemctl"), arguments, "systemctl")
        .await
        .map(|_| ())
}

async fn run(program: &Path, arguments: &[&str], what: &'static str) -> Result<Output, PatchError> {
    let output = Command::new(program)
        .args(arguments)
        // Not the agent's own group, by which the packet filter knows it.
        .gid(0)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|source| PatchError::Spawn {
            program: program.to_owned(),
            source,
        })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(PatchError::Failed {
        what,
        status: output.status,
        tail: tail(&output.stderr, &output.stdout),
    })
}

fn tail(stderr: &[u8], stdout: &[u8]) -> String {
    let said = if stderr.trim_ascii().is_empty() {
        stdout
    } else {
        stderr
    };
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let from = lines.len().saturating_sub(5);
    lines.get(from..).unwrap_or_default().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advisories_are_counted_by_line() {
        assert_eq!(count_lines(b""), 0);
        assert_eq!(
            count_lines(b"ALAS-1 Important/Sec. a-2.0.x86_64\nALAS-2 low/Sec. b\n\n"),
            2
        );
    }

    #[tokio::test]
    async fn a_release_that_is_an_option_in_disguise_is_refused() {
        for bad in ["", "latest --nogpgcheck", "2023;id", "$(id)"] {
            let refused = upgrade(&Config::default(), bad).await;
            assert!(matches!(refused, Err(PatchError::Release(_))), "{bad:?}");
        }
    }
}
