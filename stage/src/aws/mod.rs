//! The stage's AWS endpoint: a proxy before moto that adds what moto lacks and injects faults.
//!
//! One process also runs the gateway of SSM sessions, because who is connected there is what
//! DescribeInstanceInformation and StartSession answer. It judges no right: the stage has no IAM.

pub(crate) mod answer;
mod call;
pub(crate) mod clock;
mod documents;
mod faults;
mod journal;
mod kms;
mod launches;
mod locks;
mod logs;
pub(crate) mod people;
mod proxy;
mod secrets;
mod sessions;
mod steering;
pub(crate) mod upstream;

use crate::ssm::gateway::Gateway;
use anyhow::Context;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proxy::Endpoint;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};
use tokio::{net::TcpListener, signal::unix::SignalKind};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where AWS clients connect.
    #[arg(long, default_value = "10.77.0.1:4566")]
    listen: SocketAddr,
    /// moto's address.
    #[arg(long, default_value = "http://127.0.0.1:5000")]
    moto: String,
    /// Where agents and plugins connect.
    #[arg(long, default_value = "10.77.0.1:8022")]
    gateway_listen: SocketAddr,
    /// The gateway's address in StreamUrl, where it is not the one listened on.
    #[arg(long)]
    gateway_address: Option<String>,
    /// Folder for what must outlive a restart (client tokens of launches).
    #[arg(long)]
    data: Option<PathBuf>,
    /// Milliseconds until a secret that was deleted without recovery is gone.
    #[arg(long, default_value_t = 300)]
    secret_deletion_delay_ms: u64,
    /// Let an agent register any instance from any address.
    #[arg(long)]
    trust_any_agent: bool,
    /// A session document (Standard_Stream) that exists though moto holds none; may be repeated.
    #[arg(long = "document", default_values_t = ["PowerPole-Session".to_owned()])]
    documents: Vec<String>,
}

/// Runs it until SIGTERM or SIGINT.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let upstream = upstream::Upstream::new(&args.moto);
    let directory = (!args.trust_any_agent).then(|| upstream.clone());
    let gateway = Gateway::new(directory);
    let gateway_listener = TcpListener::bind(args.gateway_listen)
        .await
        .with_context(|| format!("listening on {}", args.gateway_listen))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listening on {}", args.listen))?;
    let gateway_address = match args.gateway_address {
        Some(address) => address,
        None => gateway_listener
            .local_addr()
            .context("own address")?
            .to_string(),
    };
    if let Some(folder) = &args.data {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    let launches = launches::Launches::open(
        args.data
            .as_ref()
            .map(|folder| folder.join("run-tokens.json")),
    )?;
    let endpoint = Arc::new(Endpoint {
        upstream,
        launches,
        sessions: sessions::Sessions {
            gateway: gateway.clone(),
            gateway_address: gateway_address.clone(),
            standard_documents: args.documents,
        },
        kms: kms::Kms::default(),
        faults: faults::Faults::default(),
        journal: journal::Journal::default(),
        secret_deletion_delay: Duration::from_millis(args.secret_deletion_delay_ms),
    });
    tracing::info!(address = %listener.local_addr().context("own address")?, gateway = %gateway_address, moto = %args.moto, "AWS endpoint ready");
    let mut terminated = tokio::signal::unix::signal(SignalKind::terminate())?;
    tokio::select! {
        () = gateway.serve(gateway_listener) => {}
        () = accept(endpoint, listener) => {}
        _ = terminated.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn accept(endpoint: Arc<Endpoint>, listener: TcpListener) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let endpoint = Arc::clone(&endpoint);
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            // A task of its own: a caller who hangs up must not cut a launch in two.
            let service = service_fn(move |request| {
                let call = tokio::spawn(Arc::clone(&endpoint).serve(request));
                async move { call.await.unwrap_or(Err(proxy::NoAnswer::Dropped)) }
            });
            if let Err(error) = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await
            {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}
