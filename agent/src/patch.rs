//! Patching at boot: everything that the image lacks, before anybody may log in.
//!
//! Amazon Linux locks its repositories to the image's release; `--releasever` crosses to the one that the boot
//! document names (FACTS: a plain `dnf upgrade` finds nothing there). amazon-ssm-agent stays masked meanwhile,
//! because its scriptlet would start it before the recorder is there.
//!
//! What was upgraded and cannot be restarted (the kernel, glibc, systemd) takes one reboot, before anything of the grant is
//! looked at. The next boot patches again, finds nothing and goes on; it never reboots a second time.

mod marker;

pub(crate) use marker::Earlier;

use crate::clock;
use crate::config::Config;
use crate::failure::Coded;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::process::Command;

const SYSTEMCTL: &str = "/usr/bin/systemctl";
const RPM: &str = "/usr/bin/rpm";
/// Amazon Linux has it from dnf-utils.
const NEEDS_RESTARTING: &str = "/usr/bin/needs-restarting";
/// Packages beside its own that needs-restarting asks a reboot for, one a line.
const MORE_NAMES: &str = "/etc/dnf/plugins/needs-restarting.d/powerpole.conf";

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
    /// Whether a reboot is needed is not known.
    #[error("needs-restarting did not say whether a reboot is needed ({status}): {tail}")]
    Unclear {
        /// How it ended.
        status: std::process::ExitStatus,
        /// The last lines of what it said.
        tail: String,
    },
    /// This machine was rebooted for the patch and should be again.
    #[error("a reboot is needed after the one that there was: {0}")]
    InVain(String),
    /// A file of the patch cannot be read or written.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Coded for PatchError {
    fn code(&self) -> &'static str {
        match self {
            Self::Spawn { .. } => "patch_not_started",
            Self::Failed { .. } => "patch_failed",
            Self::StillOpen(_) => "patch_incomplete",
            Self::Release(_) => "release_malformed",
            Self::Unclear { .. } => "reboot_unknown",
            Self::InVain(_) => "reboot_in_vain",
            Self::File { .. } => "patch_file",
        }
    }
}

/// What a patch that did not fail leads to.
#[derive(Debug)]
#[must_use]
pub(crate) enum Patch {
    /// What runs is patched.
    Done(Patched),
    /// What runs is not what is installed, and that is noted: the machine has to reboot now.
    Reboot,
}

/// A patched machine, as its chain tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patched {
    release: String,
    kernel: String,
    before: Option<Earlier>,
}

impl Patched {
    /// The chain's event.
    pub(crate) fn event(&self) -> serde_json::Value {
        serde_json::json!({
            "event": "patched",
            "release": self.release,
            "kernel": self.kernel,
            "rebooted": self.before.is_some(),
            "kernel_before": self.before.as_ref().map(Earlier::kernel),
            "ms_before": self.before.as_ref().map(Earlier::spent_ms),
        })
    }
}

/// Upgrades all packages to `release`, and checks that what runs is what is installed and that no security advisory is
/// left open. `earlier` is the boot that ended for the patch, if there was one.
///
/// # Errors
/// When dnf cannot be run, fails, or leaves an advisory open; when a reboot is needed again or nobody knows whether.
pub(crate) async fn upgrade(
    config: &Config,
    release: &str,
    earlier: Option<&Earlier>,
) -> Result<Patch, PatchError> {
    let began = clock::boottime();
    let plain = release.chars().all(|c| c.is_ascii_digit() || c == '.');
    if release != "latest" && (release.is_empty() || !plain) {
        return Err(PatchError::Release(release.to_owned()));
    }
    let releasever = format!("--releasever={release}");
    // needs-restarting takes the age of /proc/1 for the time of the boot, and the kernel may forget and make it anew:
    // held open, it stays older than what is installed from here on.
    let _boot = std::fs::File::open("/proc/1").map_err(file("open", Path::new("/proc/1")))?;
    // Not at run time only: the upgrade may enable the unit, and the boot after this one must not start it either.
    systemctl(&["mask", &config.ssm_unit]).await?;
    let arguments = ["--assumeyes", "--refresh", &releasever, "upgrade"];
    dnf(config, &arguments, "dnf upgrade").await?;

    name_more().await?;
    let hint = output(Path::new(NEEDS_RESTARTING), &["-r"]).await?;
    let said = || tail(&hint.stderr, &hint.stdout);
    match next(hint.status.code(), &hint.stdout, earlier.is_some()) {
        Next::GoOn => {}
        Next::Reboot => {
            // Power lost from here on is a reboot, too. Before this line, the next boot finds no note and, as it is that
            // reboot, no need for another.
            let note = Earlier::new(kernel()?, clock::boottime().since(began));
            note.write(Path::new(marker::DIR))?;
            tracing::info!(why = said(), "the patch takes a reboot");
            return Ok(Patch::Reboot);
        }
        Next::InVain => return Err(PatchError::InVain(said())),
        Next::Unclear => {
            let (status, tail) = (hint.status, said());
            return Err(PatchError::Unclear { status, tail });
        }
    }
    // After a failure it stays masked: this machine lets nobody in any more.
    systemctl(&["unmask", &config.ssm_unit]).await?;
    match open_advisories(config, &releasever).await? {
        0 => Ok(Patch::Done(Patched {
            release: release.to_owned(),
            kernel: kernel()?,
            before: earlier.cloned(),
        })),
        open => Err(PatchError::StillOpen(open)),
    }
}

/// What follows an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Reboot,
    InVain,
    Unclear,
}

/// By what needs-restarting answered and whether there was a reboot. dnf exits 1 for any failure, so the words count, too.
fn next(code: Option<i32>, stdout: &[u8], rebooted: bool) -> Next {
    const NEEDED: &str = "Reboot is required";
    let needed = String::from_utf8_lossy(stdout).contains(NEEDED);
    match (code, needed, rebooted) {
        (Some(0), false, _) => Next::GoOn,
        (Some(1), true, false) => Next::Reboot,
        (Some(1), true, true) => Next::InVain,
        _ => Next::Unclear,
    }
}

/// Names to needs-restarting what it does not know by itself: Amazon Linux has later kernels as `kernel6.12`, of which the
/// version there says nothing, and every long-lived process that speaks TLS has openssl-libs.
async fn name_more() -> Result<(), PatchError> {
    let arguments = ["--query", "--all", "--queryformat", "%{NAME}\n"];
    let installed = run(Path::new(RPM), &arguments, "rpm").await?;
    let names = names_to_add(&String::from_utf8_lossy(&installed.stdout));
    let path = Path::new(MORE_NAMES);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(file("create", folder))?;
    }
    std::fs::write(path, names).map_err(file("write", path))
}

fn names_to_add(installed: &str) -> String {
    let kernel = |name: &str| {
        name.strip_prefix("kernel")
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    installed
        .lines()
        .filter(|name| kernel(name) || *name == "openssl-libs")
        .flat_map(|name| [name, "\n"])
        .collect()
}

/// The release of the kernel that runs.
fn kernel() -> Result<String, PatchError> {
    let path = Path::new("/proc/sys/kernel/osrelease");
    let text = std::fs::read_to_string(path).map_err(file("read", path))?;
    Ok(text.trim().to_owned())
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PatchError {
    let path = path.to_owned();
    move |source| PatchError::File { what, path, source }
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
    run(Path::new(SYSTEMCTL), arguments, "systemctl")
        .await
        .map(|_| ())
}

async fn run(program: &Path, arguments: &[&str], what: &'static str) -> Result<Output, PatchError> {
    let output = output(program, arguments).await?;
    if output.status.success() {
        return Ok(output);
    }
    Err(PatchError::Failed {
        what,
        status: output.status,
        tail: tail(&output.stderr, &output.stdout),
    })
}

/// How a program ended, whichever way, and what it said.
async fn output(program: &Path, arguments: &[&str]) -> Result<Output, PatchError> {
    Command::new(program)
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
    use std::time::Duration;

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
            let refused = upgrade(&Config::default(), bad, None).await;
            assert!(matches!(refused, Err(PatchError::Release(_))), "{bad:?}");
        }
    }

    const NEEDED: &[u8] =
        b"Core libraries or services have been updated since boot-up:\n  * kernel\n\n\
        Reboot is required to fully utilize these updates.\n";
    const NOT_NEEDED: &[u8] = b"No core libraries or services have been updated since boot-up.\n\
        Reboot should not be necessary.\n";

    #[test]
    fn a_machine_reboots_once_and_only_on_a_clear_word() {
        for (code, said, rebooted, then) in [
            (Some(0), NOT_NEEDED, false, Next::GoOn),
            (Some(0), NOT_NEEDED, true, Next::GoOn),
            (Some(0), &b""[..], false, Next::GoOn),
            (Some(1), NEEDED, false, Next::Reboot),
            (Some(1), NEEDED, true, Next::InVain),
            // dnf's own failures.
            (
                Some(1),
                &b"Error: rpmdb open failed\n"[..],
                false,
                Next::Unclear,
            ),
            (Some(1), NOT_NEEDED, false, Next::Unclear),
            (Some(1), &b""[..], true, Next::Unclear),
            (Some(0), NEEDED, false, Next::Unclear),
            (Some(2), NEEDED, false, Next::Unclear),
            (Some(127), &b""[..], false, Next::Unclear),
            (None, NEEDED, false, Next::Unclear),
        ] {
            assert_eq!(next(code, said, rebooted), then, "{code:?} {rebooted}");
        }
    }

    #[test]
    fn kernels_of_every_name_and_no_other_package_of_theirs_are_named() {
        let installed = "bash\nkernel6.12\nkernel\nkernel6.12-headers\nkernel-livepatch-6.1.1\nkernel-tools\n\
            openssl\nopenssl-libs\n";
        assert_eq!(
            names_to_add(installed),
            "kernel6.12\nkernel\nopenssl-libs\n"
        );
        assert_eq!(names_to_add(""), "");
    }

    #[test]
    fn the_chain_tells_of_a_reboot_and_of_none() {
        let mut patched = Patched {
            release: "latest".to_owned(),
            kernel: "6.12.2".to_owned(),
            before: None,
        };
        assert_eq!(patched.event()["rebooted"], false);
        patched.before = Some(Earlier::new("6.12.1".to_owned(), Duration::from_secs(70)));
        let event = patched.event();
        assert_eq!(
            (
                &event["rebooted"],
                &event["kernel_before"],
                &event["ms_before"]
            ),
            (&true.into(), &"6.12.1".into(), &70_000.into())
        );
    }
}
