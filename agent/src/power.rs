//! Power: the instance's shutdown behaviour is *terminate*, so powering off is the end of it.
//!
//! Two hands of four that keep a deadline are here: the agent's own power-off, and a timer of systemd that
//! does not need the agent to live. The one reboot of a bastion's life, for its patch, is here, too.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// systemd did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {message}")]
pub(crate) struct PowerError {
    what: &'static str,
    message: String,
}

impl crate::failure::Coded for PowerError {
    fn code(&self) -> &'static str {
        "power"
    }
}

const TIMER: &str = "powerpole-deadline";
const SYSTEMCTL: &str = "/usr/bin/systemctl";
const UNIT: &str = "powerpole-agent.service";
/// Of this boot only: what it says is gone with /run.
const DROP_IN: &str = "/run/systemd/system/powerpole-agent.service.d/reboot.conf";
/// Longest time for taking the drop-in back.
const BACK_LIMIT: Duration = Duration::from_secs(10);

/// Tells systemd to power off after `left`, whatever becomes of the agent. A later call replaces an earlier one.
///
/// # Errors
/// When systemd refuses the timer.
pub(crate) async fn arm_timer(left: Duration) -> Result<(), PowerError> {
    let timer = format!("{TIMER}.timer");
    // A timer that is not there yet cannot be stopped; that is the usual case and no error.
    let _ = systemd("stop the timer", SYSTEMCTL, &["stop", &timer]).await;
    systemd(
        "arm the power-off timer",
        "/usr/bin/systemd-run",
        &[
            "--quiet",
            "--collect",
            &format!("--unit={TIMER}"),
            &format!("--on-active={}s", left.as_secs()),
            "--timer-property=AccuracySec=1s",
            "--timer-property=RemainAfterElapse=no",
            SYSTEMCTL,
            "--no-block",
            "poweroff",
        ],
    )
    .await
    .map(drop)
}

/// Powers off, also where a reboot was arranged. The call returns; the machine ends soon after.
///
/// # Errors
/// When systemd refuses; the unit's `FailureAction` is then what remains.
pub(crate) async fn off() -> Result<(), PowerError> {
    take_back().await;
    systemd("power off", SYSTEMCTL, &["--no-block", "poweroff"])
        .await
        .map(drop)
}

/// Has systemd reboot where it would power off when the agent ends, however it ends. Nothing is rebooted by this call, so the
/// agent still has its say in full; whoever made it ends the agent without [`off`], which takes it back.
///
/// # Errors
/// When that did not come about, or not wholly; [`off`] is due then.
pub(crate) async fn reboot_at_exit() -> Result<(), PowerError> {
    let path = Path::new(DROP_IN);
    let text = "[Unit]\nSuccessAction=reboot\nFailureAction=reboot\n";
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        // systemd warns of a unit's file that not everybody may read.
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o644)))
        .map_err(|error| PowerError {
            what: "write the reboot's drop-in",
            message: error.to_string(),
        })?;
    systemd("load the reboot", SYSTEMCTL, &["daemon-reload"]).await?;
    let show = ["show", "--property=SuccessAction,FailureAction", UNIT];
    let shown = systemd("look at the reboot", SYSTEMCTL, &show).await?;
    if is_reboot(&shown.stdout) {
        Ok(())
    } else {
        Err(PowerError {
            what: "arrange the reboot",
            message: String::from_utf8_lossy(&shown.stdout).trim().to_owned(),
        })
    }
}

/// Takes back what [`reboot_at_exit`] did or began. Should systemd not hear of it, it still takes no reboot over a power-off
/// that it was told of before.
async fn take_back() {
    match std::fs::remove_file(DROP_IN) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        _ => {}
    }
    let back = systemd("take the reboot back", SYSTEMCTL, &["daemon-reload"]);
    match tokio::time::timeout(BACK_LIMIT, back).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::error!(%error, "the reboot was not taken back"),
        Err(_elapsed) => tracing::error!("the reboot was not taken back in time"),
    }
}

/// Both actions, in whatever order systemd shows them.
fn is_reboot(shown: &[u8]) -> bool {
    let shown = String::from_utf8_lossy(shown);
    let mut lines: Vec<&str> = shown.lines().collect();
    lines.sort_unstable();
    lines == ["FailureAction=reboot", "SuccessAction=reboot"]
}

async fn systemd(
    what: &'static str,
    program: &str,
    arguments: &[&str],
) -> Result<Output, PowerError> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| PowerError {
            what,
            message: error.to_string(),
        })?;
    if output.status.success() {
        Ok(output)
    } else {
        Err(PowerError {
            what,
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_reboots_are_a_reboot() {
        for (shown, is) in [
            ("SuccessAction=reboot\nFailureAction=reboot\n", true),
            ("FailureAction=reboot\nSuccessAction=reboot\n", true),
            ("FailureAction=poweroff\nSuccessAction=reboot\n", false),
            ("FailureAction=reboot\n", false),
            ("", false),
        ] {
            assert_eq!(is_reboot(shown.as_bytes()), is, "{shown:?}");
        }
    }
}
