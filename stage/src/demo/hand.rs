//! The demo by hand: the stage is up, a person does the job, is told what to do and what happens.

use super::narrator::{headline, line, wrap};
use crate::journey::{Item, Ledger};
use crate::supervisor::{ANCHOR_BUCKET, AUDITOR, Running};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Who may approve on the stage.
const APPROVERS: [&str; 3] = ["bob", "carol", "dave"];
/// Of a line under an event's time.
const EVENT_WIDTH: usize = 68;

/// Guides through the job until Ctrl-C. Evidence goes below `out`, or else into the stage's folder.
pub(crate) async fn play(running: &Running, out: Option<&Path>) -> anyhow::Result<()> {
    running.write_environments()?;
    headline("The stage is up. Now you do the main job.");
    for text in instructions(running).lines() {
        line(text);
    }
    headline("What happens (Ctrl-C ends it)");
    line("Nothing yet: nobody has asked. Everything begins on the page:");
    line(&format!("  {}", running.page_url()));
    follow(running, out.unwrap_or(&running.files.dir)).await
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
A page stands in for Slack. Open it in a browser: {page}
(From another machine first: ssh -L {port}:127.0.0.1:{port} root@this-machine.)

1. Ask. You act as alice. Press \"New request\", or type /powerpole. Choose
   Orders (MySQL 9.7), READ, the schema orders under it, 5 min; say why.
2. Approve. Act as bob (top left), open #db-approvals, press Approve.
3. Read. As alice again open the direct messages with PowerPole: in about 5
   seconds there is a session line, a mysql line and a password. (Its link leads
   to the console of the real AWS, which knows no stage: use the session line.)
4. Log in. In a second terminal here, as root, paste this and then that line:
     {alice}
5. Query. There paste the mysql line, then the password (nothing shows):
     SELECT * FROM orders.orders LIMIT 5;
     DELETE FROM orders.orders;   -- refused by the database: this is READ
6. See a refusal. In a third terminal paste this, then alice's session line:
     {mallory}
7. Be cut off, after warnings on the terminal and in Slack. Or press
   \"Finish now\" in the message. Then the lines to verify it appear here.
8. Ctrl-C here ends it all, and says which evidence was kept, and where."
    )
}

/// What was said of a request so far.
#[derive(Default)]
struct Told {
    state: String,
    sentence: String,
}

/// Says every change of every request.
async fn follow(running: &Running, evidence: &Path) -> anyhow::Result<()> {
    let ledger = Ledger::at(&running.aws_url());
    let mut seen: BTreeMap<String, Told> = BTreeMap::new();
    loop {
        let mut items = ledger.items().await?;
        items.sort_by(|one, other| one.request().cmp(other.request()));
        for item in items {
            let state = match item.text("terminated_at") {
                "" => item.state(),
                _ => "GONE",
            };
            let told = seen.entry(item.request().to_owned()).or_default();
            if told.state == state {
                continue;
            }
            // An end that came at once with the instance's is told as the end first.
            if state == "GONE" && !matches!(told.state.as_str(), "CLOSED" | "FAILED") {
                tell(running, evidence, &item, item.state(), told);
            }
            tell(running, evidence, &item, state, told);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Two states may have one sentence: it is said once.
fn tell(running: &Running, evidence: &Path, item: &Item, state: &str, told: &mut Told) {
    state.clone_into(&mut told.state);
    let sentence = sentence(item, state);
    if told.sentence == sentence {
        return;
    }
    event(&format!("{}: {sentence}", item.request()));
    told.sentence = sentence;
    if state == "CLOSED" {
        for text in verify_lines(running, evidence, item.request()) {
            line(&text);
        }
    }
}

/// What an auditor types, in one shell, each line as it stands.
fn verify_lines(running: &Running, evidence: &Path, request: &str) -> Vec<String> {
    let folder = evidence.join(format!("evidence-{request}"));
    let text = format!(
        "
Verify it as an auditor, who has no secret of ours. In a shell of its own:

    {}
    E={}
    powerpole export {request} --out \"$E\" &&
    powerpole verify \"$E\"

Within half a minute the roll of all requests names its end, too:

    powerpole rolls --from s3://{ANCHOR_BUCKET} --ledger dynamodb --out \"$E/ROLLS.jsonl\" &&
    powerpole verify \"$E\" --rolls \"$E/ROLLS.jsonl\"

Then drop a line of a copy of the evidence, and verify that:

    cp -rT \"$E\" \"$E-damaged\" &&
    sed -i 5d \"$E-damaged/LINES.jsonl\" &&
    powerpole verify \"$E-damaged\"
",
        become_line(running, AUDITOR),
        quoted(&folder),
    );
    text.lines().map(str::to_owned).collect()
}

/// A path as a shell reads it.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
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
            "{who} asks for {} on {}. Approve it as {}.",
            item.text("level"),
            item.text("cluster"),
            approvers(item.text("operator"))
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
            "Over ({}): {}, {} refused, {}. Account {}, evidence {}.",
            item.text("close_reason"),
            count(item, "sessions", ["login", "logins"]),
            item.number("refused").unwrap_or(0),
            count(item, "statements", ["statement", "statements"]),
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
        "DENIED" => format!(
            "Denied by {}: {}",
            item.text("approver"),
            item.text("denial")
        ),
        "LAPSED" => "Lapsed: nobody decided in time.".to_owned(),
        "FAILED" => format!(
            "Failed at {}: {}",
            item.text("failed_step"),
            item.text("failed_message")
        ),
        other => other.to_owned(),
    }
}

/// So many of something: `1 login`, `2 logins`.
fn count(item: &Item, name: &str, [one, many]: [&str; 2]) -> String {
    match item.number(name).unwrap_or(0) {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    }
}

/// Who may approve: nobody their own request.
fn approvers(operator: &str) -> String {
    let own = operator.split('@').next().unwrap_or_default();
    let mut names = APPROVERS.into_iter().filter(|name| *name != own);
    let last = names.next_back().unwrap_or_default();
    let others: Vec<&str> = names.collect();
    format!("{} or {last}", others.join(", "))
}

fn clock_time(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%H:%M:%S").to_string(),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_approve_their_own_request() {
        assert_eq!(approvers("alice@example.com"), "bob, carol or dave");
        assert_eq!(approvers("bob@example.com"), "carol or dave");
    }
}
