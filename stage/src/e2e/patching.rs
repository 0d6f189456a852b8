//! A patch that takes effect with a reboot alone: the machine reboots once, before anything of the grant is there.

use super::scene::{ALICE, BOB, BOOT, CLOSING, Open, SOON, Scene};
use crate::journey::Item;
use crate::parts::{StagePaths, Variant, switch_repository};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn a_new_kernel_runs_before_anybody_logs_in(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let paths = StagePaths::open(&scene.stage.name().to_string(), &scene.dir)?;
    let plain = scene.open("orders-prod", "READ", 45).await?;
    switch_repository(&paths, Variant::Kernel)?;
    let newer = scene.open("orders-prod", "READ", 45).await;
    switch_repository(&paths, Variant::InVain)?;
    let in_vain = fails(&scene).await;
    switch_repository(&paths, Variant::Good)?;
    ended_after(&scene, &plain, 1, false)
        .await
        .context("without a new kernel")?;
    let newer = newer.context("with a new kernel")?;
    ended_after(&scene, &newer, 2, true)
        .await
        .context("with a new kernel")?;

    let item = in_vain.context("with a kernel that asks again")?;
    let failed = (item.text("failed_step"), item.text("failed_code"));
    ensure!(failed == ("patch", "reboot_in_vain"), "{failed:?}");
    let booted = boots(&scene, item.text("instance"))?;
    ensure!(booted == 2, "it booted {booted} times for a reboot in vain");
    Ok(())
}

/// Waits for the end of a window, and looks at how often its machine booted and at what its chain says of that.
async fn ended_after(scene: &Scene, open: &Open, times: u64, rebooted: bool) -> anyhow::Result<()> {
    let item = scene
        .closed(&open.request, Duration::from_secs(45) + CLOSING)
        .await?;
    ensure!(item.state() == "CLOSED", "it became {}", item.state());
    let booted = boots(scene, &open.instance)?;
    ensure!(booted == times, "it booted {booted} times");
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    let lines = scene.lines(&open.request)?;
    let events: Vec<Value> = lines
        .iter()
        .filter(|line| line.kind == "v")
        .filter_map(|line| serde_json::from_str(&line.payload).ok())
        .filter(|event: &Value| event.get("event").is_some_and(|name| name == "patched"))
        .collect();
    let [event] = events.as_slice() else {
        anyhow::bail!("not one record of the patch: {events:?}");
    };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("reading this machine's kernel, which is every bastion's here")?;
    let kernel = kernel.trim();
    let told = json!({
        "event": "patched", "release": "latest", "kernel": kernel, "rebooted": rebooted,
        "kernel_before": rebooted.then_some(kernel),
    });
    let mut event = event.clone();
    let before = event
        .as_object_mut()
        .and_then(|event| event.remove("ms_before"));
    ensure!(
        before.is_some_and(|ms| ms.is_u64() == rebooted && ms.is_null() != rebooted),
        "the first patch's time is not told, or told of none"
    );
    ensure!(event == told, "{event}");
    Ok(())
}

/// Asks, approves and waits for the failure, of which the operator must hear, and for the machine's end.
async fn fails(scene: &Scene) -> anyhow::Result<Item> {
    let request = scene.ask(ALICE, "orders-prod", "READ", 45).await?;
    scene.slack.approve(BOB, &request).await?;
    let item = scene.closed(&request, BOOT).await?;
    ensure!(item.state() == "FAILED", "it became {}", item.state());
    scene
        .slack
        .says(&request, "a reboot is needed", SOON)
        .await
        .context("the operator must hear why")?;
    scene.terminated(&request, CLOSING).await
}

/// How often an instance's machine was booted, by its keeper.
fn boots(scene: &Scene, instance: &str) -> anyhow::Result<u64> {
    let machine = scene.dir.join("machines").join(instance);
    let file = machine.join("keeper.json");
    let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let keeper: Value = serde_json::from_slice(&text).context("the keeper's record is no JSON")?;
    keeper
        .get("boots")
        .and_then(Value::as_u64)
        .context("no count of boots")
}
