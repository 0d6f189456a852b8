//! The demo without hands: one request of 90 seconds, told step by step, from the modal to the verdict.

use super::left::count_left;
use super::narrator::{Clock, headline, line, lines};
use super::pictures::Pictures;
use super::tamper::{TAMPERINGS, tampered_copy};
use crate::journey::{
    Form, Item, Ledger, Login, Slack, export, keep_rolls, rolls, values, verify, verify_with_rolls,
};
use crate::supervisor::{AUDITOR, PEOPLE, Running};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const SHORT: Duration = Duration::from_secs(20);
const BOOT: Duration = Duration::from_secs(120);
/// A roll's period on the stage, its delay and a tick.
const ROLL: Duration = Duration::from_secs(40);
const WINDOW_S: u64 = 90;

/// Plays the story; an error says which step did not hold.
pub(crate) async fn play(running: &Running, out: Option<&Path>) -> anyhow::Result<()> {
    let mut pictures = match out {
        Some(out) => Pictures::into_folder(running, out),
        None => Pictures::none(),
    };
    let outcome = story(running, out, &mut pictures).await;
    pictures.end().await;
    outcome
}

async fn story(
    running: &Running,
    out: Option<&Path>,
    pictures: &mut Pictures,
) -> anyhow::Result<()> {
    let [alice, bob, _, _, mallory] = PEOPLE;
    let slack = Slack::at(&running.page_url());
    let ledger = Ledger::at(&running.aws_url());
    let mut clock = Clock::start();

    headline("1. Alice asks in Slack, Bob approves");
    let reason = "Look into order 1003 for a customer";
    let form = Form {
        cluster: "orders-prod",
        level: "READ",
        schema: "orders",
        duration_s: WINDOW_S,
        reason,
    };
    let (modal, request) = slack.open_form(alice).await.context("opening the modal")?;
    pictures.take("modal", &request).await;
    let answer = slack.submit(alice, &modal, &values(&form)).await;
    let answer = answer.context("asking")?;
    ensure!(
        answer.get("outcome").and_then(Value::as_str) == Some("closed"),
        "the request's modal stayed: {answer}"
    );
    clock.done(&format!(
        "Alice asked for READ on orders-prod, 90 seconds: {request}"
    ));
    pictures.take("card", &request).await;
    slack.approve(bob, &request).await.context("approving")?;
    clock.done("Bob approved on the card in #db-approvals");

    headline("2. A bastion is built for this request and nothing else");
    let ready = ledger
        .until(&request, "READY", BOOT, |item| {
            matches!(item.state(), "READY" | "FAILED" | "CLOSED")
        })
        .await?;
    ensure!(
        ready.state() == "READY",
        "the bastion failed: {}",
        ready.text("failed_message")
    );
    clock.done(&format!("{} is ready", ready.text("instance")));
    boot_times(&ready);
    let delivered = slack.delivered(&request, SHORT).await?;
    clock.done("Alice has a DM: session line, mysql line, one-time password");
    line(&format!("$ {}", delivered.session_line));
    line("(The DM's link is for the console of the real AWS, which knows no stage.)");
    pictures.take("dm", &request).await;

    headline("3. Alice logs in with that line and runs SQL");
    let mut session = Login::open(&delivered.session_line, &running.environment(alice.name))?;
    session
        .expect("$ ", SHORT)
        .await
        .context("waiting for the shell's prompt")?;
    clock.done("logged in through SSM, into the recorder");
    session.send(&format!("{}\n", delivered.mysql_line)).await?;
    session
        .expect("assword:", SHORT)
        .await
        .context("waiting for mysql's password prompt")?;
    session.send(&format!("{}\n", delivered.password)).await?;
    session
        .expect("> ", SHORT)
        .await
        .context("waiting for mysql's prompt")?;
    session
        .send("SELECT CURRENT_USER() AS who, COUNT(*) AS orders FROM orders.orders;\n")
        .await?;
    let table = session
        .expect("row in set", SHORT)
        .await
        .context("waiting for the answer")?;
    lines(&only_table(&table));
    session.send("DELETE FROM orders.orders;\n").await?;
    session
        .expect("ERROR 1142", SHORT)
        .await
        .context("READ must not delete")?;
    clock.done("SELECT answered; DELETE refused by the database (READ)");

    headline("4. Mallory tries to log in to Alice's bastion");
    let mut intruder = Login::open(&delivered.session_line, &running.environment(mallory.name))?;
    intruder
        .ended(SHORT)
        .await
        .context("the intruder's session must end")?;
    ensure!(!intruder.screen().contains("$ "), "Mallory got a shell");
    clock.done("refused, and recorded as refused");

    headline("5. The window ends");
    session
        .expect("ends in", Duration::from_secs(WINDOW_S))
        .await
        .context("waiting for a warning")?;
    clock.done("a warning came on the terminal");
    session
        .ended(Duration::from_secs(WINDOW_S + 30))
        .await
        .context("the session must end")?;
    clock.done("the session was cut off");
    let closed = ledger
        .until(&request, "CLOSED", Duration::from_secs(90), |item| {
            item.state() == "CLOSED"
        })
        .await?;
    ensure!(closed.is("sealed"), "the chain was not sealed");
    ensure!(
        closed.is("account_gone"),
        "the account was not read back as gone"
    );
    clock.done("account gone, chain sealed and anchored, ledger closed");
    ledger
        .until(
            &request,
            "the instance's end",
            Duration::from_secs(60),
            |item| !item.text("terminated_at").is_empty(),
        )
        .await?;
    clock.done("the instance terminated itself");
    slack
        .says(&request, "Final head", SHORT)
        .await
        .context("waiting for the receipt")?;
    let shown = serde_json::to_string(&slack.shown().await?)?;
    ensure!(
        !shown.contains(&delivered.password),
        "the password still shows in Slack"
    );
    pictures.take("ended", &request).await;
    pictures.take("receipt", &request).await;
    clock.done("receipt in the approval's thread; the DM with the password was overwritten");

    headline("6. An auditor verifies it, without any secret of ours");
    let dir = out.map_or_else(
        || running.files.dir.join(format!("evidence-{request}")),
        Path::to_owned,
    );
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let powerpole = running.files.binary("powerpole");
    export(&powerpole, &request, &dir, &running.environment(AUDITOR)).await?;
    let verdict = verify(&powerpole, &dir).await?;
    clock.done(&format!(
        "powerpole verify: {} (exit code {})",
        verdict.verdict, verdict.code
    ));
    lines(&verdict.text);
    ensure!(
        verdict.verdict == "VALID" && verdict.code == 0,
        "the real chain must be VALID"
    );
    for (name, change) in TAMPERINGS {
        let copy = tampered_copy(&dir, &running.files.dir.join("tampered"), change)?;
        let verdict = verify(&powerpole, &copy).await?;
        ensure!(
            verdict.code == 1,
            "{name} was not noticed: {}",
            verdict.verdict
        );
        clock.done(&format!(
            "a copy with {name}: {} (exit code {})",
            verdict.verdict, verdict.code
        ));
    }

    ledger
        .until(&request, "the roll", ROLL, |item| {
            item.number("roll").is_some()
        })
        .await?;
    let verdict = rolls(&powerpole, "dynamodb", &running.environment(AUDITOR)).await?;
    clock.done(&format!(
        "powerpole rolls: {} (exit code {}): rolls and ledger name the same requests",
        verdict.verdict, verdict.code
    ));
    lines(&verdict.text);
    ensure!(verdict.code == 0, "the rolls must agree with the ledger");
    let file = dir.join("ROLLS.jsonl");
    keep_rolls(&powerpole, &file, &running.environment(AUDITOR)).await?;
    let verdict = verify_with_rolls(&powerpole, &dir, &file).await?;
    clock.done(&format!(
        "powerpole verify --rolls: {} (exit code {})",
        verdict.verdict, verdict.code
    ));
    let named = verdict
        .text
        .lines()
        .find(|line| line.contains("the rolls name it"));
    lines(named.unwrap_or_default());
    ensure!(
        verdict.verdict == "VALID" && verdict.code == 0 && named.is_some(),
        "the rolls must name the request's end: {}",
        verdict.text
    );

    headline("7. Times");
    line(&format!(
        "approval → ready: {}, of which the agent's own share {:.1} s",
        between(&closed, "approved_at", "ready_at"),
        agents_share(&boot_steps(&closed))
    ));
    line(&format!("the whole story:  {:.0} s", clock.total()));

    headline("8. What is left");
    let mut left = count_left(running).await?;
    for _ in 0..40 {
        if left.iter().all(|kind| kind.count == 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        left = count_left(running).await?;
    }
    for kind in &left {
        line(&format!("{:<40} {}", kind.what, kind.count));
    }
    if left.iter().any(|kind| kind.count > 0) {
        bail!("something was left behind");
    }
    Ok(())
}

/// The steps of the boot as the agent timed them, in milliseconds.
fn boot_steps(item: &Item) -> Vec<(String, u32)> {
    let steps: Value = serde_json::from_str(item.text("steps")).unwrap_or_default();
    let timed = |step: &Value| {
        let ms = step.get("ms")?.as_u64()?;
        Some((
            step.get("step")?.as_str()?.to_owned(),
            u32::try_from(ms).ok()?,
        ))
    };
    steps
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(timed)
        .collect()
}

/// In seconds.
fn agents_share(steps: &[(String, u32)]) -> f64 {
    steps.iter().map(|(_, ms)| f64::from(*ms) / 1000.0).sum()
}

fn boot_times(item: &Item) {
    let steps = boot_steps(item);
    for (name, ms) in &steps {
        line(&format!("    {name:<24} {ms:>6} ms"));
    }
    line(&format!(
        "    the agent's share of approval → ready: {:.1} s",
        agents_share(&steps)
    ));
}

fn only_table(text: &str) -> String {
    text.lines()
        .filter(|line| line.starts_with('|') || line.starts_with('+'))
        .collect::<Vec<_>>()
        .join("\n")
}

fn between(item: &Item, from: &str, to: &str) -> String {
    let at = |name| item.text(name).parse::<jiff::Timestamp>().ok();
    match (at(from), at(to)) {
        (Some(from), Some(to)) => format!("{:.1} s", to.duration_since(from).as_secs_f64()),
        _ => "unknown".to_owned(),
    }
}
