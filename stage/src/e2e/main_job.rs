//! The main job, and what an operator may try to leave behind.

use super::scene::{ALICE, CLOSING, Line, MALLORY, SOON, Scene};
use crate::journey::{Login, Verdict};
use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn from_the_request_to_a_valid_verdict(scene: Arc<Scene>) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 45).await?;
    let mut login = scene.login(ALICE, &open).await?;
    scene
        .slack
        .says(&open.request, "You can log in", SOON)
        .await
        .context("a message of its own must say that the window has begun")?;
    login.send("rpm -q powerpole-stage-sample\n").await?;
    login
        .expect("powerpole-stage-sample-2.0", SOON)
        .await
        .context("the patch must have brought what the repository has")?;
    login.send("id -un; tty\n").await?;
    login
        .expect("operator", SOON)
        .await
        .context("the shell must run as operator")?;
    scene.mysql(&mut login, &open).await?;
    login.send("SELECT COUNT(*) FROM orders.orders;\n").await?;
    login.expect("row in set", SOON).await?;
    login.send("DELETE FROM orders.orders;\n").await?;
    login
        .expect("ERROR 1142", SOON)
        .await
        .context("READ must not delete")?;
    login.send("SELECT * FROM secretdb.secrets;\n").await?;
    login
        .expect("ERROR 1142", SOON)
        .await
        .context("other schemas must be out of reach")?;

    let host = scene.address(&open.request).await?;
    let mut intruder = Login::open(&open.delivered.session_line, scene.environment(MALLORY))?;
    intruder
        .ended(SOON)
        .await
        .context("somebody else's session must end")?;
    ensure!(
        !intruder.screen().contains("$ "),
        "somebody else got a shell"
    );

    login
        .expect("ends in", Duration::from_secs(60))
        .await
        .context("a warning must come")?;
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
    ensure!(
        item.is("sealed") && item.is("account_gone"),
        "{:?}",
        item.json()
    );
    ensure!(
        item.number("sessions") == Some(1),
        "{:?} sessions",
        item.number("sessions")
    );
    ensure!(
        item.number("refused").is_some_and(|refused| refused >= 1),
        "the refusal was not counted"
    );
    ensure!(
        item.number("statements").is_some_and(|count| count >= 3),
        "{:?}",
        item.number("statements")
    );
    scene.terminated(&open.request, CLOSING).await?;
    scene
        .slack
        .says(&open.request, "Final head", SOON)
        .await
        .context("the receipt must come")?;
    let shown = serde_json::to_string(&scene.slack.shown().await?)?;
    ensure!(
        !shown.contains(&open.delivered.password),
        "the password still shows in Slack"
    );

    let verdict = scene.verdict(&open.request).await?;
    ensure!(
        verdict.verdict == "VALID" && verdict.code == 0,
        "{}",
        verdict.text
    );
    statements_are_of_login_1(&scene, &open.request, &verdict)?;
    let refused = |line: &Line| {
        line.kind == "x"
            && line.payload.contains(r#""code":"other_person""#)
            && line.payload.contains(MALLORY.name)
    };
    ensure!(
        scene.lines(&open.request)?.iter().any(refused),
        "the refusal is not in the evidence"
    );
    ensure!(
        scene.alarmed(&open.request, "bastion")?,
        "control did not alarm of the refusal"
    );
    scene.nothing_left(&item, &host, SOON).await?;
    let dir = scene.dir.join("evidence").join(&open.request);
    for file in ["LINES.jsonl", "LEDGER.json", "ANCHORS.jsonl"] {
        let text =
            std::fs::read_to_string(dir.join(file)).with_context(|| format!("reading {file}"))?;
        ensure!(
            !text.contains(&open.delivered.password),
            "the password is in {file}"
        );
    }
    Ok(())
}

/// Every statement and its result carry the login's number, and the verifier counts them under that login.
fn statements_are_of_login_1(
    scene: &Scene,
    request: &str,
    verdict: &Verdict,
) -> anyhow::Result<()> {
    let lines = scene.lines(request)?;
    let of_kind =
        |wanted: &str| -> Vec<&Line> { lines.iter().filter(|line| line.kind == wanted).collect() };
    for kind in ["q", "a"] {
        let of_kind = of_kind(kind);
        ensure!(of_kind.len() >= 3, "only {} of kind {kind}", of_kind.len());
        ensure!(
            of_kind.iter().all(|line| line.session == 1),
            "{kind}: {of_kind:?}"
        );
    }
    let unknown = |line: &Line| line.payload.contains(r#""outcome":"unknown""#);
    ensure!(
        !lines.iter().any(unknown),
        "what became of a statement is not known"
    );
    let recorded = of_kind("q").len() as u64;
    let sessions = verdict.json.get("sessions").and_then(Value::as_array);
    let counted: Vec<_> = sessions
        .into_iter()
        .flatten()
        .map(|session| (session["session"].as_u64(), session["statements"].as_u64()))
        .collect();
    ensure!(
        counted == [(Some(1), Some(recorded))],
        "{counted:?} and {recorded} statements"
    );
    Ok(())
}

pub(super) async fn write_access_on_mariadb(scene: Arc<Scene>) -> anyhow::Result<()> {
    let open = scene.open("archive-prod", "WRITE", 45).await?;
    let mut login = scene.login(ALICE, &open).await?;
    scene.mysql(&mut login, &open).await?;
    login
        .send("INSERT INTO orders.orders SELECT * FROM orders.orders WHERE 1 = 0;\n")
        .await?;
    login
        .expect("Query OK", SOON)
        .await
        .context("WRITE must insert")?;
    login.send("CREATE TABLE orders.more (id INT);\n").await?;
    login
        .expect("ERROR 1142", SOON)
        .await
        .context("WRITE must not create tables")?;
    // A prepared branch would hold its locks without an account: the endpoint ends the connection instead. The text is one
    // that the server runs, with an escape before its first letter.
    login.send("XA START 'left';\n").await?;
    login
        .send("UPDATE orders.orders SET cents = cents + 1 LIMIT 1;\n")
        .await?;
    login
        .send("XA END 'left';\nEXECUTE IMMEDIATE '\\nXA PREPARE ''left''';\n")
        .await?;
    login
        .expect("XA PREPARE is not passed on", SOON)
        .await
        .context("XA PREPARE must not pass")?;
    let item = scene
        .closed(&open.request, Duration::from_secs(60) + CLOSING)
        .await?;
    ensure!(
        item.is("sealed") && item.is("account_gone"),
        "{:?}",
        item.json()
    );
    let left = crate::demo::owner_query(&*scene.running().await, "mariadb", "XA RECOVER").await?;
    ensure!(left.is_empty(), "a branch is left: {left}");
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    Ok(())
}

pub(super) async fn nothing_that_an_operator_starts_outlives_the_deadline(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 45).await?;
    let mut login = scene.login(ALICE, &open).await?;
    login.send("nohup sleep 7001 >/dev/null 2>&1 &\n").await?;
    login.send("setsid sleep 7002 >/dev/null 2>&1 &\n").await?;
    login.send("echo left $((1+1)) behind\n").await?;
    login.expect("left 2 behind", SOON).await?;
    for line in ["sleep 7001", "sleep 7002"] {
        scene.started(&open.instance, line, SOON).await?;
    }
    scene.mysql(&mut login, &open).await?;
    login.send("SELECT SLEEP(7003);\n").await?;
    let item = scene
        .closed(&open.request, Duration::from_secs(60) + CLOSING)
        .await?;
    ensure!(item.is("account_gone"), "{:?}", item.json());
    scene.terminated(&open.request, CLOSING).await?;
    for line in ["sleep 7001", "sleep 7002"] {
        ensure!(
            scene.process_on(&open.instance, line).is_none(),
            "{line} lives"
        );
    }
    let running = scene.running().await;
    let queries = crate::demo::owner_query(
        &running,
        "mysql",
        "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(7003)%' AND id <> CONNECTION_ID()",
    )
    .await?;
    ensure!(
        queries.trim() == "0",
        "{queries} queries of the operator run still"
    );
    Ok(())
}

pub(super) async fn finishing_early_ends_the_window(scene: Arc<Scene>) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 600).await?;
    let login = scene.login(ALICE, &open).await?;
    scene.slack.finish(ALICE, &open.request).await?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(
        item.text("close_reason") == "finished",
        "{}",
        item.text("close_reason")
    );
    ensure!(item.is("sealed"), "{:?}", item.json());
    drop(login);
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    Ok(())
}

pub(super) async fn logins_have_a_size_interrupts_and_pipes_and_come_many_at_once(
    scene: Arc<Scene>,
) -> anyhow::Result<()> {
    let open = scene.open("orders-prod", "READ", 90).await?;
    let line = &open.delivered.session_line;
    let env = scene.environment(ALICE);

    // A terminal of the client's own, whose size must reach the shell, another one in mid-session too.
    let (resize, now) = (scene.dir.join("resize.sh"), scene.dir.join("resize.now"));
    let script = format!(
        "for n in $(seq 200); do [ -e {} ] && exec stty -F /dev/tty rows 44 cols 88; sleep 0.2; done\n",
        now.display()
    );
    std::fs::write(&resize, script).context("writing what resizes")?;
    let sized = format!(
        "script -qec \"stty rows 33 cols 101; sh {} & {line}\" /dev/null",
        resize.display()
    );
    let mut sized = Login::open(&sized, env)?;
    sized.expect("$ ", SOON).await?;
    sized.send("stty size\r").await?;
    sized
        .expect("33 101", SOON)
        .await
        .context("the terminal's size must reach the shell")?;
    sized.expect("$ ", SOON).await?;
    std::fs::write(&now, "").context("having it resized")?;
    sized
        .send("until [ \"$(stty size)\" = '44 88' ]; do sleep 0.2; done; echo re$((1+1))sized\r")
        .await?;
    sized
        .expect("re2sized", SOON)
        .await
        .context("another size must reach the shell")?;
    sized.expect("$ ", SOON).await?;
    sized.send("sleep 7004\r").await?;
    scene
        .started(&open.instance, "sleep 7004", SOON)
        .await
        .context("what is to be interrupted")?;
    sized.send("\u{3}").await?;
    sized
        .expect("$ ", SOON)
        .await
        .context("Ctrl-C must interrupt")?;
    sized.send("echo inter$((1+1))rupted\r").await?;
    sized.expect("inter2rupted", SOON).await?;
    sized.send("exit 7\r").await?;
    sized.ended(SOON).await?;

    // Input from a pipe, and several logins at the same time.
    let piped = |n: u32| {
        Login::open(
            &format!("sh -c \"echo 'echo piped{n}$((1+1)); exit' | {line}\""),
            env,
        )
    };
    let mut many = (0..5).map(piped).collect::<Result<Vec<_>, _>>()?;
    for (n, login) in many.iter_mut().enumerate() {
        login
            .expect(&format!("piped{n}2"), SOON)
            .await
            .context("piped input must be run")?;
        login.ended(SOON).await?;
    }
    scene.slack.finish(ALICE, &open.request).await?;
    let item = scene.closed(&open.request, CLOSING).await?;
    ensure!(
        item.number("sessions") == Some(6),
        "{:?} sessions",
        item.number("sessions")
    );
    let verdict = scene.verdict(&open.request).await?;
    ensure!(verdict.verdict == "VALID", "{}", verdict.text);
    ensure!(
        scene
            .lines(&open.request)?
            .iter()
            .any(|line| line.kind == "r"),
        "the other size is not in the evidence"
    );
    Ok(())
}
