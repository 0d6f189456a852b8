//! Who is anybody: full members of the one workspace, at the moment of the click.

use crate::fixture::{Stage, TEAM};
use powerpole_protocol::ledger::State;
use serde_json::{Value, json};

fn is(stage: &Stage, user: &'static str, differing: Value) {
    let mut people = stage.slack.differing.lock().unwrap();
    people.insert(user, differing);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approver_of_another_company_or_a_guest_decides_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    // As Slack shows somebody who shares a channel with us: no stranger, and with the address that is on the list.
    for nobody in [
        json!({"team_id": "T0ELSEWHERE", "is_stranger": false}),
        json!({"team_id": "T0ELSEWHERE", "enterprise_user": {"id": "W1", "enterprise_id": "E1", "teams": ["T0ELSEWHERE"]}}),
        json!({"is_restricted": true}),
        json!({"is_ultra_restricted": true}),
    ] {
        is(&stage, "U0CAROL", nobody.clone());
        let whispers = stage.slack.of("chat.postEphemeral").len();
        stage.click("U0CAROL", "approve", &request).await;
        stage.click("U0CAROL", "deny", &request).await;
        assert_eq!(
            stage.slack.of("chat.postEphemeral").len(),
            whispers + 2,
            "{nobody}"
        );
        let denial = stage
            .interact(
                json!({"type": "view_submission", "user": {"id": "U0CAROL"}, "team": {"id": TEAM},
            "view": {"callback_id": "powerpole_deny", "private_metadata": request.as_str(),
                "state": {"values": {"reason": {"reason": {"value": "no"}}}}}}),
            )
            .await;
        assert_eq!(denial["response_action"], "errors", "{denial}");
        assert_eq!(stage.item(&request).await.state, State::Requested);
    }
    // In a Grid the same person belongs to several workspaces; ours is among them.
    is(
        &stage,
        "U0CAROL",
        json!({"team_id": "T0OTHER", "enterprise_user": {"id": "W1", "enterprise_id": "E1", "teams": ["T0OTHER", TEAM]}}),
    );
    stage.click("U0CAROL", "approve", &request).await;
    assert_eq!(stage.item(&request).await.state, State::Approved);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_left_the_workspace_asks_for_nothing_and_is_launched_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    stage.click("U0CAROL", "approve", &request).await;
    is(&stage, "U0ALICE", json!({"team_id": "T0ELSEWHERE"}));
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Failed, 0));
    assert_eq!(stage.instances().await, [""; 0]);
    let command = format!("command=%2Fpowerpole&user_id=U0ALICE&team_id={TEAM}&trigger_id=t");
    let views = stage.slack.of("views.open").len();
    let answer = stage.slack_says("/slack/commands", command).await;
    assert_eq!(answer["response_type"], "ephemeral");
    assert_eq!(stage.slack.of("views.open").len(), views);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_in_another_workspace_is_refused_before_anybody_is_asked_for() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    let asked = stage.slack.of("users.info").len();
    for team in [json!({"id": "T0ELSEWHERE"}), Value::Null] {
        let click = json!({"type": "block_actions", "user": {"id": "U0CAROL"}, "team": team, "trigger_id": "t1",
            "channel": {"id": "C0APPROVALS"}, "actions": [{"action_id": "approve", "value": request.as_str()}]});
        let body = serde_urlencoded::to_string([("payload", click.to_string())]).unwrap();
        assert_eq!(
            stage.slack_answers("/slack/interactions", body).await.0,
            400
        );
    }
    let command = |team: &str| format!("command=%2Fpowerpole&user_id=U0ALICE{team}&trigger_id=t");
    for (team, status) in [("&team_id=T0ELSEWHERE", 403), ("", 400)] {
        let (answered, _) = stage.slack_answers("/slack/commands", command(team)).await;
        assert_eq!(answered, status);
    }
    assert_eq!(stage.slack.of("users.info").len(), asked);
    assert_eq!(stage.item(&request).await.state, State::Requested);
}
