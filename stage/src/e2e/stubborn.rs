//! What an operator may start on the database that nobody can stop at once: it must not cost the chain its seal.

use super::scene::{ALICE, CLOSING, SOON, Scene};
use anyhow::{Context as _, ensure};
use std::sync::Arc;
use std::time::Duration;

/// The server computes this in one go for minutes, whoever is killed meanwhile.
const POINTS: usize = 3_000;

pub(super) async fn a_query_that_cannot_be_killed_costs_no_seal(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 30).await?;
    let mut login = scene.login(ALICE, &open).await?;
    scene.mysql(&mut login, &open).await?;
    // Points far apart in no order: every part of the line crosses many of the others.
    let mut dice: u32 = 1;
    let mut next = || {
        dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        dice >> 22
    };
    let line: Vec<String> = (0..POINTS)
        .map(|_| format!("{} {}", next(), next()))
        .collect();
    login
        .send(&format!(
            "SELECT LENGTH(ST_AsText(ST_Buffer(ST_GeomFromText('LINESTRING({})'),10)));\n",
            // A terminal's line is 4,095 bytes at most.
            line.chunks(50)
                .map(|part| part.join(","))
                .collect::<Vec<_>>()
                .join(",\n")
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
    // Otherwise the query ended too soon, and this shows nothing.
    ensure!(
        !item.is("account_gone"),
        "the query ended too soon: {}",
        login.screen()
    );
    scene.terminated(&open.request, SOON).await?;
    let verdict = scene.verdict(&open.request).await?;
    ensure!(
        verdict.verdict == "VALID" && verdict.code == 0,
        "{}",
        verdict.text
    );
    Ok(())
}
