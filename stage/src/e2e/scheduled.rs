//! A request for later: approved at once, opened when it was asked for.

use super::scene::{ALICE, BOB, BOOT, CLOSING, SOON, Scene};
use crate::clock;
use crate::journey::{Form, Item, values};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How far ahead the start lies: several ticks.
const AHEAD_S: u64 = 20;

pub(super) async fn nothing_of_a_grant_is_there_before_its_start(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let (request, start) = ask_for_later(&scene).await?;
    scene.slack.approve(BOB, &request).await?;
    let approved = scene
        .ledger
        .until(&request, "APPROVED", SOON, |item| {
            item.state() == "APPROVED"
        })
        .await?;
    let wanted = seconds(&approved, "start_at")?;
    ensure!(wanted == start, "asked for {start}, stored {wanted}");
    while clock::since_epoch().as_secs() + 1 < start {
        let item = scene.ledger.item(&request).await?.context("no item")?;
        let early = clock::since_epoch().as_secs() < start;
        ensure!(
            !early || item.state() == "APPROVED",
            "{} before its start",
            item.state()
        );
        let launches = scene.launches(&request).await?;
        let early = clock::since_epoch().as_secs() < start;
        ensure!(!early || launches == 0, "launched before its start");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scene.opened(&request, BOOT).await?;
    scene.slack.finish(ALICE, &request).await?;
    let closed = scene.closed(&request, CLOSING).await?;
    for at in ["launched_at", "ready_at"] {
        let at_s = seconds(&closed, at)?;
        ensure!(at_s >= start, "{at} is {at_s}, the start {start}");
    }
    let verdict = scene.verdict(&request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    Ok(())
}

/// Asks as Alice for a start that lies ahead; answers the request and the start in seconds since 1970.
async fn ask_for_later(scene: &Scene) -> anyhow::Result<(String, u64)> {
    let _asking = scene.asking.lock().await;
    let reason = scene.reason("for later");
    let form = Form {
        cluster: "orders-prod",
        level: "READ",
        schema: "orders",
        duration_s: 45,
        reason: &reason,
    };
    let (view, request) = scene.slack.open_form(ALICE).await?;
    let start = clock::since_epoch().as_secs() + AHEAD_S;
    let mut filled = values(&form);
    if let Some(fields) = filled.as_object_mut() {
        fields.insert("start".to_owned(), json!({ "start": start }));
    }
    let answer = scene.slack.submit(ALICE, &view, &filled).await?;
    ensure!(
        answer.get("outcome").and_then(Value::as_str) == Some("closed"),
        "{answer}"
    );
    Ok((request, start))
}

fn seconds(item: &Item, name: &str) -> anyhow::Result<u64> {
    let text = item.text(name);
    let at: jiff::Timestamp = text
        .parse()
        .with_context(|| format!("{name} is {text:?}"))?;
    Ok(u64::try_from(at.as_second())?)
}
