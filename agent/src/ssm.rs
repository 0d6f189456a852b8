//! amazon-ssm-agent: disabled in the image and started last, so that *online* means *ready* and no session
//! comes before the recorder.

use crate::clock;
use crate::config::Config;
use crate::failure::Coded;
use serde::Deserialize;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const PAUSE: Duration = Duration::from_millis(500);
/// Longest time for systemctl; what it asked for goes on without it.
const UNIT_LIMIT: Duration = Duration::from_secs(10);
/// Longest time for one look with ssm-cli.
const LOOK_LIMIT: Duration = Duration::from_secs(20);

/// amazon-ssm-agent did not come online.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SsmError {
    /// systemctl failed.
    #[error("cannot {verb} {unit}: {message}")]
    Unit {
        /// What was asked of systemd.
        verb: &'static str,
        /// The unit.
        unit: String,
        /// What systemctl said.
        message: String,
    },
    /// Not online in time.
    #[error("amazon-ssm-agent was not online after {} s; last: {last}", .limit.as_secs())]
    Offline {
        /// How long was waited.
        limit: Duration,
        /// What the last look said.
        last: String,
    },
}

impl Coded for SsmError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unit { .. } => "ssm_not_started",
            Self::Offline { .. } => "ssm_offline",
        }
    }
}

/// Starts the unit and waits until the instance is online; halfway it is restarted once.
///
/// # Errors
/// When it cannot be started, or is not online within the configured limit.
pub(crate) async fn start_and_wait(config: &Config) -> Result<(), SsmError> {
    systemctl("start", &config.ssm_unit).await?;
    let limit = Duration::from_secs(config.ssm_limit_s);
    let start = clock::boottime();
    let mut restarted = false;
    loop {
        let last = match look(config).await {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        let waited = clock::boottime().since(start);
        if waited >= limit {
            return Err(SsmError::Offline { limit, last });
        }
        if !restarted && waited >= limit / 2 {
            restarted = true;
            tracing::warn!(last, "amazon-ssm-agent is not online, restarting it once");
            systemctl("restart", &config.ssm_unit).await?;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Stops the unit: no further session can start.
///
/// # Errors
/// When systemd refuses.
pub(crate) async fn stop(config: &Config) -> Result<(), SsmError> {
    systemctl("stop", &config.ssm_unit).await
}

async fn systemctl(verb: &'static str, unit: &str) -> Result<(), SsmError> {
    let failed = |message| SsmError::Unit {
        verb,
        unit: unit.to_owned(),
        message,
    };
    let mut command = Command::new("/usr/bin/systemctl");
    command
        .args([verb, unit])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(UNIT_LIMIT, command.output())
        .await
        .map_err(|_| failed(format!("no answer within {} s", UNIT_LIMIT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Diagnostics {
    diagnostics_output: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    check: String,
    status: String,
    #[serde(default)]
    note: String,
}

/// One look: the reason why the instance is not online, if it is not.
async fn look(config: &Config) -> Result<(), String> {
    let mut command = Command::new(&config.ssm_cli);
    command
        .args(["get-diagnostics", "--output", "json"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LOOK_LIMIT, command.output())
        .await
        .map_err(|_| "ssm-cli did not answer".to_owned())?
        .map_err(|error| format!("ssm-cli: {error}"))?;
    judge(&output.stdout)
}

/// What ssm-cli checks that must hold before a session can come.
const REQUIRED: [&str; 4] = [
    "EC2 IMDS",
    "Connectivity to ssm endpoint",
    "AWS Credentials",
    "Agent service",
];

fn judge(diagnostics: &[u8]) -> Result<(), String> {
    let diagnostics: Diagnostics = serde_json::from_slice(diagnostics)
        .map_err(|_| "ssm-cli gave no diagnostics".to_owned())?;
    for required in REQUIRED {
        let check = diagnostics
            .diagnostics_output
            .iter()
            .find(|check| check.check == required);
        match check {
            Some(check) if check.status == "Success" => {}
            Some(check) => return Err(format!("{required}: {} {}", check.status, check.note)),
            None => return Err(format!("{required}: not among ssm-cli's checks")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostics(agent: &str) -> String {
        format!(
            r#"{{"DiagnosticsOutput":[{{"Check":"EC2 IMDS","Status":"Success","Note":""}},
            {{"Check":"Connectivity to ssm endpoint","Status":"Success","Note":""}},
            {{"Check":"AWS Credentials","Status":"Success","Note":""}},
            {{"Check":"Agent service","Status":"{agent}","Note":"n"}}]}}"#
        )
    }

    #[test]
    fn online_needs_every_required_check() {
        assert_eq!(judge(diagnostics("Success").as_bytes()), Ok(()));
        assert!(judge(diagnostics("Failed").as_bytes()).is_err());
        assert!(judge(b"{\"DiagnosticsOutput\":[]}").is_err());
        assert!(judge(b"").is_err());
    }
}
