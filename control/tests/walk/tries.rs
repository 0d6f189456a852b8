//! Whoever may write the ledger, and what they get of a bastion's launch: none from another image, before its start, under
//! another handoff, for another try, or after the operator's right was withdrawn; and no end of somebody else's.

use crate::fixture::{Bastion, IMAGES, Stage, alarms};
use aws_sdk_dynamodb::types::AttributeValue;
use ed25519_dalek::SigningKey;
use powerpole_control::clock::after;
use powerpole_control::launcher;
use powerpole_control::ledger::item::{Item, PostKind};
use powerpole_control::seal::Begun;
use powerpole_control::tick::execute;
use powerpole_protocol::callback;
use powerpole_protocol::envelope::key_text;
use powerpole_protocol::id::{Attempt, InstanceId, RequestId};
use powerpole_protocol::ledger::State;
use powerpole_protocol::secret::Token;
use serde_json::json;

mod elsewhere;
mod endings;
mod setbacks;

type Edit = (&'static str, AttributeValue);

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn subnets(one: &str) -> AttributeValue {
    AttributeValue::L(vec![text(one)])
}

fn number(n: u64) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

async fn state_of(stage: &Stage, instance: &InstanceId) -> String {
    let described = stage.ec2.describe_instances();
    let described = described.instance_ids(instance.as_str()).send().await;
    let described = described.unwrap();
    let instance = &described.reservations()[0].instances()[0];
    instance
        .state()
        .unwrap()
        .name()
        .unwrap()
        .as_str()
        .to_owned()
}

async fn approved(stage: &Stage, user: &str) -> RequestId {
    let request = stage.ask(user).await;
    execute::pursue(&stage.service, &request).await;
    stage.click("U0CAROL", "approve", &request).await;
    request
}

/// Approved, and a try is begun of which nothing exists yet.
async fn begun(stage: &Stage, user: &str) -> (RequestId, Item) {
    let request = approved(stage, user).await;
    let item = stage.item(&request).await;
    launcher::begin_first(&stage.service, &item).await.unwrap();
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Launching, 1));
    (request, item)
}

async fn is_ready(bastion: &Bastion) {
    let (status, _) = bastion.clear(callback::HELLO, &bastion.hello_body()).await;
    assert_eq!(status, 200);
    let (status, _) = bastion.signed(callback::READY, &bastion.ready()).await;
    assert_eq!(status, 200);
}

/// Failed, alarmed and told.
async fn is_stopped(stage: &Stage, request: &RequestId, alarm: &str, what: &str) {
    let item = stage.item(request).await;
    assert_eq!(item.state, State::Failed, "{what}");
    assert_eq!(item.failure.as_ref().unwrap().code, alarm, "{what}");
    assert!(!alarms(request).is_empty(), "{what}");
    assert!(alarms(request).iter().all(|told| told == alarm), "{what}");
    let dm = item.post(PostKind::Dm).unwrap();
    let told = stage.slack.shows(&dm.ts);
    assert!(told.contains("Security was alarmed"), "{what}: {told}");
}

/// Another value for every fact of a try, and none of its seal: an item that an older control began.
fn facts(image: &str) -> Vec<Edit> {
    vec![
        ("image", text(image)),
        ("handoff", text("powerpole/handoff/0123")),
        ("attempt", number(2)),
        ("launched_at", text("2026-11-23T11:59:59Z")),
        ("subnets", subnets("subnet-1")),
        ("launch_ahead_s", number(1)),
        ("try_seal", text(&"0".repeat(64))),
        ("try_seal", text("")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_was_written_into_the_ledger_launches_nothing_whenever_its_start_is() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let theirs = IMAGES[1].to_owned();
    let (other, _) = begun(&stage, "U0BOB").await;
    let seal = stage.item(&other).await.try_seal.unwrap();
    let monday = after(stage.now(), 4 * 86_400);
    for (start, seal) in [
        (None, None),
        (Some(monday), None),
        (Some(monday), Some(seal)),
    ] {
        let request = stage.ask_for("U0ALICE", start).await;
        execute::pursue(&stage.service, &request).await;
        stage.click("U0CAROL", "approve", &request).await;
        // The approval itself is left as it is.
        let mut set = vec![
            ("state", text("LAUNCHING")),
            ("attempt", number(1)),
            ("launched_at", text(&stage.now().to_string())),
            ("handoff", text("powerpole/handoff/x")),
            ("image", text(&theirs)),
            ("subnets", subnets(&stage.service.config.bastion.subnets[0])),
            ("launch_ahead_s", number(0)),
        ];
        if let Some(seal) = &seal {
            set.push(("try_seal", text(seal)));
        }
        stage.edit(request.as_str(), &set, &[]).await;
        let item = stage.item(&request).await;
        launcher::proceed(&stage.service, &item).await.unwrap();
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "try_altered", "forged").await;
    }
    assert_eq!(stage.instances().await, [""; 0]);
    assert_eq!(stage.secrets().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_later_is_launched_at_its_start_and_not_when_somebody_asks() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let start = after(stage.now(), 3600);
    let request = stage.ask_for("U0ALICE", Some(start)).await;
    stage.tick().await;
    stage.click("U0CAROL", "approve", &request).await;
    let item = stage.item(&request).await;
    launcher::begin_first(&stage.service, &item)
        .await
        .unwrap_err();
    stage.wait(3599);
    stage.tick().await;
    assert_eq!(stage.item(&request).await.state, State::Approved);
    stage.wait(1);
    stage.tick().await;
    let item = stage.item(&request).await;
    assert_eq!(
        (item.state, item.launched_at),
        (State::Launching, Some(start))
    );
    assert_eq!(stage.instances().await, ["running"]);
    assert_eq!(alarms(&request), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_began_before_its_start_launches_nothing_whoever_sealed_it() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let start = after(stage.now(), 3600);
    let request = stage.ask_for("U0ALICE", Some(start)).await;
    stage.tick().await;
    stage.click("U0CAROL", "approve", &request).await;
    let item = stage.item(&request).await;
    let image = IMAGES[0].to_owned();
    let begun = Begun {
        attempt: Attempt::FIRST,
        handoff: "powerpole/handoff/x",
        image: &image,
        subnets: &stage.service.config.bastion.subnets[..1],
        at: start - jiff::SignedDuration::from_secs(1),
        ahead_s: 0,
    };
    let set = [
        ("state", text("LAUNCHING")),
        ("attempt", number(1)),
        ("launched_at", text(&begun.at.to_string())),
        ("handoff", text(begun.handoff)),
        ("image", text(&image)),
        ("subnets", subnets(&begun.subnets[0])),
        ("launch_ahead_s", number(0)),
        (
            "try_seal",
            text(&stage.service.keys.seals.tried(&item, begun)),
        ),
    ];
    stage.edit(request.as_str(), &set, &[]).await;
    stage.wait(3599);
    execute::pursue(&stage.service, &request).await;
    is_stopped(&stage, &request, "try_altered", "early").await;
    assert_eq!(stage.instances().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_with_another_image_handoff_number_or_time_launches_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let theirs = IMAGES[1].to_owned();
    for edit in facts(&theirs) {
        let what = format!("{edit:?}");
        let (request, item) = begun(&stage, "U0ALICE").await;
        let (name, value) = edit;
        let removed = value == text("");
        let (set, remove) = if removed {
            (vec![], vec![name])
        } else {
            (vec![(name, value)], vec![])
        };
        stage.edit(request.as_str(), &set, &remove).await;
        let altered = stage.item(&request).await;
        assert_ne!(item, altered);
        launcher::proceed(&stage.service, &altered).await.unwrap();
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "try_altered", &what).await;
    }
    assert_eq!(stage.instances().await, [""; 0]);
    assert_eq!(stage.secrets().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_try_that_is_changed_after_its_launch_gets_neither_handoff_nor_password() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let theirs = IMAGES[1].to_owned();
    for (name, value) in facts(&theirs).into_iter().take(7) {
        // Before the handoff is written down.
        let request = approved(&stage, "U0ALICE").await;
        execute::pursue(&stage.service, &request).await;
        let set = [(name, value.clone())];
        stage.edit(request.as_str(), &set, &["handoff_at"]).await;
        let item = stage.item(&request).await;
        launcher::proceed(&stage.service, &item).await.unwrap();
        assert_eq!(stage.item(&request).await.handoff_at, None, "{name}");
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "try_altered", name).await;
        assert_eq!(stage.secrets().await, 0, "{name}");
        // Before `hello`, and after it.
        for hello in [false, true] {
            let request = approved(&stage, "U0ALICE").await;
            execute::pursue(&stage.service, &request).await;
            let bastion = stage.bastion(&request).await;
            if hello {
                bastion.clear(callback::HELLO, &bastion.hello_body()).await;
            }
            stage.edit(request.as_str(), &set, &[]).await;
            let (status, _) = if hello {
                bastion.signed(callback::READY, &bastion.ready()).await
            } else {
                bastion.clear(callback::HELLO, &bastion.hello_body()).await
            };
            assert_ne!(status, 200, "{name}");
            execute::pursue(&stage.service, &request).await;
            is_stopped(&stage, &request, "try_altered", name).await;
        }
    }
    let all = stage.slack.calls.lock().unwrap().clone();
    assert!(
        all.iter()
            .all(|(_, body)| !body.to_string().contains("never-stored"))
    );
    let instances = stage.instances().await;
    assert_eq!(instances.len(), 21);
    assert!(instances.iter().all(|state| state == "terminated"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_of_a_try_is_the_one_that_the_parameter_named_when_it_began() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, item) = begun(&stage, "U0ALICE").await;
    assert_eq!(item.image.as_deref(), Some(IMAGES[0]));
    aws_sdk_ssm::Client::new(&stage.settings)
        .put_parameter()
        .name("/powerpole/image")
        .value(IMAGES[1])
        .overwrite(true)
        .send()
        .await
        .unwrap();
    // Another replica goes on with what the first one began.
    execute::pursue(&stage.replica(), &request).await;
    let bastion = stage.bastion(&request).await;
    let described = stage.ec2.describe_instances().send().await.unwrap();
    let launched = &described.reservations()[0].instances()[0];
    assert_eq!(launched.image_id(), Some(IMAGES[0]));
    is_ready(&bastion).await;
    assert_eq!(alarms(&request), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_image_no_try_begins_and_the_reason_is_told() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    aws_sdk_ssm::Client::new(&stage.settings)
        .delete_parameter()
        .name("/powerpole/image")
        .send()
        .await
        .unwrap();
    let request = approved(&stage, "U0ALICE").await;
    execute::pursue(&stage.service, &request).await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Failed, 0));
    let failure = item.failure.unwrap();
    assert_eq!(failure.code, "aws_refused");
    assert!(failure.message.contains("ParameterNotFound"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_whose_right_was_withdrawn_is_launched_nothing_whatever_the_ledger_says() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let withdraw = |gone: bool| {
        let mut differing = stage.slack.differing.lock().unwrap();
        differing.insert("U0ALICE", json!({"deleted": gone}));
    };
    // Withdrawn between the try and its launch.
    let (request, _) = begun(&stage, "U0ALICE").await;
    withdraw(true);
    execute::pursue(&stage.service, &request).await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Failed, 1));
    assert_eq!(item.failure.unwrap().code, "not_operator");
    assert_eq!(stage.instances().await, [""; 0]);
    // Withdrawn between the launch and the handoff.
    withdraw(false);
    let (request, _) = stage.launched().await;
    stage.edit(request.as_str(), &[], &["handoff_at"]).await;
    withdraw(true);
    let item = stage.item(&request).await;
    launcher::proceed(&stage.service, &item).await.unwrap();
    assert_eq!(stage.item(&request).await.handoff_at, None);
    execute::pursue(&stage.service, &request).await;
    assert_eq!(stage.item(&request).await.state, State::Failed);
    // And a failure that was written into the ledger, so that another try begins.
    withdraw(false);
    let (request, _) = stage.launched().await;
    withdraw(true);
    let failed = [
        ("failed_attempt", number(1)),
        ("failed_retry", AttributeValue::Bool(true)),
        ("failed_code", text("no_capacity")),
        ("failed_step", text("launch")),
    ];
    stage.edit(request.as_str(), &failed, &[]).await;
    execute::pursue(&stage.service, &request).await;
    let item = stage.item(&request).await;
    assert_eq!((item.state, item.attempt.0), (State::Failed, 2));
    assert_eq!(item.failure.unwrap().code, "not_operator");
    assert_eq!(stage.instances().await, ["terminated", "terminated"]);
    assert_eq!(stage.secrets().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_keys_that_were_written_into_the_ledger_speak_for_no_bastion() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    // Digests of tokens of their own.
    let (request, mut bastion) = stage.launched().await;
    let (boot, handoff) = (Token::from_random([1; 32]), Token::from_random([2; 32]));
    let set = [
        ("boot_token_sha256", text(&boot.digest())),
        ("handoff_token_sha256", text(&handoff.digest())),
    ];
    stage.edit(request.as_str(), &set, &[]).await;
    let mut hello = bastion.hello_body();
    hello["boot_token"] = boot.expose().expose().into();
    hello["handoff_token"] = handoff.expose().expose().into();
    assert_eq!(bastion.clear(callback::HELLO, &hello).await.0, 401);
    let mut failed = bastion.failed_body("patch", "patch_failed");
    failed["boot_token"] = boot.expose().expose().into();
    assert_eq!(bastion.clear(callback::FAILED, &failed).await.0, 401);
    assert_eq!(stage.item(&request).await.failure, None);
    // A key of their own, before and after the bastion has named its own.
    for hello in [false, true] {
        let (request, ours) = stage.launched().await;
        if hello {
            ours.clear(callback::HELLO, &ours.hello_body()).await;
        }
        bastion = ours;
        bastion.key = SigningKey::from_bytes(&[9; 32]);
        let set = [
            ("state", text("BOOTING")),
            ("bastion_key", text(&key_text(&bastion.key.verifying_key()))),
        ];
        stage.edit(request.as_str(), &set, &[]).await;
        let (status, _) = bastion.signed(callback::READY, &bastion.ready()).await;
        assert_ne!(status, 200);
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "bastion_altered", "key").await;
        assert_eq!(state_of(&stage, &bastion.instance).await, "terminated");
    }
    assert!(
        stage
            .slack
            .calls
            .lock()
            .unwrap()
            .iter()
            .all(|(_, body)| { !body.to_string().contains("never-stored") })
    );
}
