//! What is left after a grant: instances, accounts, secrets, namespaces, mounts, processes. All of it must be 0.

use crate::hub::Leftovers;
use crate::journey::aws;
use crate::supervisor::Running;
use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use std::process::Stdio;

/// A kind of thing and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    /// What.
    pub(crate) what: &'static str,
    /// How many.
    pub(crate) count: usize,
}

/// Counts what grants left behind on a stage.
pub(crate) async fn count_left(running: &Running) -> anyhow::Result<Vec<Left>> {
    let machines = Leftovers::of_machines(&running.stage);
    Ok(vec![
        Left {
            what: "EC2 instances not terminated",
            count: instances(running).await?,
        },
        Left {
            what: "database accounts of PowerPole",
            count: accounts(running).await?,
        },
        Left {
            what: "handoff secrets",
            count: secrets(running).await?,
        },
        Left {
            what: "network namespaces of machines",
            count: machines.namespaces.len(),
        },
        Left {
            what: "mounts of machines",
            count: machines.mounts.len(),
        },
        Left {
            what: "processes of machines",
            count: machines.processes.len(),
        },
    ])
}

/// The real AWS CLI, as the platform team.
async fn instances(running: &Running) -> anyhow::Result<usize> {
    let output = tokio::process::Command::new(running.files.python("aws"))
        .args(["ec2", "describe-instances", "--output", "json", "--filters"])
        .arg("Name=instance-state-name,Values=pending,running,stopping,stopped,shutting-down")
        .envs(running.environment("alice"))
        .stdin(Stdio::null())
        .output()
        .await
        .context("starting the AWS CLI")?;
    if !output.status.success() {
        bail!(
            "describe-instances failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let answer: Value =
        serde_json::from_slice(&output.stdout).context("reading describe-instances")?;
    let reservations = answer.get("Reservations").and_then(Value::as_array);
    let count = |reservation: &Value| {
        reservation
            .get("Instances")
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    Ok(reservations.into_iter().flatten().map(count).sum())
}

async fn secrets(running: &Running) -> anyhow::Result<usize> {
    let body = json!({ "Filters": [{ "Key": "name", "Values": ["powerpole/handoff/"] }], "MaxResults": 100 });
    let answer = aws(
        &running.aws_url(),
        "secretsmanager",
        "secretsmanager.ListSecrets",
        &body,
    )
    .await?;
    Ok(answer
        .get("SecretList")
        .and_then(Value::as_array)
        .map_or(0, Vec::len))
}

/// As the owner sees them: every user of both servers but the servers' own, the definer and the grantor.
async fn accounts(running: &Running) -> anyhow::Result<usize> {
    const COUNT: &str = "SELECT COUNT(*) FROM mysql.user WHERE Host LIKE '10.77.%' \
                         AND User NOT LIKE 'powerpole%' AND User NOT IN ('root', '')";
    let mut total = 0;
    for part in ["mysql", "mariadb"] {
        let text = owner_query(running, part, COUNT).await?;
        total += text
            .trim()
            .parse::<usize>()
            .with_context(|| format!("{part} counted {text:?}"))?;
    }
    Ok(total)
}

/// Runs a statement as the owner of one of the stage's servers; answers what the client printed.
pub(crate) async fn owner_query(
    running: &Running,
    part: &str,
    sql: &str,
) -> anyhow::Result<String> {
    let options = running
        .files
        .dir
        .join("run")
        .join(format!("{part}-owner.cnf"));
    let output = tokio::process::Command::new("ip")
        .args(["netns", "exec", &running.stage.hub_namespace(), "mariadb"])
        .arg(format!("--defaults-file={}", options.display()))
        .args(["--batch", "--skip-column-names", "--execute", sql])
        .stdin(Stdio::null())
        .output()
        .await
        .context("starting the mariadb client")?;
    if !output.status.success() {
        bail!("{part}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
