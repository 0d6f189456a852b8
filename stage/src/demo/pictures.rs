//! Pictures of the workspace page at the moments the story is told: chromium, driven by tests/browser/demo_pictures.mjs.
//!
//! A picture that cannot be taken is said loudly and changes nothing else. None of them holds the password.

use super::narrator::line;
use crate::supervisor::Running;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// For one picture, the first one's start of the browser included.
const LIMIT: Duration = Duration::from_secs(25);

/// Takes pictures while there is a browser, and none otherwise.
pub(crate) struct Pictures {
    camera: Option<Camera>,
}

struct Camera {
    child: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

impl Pictures {
    /// No pictures.
    pub(crate) fn none() -> Self {
        Self { camera: None }
    }

    /// Pictures in a folder; says so when what they need is missing.
    pub(crate) fn into_folder(running: &Running, out: &Path) -> Self {
        match Camera::start(running, out) {
            Ok(camera) => Self {
                camera: Some(camera),
            },
            Err(why) => {
                line(&format!("SKIPPED pictures: {why}"));
                Self::none()
            }
        }
    }

    /// Takes one.
    pub(crate) async fn take(&mut self, name: &str, request: &str) {
        let Some(camera) = &mut self.camera else {
            return;
        };
        match tokio::time::timeout(LIMIT, camera.take(name, request)).await {
            Ok(Ok(answer)) if answer == "ok" => {}
            Ok(Ok(answer)) => line(&format!("SKIPPED picture {name:?}: {answer}")),
            Ok(Err(error)) => self.give_up(name, &error.to_string()),
            Err(_elapsed) => {
                self.give_up(name, &format!("no answer within {} s", LIMIT.as_secs()));
            }
        }
    }

    /// Ends the browser.
    pub(crate) async fn end(self) {
        if let Some(Camera { mut child, ask, .. }) = self.camera {
            drop(ask);
            if tokio::time::timeout(Duration::from_secs(5), child.wait())
                .await
                .is_err()
            {
                let _ = child.kill().await;
            }
        }
    }

    fn give_up(&mut self, name: &str, why: &str) {
        line(&format!("SKIPPED picture {name:?} and all after it: {why}"));
        self.camera = None;
    }
}

impl Camera {
    fn start(running: &Running, out: &Path) -> Result<Self, String> {
        let chromium = on_path("chromium").ok_or("chromium is not installed")?;
        let node = on_path("node").ok_or("node is not installed")?;
        let modules = running.files.cache.join("browser-modules/node_modules");
        if !modules.join("playwright-core").is_dir() {
            return Err(format!("playwright-core is not in {}", modules.display()));
        }
        let log = running.files.dir.join("logs/pictures.log");
        let said = std::fs::File::create(&log).map_err(|error| format!("no log: {error}"))?;
        let mut child = Command::new(node)
            .arg(running.files.clone.join("tests/browser/demo_pictures.mjs"))
            .args(["--page", &running.page_url()])
            .arg("--out")
            .arg(out)
            .arg("--chromium")
            .arg(chromium)
            .env("NODE_MODULES", modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("node could not be started: {error}"))?;
        let (ask, answers) = (child.stdin.take(), child.stdout.take());
        let (ask, answers) = ask.zip(answers).ok_or("node has no input or no output")?;
        Ok(Self {
            child,
            ask,
            answers: BufReader::new(answers).lines(),
            log,
        })
    }

    async fn take(&mut self, name: &str, request: &str) -> std::io::Result<String> {
        self.ask
            .write_all(format!("{name} {request}\n").as_bytes())
            .await?;
        self.ask.flush().await?;
        let ended = || {
            let log = self.log.display();
            std::io::Error::other(format!("the browser's script ended; {log} says why"))
        };
        self.answers.next_line().await?.ok_or_else(ended)
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}
