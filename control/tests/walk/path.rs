//! The whole path of a request, as Slack and the bastion see it.

use crate::fixture::{PASSWORD, Stage, post};
use powerpole_control::ledger::item::PostKind;
use powerpole_protocol::callback::{self, CloseReason, Closed, Command};
use powerpole_protocol::ledger::State;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_from_the_modal_to_the_receipt() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!(item.state, State::Requested);
    let (card, dm) = (
        item.post(PostKind::Card).unwrap().clone(),
        item.post(PostKind::Dm).unwrap().clone(),
    );
    assert_eq!(
        (card.channel.as_str(), dm.channel.as_str()),
        ("C0APPROVALS", "D1")
    );

    stage.click("U0CAROL", "approve", &request).await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Launching, 1));
    assert_eq!(stage.instances().await, ["running"]);
    assert!(!stage.slack.shows(&card.ts).contains("\"approve\""));

    let bastion = stage.bastion(&request).await;
    assert_eq!(bastion.handoff.ticket.mac.len(), 64);
    assert_eq!(
        bastion.handoff.grant.principal,
        "arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/alice@example.com"
    );
    let hello = bastion.hello_body();
    assert_eq!(bastion.clear(callback::HELLO, &hello).await.0, 200);
    assert_eq!(bastion.clear(callback::HELLO, &hello).await.0, 200);
    assert_eq!(stage.item(&request).await.state, State::Booting);

    // Slack does not take the DM at first: no window, no clock.
    *stage.slack.failing.lock().unwrap() = Some("chat.update");
    assert_eq!(
        bastion.signed(callback::READY, &bastion.ready()).await.0,
        503
    );
    assert_eq!(stage.item(&request).await.state, State::Booting);
    *stage.slack.failing.lock().unwrap() = None;
    stage.wait(5);
    let (status, answer) = bastion.signed(callback::READY, &bastion.ready()).await;
    assert_eq!(status, 200);
    let deadline = answer.unwrap().deadline.unwrap();
    assert_eq!(deadline.as_second(), stage.now().as_second() + 900);
    let shown = stage.slack.shows(&dm.ts);
    assert!(
        shown.contains("pw-&lt;&amp;&gt;-never-stored")
            && shown.contains("start-session")
            && shown.contains("mysql -h")
    );

    // The same `ready` again shows nothing new and keeps the deadline.
    stage.wait(5);
    let updates = stage.slack.of("chat.update").len();
    let (_, answer) = bastion.signed(callback::READY, &bastion.ready()).await;
    assert_eq!(answer.unwrap().deadline, Some(deadline));
    assert_eq!(stage.slack.of("chat.update").len(), updates);

    // A message of its own says that the window has begun: Slack tells nobody of an update. Once, and without the password.
    stage.tick().await;
    stage.tick().await;
    let begun: Vec<Value> = stage
        .slack
        .of("chat.postMessage")
        .into_iter()
        .filter(|m| m["text"].to_string().contains("You can log in"))
        .collect();
    assert_eq!(begun.len(), 1);
    assert!(!begun[0].to_string().contains("never-stored"));

    assert_eq!(
        bastion
            .signed(callback::HEARTBEAT, &bastion.heartbeat(1))
            .await
            .0,
        200
    );
    stage.wait(300);
    bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(2))
        .await;
    *stage.slack.failing.lock().unwrap() = Some("chat.postMessage");
    stage.tick().await;
    *stage.slack.failing.lock().unwrap() = None;
    stage.tick().await;
    stage.tick().await;
    let warnings: Vec<Value> = stage
        .slack
        .of("chat.postMessage")
        .into_iter()
        .filter(|m| m["text"].to_string().contains("ends in"))
        .filter(|m| !m["text"].to_string().contains("You can log in"))
        .collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().contains(request.as_str()));

    stage.click("U0ALICE", "finish", &request).await;
    let (_, answer) = bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(3))
        .await;
    assert_eq!(
        answer.unwrap().commands,
        [Command::Finish {
            reason: CloseReason::Finished
        }]
    );

    let closed = Closed {
        request: request.clone(),
        attempt: bastion.boot.attempt,
        instance: bastion.instance.clone(),
        reason: CloseReason::Finished,
        head: bastion.heartbeat(4).head,
        sealed: true,
        account_gone: true,
        sessions: 1,
        refused: 0,
        statements: 3,
        alarms: vec![],
        remarks: vec![],
    };
    assert_eq!(bastion.signed(callback::CLOSED, &closed).await.0, 200);
    assert_eq!(bastion.signed(callback::CLOSED, &closed).await.0, 200);
    stage
        .ec2
        .terminate_instances()
        .instance_ids(bastion.instance.as_str())
        .send()
        .await
        .unwrap();
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!(item.state, State::Closed);
    assert!(!item.open && item.terminated_at.is_some(), "{item:?}");
    assert!(!stage.slack.shows(&dm.ts).contains("never-stored"));
    let receipts: Vec<Value> = stage
        .slack
        .of("chat.postMessage")
        .into_iter()
        .filter(|m| m["thread_ts"] == card.ts)
        .collect();
    assert_eq!(receipts.len(), 1);
    assert!(
        receipts[0]["blocks"]
            .to_string()
            .contains("sealed, shipped and anchored")
    );
    assert_eq!(stage.secrets().await, 0);

    // What was secret went to Slack in one update and nowhere else.
    let told = stage
        .slack
        .calls
        .lock()
        .unwrap()
        .iter()
        .filter(|(_, b)| b.to_string().contains("never-stored"))
        .count();
    assert_eq!(told, 1);
    assert!(!format!("{item:?}").contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_slack_only_approvers_and_only_others_decide() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (status, _) = post(
        stage.slack_endpoint,
        "/slack/commands",
        &[
            (
                "x-slack-request-timestamp",
                &stage.now().as_second().to_string(),
            ),
            ("x-slack-signature", "v0=00"),
        ],
        "command=%2Fpowerpole&user_id=U0ALICE&team_id=T0POWERPOLE&trigger_id=t".into(),
    )
    .await;
    assert_eq!(status, 401);
    let answer = stage
        .slack_says(
            "/slack/commands",
            "command=%2Fpowerpole&user_id=U0MALLORY&team_id=T0POWERPOLE&trigger_id=t".into(),
        )
        .await;
    assert_eq!(answer["response_type"], "ephemeral");

    let request = stage.ask("U0BOB").await;
    for user in ["U0MALLORY", "U0BOB", "U0ALICE"] {
        stage.click(user, "approve", &request).await;
        stage.click(user, "deny", &request).await;
    }
    let whispers = stage.slack.of("chat.postEphemeral");
    assert_eq!(whispers.len(), 6);
    for whisper in &whispers {
        let text = whisper["text"].as_str().unwrap();
        assert!(
            text.starts_with("WRITE on ") && text.contains(request.as_str()),
            "{text}"
        );
    }
    assert_eq!(stage.item(&request).await.state, State::Requested);

    stage.click("U0CAROL", "deny", &request).await;
    let view = stage.slack.of("views.open").last().unwrap()["view"].clone();
    assert!(view["blocks"].to_string().contains(request.as_str()));
    let deny = serde_json::json!({"type": "view_submission", "user": {"id": "U0CAROL"}, "team": {"id": "T0POWERPOLE"},
        "view": {"callback_id": view["callback_id"], "private_metadata": view["private_metadata"],
            "state": {"values": {"reason": {"reason": {"value": "use the replica"}}}}}});
    assert_eq!(
        stage.interact(deny.clone()).await["response_action"],
        "clear"
    );
    assert_eq!(stage.interact(deny).await["response_action"], "errors");
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.open), (State::Denied, false));
    let told = stage.slack.of("chat.postMessage");
    assert!(
        told.iter()
            .any(|m| m["channel"] == "D1" && m["blocks"].to_string().contains("use the replica"))
    );
    assert_eq!(stage.instances().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_decides_lapses_and_says_so() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    stage.tick().await;
    stage.wait(86_400);
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.open), (State::Lapsed, false));
    let dm = item.post(PostKind::Dm).unwrap();
    assert!(stage.slack.shows(&dm.ts).contains("Nobody decided in time"));
    stage.click("U0CAROL", "approve", &request).await;
    assert_eq!(stage.item(&request).await.state, State::Lapsed);
    assert_eq!(stage.instances().await, Vec::<String>::new());
}
