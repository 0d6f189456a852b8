//! The broker: every login comes through here, and nobody but the grant's own person gets in.
//!
//! Owns the socket and the sessions' numbers. Trusts the kernel's credentials and files that root wrote; a shim is
//! ssm-user's process and is believed in nothing but its terminal. What cannot be recorded is refused.

mod admission;
mod alarms;
mod door;
mod exec_watch;
mod login;
mod patrol;
mod peer;
mod sessions;
pub(crate) mod shim;
mod socket;
mod tripwire;

use crate::evidence::{EvidenceError, Gate, Recorder};
use crate::failure::Coded;
use crate::session::relay::Signal;
use crate::session::shell::{Shells, SystemdShells, kill_all_of};
use admission::Rule;
use door::Door;
use exec_watch::ExecWatch;
use patrol::{Places, look_again, look_first};
use powerpole_chain::Kind;
use powerpole_protocol::callback::Alarm;
use serde_json::json;
use sessions::{State, new_state};
use socket::Listener;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
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
const SHIM: &str = "/usr/lib/powerpole/shim/sh";
/// amazon-ssm-agent's data.
const SSM_DATA: &str = "/var/lib/amazon/ssm";
/// Peers that may be in the middle of a login at once.
const MAX_LOGINS: usize = 32;
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
    /// What holds here cannot be recorded.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

impl Coded for BrokerError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoUser(_) => "user_missing",
            Self::Listen { .. } => "broker_socket",
            Self::Evidence(error) => error.code(),
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
    watching: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Listens for logins. They are refused until [`Broker::open_for_logins`].
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
            state: new_state(recorder.clone(), gate),
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
        let watch = ExecWatch::on(&door.rule.worker).inspect_err(|error| {
            // The tripwire is left, which sees a worker up to a quarter of a second after it began to run.
            tracing::error!(alarm = true, %error, "workers are not looked at before they run");
            door.state.alarms.raise("exec_watch_off");
        });
        let held = json!({
            "event": "exec_watch",
            "on": watch.is_ok(),
            "why": watch.as_ref().err().map(ToString::to_string),
        });
        recorder.record_json(Kind::Event, 0, &held)?;
        Ok(open(listener, door, watch.ok(), operator.uid.as_raw()))
    }

    /// Shows a text on every open session's terminal.
    pub(crate) fn broadcast(&self, text: &str) {
        for signals in self.state.sessions().values() {
            // A session that has 64 signals waiting is stuck and gets the last one, its end, by other means.
            let _ = signals.try_send(Signal::Warn(text.to_owned()));
        }
    }

    /// Takes logins from here on: whatever ends them is armed.
    pub(crate) fn open_for_logins(&self) {
        self.state.opened.store(true, Ordering::SeqCst);
    }

    /// Takes no more logins; open sessions go on.
    pub(crate) fn refuse_new(&self) {
        self.state.closed.store(true, Ordering::SeqCst);
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

    /// What somebody has to look at and control has not heard of.
    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        self.state.alarms.waiting()
    }

    /// Control has heard of these.
    pub(crate) fn heard(&self, alarms: &[Alarm]) {
        self.state.alarms.heard(alarms);
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
        for watching in &self.watching {
            watching.abort();
        }
    }
}

fn user(name: &str) -> Result<nix::unistd::User, BrokerError> {
    nix::unistd::User::from_name(name)
        .ok()
        .flatten()
        .ok_or_else(|| BrokerError::NoUser(name.to_owned()))
}

fn open<S: Shells>(
    listener: Listener,
    door: Door<S>,
    watch: Option<ExecWatch>,
    operator_uid: u32,
) -> Broker {
    let door = Arc::new(door);
    let state = Arc::clone(&door.state);
    let tripwire = Tripwire::new(
        &door.rule.worker,
        SHIM.into(),
        &door.ssm_data,
        &door.instance,
    );
    let places = Places {
        ssm_data: door.ssm_data.clone(),
        instance: door.instance.clone(),
    };
    let first = watch.map(|watch| tokio::spawn(look_first(Arc::clone(&state), watch, places)));
    let again = tokio::spawn(look_again(Arc::clone(&state), tripwire));
    let watching = first.into_iter().chain([again]).collect();
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

#[cfg(test)]
mod tests;
