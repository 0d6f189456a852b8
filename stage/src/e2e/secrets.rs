//! Secrets, looked for where none may be while a session is open: in the arguments and the environment of every process
//! of a bastion and of the hub, in every log, and in what the parts keep on disk.

use super::scene::{ALICE, BOB, BOOT, CLOSING, SOON, Scene};
use crate::hub::Process;
use crate::journey::{HttpError, aws};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A secret, by what it is called.
struct Secret {
    name: &'static str,
    value: String,
}

pub(super) async fn no_process_and_no_log_shows_one_while_a_session_is_open(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let request = scene.ask(ALICE, "orders-prod", "READ", 600).await?;
    scene.slack.approve(BOB, &request).await?;
    let handoff = read_on_its_way(&scene, &request).await?;
    let open = scene.opened(&request, BOOT).await?;
    let mut login = scene.login(ALICE, &open).await?;
    scene.mysql(&mut login, &open).await?;
    login.send("SELECT 'is-' AS open, 'open' AS now;\n").await?;
    login.expect("row in set", SOON).await?;

    let mut secrets = vec![Secret {
        name: "the one-time password",
        value: open.delivered.password.clone(),
    }];
    secrets.extend(of_the_handoff(&handoff)?);
    secrets.extend(of_the_stage(&scene)?);
    secrets.push(boot_token(&scene, &open.instance)?);
    ensure!(
        secrets.len() >= 8,
        "only {} secrets are known",
        secrets.len()
    );

    let instance = open.instance.parse()?;
    let machine = crate::hub::in_namespace(&scene.stage.machine_namespace(&instance));
    let hub = crate::hub::in_namespace(&scene.stage.hub_namespace());
    ensure!(
        machine.len() >= 8,
        "only {} processes on the bastion",
        machine.len()
    );
    ensure!(hub.len() >= 4, "only {} processes in the hub", hub.len());
    for process in machine.iter().chain(&hub) {
        shows_none(process, &secrets)?;
    }
    for (place, program) in [
        (&machine, "/usr/bin/powerpole-agent run"),
        (&machine, "/bin/bash"),
        (&hub, "powerpole-control run"),
    ] {
        writes_no_core(place, program)?;
    }
    let mut looked_through = 0;
    for file in logs(&scene, &open.instance)? {
        looked_through += 1;
        holds_none(&file, &secrets)?;
    }
    ensure!(looked_through >= 5, "only {looked_through} logs");

    login.send("exit\nexit\n").await?;
    login.ended(SOON).await?;
    scene.slack.finish(ALICE, &request).await?;
    scene.closed(&request, CLOSING).await?;
    let verdict = scene.verdict(&request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    let evidence = scene.dir.join("evidence").join(&request);
    for file in files_in(&evidence)?
        .into_iter()
        .chain(logs(&scene, &open.instance)?)
    {
        holds_none(&file, &secrets)?;
    }
    // The payloads of records are base64 in the lines.
    for line in scene.lines(&request)? {
        none_in(
            line.payload.as_bytes(),
            &secrets,
            &format!("a record of kind {}", line.kind),
        )?;
    }
    Ok(())
}

/// The handoff as a thief would read it, before the bastion takes and deletes it.
async fn read_on_its_way(scene: &Scene, request: &str) -> anyhow::Result<Value> {
    let item = scene
        .ledger
        .until(request, "a handoff's name", SOON, |item| {
            !item.text("handoff").is_empty()
        })
        .await?;
    let wanted = json!({ "SecretId": item.text("handoff") });
    for _ in 0..200 {
        let read: Result<Value, HttpError> = aws(
            &scene.aws,
            "secretsmanager",
            "secretsmanager.GetSecretValue",
            &wanted,
        )
        .await;
        let text = read
            .ok()
            .and_then(|answer| Some(answer.get("SecretString")?.as_str()?.to_owned()));
        if let Some(text) = text {
            return serde_json::from_str(&text).context("the handoff is no JSON");
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    anyhow::bail!("the handoff was never seen")
}

/// Its token and the ticket's MAC and nonce.
fn of_the_handoff(handoff: &Value) -> anyhow::Result<Vec<Secret>> {
    let wanted = [
        ("the handoff's token", "/token"),
        ("the ticket's MAC", "/ticket/mac"),
    ];
    wanted
        .into_iter()
        .map(|(name, path)| {
            let value = handoff.pointer(path).and_then(Value::as_str);
            let value = value.with_context(|| format!("{name} is not in the handoff"))?;
            Ok(Secret {
                name,
                value: value.to_owned(),
            })
        })
        .collect()
}

/// What the instance was launched with.
fn boot_token(scene: &Scene, instance: &str) -> anyhow::Result<Secret> {
    let file = scene.dir.join("machines").join(instance).join("user-data");
    let text = std::fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
    let document: Value = serde_json::from_slice(&text).context("the user data is no JSON")?;
    let value = document.get("boot_token").and_then(Value::as_str);
    Ok(Secret {
        name: "the boot token",
        value: value.context("there is no boot token")?.to_owned(),
    })
}

/// The stage's own: grantor, ticket keys, Slack.
fn of_the_stage(scene: &Scene) -> anyhow::Result<Vec<Secret>> {
    let keys = scene.dir.join("keys");
    let mut secrets = Vec::new();
    for (name, file) in [
        ("the grantor's password", "grantor-orders-prod"),
        ("the ticket key", "ticket-orders-prod"),
        ("Slack's bot token", "slack-bot-token"),
        ("Slack's signing secret", "slack-signing-secret"),
    ] {
        let path = keys.join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        secrets.push(Secret {
            name,
            value: text.trim().to_owned(),
        });
    }
    Ok(secrets)
}

fn shows_none(process: &Process, secrets: &[Secret]) -> anyhow::Result<()> {
    let proc = PathBuf::from(format!("/proc/{}", process.pid));
    let name = std::fs::read(proc.join("cmdline")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).replace('\0', " ");
    for file in ["cmdline", "environ", "comm"] {
        // A process that ended meanwhile shows nothing any more.
        let text = std::fs::read(proc.join(file)).unwrap_or_default();
        none_in(&text, secrets, &format!("{file} of {name:?}"))?;
    }
    Ok(())
}

fn writes_no_core(processes: &[Process], program: &str) -> anyhow::Result<()> {
    let mut found = 0;
    for process in processes {
        let line = std::fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        if !String::from_utf8_lossy(&line)
            .replace('\0', " ")
            .contains(program)
        {
            continue;
        }
        found += 1;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid))
            .context("reading limits")?;
        let core = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max core file size"))
            .map(|rest| rest.split_ascii_whitespace().collect::<Vec<_>>());
        ensure!(
            core.as_ref()
                .is_some_and(|core| core.starts_with(&["0", "0"])),
            "{program} may write a core: {core:?}"
        );
    }
    ensure!(found > 0, "{program} does not run");
    Ok(())
}

fn logs(scene: &Scene, instance: &str) -> anyhow::Result<Vec<PathBuf>> {
    let machine = scene.dir.join("machines").join(instance);
    let mut files = vec![
        machine.join("console.log"),
        scene.dir.join("supervisor.log"),
    ];
    files.extend(files_in(&scene.dir.join("logs"))?);
    files.retain(|file| file.is_file());
    Ok(files)
}

fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect())
}

fn holds_none(file: &Path, secrets: &[Secret]) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    none_in(&text, secrets, &file.display().to_string())
}

fn none_in(text: &[u8], secrets: &[Secret], place: &str) -> anyhow::Result<()> {
    for secret in secrets {
        let found = text
            .windows(secret.value.len().max(1))
            .any(|window| window == secret.value.as_bytes());
        ensure!(!found, "{} is in {place}", secret.name);
    }
    Ok(())
}
