//! Acts on what the tripwire sees: kills, records, alarms, and has the bastion end where that is not enough.

use super::sessions::State;
use super::tripwire::{EVERY, Tripwire};
use powerpole_chain::Kind;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Kills workers that go around the broker, and has the bastion end where that is not enough.
pub(super) async fn watch_workers(state: Arc<State>, mut tripwire: Tripwire) {
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
