//! The door: learns who stands there, decides, and records the decision before anybody is told of it.

use super::admission::{Admission, Facts, Refusal, Rule, decide};
use super::login::Login;
use super::peer::{PeerProcess, session_state};
use super::sessions::State;
use super::socket::{Connection, FromBroker, FromShim, MAX_COMMAND};
use crate::session::pty::{Pty, Size};
use crate::session::relay::Relay;
use crate::session::shell::{ShellRequest, Shells};
use powerpole_chain::Kind;
use rand::TryRng as _;
use rustix::net::UCred;
use serde_json::json;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a peer may take to say what it wants.
const LOGIN_WITHIN: Duration = Duration::from_secs(5);

/// What a login is checked against and started with.
pub(super) struct Door<S> {
    pub(super) state: Arc<State>,
    pub(super) rule: Rule,
    pub(super) instance: String,
    pub(super) ssm_data: PathBuf,
    pub(super) shells: S,
}

/// What a peer asked for, and what is known of it.
struct Asked {
    facts: Facts,
    pid: i32,
    request: ShellRequest,
    descriptors: Option<(rustix::fd::OwnedFd, rustix::fd::OwnedFd)>,
}

impl<S: Shells> Door<S> {
    /// Learns who is there, decides, and records the decision. Whoever is refused was told.
    pub(super) async fn let_in(&self, connection: &Connection, peer: UCred) -> Option<Login> {
        let asked = match tokio::time::timeout(LOGIN_WITHIN, self.ask(connection, peer)).await {
            Ok(Ok(asked)) => asked,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a login broke off");
                let pid = peer.pid.as_raw_nonzero().get();
                self.refuse(connection, pid, peer.uid.as_raw(), None, &Refusal::Protocol)
                    .await;
                return None;
            }
            Err(_elapsed) => {
                let pid = peer.pid.as_raw_nonzero().get();
                self.refuse(connection, pid, peer.uid.as_raw(), None, &Refusal::Protocol)
                    .await;
                return None;
            }
        };
        let uid = asked.facts.uid;
        let (pid, facts) = (asked.pid, asked.facts.clone());
        match self.admit(asked) {
            Ok(login) => {
                let admitted = FromBroker::Admitted {
                    session: login.number,
                };
                // Should the shim be gone by now, the session ends at its first look at the connection.
                let _ = connection.send(&admitted).await;
                Some(login)
            }
            Err(refusal) => {
                self.refuse(connection, pid, uid, Some(&facts), &refusal)
                    .await;
                None
            }
        }
    }

    async fn ask(&self, connection: &Connection, peer: UCred) -> io::Result<Asked> {
        // The handle comes first, the challenge second: whoever answers with this pid is the handle's process,
        // if that still lives afterwards.
        let process = PeerProcess::open(peer.pid)?;
        let nonce = nonce()?;
        connection
            .send(&FromBroker::Challenge {
                nonce: nonce.clone(),
            })
            .await?;
        let mut received = connection
            .receive()
            .await?
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        let FromShim::Login {
            nonce: answered,
            command,
            term,
        } = received.parse()?
        else {
            return Err(io::Error::other("a login has to come first"));
        };
        if answered != nonce {
            return Err(io::Error::other("the login is not of the form"));
        }
        if let Some(command) = &command
            && (command.len() > MAX_COMMAND || command.contains('\0'))
        {
            let detail = format!("a command has at most {MAX_COMMAND} bytes and no NUL");
            return Err(io::Error::other(detail));
        }
        let sender = received.credentials;
        let worker = process.worker().ok();
        if let Some(worker) = &worker
            && worker.program == self.rule.worker
            && let Some(session) = &worker.argument
        {
            self.state.known().insert(session.clone());
        }
        let state = worker
            .as_ref()
            .and_then(|worker| worker.argument.as_deref())
            .and_then(|id| session_state(&self.ssm_data, &self.instance, id).ok());
        let same_process = process.lives()
            && sender.is_some_and(|sender| sender.pid == peer.pid && sender.uid == peer.uid);
        let screen = received.descriptors.pop();
        let typed = received.descriptors.pop();
        let descriptors = typed.zip(screen);
        let terminals = descriptors.as_ref().is_some_and(|(typed, screen)| {
            rustix::termios::isatty(typed) && rustix::termios::isatty(screen)
        });
        let uid = peer.uid.as_raw();
        Ok(Asked {
            facts: Facts {
                uid,
                same_process,
                terminals,
                worker,
                state,
            },
            pid: process.pid(),
            request: ShellRequest {
                command,
                term: clean_term(&term),
            },
            descriptors,
        })
    }

    fn admit(&self, asked: Asked) -> Result<Login, Refusal> {
        let (ssm_session, owner) = match decide(&asked.facts, &self.rule) {
            Admission::Admit { ssm_session, owner } => (ssm_session, owner),
            Admission::Refuse(refusal) => return Err(refusal),
        };
        let (typed, screen) = asked.descriptors.ok_or(Refusal::NoTerminal)?;
        let broken = |error: &dyn std::error::Error| Refusal::Broken(error.to_string());
        let size = Size::of(&screen);
        let pty = Pty::open(size).map_err(|e| broken(&e))?;
        let terminal = pty.path().to_owned();
        let (number, inbox) = self.state.enter()?;
        let entered = || -> Result<Relay, Refusal> {
            let start = json!({
                "ssm_session": ssm_session,
                "owner": owner,
                "document": asked.facts.state.as_ref().map(|state| &state.document),
                "command": asked.request.command,
                "term": asked.request.term,
                "columns": size.columns,
                "rows": size.rows,
                "pid": asked.pid,
            });
            self.state
                .recorder
                .record_json(Kind::SessionStart, number, &start)
                .map_err(|e| broken(&e))?;
            Relay::new(number, self.state.recorder.clone(), pty, typed, screen)
                .map_err(|e| broken(&e))
        };
        let relay = entered().inspect_err(|_| self.state.leave(number))?;
        let signals = self
            .state
            .sessions()
            .get(&number)
            .cloned()
            .ok_or(Refusal::Closed)?;
        tracing::info!(session = number, ssm_session, owner, "login admitted");
        Ok(Login {
            number,
            signals,
            inbox,
            relay,
            request: asked.request,
            terminal,
        })
    }

    /// Records a refusal and tells the peer. Counted even when it cannot be recorded.
    async fn refuse(
        &self,
        connection: &Connection,
        pid: i32,
        uid: u32,
        facts: Option<&Facts>,
        refusal: &Refusal,
    ) {
        self.state.refused.fetch_add(1, Ordering::SeqCst);
        let worker = facts.and_then(|facts| facts.worker.as_ref());
        let state = facts.and_then(|facts| facts.state.as_ref());
        let why = if let Refusal::Broken(why) = refusal {
            Some(why)
        } else {
            None
        };
        let record = json!({
            "code": refusal.code(),
            "uid": uid,
            "pid": pid,
            "parent": worker.map(|worker| worker.program.to_string_lossy()),
            "ssm_session": worker.and_then(|worker| worker.argument.as_deref()),
            "owner": state.map(|state| &state.owner),
            "why": why,
        });
        let owner = state.map_or("", |state| state.owner.as_str());
        if refusal.is_alarming() {
            self.state.alarms.raise(refusal.code());
            tracing::error!(
                alarm = true,
                code = refusal.code(),
                uid,
                pid,
                owner,
                "login refused"
            );
        } else {
            tracing::warn!(code = refusal.code(), uid, pid, owner, "login refused");
        }
        if let Err(error) = self.state.recorder.record_json(Kind::Refusal, 0, &record) {
            tracing::error!(code = error.code(), %error, "a refusal was not recorded");
        }
        let refused = FromBroker::Refused {
            message: refusal.message().to_owned(),
        };
        let told = connection.send(&refused);
        let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
    }
}

fn nonce() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    rand::rngs::SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A terminal type that is safe in an environment.
fn clean_term(term: &str) -> String {
    let fine = (1..=64).contains(&term.len())
        && term
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-+._".contains(&b));
    if fine {
        term.to_owned()
    } else {
        "xterm-256color".to_owned()
    }
}
