//! The dnf repository that bastions patch themselves from, and its plain HTTP server.
//!
//! `data/repository/current` leads to one of the variants that `stage/install/repo.sh` made; switching is a rename.

use super::error::PartsError;
use super::paths::{Installed, StagePaths};
use super::process::{self, in_hub, run};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use clap::ValueEnum;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

pub(super) const PART: &str = "repository";
/// Where bastions find it.
pub(super) const LISTEN: &str = "10.77.0.1:8000";

/// What a bastion finds when it patches itself to the release `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// A newer package with a security advisory.
    Good,
    /// A newer package whose scriptlet fails.
    Failing,
    /// Metadata that does not match its checksum.
    Broken,
    /// A newer kernel with a security advisory.
    Kernel,
    /// A newer kernel that asks for a reboot however often there was one.
    InVain,
}

impl Variant {
    fn folder(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Failing => "failing",
            Self::Broken => "broken",
            Self::Kernel => "kernel",
            Self::InVain => "in-vain",
        }
    }
}

/// Copies the repository into the stage and serves it from the hub.
pub(super) async fn start(stage: &StagePaths, installed: &Installed) -> Result<(), PartsError> {
    if process::running(stage, PART)?.is_some() {
        return Ok(());
    }
    let data = stage.data(PART);
    if !data.exists() {
        let fresh = data.with_extension("new");
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh).map_err(PartsError::file("remove", &fresh))?;
        }
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(installed.path("repo")?).arg(&fresh);
        run("cp", copy).await?;
        std::fs::rename(&fresh, &data).map_err(PartsError::file("rename", &fresh))?;
    }
    let mut command = in_hub(stage, &crate::hub::own_program());
    command
        .args(["parts", "serve", "--listen", LISTEN, "--root"])
        .arg(&data);
    let process = process::start(stage, PART, command)?;
    process::wait_ready(stage, PART, process, Duration::from_secs(15), || {
        let mut probe = in_hub(stage, Path::new("curl"));
        let address = format!("http://{LISTEN}/current/2023.6/repodata/repomd.xml");
        probe.args([
            "--silent",
            "--fail",
            "--max-time",
            "5",
            "--noproxy",
            "*",
            &address,
        ]);
        probe
    })
    .await
}

/// Switches what is served. A download under way goes on with what it had opened.
pub(crate) fn switch(stage: &StagePaths, variant: Variant) -> Result<(), PartsError> {
    let data = stage.data(PART);
    let (fresh, current) = (data.join(".current"), data.join("current"));
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(PartsError::File {
                operation: "remove",
                path: fresh,
                source: error,
            });
        }
        _ => {}
    }
    std::os::unix::fs::symlink(variant.folder(), &fresh)
        .map_err(PartsError::file("link", &fresh))?;
    std::fs::rename(&fresh, &current).map_err(PartsError::file("rename", &fresh))
}

/// Serves the files below `root` until the process is ended.
pub(super) async fn serve(root: PathBuf, listen: SocketAddr) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let service = Router::new().fallback(file).with_state(root);
    axum::serve(listener, service).await
}

async fn file(State(root): State<PathBuf>, method: Method, uri: Uri) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let Some(path) = below(&root, uri.path()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match tokio::fs::read(&path).await {
        Ok(bytes) => Body::from(bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The file that a request's path names: plain names only, nothing encoded, nothing that climbs.
fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.strip_prefix('/')?);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && !path.contains(['%', '\\', '\0'])).then(|| root.join(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_climbs_or_is_encoded_names_no_file() {
        let root = Path::new("/srv");
        for path in [
            "/../etc/passwd",
            "/a/../../b",
            "/%2e%2e/b",
            "//etc/passwd",
            "a",
            "/a\\b",
        ] {
            assert_eq!(below(root, path), None, "{path}");
        }
        assert_eq!(
            below(root, "/current/latest/x.rpm"),
            Some(PathBuf::from("/srv/current/latest/x.rpm"))
        );
    }

    #[test]
    fn switching_changes_what_current_leads_to_and_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let stage = StagePaths::open("t", dir.path()).unwrap();
        std::fs::create_dir_all(stage.data(PART)).unwrap();
        for variant in [
            Variant::Good,
            Variant::Failing,
            Variant::Failing,
            Variant::Broken,
            Variant::Kernel,
            Variant::InVain,
        ] {
            switch(&stage, variant).unwrap();
            let target = std::fs::read_link(stage.data(PART).join("current")).unwrap();
            assert_eq!(target, Path::new(variant.folder()));
        }
    }
}
