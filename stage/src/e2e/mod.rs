//! The end-to-end tests: the main job and the bad cases, by the shipped binaries on two stages of their own.
//!
//! Cases that only wait run beside each other on the one; those that break a part for everybody run one by one on the
//! other, meanwhile.

mod attacks;
mod crashes;
mod decisions;
mod failures;
mod main_job;
mod patching;
mod rogues;
mod rolls;
mod scene;
mod scheduled;
mod secrets;
mod stubborn;

use crate::supervisor::{Running, Times, say};
use anyhow::Context as _;
use scene::Scene;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many cases run beside each other on the stage of those that may.
const BESIDE: usize = 4;
/// Longest time for one case; the leases of dead agents (180 s) are the longest waits.
const LIMIT: Duration = Duration::from_secs(420);

/// Arguments of `powerpole-stage test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The stages' name, whose folders are then kept; by default one that no other run has, and no folder stays of a stage
    /// on which all passed.
    #[arg(long)]
    name: Option<String>,
    /// Only cases whose name contains this; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// List the cases and run none.
    #[arg(long)]
    list: bool,
}

type Outcome = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// One case.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    alone: bool,
    run: fn(Arc<Scene>) -> Outcome,
}

macro_rules! cases {
    ($($kind:ident $path:path;)*) => {
        [$(Case {
            name: stringify!($path),
            alone: matches!(stringify!($kind).as_bytes(), b"alone"),
            run: |scene| Box::pin($path(scene)),
        }),*]
    };
}

/// Every case, the longest first.
fn cases() -> Vec<Case> {
    cases! {
        beside crashes::a_killed_agent_ends_the_machine_and_the_verdict_is_unsealed;
        beside crashes::a_machine_destroyed_without_warning_leaves_no_account_and_no_valid_verdict;
        beside attacks::an_operators_attacks_come_to_nothing;
        beside rogues::control_cuts_off_whoever_keeps_it_waiting_and_serves_the_others;
        beside rogues::a_port_session_is_refused_before_its_worker_runs_and_the_bastion_goes_on;
        beside rogues::lines_that_a_neighbour_writes_into_anothers_stream_change_no_verdict;
        beside secrets::no_process_and_no_log_shows_one_while_a_session_is_open;
        beside failures::a_handoff_that_is_gone_aborts_and_alarms;
        beside main_job::from_the_request_to_a_valid_verdict;
        beside main_job::write_access_on_mariadb;
        beside main_job::logins_have_a_size_interrupts_and_pipes_and_come_many_at_once;
        beside main_job::nothing_that_an_operator_starts_outlives_the_deadline;
        beside main_job::finishing_early_ends_the_window;
        beside scheduled::nothing_of_a_grant_is_there_before_its_start;
        beside failures::a_database_that_is_down_fails_the_request_with_its_reason;
        beside decisions::a_denial_tells_the_operator_and_launches_nothing;
        beside decisions::nobody_approves_their_own_request_and_outsiders_approve_none;
        beside rolls::a_request_that_vanishes_from_the_ledger_is_missed;
        beside decisions::an_approval_that_was_written_into_the_ledger_launches_nothing;
        beside decisions::one_approval_wins_however_many_click;
        beside decisions::a_bad_form_is_refused_field_by_field;
        alone stubborn::a_query_that_cannot_be_killed_costs_no_seal;
        alone failures::an_event_scheduler_that_is_off_opens_no_account;
        alone failures::a_patch_that_fails_fails_the_request_with_its_reason;
        alone patching::a_new_kernel_runs_before_anybody_logs_in;
        alone crashes::control_killed_before_and_after_run_instances_launches_once;
    }
    .to_vec()
}

/// Runs the cases; exit code 0 only if all passed.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let chosen: Vec<Case> = cases()
        .into_iter()
        .filter(|case| {
            args.only.is_empty() || args.only.iter().any(|only| case.name.contains(only))
        })
        .collect();
    if args.list {
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        for case in chosen {
            // Whoever reads no further has seen enough.
            if writeln!(out, "{}", case.name).is_err() {
                break;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::ensure!(
        !chosen.is_empty(),
        "no case has such a name; --list shows them"
    );
    let keep = args.name.is_some();
    let name = args
        .name
        .unwrap_or_else(|| format!("test-{}", std::process::id()));
    let (alone, beside) = chosen.into_iter().partition(|case| case.alone);
    let broken_off = CancellationToken::new();
    let ended = tokio::spawn(end_on_signal(
        broken_off.clone(),
        [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ],
    ));
    let alone_name = format!("{name}-alone");
    let stages = [
        on_stage(&name, beside, BESIDE, &broken_off),
        on_stage(&alone_name, alone, 1, &broken_off),
    ];
    let mut results = Vec::new();
    let mut faults = Vec::new();
    let outcomes = futures_util::future::join_all(stages).await;
    for ((finished, down), name) in outcomes.into_iter().zip([&name, &alone_name]) {
        let passed = finished.iter().all(|case| case.failure.is_none());
        if passed && down.is_ok() && !broken_off.is_cancelled() && !keep {
            crate::supervisor::remove_folder(name)?;
        }
        results.extend(finished);
        faults.extend(down.err());
    }
    ended.abort();
    report(&results);
    if let Some(fault) = faults.pop() {
        return Err(fault);
    }
    let failed = results.iter().any(|result| result.failure.is_some());
    Ok(if broken_off.is_cancelled() {
        ExitCode::from(130)
    } else if failed || results.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Breaks off at Ctrl-C, SIGTERM or when the terminal is closed. Every stage is then taken down as at its ordinary end.
async fn end_on_signal(broken_off: CancellationToken, mut signals: [Signal; 3]) {
    let [interrupt, terminate, hangup] = &mut signals;
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
        _ = hangup.recv() => (),
    }
    broken_off.cancel();
}

/// Brings a stage up, runs `cases` on it, `at_once` of them beside each other, and takes it down again. Answers what the cases
/// that finished said, and whether the stage came and went as it should.
async fn on_stage(
    name: &str,
    cases: Vec<Case>,
    at_once: usize,
    broken_off: &CancellationToken,
) -> (Vec<Finished>, anyhow::Result<()>) {
    if cases.is_empty() {
        return (Vec::new(), Ok(()));
    }
    let times = Times::test();
    let running = tokio::select! {
        running = Running::bring_up(name, &times) => running,
        () = broken_off.cancelled() => return (Vec::new(), crate::supervisor::sweep(name)),
    };
    let scene = match running {
        Ok(running) => Arc::new(Scene::new(running)),
        Err(error) => {
            return (
                Vec::new(),
                Err(error.context(format!("bringing the stage {name} up"))),
            );
        }
    };
    let results = run_all(&scene, cases, at_once, broken_off).await;
    let down = match Arc::into_inner(scene) {
        Some(scene) => scene.into_running().take_down().await,
        None => Err(anyhow::anyhow!("a case still holds the stage")),
    };
    (
        results,
        down.with_context(|| format!("taking the stage {name} down")),
    )
}

struct Finished {
    name: &'static str,
    seconds: f64,
    failure: Option<String>,
}

async fn run_all(
    scene: &Arc<Scene>,
    cases: Vec<Case>,
    at_once: usize,
    broken_off: &CancellationToken,
) -> Vec<Finished> {
    // In the order of their list: one of the longest that began last would be waited for alone.
    let mut waiting = cases.into_iter();
    let mut running = JoinSet::new();
    let mut results = Vec::new();
    loop {
        let free = at_once.saturating_sub(running.len());
        for case in waiting.by_ref().take(free) {
            let scene = Arc::clone(scene);
            running.spawn(async move { run_one(&scene, case).await });
        }
        let done = tokio::select! {
            done = running.join_next() => done,
            () = broken_off.cancelled() => {
                // Waits for them, so that none holds the stage any more.
                running.shutdown().await;
                None
            }
        };
        match done {
            Some(Ok(finished)) => results.push(finished),
            Some(Err(panicked)) => results.push(Finished {
                name: "a case that panicked",
                seconds: 0.0,
                failure: Some(panicked.to_string()),
            }),
            None => return results,
        }
    }
}

async fn run_one(scene: &Arc<Scene>, case: Case) -> Finished {
    let began = Instant::now();
    let outcome = tokio::time::timeout(LIMIT, (case.run)(Arc::clone(scene))).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_elapsed) => Some(format!("not done after {} s", LIMIT.as_secs())),
    };
    let seconds = began.elapsed().as_secs_f64();
    let verdict = if failure.is_some() { "FAILED" } else { "ok" };
    println!("test {} ... {verdict} ({seconds:.0} s)", case.name);
    if let Some(failure) = &failure {
        say(&format!("  {failure}"));
    }
    Finished {
        name: case.name,
        seconds,
        failure,
    }
}

fn report(results: &[Finished]) {
    let failed: Vec<&Finished> = results
        .iter()
        .filter(|result| result.failure.is_some())
        .collect();
    println!("\nend-to-end tests, slowest first:");
    let mut sorted: Vec<&Finished> = results.iter().collect();
    sorted.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    for result in sorted {
        let verdict = if result.failure.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        println!(
            "  {:<6} {:>5.0} s  {}",
            verdict, result.seconds, result.name
        );
    }
    for result in &failed {
        println!(
            "\nFAILED {}: {}",
            result.name,
            result.failure.as_deref().unwrap_or("")
        );
    }
    println!(
        "\n{} passed, {} failed",
        results.len() - failed.len(),
        failed.len()
    );
}
