//! An admitted login, from its shell's start to its last record.

use super::door::Door;
use super::socket::{Connection, FromBroker, FromShim};
use crate::session::relay::{Ending, Moved, Relay, Signal};
use crate::session::shell::{ShellRequest, Shells};
use powerpole_chain::Kind;
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;

/// A login that was admitted and recorded as such.
pub(super) struct Login {
    pub(super) number: u32,
    pub(super) signals: mpsc::Sender<Signal>,
    pub(super) inbox: mpsc::Receiver<Signal>,
    pub(super) relay: Relay,
    pub(super) request: ShellRequest,
    pub(super) terminal: PathBuf,
}

impl<S: Shells> Door<S> {
    /// Runs an admitted session to its end, and ends all that it started.
    pub(super) async fn keep(&self, connection: Connection, mut login: Login) {
        let number = login.number;
        let (ending, moved) = match self.shells.start(number, &login.terminal, &login.request) {
            Err(error) => (Ending::Broken(error), Moved::default()),
            Ok(shell) => {
                let listening = listen(&connection, &login.signals);
                let running = login.relay.run(shell, &mut login.inbox);
                tokio::pin!(running);
                tokio::select! {
                    ended = &mut running => ended,
                    () = listening => running.await,
                }
            }
        };
        let cleared = self.shells.end(number).await;
        if let Err(error) = &cleared {
            tracing::error!(session = number, %error, "a session left processes behind");
        }
        let (code, message) = farewell(&ending);
        if let Ending::Ended(reason) = &ending {
            login.relay.say(reason).await;
        }
        let end = json!({
            "how": how(&ending),
            "exit": code,
            "why": why(&ending),
            "output_bytes": moved.output,
            "input_bytes": moved.input,
            "left_behind": cleared.err().map(|e| e.to_string()),
        });
        if let Err(error) = self
            .state
            .recorder
            .record_json(Kind::SessionEnd, number, &end)
        {
            tracing::error!(code = error.code(), %error, "a session's end was not recorded");
        }
        // The terminal gets its modes back before the shim writes to it.
        drop(login.relay);
        let ended = FromBroker::Ended { code, message };
        let told = connection.send(&ended);
        let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
        tracing::info!(session = number, how = how(&ending), "session ended");
        self.state.leave(number);
    }
}

/// Passes the shim's messages on; returns when the shim is gone and the session was told.
async fn listen(connection: &Connection, signals: &mpsc::Sender<Signal>) {
    while let Ok(Some(message)) = connection.receive().await {
        if let Ok(FromShim::Resized) = message.parse()
            && signals.send(Signal::Resized).await.is_err()
        {
            return;
        }
    }
    let _ = signals.send(Signal::Gone).await;
}

fn how(ending: &Ending) -> &'static str {
    match ending {
        Ending::Exited(_) => "exited",
        Ending::Ended(_) => "ended",
        Ending::HungUp => "hung_up",
        Ending::Unrecorded(_) => "unrecorded",
        Ending::Broken(_) => "broken",
    }
}

fn why(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Exited(_) | Ending::HungUp => None,
        Ending::Ended(reason) => Some(reason.clone()),
        Ending::Unrecorded(error) => Some(error.to_string()),
        Ending::Broken(error) => Some(error.to_string()),
    }
}

fn farewell(ending: &Ending) -> (u8, Option<String>) {
    match ending {
        Ending::Exited(status) => (
            status
                .code()
                .and_then(|c| u8::try_from(c).ok())
                .unwrap_or(1),
            None,
        ),
        Ending::Ended(_) => (0, None),
        Ending::HungUp => (0, None),
        Ending::Unrecorded(_) => (
            1,
            Some("this session could not be recorded any more, so it was ended.".to_owned()),
        ),
        Ending::Broken(_) => (
            1,
            Some("the terminal failed; start the session again.".to_owned()),
        ),
    }
}
