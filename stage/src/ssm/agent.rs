//! The stand-in amazon-ssm-agent: registers its instance at the gateway and starts session workers.

use super::{
    AGENT_VERSION,
    gateway::{spawn_reader, spawn_writer},
    gateway_address, imds,
    state_file::StateFile,
    wire::{Frame, Hello, Start},
};
use crate::aws::clock;
use std::{path::Path, process::ExitCode, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command, signal::unix::SignalKind};

const PING_EVERY: Duration = Duration::from_secs(5);
const GATEWAY_SILENCE: Duration = Duration::from_secs(15);
/// How long the real one waits for its workers when it is told to end (core/app/longrunning: HardStopTimeout).
const HARD_STOP: Duration = Duration::from_secs(6);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
const WORKER: &str = "/usr/bin/ssm-session-worker";

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print the version and end, as the real one's `-version`.
    #[arg(long)]
    agent_version: bool,
}

/// Why the agent lost its gateway.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("gateway {0} cannot be reached")]
    Connect(String, #[source] std::io::Error),
    #[error("gateway refused: {0}")]
    Refused(String),
    #[error("gateway closed the connection")]
    Closed,
    #[error("gateway is silent")]
    Silent,
}

/// Runs until SIGTERM and then a while more; sessions that are under way go on without it, both as with the real one.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.agent_version {
        println!("SSM Agent version: {AGENT_VERSION}");
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminated = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        () = stay_registered() => {}
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tokio::time::sleep(HARD_STOP).await;
    Ok(ExitCode::SUCCESS)
}

async fn stay_registered() {
    loop {
        match imds::identity().await {
            Ok(identity) => {
                let lost = register(&identity.instance).await;
                tracing::warn!(reason = %lost, "not registered");
            }
            Err(error) => tracing::warn!(%error, "instance is unknown"),
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

async fn register(instance: &str) -> Lost {
    let address = gateway_address();
    let stream = match TcpStream::connect(&address).await {
        Ok(stream) => stream,
        Err(error) => return Lost::Connect(address, error),
    };
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let mut frames = spawn_reader(reader);
    let queue = spawn_writer(writer);
    let host = nix::unistd::gethostname()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let hello = Hello::Agent {
        instance: instance.to_owned(),
        version: AGENT_VERSION.to_owned(),
        host,
    };
    if queue.send(Frame::Hello(hello)).await.is_err() {
        return Lost::Closed;
    }
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut silence = tokio::time::Instant::now() + GATEWAY_SILENCE;
    loop {
        tokio::select! {
            frame = frames.recv() => {
                silence = tokio::time::Instant::now() + GATEWAY_SILENCE;
                match frame {
                    Some(Frame::Start(start)) => begin(instance.to_owned(), *start),
                    Some(Frame::Notice(text)) => return Lost::Refused(text),
                    Some(_) => {}
                    None => return Lost::Closed,
                }
            }
            _ = ping.tick() => if queue.send(Frame::Ping).await.is_err() { return Lost::Closed },
            () = tokio::time::sleep_until(silence) => return Lost::Silent,
        }
    }
}

/// Starts a session's worker; its state file lives as long as the worker.
fn begin(instance: String, start: Start) {
    tokio::spawn(async move {
        tracing::info!(session = %start.session, owner = %start.owner, "session starts");
        let state = match StateFile::write(&instance, &start, clock::now()) {
            Ok(state) => state,
            Err(error) => return tracing::error!(%error, "state file cannot be written"),
        };
        if let Err(error) = work(&start).await {
            tracing::error!(session = %start.session, %error, "worker failed");
        }
        drop(state);
        tracing::info!(session = %start.session, "session over");
    });
}

async fn work(start: &Start) -> std::io::Result<()> {
    let own = std::env::var("POWERPOLE_STAGE_SSM_WORKER").unwrap_or_else(|_| WORKER.to_owned());
    let program = if Path::new(&own).exists() {
        own.as_str()
    } else {
        "/proc/self/exe"
    };
    // argv is the real one's: the program's path and the session id, no more. The rest goes by stdin.
    let mut worker = Command::new(program)
        .arg0(WORKER)
        .arg(&start.session)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()?;
    if let Some(mut pipe) = worker.stdin.take() {
        pipe.write_all(&serde_json::to_vec(start)?).await?;
    }
    worker.wait().await.map(|_| ())
}
