//! The workspace: it stands in for Slack on this machine. Towards control it is Slack (signed
//! requests, Web API, limits); towards a person it is a page. It owns people, channels and messages,
//! and decides nothing that control must decide.

mod act;
mod blocks;
mod click;
mod clock;
mod conversations;
mod elements;
mod faults;
mod inputs;
mod messages;
mod outbound;
mod page;
#[cfg(test)]
mod peer_tests;
mod people;
mod response_url;
mod store;
mod submit;
mod views;
mod web_api;

pub(crate) use people::TEAM;

use anyhow::Context;
use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Address of the page and of the Web API.
    #[arg(long, default_value = "10.77.0.1:8090")]
    listen: SocketAddr,
    /// Control's Slack endpoint; `/slack/commands` and `/slack/interactions` are appended.
    #[arg(long, default_value = "http://10.77.0.1:8081")]
    control: String,
    /// File with the secret that requests to control are signed with.
    #[arg(long)]
    signing_secret_file: PathBuf,
    /// File with the bot token that control must show.
    #[arg(long)]
    bot_token_file: PathBuf,
    /// Folder for the journal of messages.
    #[arg(long)]
    state: PathBuf,
    /// This workspace's address as control sees it, for response addresses.
    #[arg(long)]
    public_url: Option<String>,
    /// Slack's limit of one message a second and channel, after a burst of five.
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true)]
    rate_limit: bool,
    /// How long control has to acknowledge, in milliseconds.
    #[arg(long, default_value_t = 3000)]
    ack_limit_ms: u64,
}

/// What all requests share.
pub(crate) struct Workspace {
    store: Mutex<store::Store>,
    faults: Mutex<faults::Faults>,
    pub(crate) control: outbound::Control,
    pub(crate) token: String,
    pub(crate) base_url: String,
}

impl Workspace {
    /// The messages and modals. Held for no longer than one change; never across an await.
    pub(crate) fn store(&self) -> MutexGuard<'_, store::Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The planned faults. Taken after the store where both are held.
    pub(crate) fn faults(&self) -> MutexGuard<'_, faults::Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The full response address of a key.
    pub(crate) fn response_url(&self, key: &str) -> String {
        format!("{}/response/{key}", self.base_url)
    }
}

/// Serves until it is ended.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&args.state)
        .with_context(|| format!("creating {}", args.state.display()))?;
    let journal = args.state.join("journal.json");
    let store = store::Store::open(Some(journal.clone()))
        .with_context(|| format!("reading {}", journal.display()))?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listening on {}", args.listen))?;
    let address = listener.local_addr()?;
    let base_url = args
        .public_url
        .unwrap_or_else(|| format!("http://{address}"));
    let ack_limit = Duration::from_millis(args.ack_limit_ms);
    let secret = read_secret(&args.signing_secret_file)?;
    let workspace = Workspace {
        store: Mutex::new(store),
        faults: Mutex::new(faults::Faults::new(args.rate_limit)),
        control: outbound::Control::new(&args.control, secret, ack_limit),
        token: read_secret(&args.bot_token_file)?,
        base_url: base_url.trim_end_matches('/').to_owned(),
    };
    println!("workspace: {}", workspace.base_url);
    axum::serve(listener, router(Arc::new(workspace))).await?;
    Ok(ExitCode::SUCCESS)
}

/// All addresses of the workspace.
pub(crate) fn router(workspace: Arc<Workspace>) -> Router {
    Router::new()
        .route("/api/{method}", any(web_api::call))
        .route("/response/{key}", post(response_url::respond))
        .route("/_stage/state", get(page::state))
        .route("/_stage/events", get(page::events))
        .route("/_stage/messages", get(page::journal))
        .route("/_stage/people", get(page::everybody))
        .route("/_stage/health", get(page::health))
        .route("/_stage/limits", post(page::limits))
        .route(
            "/_stage/faults",
            get(page::planned_faults)
                .post(page::plan_fault)
                .delete(page::clear_faults),
        )
        .route("/_stage/act/command", post(page::command))
        .route("/_stage/act/post", post(page::post))
        .route("/_stage/act/submit", post(page::submit))
        .route("/_stage/act/click", post(page::click))
        .route("/_stage/act/close", post(page::close))
        .route("/", get(|| async { serve_file("") }))
        .route(
            "/{file}",
            get(|Path(name): Path<String>| async move { serve_file(&name) }),
        )
        .with_state(workspace)
}

fn serve_file(name: &str) -> axum::response::Response {
    page::file(name).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

fn read_secret(path: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading {}", path.display()))?
        .trim()
        .to_owned();
    anyhow::ensure!(!text.is_empty(), "{} is empty", path.display());
    Ok(text)
}
