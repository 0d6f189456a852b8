//! moto as AWS: loopback of the hub only, everyone else goes through the stage's proxy before it.

use super::error::PartsError;
use super::paths::{Installed, StagePaths};
use super::process::{self, in_hub};
use std::path::Path;
use std::time::Duration;

pub(super) const PART: &str = "moto";
/// 0.7 s on an idle machine; the first start after an installation compiles.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts moto empty: what it holds lives in its memory.
pub(super) async fn start(stage: &StagePaths, installed: &Installed) -> Result<(), PartsError> {
    if process::running(stage, PART)?.is_some() {
        return Ok(());
    }
    let mut command = in_hub(stage, &installed.path("python")?.join("bin/moto_server"));
    command
        .args(["-H", "127.0.0.1", "-p", "5000"])
        .env("MOTO_ENABLE_AMI_VALIDATION", "1")
        .env("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "1")
        .env("AWS_ACCESS_KEY_ID", "stage")
        .env("AWS_SECRET_ACCESS_KEY", "stage")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env_remove("AWS_ENDPOINT_URL")
        .env_remove("AWS_PROFILE");
    let process = process::start(stage, PART, command)?;
    process::wait_ready(stage, PART, process, PATIENCE, || {
        let mut probe = in_hub(stage, Path::new("curl"));
        probe.args([
            "--silent",
            "--fail",
            "--max-time",
            "5",
            "--noproxy",
            "*",
            "http://127.0.0.1:5000/moto-api/",
        ]);
        probe
    })
    .await
}
