//! What an operator may start on the database that nobody can stop at once: it must not cost the chain its seal.

use super::scene::{ALICE, CLOSING, SOON, Scene};
use anyhow::{Context as _, ensure};
use std::sync::Arc;
use std::time::Duration;

/// The server computes this in one go for a minute or so, whoever is killed meanwhile; then the event drops the account.
const POINTS: usize = 420;
/// Until the server is done with it.
const COMPUTED: Duration = Duration::from_secs(300);

pub(super) async fn a_query_that_cannot_be_killed_costs_no_seal(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 30).await?;
    let address = scene.address(&open.request).await?;
    let mut login = scene.login(ALICE, &open).await?;
    scene.mysql(&mut login, &open).await?;
    // Points far apart in no order: every part of the line crosses most of the others.
    let line: Vec<String> = (0..POINTS)
        .map(|n| format!("{} {}", n * 7919 % 1009, n * 104_729 % 997))
        .collect();
    login
        .send(&format!(
            "SELECT LENGTH(ST_AsText(ST_Buffer(ST_GeomFromText('LINESTRING({})'),10)));\n",
            line.join(",")
        ))
        .await?;
    login
        .ended(Duration::from_secs(60))
        .await
        .context("the session must end at the deadline")?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(
        item.state() == "CLOSED" && item.text("close_reason") == "deadline",
        "{:?}",
        item.json()
    );
    ensure!(item.is("sealed"), "{:?}", item.json());
    scene.terminated(&open.request, SOON).await?;
    let verdict = scene.verdict(&open.request).await?;
    ensure!(
        verdict.verdict == "VALID" && verdict.code == 0,
        "{}",
        verdict.text
    );
    scene.account_gone("mysql", &address, COMPUTED).await
}
