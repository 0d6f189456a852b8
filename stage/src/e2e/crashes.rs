//! Sudden ends: of the agent, of the machine, of control.

use super::scene::{ALICE, BOB, BOOT, CLOSING, Line, SOON, Scene};
use crate::journey::{Verdict, get, post};
use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after the agent's death the machine may be on.
const OFF_WITHIN: Duration = Duration::from_secs(30);
const LAST_WORDS: &str = "'last words'";
/// A lease of 180 s, and some seconds for the event and for us.
const LEASE: Duration = Duration::from_secs(200);

pub(super) async fn a_killed_agent_ends_the_machine_and_the_verdict_is_unsealed(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 600).await?;
    let mut login = scene.login(ALICE, &open).await?;
    scene.mysql(&mut login, &open).await?;
    // The agent's next call is held, so what is said from here on leaves the machine after the agent's death or never.
    let held = json!({
        "service": "logs", "operation": "PutLogEvents", "resource": &open.instance, "count": 1,
        "action": { "kind": "delay", "ms": 600_000 },
    });
    post(&format!("{}/_stage/faults", scene.aws), &held)
        .await
        .context("holding the agent's shipping back")?;
    login.send("SELECT 'last words' AS said;\n").await?;
    login.expect("row in set", SOON).await?;
    login.expect("> ", SOON).await?;
    let early = scene.early_lines(&open.request).await?;
    ensure!(
        !says(&early, LAST_WORDS),
        "the last words have left already"
    );
    let host = scene.address(&open.request).await?;
    let agent = scene
        .process_on(&open.instance, "/usr/bin/powerpole-agent run")
        .context("the agent was not found on the bastion")?;
    agent.signal(Signal::SIGKILL);
    let killed = Instant::now();
    login
        .ended(OFF_WITHIN)
        .await
        .context("the session must end within 30 s")?;
    scene
        .machine_off(&open.instance, OFF_WITHIN.saturating_sub(killed.elapsed()))
        .await
        .context("the machine must be off within 30 s")?;
    scene
        .terminated(&open.request, Duration::from_secs(60))
        .await
        .context("EC2 must have the instance as terminated")?;
    scene.account_gone("mysql", &host, LEASE).await?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(!item.is("sealed"), "the ledger says sealed");
    let verdict = scene.verdict(&open.request).await?;
    ensure!(
        verdict.verdict == "UNSEALED" && verdict.code == 1,
        "{}",
        verdict.text
    );
    let lines = scene.lines(&open.request)?;
    ensure!(says(&lines, LAST_WORDS), "the tail was not shipped");
    let heard = item.number("final_seq");
    ensure!(
        heard.is_some() && proven_to(&verdict) >= heard,
        "not all that control had heard of is proven: {}",
        verdict.json
    );
    Ok(())
}

pub(super) async fn a_machine_destroyed_without_warning_leaves_no_account_and_no_valid_verdict(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "WRITE", 600).await?;
    let mut login = scene.login(ALICE, &open).await?;
    login.send("echo before the end\n").await?;
    login.expect("before the end", SOON).await?;
    // Long enough for a checkpoint to be shipped and anchored.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let host = scene.address(&open.request).await?;
    let destroyed = tokio::process::Command::new(crate::hub::own_program())
        .args([
            "host",
            "destroy",
            "--stage",
            &scene.stage.name().to_string(),
            "--dir",
        ])
        .arg(&scene.dir)
        .arg(&open.instance)
        .status()
        .await?;
    ensure!(destroyed.success(), "the machine was not destroyed");
    scene.account_gone("mysql", &host, LEASE).await?;
    let item = scene
        .closed(&open.request, LEASE)
        .await
        .context("control must notice")?;
    ensure!(!item.is("sealed"), "the ledger says sealed");
    let verdict = scene.verdict(&open.request).await?;
    ensure!(
        ["UNSEALED", "INCOMPLETE"].contains(&verdict.verdict.as_str()) && verdict.code == 1,
        "{}",
        verdict.text
    );
    // The last head that is known from outside the stream binds it: nothing before that can be missing unseen.
    let heard = item.number("final_seq");
    let known = verdict
        .json
        .pointer("/last_known/seq")
        .and_then(Value::as_u64);
    ensure!(
        heard.is_some() && known >= heard && proven_to(&verdict) >= known,
        "{}",
        verdict.json
    );
    Ok(())
}

/// Whether a statement of this text was recorded.
fn says(lines: &[Line], text: &str) -> bool {
    let statement = |line: &Line| line.kind == "q" && line.payload.contains(text);
    lines.iter().any(statement)
}

fn proven_to(verdict: &Verdict) -> Option<u64> {
    verdict.json.get("proven_to").and_then(Value::as_u64)
}

pub(super) async fn control_killed_before_and_after_run_instances_launches_once(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    // Before: the launch is held at the proxy, so control dies between the ledger and RunInstances' answer.
    // After: RunInstances is carried out, but its answer never arrives.
    for fault in [
        json!({ "service": "ec2", "operation": "RunInstances", "count": 1, "action": { "kind": "delay", "ms": 3000 } }),
        json!({ "service": "ec2", "operation": "RunInstances", "count": 1, "action": { "kind": "apply_then_drop" } }),
    ] {
        post(&format!("{}/_stage/faults", scene.aws), &fault)
            .await
            .context("planning the fault")?;
        let request = scene.ask(ALICE, "orders-prod", "READ", 30).await?;
        scene.slack.approve(BOB, &request).await?;
        scene
            .ledger
            .until(&request, "LAUNCHING", SOON, |item| {
                item.state() == "LAUNCHING"
            })
            .await?;
        let mut running = scene.running().await;
        running.control.kill().await;
        running.control.restart().await?;
        drop(running);
        let item = scene
            .ledger
            .until(&request, "READY", BOOT, |item| {
                matches!(item.state(), "READY" | "FAILED")
            })
            .await?;
        ensure!(item.state() == "READY", "{}", item.text("failed_message"));
        ensure!(
            scene.launches(&request).await? == 1,
            "not exactly one instance"
        );
        scene
            .closed(&request, Duration::from_secs(45) + CLOSING)
            .await?;
    }
    // Both faults were met, so both cases were really walked. Control then found the instance by its client token.
    for fault in ["Delay", "ApplyThenDrop"] {
        let met = calls(&scene).await?.iter().any(|call| {
            let applied = call.get("fault").and_then(Value::as_str);
            applied.is_some_and(|applied| applied.starts_with(fault))
        });
        ensure!(met, "no launch met the fault {fault}");
    }
    Ok(())
}

/// The launches that the endpoint saw.
async fn calls(scene: &Scene) -> anyhow::Result<Vec<Value>> {
    let page = "_stage/calls?service=ec2&operation=RunInstances";
    let answer = get(&format!("{}/{page}", scene.aws)).await?;
    let calls = answer.get("calls").and_then(Value::as_array);
    Ok(calls.cloned().unwrap_or_default())
}
