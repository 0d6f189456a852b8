//! A login through SSM with the line that the DM shows: the real AWS CLI, typed at and read from.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

/// A login that did not go as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// The CLI could not be started.
    #[error("cannot start {line:?}")]
    Start {
        /// The line.
        line: String,
        /// Why.
        source: std::io::Error,
    },
    /// The session is over and takes no more input.
    #[error("the session does not take input any more")]
    Over(#[source] std::io::Error),
    /// What was waited for did not come.
    #[error("{wanted:?} did not come within {} s; the screen's end: {screen:?}", .limit.as_secs())]
    Absent {
        /// What was waited for.
        wanted: String,
        /// For how long.
        limit: Duration,
        /// The last of what was shown.
        screen: String,
    },
}

/// A session that is open, or was.
pub(crate) struct Login {
    child: Child,
    input: Option<ChildStdin>,
    screen: Arc<Mutex<Vec<u8>>>,
    shown: watch::Receiver<usize>,
    /// Where the next [`Login::expect`] begins to look.
    seen: usize,
}

impl Login {
    /// Runs a line of the DM in a shell, as one of the stage's people.
    ///
    /// `env` is the person's environment as the stage's `env` file gives it.
    pub(crate) fn open(line: &str, env: &[(String, String)]) -> Result<Self, LoginError> {
        let start = |source| LoginError::Start {
            line: line.to_owned(),
            source,
        };
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("exec {line}")])
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (tell, shown) = watch::channel(0);
        let tell = Arc::new(tell);
        if let Some(output) = child.stdout.take() {
            tokio::spawn(collect(output, Arc::clone(&screen), Arc::clone(&tell)));
        }
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(collect(errors, Arc::clone(&screen), tell));
        }
        let input = child.stdin.take();
        Ok(Self {
            child,
            input,
            screen,
            shown,
            seen: 0,
        })
    }

    /// Types.
    pub(crate) async fn send(&mut self, text: &str) -> Result<(), LoginError> {
        let over = |kind| LoginError::Over(std::io::Error::from(kind));
        let input = self
            .input
            .as_mut()
            .ok_or_else(|| over(std::io::ErrorKind::BrokenPipe))?;
        input
            .write_all(text.as_bytes())
            .await
            .map_err(LoginError::Over)?;
        input.flush().await.map_err(LoginError::Over)
    }

    /// Waits until the screen shows `wanted` after what was expected before; answers all that came up to it.
    pub(crate) async fn expect(
        &mut self,
        wanted: &str,
        limit: Duration,
    ) -> Result<String, LoginError> {
        let mut shown = self.shown.clone();
        let found = async {
            loop {
                shown.borrow_and_update();
                if let Some(text) = self.take_until(wanted) {
                    return Some(text);
                }
                if shown.changed().await.is_err() {
                    // Both ends are closed; one last look.
                    return self.take_until(wanted);
                }
            }
        };
        match tokio::time::timeout(limit, found).await {
            Ok(Some(text)) => Ok(text),
            Ok(None) | Err(_) => Err(LoginError::Absent {
                wanted: wanted.to_owned(),
                limit,
                screen: self.tail(),
            }),
        }
    }

    /// Waits until the session is over; answers the CLI's exit code.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Result<Option<i32>, LoginError> {
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) => Ok(status.code()),
            Ok(Err(error)) => Err(LoginError::Over(error)),
            Err(_) => Err(LoginError::Absent {
                wanted: "the session's end".to_owned(),
                limit,
                screen: self.tail(),
            }),
        }
    }

    /// Everything that was shown.
    pub(crate) fn screen(&self) -> String {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&screen).into_owned()
    }

    fn take_until(&mut self, wanted: &str) -> Option<String> {
        let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = screen.get(self.seen..)?;
        let at = fresh
            .windows(wanted.len().max(1))
            .position(|window| window == wanted.as_bytes())?;
        let end = at + wanted.len();
        let text = String::from_utf8_lossy(fresh.get(..end)?).into_owned();
        drop(screen);
        self.seen += end;
        Some(text)
    }

    fn tail(&self) -> String {
        let screen = self.screen();
        let skip = screen.chars().count().saturating_sub(600);
        screen.chars().skip(skip).collect()
    }
}

async fn collect(
    mut from: impl tokio::io::AsyncRead + Unpin,
    screen: Arc<Mutex<Vec<u8>>>,
    tell: Arc<watch::Sender<usize>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
        screen.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let length = screen.len();
        drop(screen);
        tell.send_replace(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_typed_at_and_read_from() {
        let mut login = Login::open("cat", &[]).unwrap();
        login.send("one\ntwo\n").await.unwrap();
        let limit = Duration::from_secs(10);
        assert_eq!(login.expect("one", limit).await.unwrap(), "one");
        login.expect("two", limit).await.unwrap();
        let absent = login.expect("one", Duration::from_millis(50)).await;
        assert!(matches!(absent, Err(LoginError::Absent { .. })));
    }
}
