//! Who may ask, who may approve, and that one decision wins.

use super::scene::{ALICE, BOB, BOOT, CAROL, CLOSING, MALLORY, SOON, Scene};
use crate::journey::{Form, values};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// Time in which a launch that must not happen would have happened: several ticks.
const WOULD_HAVE: Duration = Duration::from_secs(6);

pub(super) async fn a_denial_tells_the_operator_and_launches_nothing(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let request = scene.ask(ALICE, "orders-prod", "ADMIN", 45).await?;
    scene
        .slack
        .deny(CAROL, &request, "use READ for that")
        .await?;
    let item = scene
        .ledger
        .until(&request, "DENIED", SOON, |item| item.state() == "DENIED")
        .await?;
    ensure!(
        item.text("approver") == "carol@example.com",
        "{}",
        item.text("approver")
    );
    scene
        .slack
        .says(&request, "use READ for that", SOON)
        .await
        .context("the operator must be told why")?;
    tokio::time::sleep(WOULD_HAVE).await;
    ensure!(
        scene.launches(&request).await? == 0,
        "something was launched"
    );
    Ok(())
}

/// Somebody with write access to the table, and none to Slack.
pub(super) async fn an_approval_that_was_written_into_the_ledger_launches_nothing(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let request = scene.ask(ALICE, "orders-prod", "ADMIN", 45).await?;
    // As asked, with an approver who never clicked; and what was asked, made more than it was.
    let approved = [
        ("state", "APPROVED".to_owned()),
        ("approver", "bob@example.com".to_owned()),
        ("approver_slack", BOB.slack.to_owned()),
        ("approved_at", crate::clock::timestamp()),
    ];
    scene.ledger.write(&request, &approved).await?;
    let raised = scene.ask(ALICE, "orders-prod", "READ", 45).await?;
    let card = scene.slack.card(&raised, SOON).await?;
    let level = [("level", "ADMIN".to_owned())];
    scene.ledger.write(&raised, &level).await?;
    let _refused = scene.slack.click_at(BOB, &card, &raised, "approve").await;
    for (request, code) in [(&request, "approval_altered"), (&raised, "request_altered")] {
        let item = scene.closed(request, SOON).await?;
        ensure!(
            item.state() == "FAILED" && item.text("failed_code") == code,
            "{:?}",
            item.json()
        );
        tokio::time::sleep(WOULD_HAVE).await;
        ensure!(
            scene.launches(request).await? == 0,
            "something was launched"
        );
    }
    Ok(())
}

pub(super) async fn nobody_approves_their_own_request_and_outsiders_approve_none(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    // Bob may ask and may approve, but not himself; Mallory may nothing.
    let request = scene.ask(BOB, "orders-prod", "READ", 45).await?;
    let card = scene.slack.card(&request, SOON).await?;
    let _refused = scene
        .slack
        .click_at(BOB, &card, &request, "approve")
        .await?;
    // Mallory is not in the approvers' channel; the click is made as if she were.
    let _refused = scene
        .slack
        .click_at(MALLORY, &card, &request, "approve")
        .await;
    tokio::time::sleep(WOULD_HAVE).await;
    let item = scene
        .ledger
        .item(&request)
        .await?
        .context("the item is gone")?;
    ensure!(item.state() == "REQUESTED", "it became {}", item.state());
    scene.slack.deny(CAROL, &request, "only a test").await?;
    Ok(())
}

pub(super) async fn one_approval_wins_however_many_click(scene: Arc<Scene>) -> anyhow::Result<()> {
    let request = scene.ask(ALICE, "orders-prod", "READ", 30).await?;
    let card = scene.slack.card(&request, SOON).await?;
    let click = |person| scene.slack.click_at(person, &card, &request, "approve");
    let _clicks = tokio::join!(click(BOB), click(CAROL), click(BOB), click(CAROL));
    let item = scene
        .ledger
        .until(&request, "READY", BOOT, |item| {
            matches!(item.state(), "READY" | "FAILED")
        })
        .await?;
    ensure!(item.state() == "READY", "{}", item.text("failed_message"));
    ensure!(
        ["bob@example.com", "carol@example.com"].contains(&item.text("approver")),
        "approved by {:?}",
        item.text("approver")
    );
    ensure!(
        scene.launches(&request).await? == 1,
        "not exactly one launch"
    );
    ensure!(item.number("attempt") == Some(1), "not the first attempt");
    scene
        .closed(&request, Duration::from_secs(45) + CLOSING)
        .await?;
    Ok(())
}

pub(super) async fn a_bad_form_is_refused_field_by_field(scene: Arc<Scene>) -> anyhow::Result<()> {
    let _asking = scene.asking.lock().await;
    let (view, request) = scene.slack.open_form(BOB).await?;
    let form = Form {
        cluster: "orders-prod",
        level: "READ",
        schema: "orders",
        duration_s: 45,
        reason: "a schema of another cluster",
    };
    let mut bad = values(&form);
    if let Some(schemas) = bad.pointer_mut("/schemas/schemas") {
        *schemas = serde_json::json!(["archive-prod/orders"]);
    }
    let answer = scene.slack.submit(BOB, &view, &bad).await?;
    ensure!(
        answer.get("outcome").and_then(Value::as_str) == Some("errors"),
        "{answer}"
    );
    ensure!(
        answer
            .pointer("/errors/schemas")
            .is_some_and(Value::is_string),
        "{answer}"
    );
    ensure!(
        scene.ledger.item(&request).await?.is_none(),
        "a refused form was stored"
    );
    Ok(())
}
