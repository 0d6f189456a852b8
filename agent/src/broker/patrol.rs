//! Looks after amazon-ssm-agent's session workers: at each before it runs, and at all again and again.
//!
//! What the first look refuses has run nothing, so the worker's end is enough. What the tripwire finds has run, as root,
//! so the bastion ends. Every session is in the chain before its worker runs, the ones that lead nobody here included.

use super::exec_watch::{Denied, ExecWatch, Held};
use super::peer::{SessionState, read_worker, session_state};
use super::sessions::State;
use super::tripwire::{EVERY, Trip, Tripwire, first_look};
use powerpole_chain::Kind;
use serde_json::json;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a worker stands and waits for its session's state to be written.
const STATE_WITHIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Workers that the tripwire leaves to the first look.
#[derive(Debug, Default)]
pub(super) struct Workers {
    held: HashSet<i32>,
    /// Killed before they ran. Never removed: the tripwire may have seen one a moment before.
    refused: HashSet<(i32, String)>,
}

/// Where sessions are looked up.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// amazon-ssm-agent's data.
    pub(super) ssm_data: PathBuf,
    /// This instance's id.
    pub(super) instance: String,
}

/// Looks at each worker before it runs.
pub(super) async fn look_first(state: Arc<State>, mut watch: ExecWatch, places: Places) {
    let mut told = HashSet::new();
    loop {
        let noted = |pid| {
            state.workers().held.insert(pid);
        };
        // The first of each uid is enough: who may not execute the program may try as often as they like.
        let denied = |who: Denied| {
            if told.insert(who.uid) {
                record_denied(&state, who);
            }
        };
        match watch.next(noted, denied).await {
            Ok(all) => {
                for held in all {
                    let (state, places) = (Arc::clone(&state), places.clone());
                    tokio::spawn(async move { attend(&state, held, &places).await });
                }
            }
            Err(error) => {
                tracing::error!(alarm = true, %error, "workers cannot be looked at before they run");
                state.alarms.raise("exec_watch_broken");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Runs nothing, leads nowhere and is no login: an event, and not counted.
fn record_denied(state: &State, who: Denied) {
    let Denied { pid, uid } = who;
    tracing::warn!(
        pid,
        uid,
        "somebody who is not root executes the session worker"
    );
    let event = json!({"event": "worker_denied", "uid": uid, "pid": pid});
    if let Err(error) = state.recorder.record_json(Kind::Event, 0, &event) {
        tracing::error!(code = error.code(), %error, "a denied worker was not recorded");
    }
}

async fn attend(state: &State, held: Held, places: &Places) {
    let pid = held.pid();
    if held.stands().await {
        let session = read_worker(pid)
            .ok()
            .and_then(|worker| worker.argument)
            .unwrap_or_default();
        judge(state, held, session, places).await;
    } else {
        // It was refused by the unit's NoExecPaths, or was killed by somebody else, or the machine is stuck.
        tracing::error!(
            pid,
            "a session worker did not come to stand, so it is killed"
        );
        held.kill().await;
    }
    state.workers().held.remove(&pid);
}

async fn judge(state: &State, held: Held, session: String, places: &Places) {
    let pid = held.pid();
    let known = if held.is_nested() {
        let Ok(known) = session_state(&places.ssm_data, &places.instance, &session) else {
            // No session of its own, and its worker was looked at; the tripwire knows what a worker may start.
            return held.go_on();
        };
        Some(known)
    } else {
        wait_for_state(places, &session).await
    };
    let trip = first_look(known.as_ref().map(|known| known.plugin.as_str()));
    let recorded = record(state, pid, &session, known.as_ref(), trip.as_ref());
    if trip.is_none() && recorded {
        held.go_on();
    } else {
        // Before it is killed: from then on the tripwire may take it for one of its own.
        state.workers().refused.insert((pid, session));
        held.kill().await;
    }
}

/// The state is written before the worker is started; where it is not, the tripwire is what is left.
async fn wait_for_state(places: &Places, session: &str) -> Option<SessionState> {
    let found = async {
        loop {
            if let Ok(found) = session_state(&places.ssm_data, &places.instance, session) {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(STATE_WITHIN, found).await.ok()
}

/// Whether it is in the chain.
fn record(
    state: &State,
    pid: i32,
    session: &str,
    known: Option<&SessionState>,
    trip: Option<&Trip>,
) -> bool {
    let owner = known.map(|known| known.owner.as_str());
    let document = known.map(|known| known.document.as_str());
    let plugin = known.map(|known| known.plugin.as_str());
    let recorded = if let Some(trip) = trip {
        let code = trip.code();
        tracing::error!(
            alarm = true,
            code,
            session,
            owner,
            document,
            "a session was refused before it ran"
        );
        state.refused.fetch_add(1, Ordering::SeqCst);
        state.alarms.raise(code);
        let record = json!({
            "code": code,
            "ssm_session": session,
            "owner": owner,
            "document": document,
            "pid": pid,
            "trip": format!("{trip:?}"),
            "ran": false,
        });
        state.recorder.record_json(Kind::Refusal, 0, &record)
    } else {
        let event = json!({
            "event": "ssm_session",
            "ssm_session": session,
            "owner": owner,
            "document": document,
            "plugin": plugin,
            "pid": pid,
        });
        state.recorder.record_json(Kind::Event, 0, &event)
    };
    if let Err(error) = &recorded {
        tracing::error!(code = error.code(), %error, session, "a session could not be recorded");
    }
    recorded.is_ok()
}

/// Kills workers that go around the broker, and has the bastion end where that is not enough.
pub(super) async fn look_again(state: Arc<State>, mut tripwire: Tripwire) {
    let mut looks = tokio::time::interval(EVERY);
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
            if state.workers().spares(tripped.pid, &tripped.session) {
                continue;
            }
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
                "ran": true,
            });
            state.refused.fetch_add(1, Ordering::SeqCst);
            state.alarms.raise(code);
            if let Err(error) = state.recorder.record_json(Kind::Refusal, 0, &record) {
                tracing::error!(code = error.code(), %error, "a tripwire's record was not kept");
            }
            if tripped.trip.ends_the_bastion() {
                state.intrusion.store(true, Ordering::SeqCst);
            }
        }
    }
}

impl Workers {
    /// Whether this worker has run nothing. Asked after it was looked at: a worker is held before it becomes one, and is
    /// refused before it is held no more.
    fn spares(&self, pid: i32, session: &str) -> bool {
        self.held.contains(&pid) || self.refused.contains(&(pid, session.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tripwire_leaves_alone_what_stands_and_what_was_refused_and_nothing_else() {
        let mut workers = Workers::default();
        workers.held.insert(7);
        workers.refused.insert((8, "alice-1".to_owned()));
        assert!(workers.spares(7, "any"));
        assert!(workers.spares(8, "alice-1"));
        assert!(!workers.spares(8, "alice-2"));
        assert!(!workers.spares(9, "alice-1"));
    }
}
