//! The broker: every login comes through here, and nobody but the grant's own person gets in.
//!
//! Owns the socket and the sessions' numbers. Trusts the kernel's credentials and files that root wrote; a shim is
//! ssm-user's process and is believed in nothing but its terminal. What cannot be recorded is refused.

mod admission;
mod peer;
pub(crate) mod shim;
mod socket;
mod tripwire;

use crate::evidence::{Gate, Recorder};
use crate::failure::Coded;
use crate::session::pty::{Pty, Size};
use crate::session::relay::{Ending, Moved, Relay, Signal};
use crate::session::shell::{ShellRequest, Shells, SystemdShells, kill_all_of};
use admission::{Admission, Facts, Refusal, Rule, decide};
use peer::{PeerProcess, session_state};
use powerpole_chain::Kind;
use rand::TryRng as _;
use rustix::net::UCred;
use serde_json::json;
use socket::{Connection, FromBroker, FromShim, Listener, MAX_COMMAND};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tripwire::Tripwire;

/// What the broker must know of this bastion.
#[derive(Debug, Clone)]
pub(crate) struct BrokerConfig {
    /// ARN of the one principal that may log in.
    pub(crate) principal: String,
    /// This instance's id.
    pub(crate) instance: String,
    /// Where shims connect.
    pub(crate) socket: PathBuf,
    /// The operator's shell.
    pub(crate) shell: PathBuf,
    /// User under which amazon-ssm-agent starts the shim.
    pub(crate) ssm_user: String,
    /// User under which the operator's shell runs.
    pub(crate) operator_user: String,
}

/// amazon-ssm-agent's session worker.
const WORKER: &str = "/usr/bin/ssm-session-worker";
/// The program behind the shim.
const SHIM: &str = "/usr/bin/powerpole-agent";
/// amazon-ssm-agent's data.
const SSM_DATA: &str = "/var/lib/amazon/ssm";
/// Sessions that may be open at once.
const MAX_SESSIONS: usize = 32;
/// Peers that may be in the middle of a login at once.
const MAX_LOGINS: usize = 32;
/// How long a peer may take to say what it wants.
const LOGIN_WITHIN: Duration = Duration::from_secs(5);
/// How long sessions may take to end.
const END_WITHIN: Duration = Duration::from_secs(12);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    /// The image has no such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// The socket cannot be made.
    #[error("cannot listen at {path}")]
    Listen {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Coded for BrokerError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoUser(_) => "user_missing",
            Self::Listen { .. } => "broker_socket",
        }
    }
}

/// How many logins there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Sessions open now.
    pub(crate) open: u32,
    /// Logins admitted so far.
    pub(crate) admitted: u32,
    /// Logins refused so far.
    pub(crate) refused: u32,
}

/// Takes logins until it is told not to.
#[derive(Debug)]
pub(crate) struct Broker {
    state: Arc<State>,
    operator_uid: u32,
    accepting: JoinHandle<()>,
    watching: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    recorder: Recorder,
    gate: watch::Receiver<Gate>,
    taking: AtomicBool,
    sessions: Mutex<HashMap<u32, mpsc::Sender<Signal>>>,
    open: watch::Sender<u32>,
    admitted: AtomicU32,
    refused: AtomicU32,
    /// SSM sessions that came here, admitted or not.
    known: Mutex<HashSet<String>>,
    intrusion: AtomicBool,
}

impl State {
    fn sessions(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<Signal>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a session and opens its way for signals; refused when there are too many or logins are over.
    fn enter(&self) -> Result<(u32, mpsc::Receiver<Signal>), Refusal> {
        let mut sessions = self.sessions();
        // Looked at under the lock: `end_all` either sees this session or has closed the door before it.
        if !self.taking.load(Ordering::SeqCst) {
            return Err(Refusal::Closed);
        }
        if *self.gate.borrow() != Gate::Open {
            return Err(Refusal::NoEvidence);
        }
        if sessions.len() >= MAX_SESSIONS {
            return Err(Refusal::TooMany);
        }
        let number = self.admitted.fetch_add(1, Ordering::SeqCst) + 1;
        let (signals, inbox) = mpsc::channel(64);
        sessions.insert(number, signals);
        self.open
            .send_replace(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
        Ok((number, inbox))
    }

    fn leave(&self, number: u32) {
        let mut sessions = self.sessions();
        sessions.remove(&number);
        self.open
            .send_replace(u32::try_from(sessions.len()).unwrap_or(u32::MAX));
    }
}

/// What a login is checked against and started with.
struct Door<S> {
    state: Arc<State>,
    rule: Rule,
    instance: String,
    ssm_data: PathBuf,
    shells: S,
}

impl Broker {
    /// Listens for logins.
    ///
    /// # Errors
    /// When a user is missing or the socket cannot be made.
    pub(crate) async fn start(
        config: BrokerConfig,
        recorder: Recorder,
        gate: watch::Receiver<Gate>,
    ) -> Result<Self, BrokerError> {
        let ssm = user(&config.ssm_user)?;
        let operator = user(&config.operator_user)?;
        if let Some(folder) = config.socket.parent() {
            std::fs::create_dir_all(folder)
                .and_then(|()| {
                    let rights = std::os::unix::fs::PermissionsExt::from_mode(0o711);
                    std::fs::set_permissions(folder, rights)
                })
                .map_err(|source| BrokerError::Listen {
                    path: config.socket.clone(),
                    source,
                })?;
        }
        let listener = Listener::bind(&config.socket, ssm.gid.as_raw()).map_err(|source| {
            BrokerError::Listen {
                path: config.socket.clone(),
                source,
            }
        })?;
        let door = Door {
            state: new_state(recorder, gate),
            rule: Rule {
                ssm_uid: ssm.uid.as_raw(),
                worker: WORKER.into(),
                principal: config.principal,
            },
            instance: config.instance,
            ssm_data: SSM_DATA.into(),
            shells: SystemdShells {
                user: config.operator_user,
                home: operator.dir,
                shell: config.shell,
            },
        };
        Ok(open(listener, door, operator.uid.as_raw()))
    }

    /// Shows a text on every open session's terminal.
    pub(crate) fn broadcast(&self, text: &str) {
        for signals in self.state.sessions().values() {
            // A session that has 64 signals waiting is stuck and gets the last one, its end, by other means.
            let _ = signals.try_send(Signal::Warn(text.to_owned()));
        }
    }

    /// Takes no more logins; open sessions go on.
    pub(crate) fn refuse_new(&self) {
        self.state.taking.store(false, Ordering::SeqCst);
    }

    /// Ends every session, saying why, and then everything that still runs as the operator. Returns how many
    /// sessions did not end in time.
    pub(crate) async fn end_all(&self, reason: &str) -> u32 {
        self.refuse_new();
        let all: Vec<_> = self.state.sessions().values().cloned().collect();
        for signals in all {
            let signal = Signal::End(reason.to_owned());
            let _ = tokio::time::timeout(Duration::from_millis(200), signals.send(signal)).await;
        }
        let mut open = self.state.open.subscribe();
        let _ = tokio::time::timeout(END_WITHIN, open.wait_for(|open| *open == 0)).await;
        match kill_all_of(self.operator_uid).await {
            Ok(0) => {}
            Ok(looks) => tracing::warn!(looks, "processes of the operator outlived their sessions"),
            Err(error) => tracing::error!(%error, "processes of the operator are left"),
        }
        self.counts().open
    }

    /// Whether somebody found a way around the broker; the bastion is not trusted any more then.
    pub(crate) fn intrusion(&self) -> bool {
        self.state.intrusion.load(Ordering::SeqCst)
    }

    /// How many logins there were.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            open: *self.state.open.borrow(),
            admitted: self.state.admitted.load(Ordering::SeqCst),
            refused: self.state.refused.load(Ordering::SeqCst),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.accepting.abort();
        self.watching.abort();
    }
}

fn user(name: &str) -> Result<nix::unistd::User, BrokerError> {
    nix::unistd::User::from_name(name)
        .ok()
        .flatten()
        .ok_or_else(|| BrokerError::NoUser(name.to_owned()))
}

fn new_state(recorder: Recorder, gate: watch::Receiver<Gate>) -> Arc<State> {
    Arc::new(State {
        recorder,
        gate,
        taking: AtomicBool::new(true),
        sessions: Mutex::new(HashMap::new()),
        open: watch::Sender::new(0),
        admitted: AtomicU32::new(0),
        refused: AtomicU32::new(0),
        known: Mutex::new(HashSet::new()),
        intrusion: AtomicBool::new(false),
    })
}

fn open<S: Shells>(listener: Listener, door: Door<S>, operator_uid: u32) -> Broker {
    let door = Arc::new(door);
    let state = Arc::clone(&door.state);
    let tripwire = Tripwire::new(
        &door.rule.worker,
        SHIM.into(),
        &door.ssm_data,
        &door.instance,
    );
    let watching = tokio::spawn(watch_workers(Arc::clone(&state), tripwire));
    let accepting = tokio::spawn(async move {
        let logins = Arc::new(Semaphore::new(MAX_LOGINS));
        loop {
            let Ok(permit) = Arc::clone(&logins).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((connection, peer)) => {
                    let door = Arc::clone(&door);
                    tokio::spawn(async move {
                        let entered = door.let_in(&connection, peer).await;
                        drop(permit);
                        if let Some(login) = entered {
                            door.keep(connection, login).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::error!(%error, "the broker's socket failed");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    });
    Broker {
        state,
        operator_uid,
        accepting,
        watching,
    }
}

/// Kills workers that go around the broker, and has the bastion end where that is not enough.
async fn watch_workers(state: Arc<State>, mut tripwire: Tripwire) {
    let mut looks = tokio::time::interval(tripwire::EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let tripped = match tripwire.look(|session| state.known().contains(session)) {
            Ok(tripped) => tripped,
            Err(error) => {
                tracing::error!(%error, "session workers cannot be looked at");
                continue;
            }
        };
        for tripped in tripped {
            if let Some(pid) = rustix::process::Pid::from_raw(tripped.pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            let (code, session) = (tripped.trip.code(), &tripped.session);
            tracing::error!(alarm = true, code, session, trip = ?tripped.trip, "a session went around the broker");
            let record = json!({
                "code": code,
                "ssm_session": session,
                "pid": tripped.pid,
                "trip": format!("{:?}", tripped.trip),
            });
            state.refused.fetch_add(1, Ordering::SeqCst);
            if let Err(error) = state.recorder.record_json(Kind::Refusal, 0, &record) {
                tracing::error!(code = error.code(), %error, "a tripwire's record was not kept");
            }
            if tripped.trip.ends_the_bastion() {
                state.intrusion.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// A login that was admitted and recorded as such.
struct Login {
    number: u32,
    signals: mpsc::Sender<Signal>,
    inbox: mpsc::Receiver<Signal>,
    relay: Relay,
    request: ShellRequest,
    terminal: PathBuf,
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
    async fn let_in(&self, connection: &Connection, peer: UCred) -> Option<Login> {
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
        if answered != nonce
            || command
                .as_ref()
                .is_some_and(|c| c.len() > MAX_COMMAND || c.contains('\0'))
        {
            return Err(io::Error::other("the login is not of the form"));
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
                "command": asked.request.command.as_ref().map(|c| cut(c)),
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

    /// Runs an admitted session to its end, and ends all that it started.
    async fn keep(&self, connection: Connection, mut login: Login) {
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

/// A command as the session's first record holds it; the rest is in no record, so a longer one is marked.
fn cut(command: &str) -> String {
    const LIMIT: usize = 16 * 1024;
    match command.char_indices().nth(LIMIT) {
        None => command.to_owned(),
        Some((end, _)) => format!("{}…", command.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
