//! The roll of requests: every request is named in the bucket, and one that vanishes from the ledger is missed.

use super::scene::{ALICE, BOB, Scene};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A period, the delay after it and a tick.
const ROLL: Duration = Duration::from_secs(60);

pub(super) async fn a_request_that_vanishes_from_the_ledger_is_missed(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let request = scene.ask(ALICE, "orders-prod", "READ", 45).await?;
    scene.slack.deny(BOB, &request, "not today").await?;
    let item = scene
        .ledger
        .until(&request, "a roll", ROLL, |item| {
            item.number("roll").is_some()
        })
        .await?;
    ensure!(
        item.number("number").is_some_and(|n| n > 0),
        "the request has no number"
    );
    let verdict = scene.rolls("dynamodb").await?;
    ensure!(
        verdict.verdict == "COMPLETE" && verdict.code == 0,
        "{}",
        verdict.text
    );

    let mut all: Vec<Value> = Vec::new();
    for item in scene.ledger.items().await? {
        if item.request() != request {
            all.push(item.json().clone());
        }
    }
    let file = scene.dir.join(format!("ledger-without-{request}.json"));
    let text = serde_json::json!({ "Items": all }).to_string();
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    let verdict = scene.rolls(&file.display().to_string()).await?;
    ensure!(
        verdict.verdict == "CONTRADICTED" && verdict.code == 1,
        "{}",
        verdict.text
    );
    let missed = format!("{request} is in a roll and not in the ledger");
    ensure!(verdict.text.contains(&missed), "{}", verdict.text);
    Ok(())
}
