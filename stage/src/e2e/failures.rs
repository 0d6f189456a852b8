//! Bastions that cannot become ready: the operator hears why, and nothing is left.

use super::scene::{ALICE, BOB, BOOT, CLOSING, PARTS, SOON, Scene};
use crate::demo::owner_query;
use crate::journey::{Item, aws, post};
use crate::parts::{StagePaths, Variant, switch_repository};
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Asks, approves and waits for the failure; the operator must hear of it and the instance must end.
async fn fails(scene: &Scene, cluster: &str, limit: Duration) -> anyhow::Result<Item> {
    let request = scene.ask(ALICE, cluster, "READ", 45).await?;
    scene.slack.approve(BOB, &request).await?;
    failed(scene, &request, limit).await
}

async fn failed(scene: &Scene, request: &str, limit: Duration) -> anyhow::Result<Item> {
    scene
        .ledger
        .until(request, "an instance", SOON, |item| {
            !item.text("instance").is_empty()
        })
        .await?;
    let host = scene.address(request).await?;
    let item = scene.closed(request, limit).await?;
    ensure!(item.state() == "FAILED", "it became {}", item.state());
    let reason = item.text("failed_message").to_owned();
    ensure!(!reason.is_empty(), "it failed without a reason");
    let told: String = reason.chars().take(20).collect();
    scene
        .slack
        .says(request, &told, SOON)
        .await
        .context("the operator must hear why")?;
    let item = scene.terminated(request, CLOSING).await?;
    scene.nothing_left(&item, &host, SOON).await?;
    Ok(item)
}

/// Nothing listens at this cluster's address, as when its server is down.
pub(super) async fn a_database_that_is_down_fails_the_request_with_its_reason(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let item = fails(&scene, "broken-prod", BOOT).await?;
    ensure!(
        item.text("failed_step") == "account",
        "failed in {}",
        item.text("failed_step")
    );
    ensure!(
        item.text("failed_code") == "database_unreachable",
        "{}",
        item.text("failed_code")
    );
    Ok(())
}

pub(super) async fn a_handoff_that_is_gone_aborts_and_alarms(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let request = scene.ask(ALICE, "orders-prod", "READ", 45).await?;
    scene.slack.approve(BOB, &request).await?;
    let item = scene
        .ledger
        .until(&request, "a handoff's name", SOON, |item| {
            !item.text("handoff").is_empty()
        })
        .await?;
    // A thief takes it first: the bastion's own look is held back until the secret is gone.
    let name = item.text("handoff");
    let held = json!({
        "service": "secretsmanager", "operation": "GetSecretValue", "resource": name, "count": 1,
        "action": { "kind": "delay", "ms": 6000 },
    });
    post(&format!("{}/_stage/faults", scene.aws), &held)
        .await
        .context("holding the bastion's look back")?;
    let mut stolen = false;
    for _ in 0..50 {
        let look = json!({ "SecretId": name });
        let there = aws(
            &scene.aws,
            "secretsmanager",
            "secretsmanager.DescribeSecret",
            &look,
        )
        .await;
        if there.is_ok() {
            let delete = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
            aws(
                &scene.aws,
                "secretsmanager",
                "secretsmanager.DeleteSecret",
                &delete,
            )
            .await?;
            stolen = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(stolen, "the handoff was never there to be stolen");
    let item = failed(&scene, &request, Duration::from_secs(180)).await?;
    ensure!(
        item.text("failed_code") == "handoff_gone",
        "{}",
        item.text("failed_code")
    );
    ensure!(
        scene.alarmed(&request, "handoff_gone")?,
        "control did not alarm"
    );
    Ok(())
}

pub(super) async fn an_event_scheduler_that_is_off_opens_no_account(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    switch_events(&scene, "OFF").await?;
    let mut outcomes = Vec::new();
    for cluster in ["orders-prod", "archive-prod"] {
        outcomes.push(fails(&scene, cluster, BOOT).await);
    }
    switch_events(&scene, "ON").await?;
    for outcome in outcomes {
        let item = outcome?;
        ensure!(
            item.text("failed_code") == "event_not_running",
            "{}",
            item.text("failed_code")
        );
    }
    for part in PARTS {
        ensure!(
            scene.accounts(part).await?.is_empty(),
            "{part}: an account was opened"
        );
    }
    Ok(())
}

async fn switch_events(scene: &Scene, to: &str) -> anyhow::Result<()> {
    let running = scene.running().await;
    for part in PARTS {
        owner_query(
            &running,
            part,
            &format!("SET GLOBAL event_scheduler = {to}"),
        )
        .await?;
    }
    drop(running);
    if to == "OFF" {
        // The database trusts an event that ran within the last 10 s.
        tokio::time::sleep(Duration::from_secs(12)).await;
    }
    Ok(())
}

pub(super) async fn a_patch_that_fails_fails_the_request_with_its_reason(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let paths = StagePaths::open(&scene.stage.name().to_string(), &scene.dir)?;
    switch_repository(&paths, Variant::Broken)?;
    let outcome = fails(&scene, "orders-prod", BOOT).await;
    switch_repository(&paths, Variant::Good)?;
    let item = outcome?;
    ensure!(
        item.text("failed_step") == "patch",
        "failed in {}",
        item.text("failed_step")
    );
    Ok(())
}
