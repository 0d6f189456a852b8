//! What goes wrong reaches the operator with its reason, and leaves nothing behind.

use crate::fixture::{Stage, alarms};
use powerpole_control::ledger::item::PostKind;
use powerpole_control::tick::execute;
use powerpole_protocol::callback;
use powerpole_protocol::ledger::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_that_gives_up_is_ended_and_its_reason_told() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let mut forged = bastion.failed_body("patch", "patch_failed");
    forged["boot_token"] = "A".repeat(43).into();
    assert_eq!(bastion.clear(callback::FAILED, &forged).await.0, 401);
    assert_eq!(stage.item(&request).await.failure, None);
    assert_eq!(
        bastion
            .clear(
                callback::FAILED,
                &bastion.failed_body("patch", "patch_failed")
            )
            .await
            .0,
        200
    );
    assert_eq!(
        bastion
            .clear(
                callback::FAILED,
                &bastion.failed_body("patch", "patch_failed")
            )
            .await
            .0,
        200
    );
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!(
        (item.state, item.open, item.attempt.0),
        (State::Failed, false, 1)
    );
    assert_eq!(stage.instances().await, ["terminated"]);
    assert_eq!(stage.secrets().await, 0);
    let shown = stage.slack.shows(&item.post(PostKind::Dm).unwrap().ts);
    assert!(
        shown.contains("patch_failed") && shown.contains("it went wrong"),
        "{shown}"
    );
    // A late `ready` of the ended bastion opens nothing.
    assert_eq!(
        bastion.signed(callback::READY, &bastion.ready()).await.0,
        401
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_somebody_else_spent_alarms_is_not_tried_again_and_claims_nothing_of_accounts()
 {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let spent = bastion.failed_body("account", "ticket_used");
    assert_eq!(bastion.clear(callback::FAILED, &spent).await.0, 200);
    stage.tick().await;
    stage.tick().await;
    assert_eq!(alarms(&request), ["ticket_used"]);
    let item = stage.item(&request).await;
    assert_eq!(
        (item.state, item.open, item.attempt.0),
        (State::Failed, false, 1)
    );
    assert_eq!(stage.instances().await, ["terminated"]);
    let shown = stage.slack.shows(&item.post(PostKind::Dm).unwrap().ts);
    assert!(
        shown.contains("Somebody else may have opened an account")
            && shown.contains("Security was alarmed"),
        "{shown}"
    );
    assert!(!shown.contains("no account"), "{shown}");

    let (other, bastion) = stage.launched().await;
    let exists = bastion.failed_body("account", "account_exists");
    assert_eq!(bastion.clear(callback::FAILED, &exists).await.0, 200);
    assert_eq!(alarms(&other), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_that_takes_too_long_is_tried_again_and_then_given_up() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, first) = stage.launched().await;
    assert_eq!(
        first.clear(callback::HELLO, &first.hello_body()).await.0,
        200
    );
    stage.wait(601);
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Launching, 2));
    let mut instances = stage.instances().await;
    instances.sort();
    assert_eq!(instances, ["running", "terminated"]);
    // The first bastion speaks on: it is told that its time is over.
    assert_eq!(first.signed(callback::READY, &first.ready()).await.0, 409);
    assert_eq!(
        first.clear(callback::HELLO, &first.hello_body()).await.0,
        409
    );
    let second = stage.bastion(&request).await;
    assert_ne!(
        first.boot.boot_token.digest(),
        second.boot.boot_token.digest()
    );
    stage.wait(601);
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!(
        (item.state, item.failure.unwrap().code.as_str()),
        (State::Failed, "boot_timeout")
    );
    assert_eq!(stage.instances().await, ["terminated", "terminated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_cut_off_between_ec2_and_the_ledger_goes_on_with_the_same_instance() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    stage.click("U0CAROL", "approve", &request).await;
    stage.tick().await;
    let before = stage.bastion(&request).await;
    // As if control had been killed before it wrote the instance down.
    aws_sdk_dynamodb::Client::new(&stage.settings)
        .update_item()
        .table_name("powerpole-ledger")
        .key(
            "request",
            aws_sdk_dynamodb::types::AttributeValue::S(request.to_string()),
        )
        .update_expression("REMOVE #i, handoff_at, launch_claim")
        .expression_attribute_names("#i", "instance")
        .send()
        .await
        .unwrap();
    // The token is known and the instance is not: the agent is told to come again.
    assert_eq!(
        before.clear(callback::HELLO, &before.hello_body()).await.0,
        503
    );
    execute::pursue(&stage.replica(), &request).await;
    let item = stage.item(&request).await;
    assert_eq!(item.instance.as_ref(), Some(&before.instance));
    assert_eq!(stage.instances().await, ["running"]);
    assert_eq!(
        before.clear(callback::HELLO, &before.hello_body()).await.0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_that_vanishes_is_closed_as_lost_with_its_last_known_head() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    bastion.clear(callback::HELLO, &bastion.hello_body()).await;
    bastion.signed(callback::READY, &bastion.ready()).await;
    bastion
        .signed(callback::HEARTBEAT, &bastion.heartbeat(1))
        .await;
    stage
        .ec2
        .terminate_instances()
        .instance_ids(bastion.instance.as_str())
        .send()
        .await
        .unwrap();
    stage.wait(44);
    stage.tick().await;
    assert_eq!(stage.item(&request).await.state, State::Ready);
    stage.wait(1);
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    let closing = item.closing.clone().unwrap();
    assert_eq!(
        (
            item.state,
            item.open,
            closing.reason.as_str(),
            closing.sealed
        ),
        (State::Closed, false, "lost", false)
    );
    assert_eq!(closing.head, Some((10, "cd".repeat(32))));
    let shown = stage.slack.shows(&item.post(PostKind::Dm).unwrap().ts);
    assert!(!shown.contains("never-stored"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_slack_does_not_take_is_posted_by_a_later_tick() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    *stage.slack.failing.lock().unwrap() = Some("chat.postMessage");
    let request = stage.ask("U0ALICE").await;
    stage.tick().await;
    assert!(stage.item(&request).await.post(PostKind::Card).is_none());
    *stage.slack.failing.lock().unwrap() = None;
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert!(item.post(PostKind::Card).is_some() && item.post(PostKind::Dm).is_some());
    assert_eq!(stage.slack.of("chat.postMessage").len(), 2);
}
