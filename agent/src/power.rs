//! Power: the instance's shutdown behaviour is *terminate*, so powering off is the end of it.
//!
//! Two hands of four that keep a deadline are here: the agent's own power-off, and a timer of systemd that
//! does not need the agent to live.

use std::process::Stdio;
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

/// Tells systemd to power off after `left`, whatever becomes of the agent. A later call replaces an earlier one.
///
/// # Errors
/// When systemd refuses the timer.
pub(crate) async fn arm_timer(left: Duration) -> Result<(), PowerError> {
    let timer = format!("{TIMER}.timer");
    // A timer that is not there yet cannot be stopped; that is the usual case and no error.
    let _ = systemd("stop the timer", "/usr/bin/systemctl", &["stop", &timer]).await;
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
            "/usr/bin/systemctl",
            "--no-block",
            "poweroff",
        ],
    )
    .await
}

/// Powers off. The call returns; the machine ends soon after.
///
/// # Errors
/// When systemd refuses; the unit's `FailureAction` is then what remains.
pub(crate) async fn off() -> Result<(), PowerError> {
    systemd(
        "power off",
        "/usr/bin/systemctl",
        &["--no-block", "poweroff"],
    )
    .await
}

async fn systemd(what: &'static str, program: &str, arguments: &[&str]) -> Result<(), PowerError> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| PowerError {
            what,
            message: error.to_string(),
        })?;
    if output.status.success() {
        Ok(())
    } else {
        Err(PowerError {
            what,
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}
