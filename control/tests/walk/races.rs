//! Two at once: one decision, one launch, one key.

use crate::fixture::Stage;
use ed25519_dalek::SigningKey;
use powerpole_control::tick::execute;
use powerpole_protocol::callback::{self, CloseReason, Command};
use powerpole_protocol::envelope::key_text;
use powerpole_protocol::ledger::State;

#[tokio::test(flavor = "multi_thread")]
async fn two_approvers_and_two_replicas_make_one_decision_and_one_instance() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    tokio::join!(
        stage.click("U0CAROL", "approve", &request),
        stage.click("U0DAVE", "approve", &request),
        stage.click("U0CAROL", "approve", &request),
    );
    // Whoever lost was told so, or saw that it was decided.
    assert_eq!(stage.slack.of("chat.postEphemeral").len(), 2);
    let (one, two) = (stage.replica(), stage.replica());
    tokio::join!(execute::tick(&one), execute::tick(&two), stage.tick());
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Launching, 1));
    assert!(item.instance.is_some() && item.handoff_at.is_some());
    assert_eq!(stage.instances().await, ["running"]);
    assert_eq!(stage.secrets().await, 1);
    let posted = stage.slack.of("chat.postMessage");
    assert_eq!(posted.len(), 2, "one card and one DM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_key_is_refused_and_ends_the_first() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let mut wrong = bastion.hello_body();
    wrong["handoff_token"] = "A".repeat(43).into();
    assert_eq!(bastion.clear(callback::HELLO, &wrong).await.0, 401);
    assert_eq!(
        bastion
            .clear(callback::HELLO, &bastion.hello_body())
            .await
            .0,
        200
    );
    assert_eq!(
        bastion.signed(callback::READY, &bastion.ready()).await.0,
        200
    );

    let mut thief = bastion.hello_body();
    thief["bastion_key"] = key_text(&SigningKey::from_bytes(&[8; 32]).verifying_key()).into();
    assert_eq!(bastion.clear(callback::HELLO, &thief).await.0, 409);
    assert!(stage.item(&request).await.redeemed_twice_at.is_some());
    let (_, answer) = bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(1))
        .await;
    assert_eq!(
        answer.unwrap().commands,
        [Command::Finish {
            reason: CloseReason::Redeemed
        }]
    );
    // It does not end by itself: control ends it.
    stage.wait(60);
    stage.tick().await;
    assert_eq!(stage.item(&request).await.state, State::Closed);
    assert_eq!(stage.instances().await, ["terminated"]);

    let mut forged = bastion.heartbeat(9);
    forged.head.seq = 0;
    let other = crate::fixture::Bastion {
        key: SigningKey::from_bytes(&[8; 32]),
        ..bastion
    };
    assert_eq!(other.signed(callback::HEARTBEAT, &forged).await.0, 401);
}
