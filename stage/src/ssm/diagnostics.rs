//! The stand-in ssm-cli: `get-diagnostics` in the real one's JSON form and order of checks.
//!
//! The checks that depend on the registration succeed only while the gateway knows this instance. Like
//! the real one it exits 0 whatever the checks say: a reader has to look at each status.

use super::{
    AGENT_VERSION, gateway_address, imds,
    wire::{Frame, Hello, WireError, receive, send},
};
use serde::Serialize;
use std::{process::ExitCode, time::Duration};
use tokio::{net::TcpStream, time::timeout};

const PATIENCE: Duration = Duration::from_secs(2);
const SERVICES: [&str; 7] = [
    "ssm",
    "ec2messages",
    "ssmmessages",
    "s3",
    "kms",
    "logs",
    "monitoring",
];

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Says whether this instance is registered, and what may be wrong.
    GetDiagnostics {
        /// Only `json`.
        #[arg(long, default_value = "json", value_parser = ["json"])]
        output: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Diagnostics {
    diagnostics_output: Vec<Check>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    check: String,
    status: &'static str,
    note: String,
}

/// Prints the diagnostics.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::GetDiagnostics { output: _ } = args.command;
    let identity = imds::identity().await;
    let registered = match &identity {
        Ok(identity) => registration(&identity.instance).await,
        Err(_) => Err("instance id is unknown".to_owned()),
    };
    let identity = identity.map_err(|error| error.to_string());
    let diagnostics = Diagnostics {
        diagnostics_output: checks(identity, registered),
    };
    println!("{}", serde_json::to_string_pretty(&diagnostics)?);
    Ok(ExitCode::SUCCESS)
}

async fn registration(instance: &str) -> Result<(), String> {
    let asking = async {
        let mut stream = TcpStream::connect(gateway_address()).await?;
        let hello = Hello::Status {
            instance: instance.to_owned(),
        };
        send(&mut stream, &Frame::Hello(hello)).await?;
        receive(&mut stream).await
    };
    let answer: Result<Result<Frame, WireError>, _> = timeout(PATIENCE, asking).await;
    match answer {
        Ok(Ok(Frame::Registered(true))) => Ok(()),
        Ok(Ok(_)) => Err("instance is not registered".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("connection timed out".to_owned()),
    }
}

fn checks(identity: Result<imds::Identity, String>, registered: Result<(), String>) -> Vec<Check> {
    let region = identity
        .as_ref()
        .map_or("us-east-1", |identity| identity.region.as_str());
    let mut list = vec![match &identity {
        Ok(imds::Identity { instance, region }) => success(
            "EC2 IMDS",
            format!("IMDS is accessible and has instance id {instance} in region {region}"),
        ),
        Err(error) => failed("EC2 IMDS", format!("Failed to query IMDS: {error}")),
    }];
    list.push(skipped(
        "Hybrid instance registration",
        "Instance does not have hybrid registration",
    ));
    for service in SERVICES {
        let name = format!("Connectivity to {service} endpoint");
        let address = format!("{service}.{region}.amazonaws.com");
        list.push(match (&registered, service) {
            (Err(error), "ssm" | "ec2messages" | "ssmmessages") => {
                failed(&name, format!("{address} is not reachable: {error}"))
            }
            _ => success(&name, format!("{address} is reachable")),
        });
    }
    list.push(match &identity {
        Ok(identity) => success(
            "AWS Credentials",
            format!(
                "Credentials are for arn:aws:sts::{}:assumed-role/PowerPoleBastion/{} and will expire at 2099-01-01 00:00:00 +0000 UTC",
                crate::aws::people::ACCOUNT,
                identity.instance
            ),
        ),
        Err(_) => failed("AWS Credentials", "No credentials available".to_owned()),
    });
    list.push(match &registered {
        Ok(()) => success(
            "Agent service",
            "Agent service is running and is running as expected user".to_owned(),
        ),
        Err(_) => failed(
            "Agent service",
            "Agent is installed as a systemctl service but is not running".to_owned(),
        ),
    });
    list.push(skipped(
        "Proxy configuration",
        "No proxy configuration detected",
    ));
    list.push(success(
        "SSM Agent version",
        format!("SSM Agent version is {AGENT_VERSION} which is the latest version"),
    ));
    list
}

fn success(check: &str, note: String) -> Check {
    Check {
        check: check.to_owned(),
        status: "Success",
        note,
    }
}

fn failed(check: &str, note: String) -> Check {
    Check {
        check: check.to_owned(),
        status: "Failed",
        note,
    }
}

fn skipped(check: &str, note: &str) -> Check {
    Check {
        check: check.to_owned(),
        status: "Skipped",
        note: note.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Result<imds::Identity, String> {
        Ok(imds::Identity {
            instance: "i-1".into(),
            region: "us-east-1".into(),
        })
    }

    #[test]
    fn nothing_fails_while_the_instance_is_registered() {
        let list = checks(identity(), Ok(()));
        assert!(
            list.iter().all(|check| check.status != "Failed"),
            "{list:?}"
        );
        assert_eq!(list.len(), 13);
    }

    #[test]
    fn the_agents_checks_fail_while_it_is_not() {
        let list = checks(identity(), Err("no".into()));
        let failed: Vec<&str> = list
            .iter()
            .filter(|check| check.status == "Failed")
            .map(|check| check.check.as_str())
            .collect();
        assert!(failed.contains(&"Agent service"));
        assert!(failed.contains(&"Connectivity to ssmmessages endpoint"));
    }
}
