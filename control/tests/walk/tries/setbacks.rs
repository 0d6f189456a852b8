//! An older copy of an item that is put back, with seals that hold.

use super::{Edit, begun, is_ready, is_stopped, number, text};
use crate::fixture::Stage;
use aws_sdk_dynamodb::types::AttributeValue;
use powerpole_control::launcher;
use powerpole_control::tick::execute;
use powerpole_protocol::callback;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;
use std::sync::atomic::Ordering;

/// All that a try is made of, as the ledger says it now.
async fn copied(stage: &Stage, request: &RequestId) -> Vec<Edit> {
    let item = aws_sdk_dynamodb::Client::new(&stage.settings)
        .get_item()
        .table_name("powerpole-ledger")
        .key("request", text(request.as_str()))
        .send()
        .await
        .unwrap()
        .item
        .unwrap();
    let names = [
        "state",
        "attempt",
        "handoff",
        "image",
        "subnets",
        "launched_at",
        "launch_ahead_s",
        "try_seal",
        "boot_token_sha256",
        "handoff_token_sha256",
    ];
    names
        .into_iter()
        .map(|name| (name, item[name].clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_try_that_is_put_back_after_a_later_one_began_gets_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    // The first finds no capacity, so that its client token has launched nothing; the second has a bastion.
    let (request, item) = begun(&stage, "U0ALICE").await;
    let first = copied(&stage, &request).await;
    stage.refusing.store(1, Ordering::SeqCst);
    launcher::proceed(&stage.service, &item).await.unwrap();
    execute::pursue(&stage.service, &request).await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Launching, 2));
    assert_eq!(stage.instances().await, ["running"]);
    let second = stage.bastion(&request).await;
    stage
        .edit(
            request.as_str(),
            &first,
            &["instance", "handoff_at", "failed_attempt", "launch_claim"],
        )
        .await;
    let item = stage.item(&request).await;
    assert_eq!(item.attempt.0, 1);
    // A control that was started since, and remembers nothing: EC2 does.
    let restarted = stage.replica();
    launcher::proceed(&restarted, &item).await.unwrap();
    execute::pursue(&restarted, &request).await;
    is_stopped(&stage, &request, "request_set_back", "first").await;
    assert_eq!(stage.instances().await, ["terminated"]);
    assert_eq!(stage.secrets().await, 0);
    let late = second.signed(callback::READY, &second.ready()).await;
    assert_ne!(late.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_try_whose_bastion_has_ended_gets_no_second_one_and_none_after_its_time() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let first = copied(&stage, &request).await;
    is_ready(&bastion).await;
    stage.click("U0ALICE", "finish", &request).await;
    let ended = stage.ec2.terminate_instances();
    let ended = ended.instance_ids(bastion.instance.as_str());
    ended.send().await.unwrap();
    let remove = ["instance", "handoff_at", "bastion_key", "launch_claim"];
    stage.edit(request.as_str(), &first, &remove).await;
    let item = stage.item(&request).await;
    launcher::proceed(&stage.service, &item).await.unwrap_err();
    assert_eq!(stage.item(&request).await.handoff_at, None);
    assert_eq!(stage.instances().await, ["terminated"]);
    // Its time is over: it does nothing, whoever asks.
    stage.wait(600);
    let item = stage.item(&request).await;
    launcher::proceed(&stage.service, &item).await.unwrap_err();
    assert_eq!(stage.instances().await, ["terminated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_set_back_to_its_approval_gets_no_second_bastion() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    is_ready(&bastion).await;
    let remove = [
        "attempt",
        "instance",
        "handoff",
        "try_seal",
        "image",
        "launched_at",
        "handoff_at",
    ];
    let back = [("state", text("APPROVED"))];
    stage.edit(request.as_str(), &back, &remove).await;
    execute::pursue(&stage.replica(), &request).await;
    is_stopped(&stage, &request, "request_set_back", "approved").await;
    assert_eq!(stage.instances().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_is_over_is_not_opened_again_by_a_failure_that_was_written_into_the_ledger() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let first = copied(&stage, &request).await;
    is_ready(&bastion).await;
    stage.tick().await;
    let mut set = first.clone();
    set.extend([
        ("failed_attempt", number(1)),
        ("failed_retry", AttributeValue::Bool(true)),
        ("failed_code", text("no_capacity")),
    ]);
    stage.edit(request.as_str(), &set, &["launch_claim"]).await;
    execute::pursue(&stage.service, &request).await;
    is_stopped(&stage, &request, "request_set_back", "failed").await;
    assert_eq!(stage.item(&request).await.attempt.0, 1);
    assert_eq!(stage.instances().await, ["terminated"]);
}
