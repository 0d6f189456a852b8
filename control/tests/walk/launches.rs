//! What is launched, and what is not.

use crate::fixture::{IMAGES, ROLE_ID, Stage, post};
use powerpole_control::ledger::item::PostKind;
use powerpole_protocol::callback;
use powerpole_protocol::ledger::State;
use std::sync::atomic::Ordering;

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_has_no_key_pair_ends_by_power_off_and_names_no_person() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let described = stage
        .ec2
        .describe_instances()
        .instance_ids(bastion.instance.as_str())
        .send()
        .await
        .unwrap();
    let instance = &described.reservations()[0].instances()[0];
    assert_eq!(instance.key_name().unwrap_or_default(), "");
    let options = instance.metadata_options().unwrap();
    assert_eq!(options.http_tokens().unwrap().as_str(), "required");
    assert_eq!(options.http_put_response_hop_limit(), Some(1));
    let tags: Vec<(&str, &str)> = instance
        .tags()
        .iter()
        .map(|tag| (tag.key().unwrap(), tag.value().unwrap()))
        .collect();
    assert!(tags.contains(&("powerpole:request", request.as_str())));
    assert!(tags.contains(&("powerpole:attempt", "1")));
    assert!(tags.iter().all(|(_, value)| !value.contains("alice")));
    let behaviour = stage
        .ec2
        .describe_instance_attribute()
        .instance_id(bastion.instance.as_str())
        .attribute(aws_sdk_ec2::types::InstanceAttributeName::InstanceInitiatedShutdownBehavior)
        .send()
        .await
        .unwrap();
    let behaviour = behaviour.instance_initiated_shutdown_behavior().unwrap();
    assert_eq!(behaviour.value(), Some("terminate"));
    let policy = aws_sdk_secretsmanager::Client::new(&stage.settings)
        .get_resource_policy()
        .secret_id(&bastion.boot.handoff)
        .send()
        .await
        .unwrap();
    let policy = policy.resource_policy().unwrap_or_default();
    assert!(
        policy.contains(&format!(
            "{{\"StringNotEquals\":{{\"aws:userid\":\"{ROLE_ID}:{}\"}}}}",
            bastion.instance
        )),
        "{policy}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_somebody_else_launched_is_no_bastion_whatever_its_tags_say() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = stage.ask("U0ALICE").await;
    let tag = |key: &str, value: &str| {
        let tag = aws_sdk_ec2::types::Tag::builder();
        tag.key(key).value(value).build()
    };
    let tags = aws_sdk_ec2::types::TagSpecification::builder()
        .resource_type(aws_sdk_ec2::types::ResourceType::Instance)
        .tags(tag("powerpole:request", request.as_str()))
        .tags(tag("powerpole:attempt", "1"))
        .build();
    // With a token that can be told from the card, too.
    let theirs = stage
        .ec2
        .run_instances()
        .client_token(format!("{request}-1"))
        .image_id(IMAGES[0])
        .min_count(1)
        .max_count(1)
        .tag_specifications(tags)
        .send()
        .await
        .unwrap();
    let theirs = theirs.instances()[0].instance_id().unwrap();
    stage.click("U0CAROL", "approve", &request).await;
    stage.tick().await;
    let bastion = stage.bastion(&request).await;
    assert_ne!(bastion.instance.as_str(), theirs);
    assert_eq!(
        stage.item(&request).await.instance,
        Some(bastion.instance.clone())
    );
    // What control ends is its own as well.
    let failed = bastion.failed_body("patch", "patch_failed");
    bastion.clear(callback::FAILED, &failed).await;
    stage.tick().await;
    let mut instances = stage.instances().await;
    instances.sort();
    assert_eq!(instances, ["running", "terminated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_capacity_is_tried_again_once_and_then_told() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    stage.refusing.store(1, Ordering::SeqCst);
    let (request, _) = stage.launched().await;
    assert_eq!(stage.item(&request).await.attempt.0, 2);
    assert_eq!(stage.instances().await, ["running"]);

    stage.refusing.store(2, Ordering::SeqCst);
    let request = stage.ask("U0BOB").await;
    stage.click("U0CAROL", "approve", &request).await;
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    let failure = item.failure.clone().unwrap();
    assert_eq!(
        (item.state, failure.code.as_str()),
        (State::Failed, "no_capacity")
    );
    let told = stage.slack.of("chat.postMessage");
    let dm = item.post(PostKind::Dm).unwrap();
    assert!(
        stage
            .slack
            .shows(&dm.ts)
            .contains("InsufficientInstanceCapacity")
            || told
                .iter()
                .any(|m| m.to_string().contains("InsufficientInstanceCapacity"))
    );
    assert_eq!(stage.instances().await, ["running"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_from_another_instance_are_a_theft_and_nothing_is_ever_opened() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let mut elsewhere = bastion.hello_body();
    elsewhere["instance"] = "i-0123456789abcdef0".into();
    assert_eq!(bastion.clear(callback::HELLO, &elsewhere).await.0, 409);
    stage.tick().await;
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Failed, 1));
    assert_eq!(item.failure.unwrap().code, "redeemed");
    assert_eq!(stage.instances().await, ["terminated"]);
    // Too late for the bastion itself, too.
    let (status, answer) = bastion.clear(callback::HELLO, &bastion.hello_body()).await;
    assert!(status != 200 || !answer.unwrap().commands.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_and_a_body_of_another_kind_are_refused() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let json = [("content-type", "application/json")];
    for path in [
        callback::HELLO,
        callback::READY,
        callback::HEARTBEAT,
        callback::CLOSED,
        callback::FAILED,
    ] {
        let large = format!("\"{}\"", "x".repeat(65 * 1024));
        assert_eq!(
            post(stage.bastions, path, &json, large).await.0,
            413,
            "{path}"
        );
        assert_eq!(
            post(stage.bastions, path, &json, "{}".into()).await.0,
            400,
            "{path}"
        );
    }
}
