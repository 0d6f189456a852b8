//! Instances that others launch under a try's client token, which EC2 shows to whoever may look and holds to one launch
//! within a zone; and settings that change while a try is built.

use super::{approved, begun, is_ready, number, state_of, text};
use crate::fixture::{IMAGES, Stage, alarms};
use aws_sdk_dynamodb::types::AttributeValue;
use powerpole_control::launcher;
use powerpole_control::tick::execute;
use powerpole_protocol::callback;
use powerpole_protocol::id::{Attempt, InstanceId, RequestId};
use powerpole_protocol::ledger::State;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Has control launch a try of whose launch the ledger says nothing, as after a crash before the record.
async fn launch_once_more(stage: &Stage, request: &RequestId) {
    let launched = ["instance", "handoff_at", "launch_claim"];
    stage.edit(request.as_str(), &[], &launched).await;
    let item = stage.item(request).await;
    launcher::proceed(&stage.service, &item).await.unwrap();
}

/// Launches under the token of a try in this subnet, as whoever may launch can; they may be protected from control.
async fn launch_under(
    stage: &Stage,
    (request, attempt): (&RequestId, u32),
    subnet: &str,
    protected: bool,
) -> InstanceId {
    let derivation = &stage.service.keys.derivation;
    let launched = stage
        .ec2
        .run_instances()
        .client_token(derivation.client_token(request, Attempt(attempt)))
        .image_id(IMAGES[1])
        .min_count(1)
        .max_count(1)
        .subnet_id(subnet)
        .send()
        .await
        .unwrap();
    let id = launched.instances()[0].instance_id().unwrap();
    if protected {
        stage.protected.lock().unwrap().insert(id.to_owned());
    }
    InstanceId::parse(id).unwrap()
}

/// One in every zone but control's, so that some have ids below and some above its own.
async fn launch_elsewhere(stage: &Stage, request: &RequestId) -> Vec<InstanceId> {
    let own = stage.service.config.bastion.subnets[0].clone();
    let all = stage.ec2.describe_subnets().send().await.unwrap();
    let mut theirs = Vec::new();
    for subnet in all.subnets().iter().filter_map(|one| one.subnet_id()) {
        if subnet != own {
            theirs.push(launch_under(stage, (request, 1), subnet, true).await);
        }
    }
    assert!(theirs.len() > 2);
    theirs
}

async fn are_left(stage: &Stage, theirs: &[InstanceId]) {
    for instance in theirs {
        assert_eq!(state_of(stage, instance).await, "running");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_under_the_same_token_in_another_zone_gets_nothing_and_holds_no_end_up() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, ours) = stage.launched().await;
    let theirs = launch_elsewhere(&stage, &request).await;
    // As after a crash before the record, or as somebody writes it: with their instance there, too.
    let handoff_before = ours.boot.handoff.clone();
    launch_once_more(&stage, &request).await;
    let item = stage.item(&request).await;
    assert_eq!(item.instance.as_ref(), Some(&ours.instance));
    assert!(item.handoff_at.is_some());
    assert!(alarms(&request).iter().all(|told| told == "two_instances"));
    assert!(!alarms(&request).is_empty());
    // The handoff is still for ours alone.
    let policy = aws_sdk_secretsmanager::Client::new(&stage.settings)
        .get_resource_policy()
        .secret_id(&handoff_before)
        .send()
        .await
        .unwrap();
    let policy = policy.resource_policy().unwrap_or_default();
    assert!(policy.contains(ours.instance.as_str()), "{policy}");
    assert!(theirs.iter().all(|one| !policy.contains(one.as_str())));
    // Looked at while it boots, and while it runs.
    is_ready(&ours).await;
    stage.wait(120);
    execute::pursue(&stage.service, &request).await;
    assert_eq!(stage.item(&request).await.state, State::Ready);
    // The window's end ends ours, whatever becomes of theirs.
    let past = [("deadline", text("2026-11-23T00:00:00Z"))];
    stage.edit(request.as_str(), &past, &[]).await;
    execute::pursue(&stage.service, &request).await;
    execute::pursue(&stage.service, &request).await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.open), (State::Closed, false));
    assert_eq!(state_of(&stage, &ours.instance).await, "terminated");
    are_left(&stage, &theirs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_failed_is_cleared_away_and_the_next_goes_on_beside_instances_of_others() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    for again in [false, true] {
        let (request, ours) = stage.launched().await;
        let theirs = launch_elsewhere(&stage, &request).await;
        let failed = [
            ("failed_attempt", number(1)),
            ("failed_retry", AttributeValue::Bool(again)),
            ("failed_code", text("patch_failed")),
        ];
        stage.edit(request.as_str(), &failed, &[]).await;
        execute::pursue(&stage.service, &request).await;
        execute::pursue(&stage.service, &request).await;
        assert_eq!(state_of(&stage, &ours.instance).await, "terminated");
        are_left(&stage, &theirs).await;
        let item = stage.item(&request).await;
        if again {
            assert_eq!((item.state, item.attempt.0), (State::Launching, 2));
            let second = stage.bastion(&request).await;
            assert!(!theirs.contains(&second.instance) && second.instance != ours.instance);
            is_ready(&second).await;
        } else {
            assert_eq!((item.state, item.open), (State::Failed, false));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_living_instances_in_the_subnet_of_a_try_none_is_chosen() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, ours) = stage.launched().await;
    let own = stage.service.config.bastion.subnets[0].clone();
    let theirs = launch_under(&stage, (&request, 1), &own, false).await;
    launch_once_more(&stage, &request).await;
    assert_eq!(stage.item(&request).await.handoff_at, None);
    execute::pursue(&stage.service, &request).await;
    let item = stage.item(&request).await;
    assert_eq!(item.state, State::Failed);
    assert_eq!(item.failure.unwrap().code, "instance_altered");
    assert!(alarms(&request).contains(&"instance_altered".to_owned()));
    for instance in [&ours.instance, &theirs] {
        assert_eq!(state_of(&stage, instance).await, "terminated");
    }
    assert_eq!(stage.secrets().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_replica_launches_after_its_try_was_given_up_is_ended() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let stage = Arc::new(stage);
    let (request, item) = begun(&stage, "U0ALICE").await;
    stage.holding.store(1, Ordering::SeqCst);
    let slow = Arc::clone(&stage);
    let launching = tokio::spawn(async move { launcher::proceed(&slow.service, &item).await });
    while stage.holding.load(Ordering::SeqCst) != 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stage.wait(600);
    let over = [
        ("failed_attempt", number(1)),
        ("failed_retry", AttributeValue::Bool(false)),
        ("failed_code", text("boot_timeout")),
    ];
    stage.edit(request.as_str(), &over, &[]).await;
    let other = stage.replica();
    execute::pursue(&other, &request).await;
    execute::pursue(&other, &request).await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.open), (State::Failed, false));
    assert_eq!(stage.instances().await, [""; 0]);
    stage.holding.store(0, Ordering::SeqCst);
    launching.await.unwrap().unwrap();
    assert_eq!(stage.instances().await, ["terminated"]);
    assert_eq!(stage.secrets().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_is_lowered_while_a_try_is_built_does_not_condemn_it() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    // Begun ten minutes ahead by a control that was allowed to, and gone on with by one that is not.
    let start = powerpole_control::clock::after(stage.now(), 600);
    let request = stage.ask_for("U0ALICE", Some(start)).await;
    stage.tick().await;
    stage.click("U0CAROL", "approve", &request).await;
    let ahead = stage.replica_with(|config| config.times.launch_ahead_s = 600);
    let item = stage.item(&request).await;
    launcher::begin_first(&ahead, &item).await.unwrap();
    execute::pursue(&stage.service, &request).await;
    is_ready(&stage.bastion(&request).await).await;
    assert_eq!(alarms(&request), [""; 0]);
    // The second try, gone on with by a control that allows one.
    stage.refusing.store(1, Ordering::SeqCst);
    let request = approved(&stage, "U0BOB").await;
    execute::pursue(&stage.service, &request).await;
    let remove = ["handoff_at", "launch_claim"];
    stage.edit(request.as_str(), &[], &remove).await;
    let item = stage.item(&request).await;
    assert_eq!(item.attempt.0, 2);
    let one = stage.replica_with(|config| config.times.max_attempts = 1);
    launcher::proceed(&one, &item).await.unwrap();
    assert!(stage.item(&request).await.handoff_at.is_some());
    let bastion = stage.bastion(&request).await;
    let failed = bastion.failed_body("patch", "patch_failed");
    bastion.clear(callback::FAILED, &failed).await;
    execute::pursue(&one, &request).await;
    assert_eq!(state_of(&stage, &bastion.instance).await, "terminated");
    assert_eq!(alarms(&request), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_without_its_seal_is_alarmed_about_once() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, ours) = stage.launched().await;
    is_ready(&ours).await;
    stage.edit(request.as_str(), &[], &["bastion_seal"]).await;
    for _ in 0..3 {
        execute::pursue(&stage.service, &request).await;
    }
    assert_eq!(alarms(&request), ["bastion_altered"]);
    assert_eq!(stage.item(&request).await.state, State::Ready);
}
