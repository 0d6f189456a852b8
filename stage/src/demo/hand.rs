//! The demo by hand: the stage is up, a person does the job, and is told what to do next.

use super::narrator::{headline, line};
use crate::journey::Ledger;
use crate::supervisor::Running;
use std::collections::BTreeMap;
use std::time::Duration;

/// Guides through the job until Ctrl-C.
pub(crate) async fn play(running: &Running) -> anyhow::Result<()> {
    let program = running.files.binary("powerpole-stage");
    let name = running.stage.name();
    running.write_environments()?;
    let shell = |person: &str| {
        format!(
            "eval \"$({} env --name {name} --as {person})\"",
            program.display()
        )
    };
    headline("The stage is up. Do the main job:");
    line(&format!(
        "1. Open {} in a browser. You act as Alice; type /powerpole in #powerpole.",
        running.page_url()
    ));
    line("2. Ask for orders-prod, READ, schema orders, 5 minutes, any reason.");
    line("3. Act as Bob (top of the page), open #db-approvals, approve.");
    line("4. Act as Alice again: within half a minute a DM gives you three lines.");
    line("5. In another terminal, become Alice and paste the session line of the DM:");
    line(&format!("   {}", shell("alice")));
    line("6. On the bastion paste the mysql line and the password; SELECT * FROM orders.orders;");
    line("7. Wait for the warnings and the end, or press *Finish now* in the DM.");
    line("8. Verify, with the request's id from the DM:");
    line(&format!("   {}", shell("auditor")));
    line("   powerpole export REQUEST --out evidence && powerpole verify evidence");
    line("To see a refusal: become Mallory and paste Alice's session line.");
    line("Ctrl-C takes everything down.");
    headline("What happens");
    follow(running).await
}

/// Says every change of every request.
async fn follow(running: &Running) -> anyhow::Result<()> {
    let ledger = Ledger::at(&running.aws_url());
    let mut seen = BTreeMap::new();
    loop {
        for item in ledger.items().await? {
            let request = item.request().to_owned();
            let state = item.state().to_owned();
            if seen.insert(request.clone(), state.clone()).as_ref() == Some(&state) {
                continue;
            }
            line(&format!(
                "{request}  {}  {}",
                state,
                next(&state, item.text("failed_message"))
            ));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn next(state: &str, failure: &str) -> String {
    match state {
        "REQUESTED" => "waits for an approver".to_owned(),
        "APPROVED" | "LAUNCHING" => "the bastion is being launched".to_owned(),
        "BOOTING" => "the bastion boots: patch, handoff, account".to_owned(),
        "READY" => "the DM is there; log in".to_owned(),
        "CLOSED" => "over: export and verify it".to_owned(),
        "FAILED" => failure.to_owned(),
        other => other.to_lowercase(),
    }
}
