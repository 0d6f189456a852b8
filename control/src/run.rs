//! Control's life: listens, ticks, and ends in order. Everything it works with arrives as an argument.

use crate::listener::{self, Bounds};
use crate::service::Service;
use crate::tick::execute;
use crate::{bastion_api, roll, slack_api};
use powerpole_protocol::id::RequestId;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long work in flight gets at the end.
const LAST_WORK: Duration = Duration::from_secs(20);

/// Control's two listeners, bound.
pub struct Listeners {
    /// For bastions.
    pub bastions: TcpListener,
    /// For Slack.
    pub slack: TcpListener,
}

/// Serves until `stop`, then finishes what is in flight. `ready` is called once both listeners answer.
///
/// # Errors
/// When a listener breaks.
pub async fn run(
    service: Arc<Service>,
    listeners: Listeners,
    mut nudged: mpsc::Receiver<RequestId>,
    stop: CancellationToken,
    ready: impl FnOnce(),
) -> std::io::Result<()> {
    let serve = |listener: TcpListener, routes: axum::Router, per_source: usize| {
        let stop = stop.clone();
        let bounds = Bounds {
            per_source,
            ..Bounds::default()
        };
        tokio::spawn(async move {
            listener::serve(listener, routes, bounds, stop).await;
        })
    };
    let listen = &service.config.listen;
    let bastions = serve(
        listeners.bastions,
        bastion_api::routes(Arc::clone(&service)),
        listen.bastions_per_source,
    );
    let slack = serve(
        listeners.slack,
        slack_api::routes(Arc::clone(&service)),
        listen.slack_per_source,
    );
    let ticking = {
        let (service, stop) = (Arc::clone(&service), stop.clone());
        tokio::spawn(async move { keep_ticking(&service, &stop).await })
    };
    let nudging = {
        let (service, stop) = (Arc::clone(&service), stop.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    next = nudged.recv() => match next {
                        None => return,
                        Some(request) => {
                            let worker = Arc::clone(&service);
                            service.tasks.spawn(async move { execute::pursue(&worker, &request).await });
                        }
                    },
                }
            }
        })
    };
    ready();
    tracing::info!("control serves");
    let served = async {
        for server in [bastions, slack] {
            // A server that ends by itself is a fault; one that was told to stop is not.
            server.await.map_err(std::io::Error::other)?;
        }
        Ok::<(), std::io::Error>(())
    };
    let ended = tokio::select! {
        ended = served => ended,
        () = async { stop.cancelled().await; tokio::time::sleep(LAST_WORK).await } => Ok(()),
    };
    stop.cancel();
    service.tasks.close();
    let rest = async {
        let _ = ticking.await;
        let _ = nudging.await;
        service.tasks.wait().await;
    };
    if tokio::time::timeout(LAST_WORK, rest).await.is_err() {
        tracing::warn!("work was left unfinished at the end; the next tick repeats it");
    }
    tracing::info!("control ends");
    ended
}

async fn keep_ticking(service: &Service, stop: &CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(service.config.times.tick_s));
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = every.tick() => {
                execute::tick(service).await;
                roll::keep_up(service).await;
            }
        }
    }
}
