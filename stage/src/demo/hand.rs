//! The demo by hand: the stage is up, a person does the job, is told what to do and what happens.

use super::narrator::{headline, line, wrap};
use crate::journey::{Item, Ledger};
use crate::supervisor::{ANCHOR_BUCKET, AUDITOR, Running};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// Of a line under an event's time.
const EVENT_WIDTH: usize = 68;

/// Guides through the job until Ctrl-C.
pub(crate) async fn play(running: &Running) -> anyhow::Result<()> {
    running.write_environments()?;
    headline("The stage is up. Now you do the main job.");
    for text in instructions(running).lines() {
        line(text);
    }
    headline("What happens (Ctrl-C takes everything down)");
    line("Nothing yet: nobody has asked.");
    follow(running).await
}

/// The line that makes a shell a person's.
fn become_line(running: &Running, person: &str) -> String {
    let file = running.files.dir.join(format!("env-{person}"));
    format!(". {}", file.display())
}

fn instructions(running: &Running) -> String {
    let page = running.page_url();
    let port = running.page.port();
    let [alice, mallory] = ["alice", "mallory"].map(|person| become_line(running, person));
    format!(
        "\
A page on this machine stands in for Slack. Open it in a browser:

    {page}

(From another machine: ssh -L {port}:127.0.0.1:{port} root@this-machine.)

1. Ask. You act as alice. Press \"New request\", or type /powerpole. Choose
   Orders (MySQL 9.7), READ, the schema orders under it, 5 min; say why.
2. Approve. Act as bob (top left), open #db-approvals, press Approve.
3. Read. Act as alice again and open the direct messages with PowerPole. In
   about 5 seconds there is a session line, a mysql line and a password.
   (The link beside them is AWS's own console; it knows no local stage.)
4. Log in. In a second terminal of this machine, as root, become alice:

    {alice}

   and paste the session line. It is the real AWS CLI; you get a shell.
5. Query. There paste the mysql line, then the password (nothing shows):

    SELECT * FROM orders.orders LIMIT 5;
    DELETE FROM orders.orders;

   The second is refused by the database: you asked for READ.
6. See a refusal. In a third terminal become mallory:

    {mallory}

   and paste alice's session line. No shell, and the attempt is recorded.
7. Be cut off. Warnings come one minute and half a minute before the end, on
   the terminal and in Slack; then everything ends. Or press \"Finish now\"
   in the message.
8. Verify. When it is over, the lines to type appear below."
    )
}

/// Says every change of every request.
async fn follow(running: &Running) -> anyhow::Result<()> {
    let ledger = Ledger::at(&running.aws_url());
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    loop {
        let mut items = ledger.items().await?;
        items.sort_by(|one, other| one.request().cmp(other.request()));
        for item in items {
            let state = match item.text("terminated_at") {
                "" => item.state(),
                _ => "GONE",
            };
            let before = seen.insert(item.request().to_owned(), state.to_owned());
            if before.as_deref() == Some(state) {
                continue;
            }
            if before.is_none() {
                event(&format!("{}:", item.request()));
            }
            // An end that came at once with the instance's is told as the end first.
            if state == "GONE" && !matches!(before.as_deref(), Some("CLOSED" | "FAILED")) {
                tell(running, &item, item.state());
            }
            tell(running, &item, state);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn tell(running: &Running, item: &Item, state: &str) {
    event(&sentence(item, state));
    if state == "CLOSED" {
        let request = item.request();
        for text in [
            "",
            "Verify it as an auditor, who has no secret of ours:",
            "",
            &format!("    {}", become_line(running, AUDITOR)),
            &format!("    powerpole export {request} --out evidence"),
            "    powerpole verify evidence",
            "",
            "Within half a minute the roll of all requests names it, too:",
            "",
            &format!("    powerpole rolls --from s3://{ANCHOR_BUCKET} --ledger dynamodb"),
            "",
            "Then drop a line of the evidence, and verify again:",
            "",
            "    sed -i 5d evidence/LINES.jsonl",
            "    powerpole verify evidence",
            "",
        ] {
            line(text);
        }
    }
}

fn event(text: &str) {
    let clock = crate::clock::timestamp();
    let time = clock.get(11..19).unwrap_or_default();
    for (at, part) in wrap(text, EVENT_WIDTH).iter().enumerate() {
        line(&format!("{:<8}  {part}", if at == 0 { time } else { "" }));
    }
}

fn sentence(item: &Item, state: &str) -> String {
    let who = item.text("account");
    match state {
        "REQUESTED" => format!(
            "{who} asks for {} on {}. Approve it as bob, carol or dave.",
            item.text("level"),
            item.text("cluster")
        ),
        "APPROVED" | "LAUNCHING" => format!("Approved by {}.", item.text("approver")),
        "BOOTING" => format!(
            "{} boots: patch, handoff, evidence, account.",
            item.text("instance")
        ),
        "READY" => format!(
            "Ready. {who} has the lines in Slack; the window ends at {} UTC.",
            clock_time(item.text("deadline"))
        ),
        "CLOSED" => format!(
            "Over ({}): {} login(s), {} refused, {} statement(s). Account {}, evidence {}.",
            item.text("close_reason"),
            item.number("sessions").unwrap_or(0),
            item.number("refused").unwrap_or(0),
            item.number("statements").unwrap_or(0),
            if item.is("account_gone") {
                "gone"
            } else {
                "not read back as gone"
            },
            if item.is("sealed") {
                "sealed"
            } else {
                "NOT sealed"
            },
        ),
        "GONE" => format!("{} is terminated.", item.text("instance")),
        "DENIED" => format!("Denied: {}", item.text("denial")),
        "LAPSED" => "Lapsed: nobody decided in time.".to_owned(),
        "FAILED" => format!(
            "Failed at {}: {}",
            item.text("failed_step"),
            item.text("failed_message")
        ),
        other => other.to_owned(),
    }
}

fn clock_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%H:%M:%S").to_string(),
        Err(_) => "?".to_owned(),
    }
}
