//! One bastion's life: boot, window, end, power off. There is no way out of here but power off, and one reboot before anything
//! of the grant was begun, for the patch.

use crate::boot::{self, Bastion, Booted, Machine, Window};
use crate::clock;
use crate::closing::{self, Report};
use crate::config::Config;
use crate::control::{Control, ControlError, persist};
use crate::evidence::Gate;
use crate::failure::{Coded, Failure, causes};
use crate::imds;
use crate::patch;
use crate::power;
use crate::schedule::{Due, Schedule};
use crate::steps::Steps;
use ed25519_dalek::SigningKey;
use powerpole_protocol::callback::{
    Alarm, Answer, ChainHead, CloseReason, Command, Failed, Heartbeat,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;

/// How often the window is looked at.
const PASS: Duration = Duration::from_millis(500);
/// Longest time for telling control that the boot failed.
const FAILED_LIMIT: Duration = Duration::from_secs(60);
/// How often the watchdog (30 s) hears of an end that takes its time.
const ALIVE: Duration = Duration::from_secs(5);
/// How often open advisories are counted anew.
const ADVISORIES_EVERY: Duration = Duration::from_secs(3600);
/// Longest time for that.
const ADVISORIES_LIMIT: Duration = Duration::from_secs(300);

/// Runs the bastion to its end and powers off.
///
/// # Errors
/// The step that failed; the machine is powering off then, too.
pub(crate) async fn run(config: Config) -> Result<(), Failure> {
    let mut steps = Steps::default();
    let outcome = live(config, &mut steps).await;
    if let Err(failure) = &outcome {
        tracing::error!(
            step = failure.step,
            code = failure.code,
            message = failure.message,
            "bastion failed"
        );
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // systemd reboots as soon as this process has ended.
    if let Ok(Then::Reboot) = outcome {
        return Ok(());
    }
    // Should systemd refuse, a non-zero exit leads to the unit's FailureAction=poweroff.
    let off = power::off()
        .await
        .map_err(|error| Failure::of("power_off", &error));
    outcome.and(off)
}

/// What becomes of the machine.
enum Then {
    PowerOff,
    Reboot,
}

async fn live(config: Config, steps: &mut Steps) -> Result<Then, Failure> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| Failure::of("start", &NoSignals(error)))?;
    let machine = machine(config, steps).await?;
    let mut bastion = Bastion::default();
    let booted = tokio::select! {
        booted = boot::boot(&machine, &mut bastion, steps) => booted,
        // systemd's limit for the start among others: what is up is closed, and control hears of it.
        _ = terminate.recv() => Err(Failure::of("boot", &Terminated)),
    };
    match booted {
        Ok(Booted::Reboots) => Ok(Then::Reboot),
        Ok(Booted::Ready(window)) => {
            let reason = keep(&machine, &bastion, window, &mut terminate).await;
            let report = end(&machine, &mut bastion, reason).await;
            alive(closing::tell(&machine, reason, report)).await;
            Ok(Then::PowerOff)
        }
        Err(failure) => {
            let report = end(&machine, &mut bastion, CloseReason::Failed).await;
            tell_failure(&machine, &failure, steps, report).await;
            Err(failure)
        }
    }
}

/// The machine was told to end before it was ready.
#[derive(Debug, thiserror::Error)]
#[error(
    "told to end before the bastion was ready: by systemd's limit for the start, or by somebody"
)]
struct Terminated;

impl Coded for Terminated {
    fn code(&self) -> &'static str {
        "terminated"
    }
}

/// Signals cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("signals cannot be waited for")]
struct NoSignals(#[source] std::io::Error);

impl Coded for NoSignals {
    fn code(&self) -> &'static str {
        "no_signals"
    }
}

/// Closes all that is up, within [`closing::LIMIT`] whatever a part does: a database that does not answer must cost the
/// chain its seal as little as an operator's query that cannot be killed.
async fn end(machine: &Machine, bastion: &mut Bastion, reason: CloseReason) -> Report {
    let closing = closing::close(machine, bastion, reason);
    match tokio::time::timeout(closing::LIMIT, alive(closing)).await {
        Ok(report) => report,
        Err(_elapsed) => Report::broken_off(),
    }
}

/// Tells systemd's watchdog that bounded work beside which nobody looks is no hang.
async fn alive<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut every = tokio::time::interval(ALIVE);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = every.tick() => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }
}

/// Learns who this machine is and what it is for.
async fn machine(config: Config, steps: &mut Steps) -> Result<Machine, Failure> {
    const LIMIT: Duration = Duration::from_secs(30);
    let client = aws_config::imds::Client::builder().build();
    let identity = steps
        .take("identity", LIMIT, imds::identity(&client))
        .await?;
    let document = steps
        .take("boot_document", LIMIT, imds::boot_document(&client))
        .await?;
    let bastion_key = new_key().map_err(|error| Failure::of("boot_document", &error))?;
    let control = Control::new(&document.control, bastion_key.clone())
        .map_err(|error| Failure::of("boot_document", &error))?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let aws = crate::aws::settings(Some(&identity.region)).await;
    tracing::info!(request = %document.request, attempt = %document.attempt, instance = %identity.instance, "bastion begins");
    let boot_id = boot_id.trim().to_owned();
    Ok(Machine {
        config,
        identity,
        document,
        boot_id,
        aws,
        control,
        bastion_key,
    })
}

fn new_key() -> Result<SigningKey, crate::password::NoRandomness> {
    let seed = crate::password::random_bytes::<32>()?;
    Ok(SigningKey::from_bytes(&seed))
}

async fn tell_failure(machine: &Machine, failure: &Failure, steps: &Steps, report: Report) {
    let failed = Failed {
        request: machine.document.request.clone(),
        attempt: machine.document.attempt,
        instance: machine.identity.instance.clone(),
        boot_token: machine.document.boot_token.duplicate(),
        step: failure.step.to_owned(),
        code: failure.code.to_owned(),
        message: failure.message.clone(),
        steps: steps.times(),
        alarms: report.alarms(),
    };
    if let Err(error) = persist(FAILED_LIMIT, || machine.control.failed(&failed)).await {
        tracing::error!(
            error = causes(&error),
            "control did not hear of the failure"
        );
    }
}

/// What came back from work that runs beside the window.
enum Event {
    Lease(Result<(), crate::account::AccountError>),
    Heartbeat(Result<Answer, ControlError>, Vec<Alarm>),
    Advisories(Result<Result<u32, patch::PatchError>, Elapsed>),
}

/// Keeps the window until something ends it.
async fn keep(
    machine: &Machine,
    bastion: &Bastion,
    window: Window,
    terminate: &mut Signal,
) -> CloseReason {
    let (Some(handoff), Some(evidence), Some(account), Some(broker), Some(sql)) = (
        &bastion.handoff,
        &bastion.evidence,
        &bastion.account,
        &bastion.broker,
        &bastion.sql,
    ) else {
        return CloseReason::Failed;
    };
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    broker.open_for_logins();

    let gate = evidence.gate();
    let mut schedule = Schedule::new(window.opened, window.left, &handoff.times);
    let mut beside = JoinSet::new();
    let mut running = Running::default();
    let mut count = 0;
    let mut advisories = 0;
    let mut advisories_at = window.opened;
    let mut pass = tokio::time::interval(PASS);
    pass.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = pass.tick() => {}
            _ = terminate.recv() => return CloseReason::Shutdown,
            Some(done) = beside.join_next() => {
                match done {
                    Ok(Event::Lease(outcome)) => {
                        running.lease = false;
                        match outcome {
                            Ok(()) => {}
                            Err(error) if error.may_pass() => {
                                tracing::warn!(error = causes(&error), "the lease was not renewed");
                            }
                            Err(error) => {
                                tracing::error!(code = error.code(), error = causes(&error), "the lease is lost");
                                return CloseReason::Failed;
                            }
                        }
                    }
                    Ok(Event::Heartbeat(Ok(answer), told)) => {
                        running.heartbeat = false;
                        broker.heard(&told);
                        if let Some(reason) = ending(&answer) {
                            return reason;
                        }
                    }
                    Ok(Event::Heartbeat(Err(error), _)) => {
                        running.heartbeat = false;
                        tracing::warn!(error = causes(&error), "control did not take the heartbeat");
                    }
                    Ok(Event::Advisories(outcome)) => match outcome {
                        Ok(Ok(open)) => advisories = open,
                        Ok(Err(error)) => tracing::warn!(error = causes(&error), "advisories were not counted"),
                        Err(_elapsed) => tracing::warn!("advisories were not counted in time"),
                    },
                    Err(error) => {
                        tracing::error!(%error, "work beside the window broke off");
                        return CloseReason::Failed;
                    }
                }
            }
        }
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        if *gate.borrow() == Gate::Ended {
            return CloseReason::EvidenceLost;
        }
        if broker.intrusion() {
            return CloseReason::Intrusion;
        }
        let health = evidence.health();
        let now = clock::boottime();
        for due in schedule.due(now) {
            match due {
                Due::Deadline => return CloseReason::Deadline,
                Due::Warning(left) => broker.broadcast(&warning(left)),
                Due::RenewLease if !running.lease => {
                    running.lease = true;
                    let account = Arc::clone(account);
                    beside.spawn(async move { Event::Lease(account.renew().await.map(drop)) });
                }
                Due::Heartbeat if !running.heartbeat => {
                    running.heartbeat = true;
                    count += 1;
                    let head = evidence.head();
                    let heartbeat = Heartbeat {
                        request: handoff.request.clone(),
                        attempt: handoff.attempt,
                        instance: machine.identity.instance.clone(),
                        count,
                        head: ChainHead {
                            seq: head.seq,
                            hash: closing::hex(&head.hash),
                        },
                        lag_records: health.lag_records,
                        lag_ms: health.lag_ms,
                        advisories,
                        sessions: broker.counts().open,
                        statements: sql.statements(),
                        alarms: broker.alarms(),
                    };
                    let control = machine.control.clone();
                    beside.spawn(async move {
                        let outcome = control.heartbeat(&heartbeat).await;
                        Event::Heartbeat(outcome, heartbeat.alarms)
                    });
                }
                // The one before is still on its way.
                Due::RenewLease | Due::Heartbeat => {}
            }
        }
        if now.since(advisories_at) >= ADVISORIES_EVERY {
            advisories_at = now;
            let (config, release) = (machine.config.clone(), machine.document.release.clone());
            beside.spawn(async move {
                let count = patch::count_advisories(&config, &release);
                Event::Advisories(tokio::time::timeout(ADVISORIES_LIMIT, count).await)
            });
        }
    }
}

/// What runs beside the window now.
#[derive(Default)]
struct Running {
    lease: bool,
    heartbeat: bool,
}

fn ending(answer: &Answer) -> Option<CloseReason> {
    answer
        .commands
        .iter()
        .map(|command| match command {
            Command::Finish { reason } => *reason,
        })
        .next()
}

fn warning(left: Duration) -> String {
    let seconds = left.as_secs();
    let left = match (seconds / 60, seconds % 60) {
        (0, s) => format!("{s} seconds"),
        (1, 0) => "1 minute".to_owned(),
        (m, 0) => format!("{m} minutes"),
        (m, s) => format!("{m} min {s} s"),
    };
    format!(
        "This bastion ends in {left}. Finish what you are doing: sessions and the account end with it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_name_what_is_left() {
        assert!(warning(Duration::from_secs(600)).contains("10 minutes"));
        assert!(warning(Duration::from_secs(60)).contains("1 minute."));
        assert!(warning(Duration::from_secs(30)).contains("30 seconds"));
        assert!(warning(Duration::from_secs(90)).contains("1 min 30 s"));
    }
}
