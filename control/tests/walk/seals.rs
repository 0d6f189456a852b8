//! Whoever may write the ledger, and what they get for it: no launch, no handoff, no ticket, and an alarm.

use crate::fixture::{IMAGES, Stage, alarms};
use aws_sdk_dynamodb::types::AttributeValue;
use powerpole_control::launcher::{self, Progress};
use powerpole_control::ledger::item::PostKind;
use powerpole_control::tick::execute;
use powerpole_protocol::callback;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;
use std::sync::atomic::Ordering;

type Edit = (&'static str, AttributeValue);

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(n: u64) -> AttributeValue {
    AttributeValue::N(n.to_string())
}

/// Another value for every fact that was asked.
fn asked() -> Vec<Edit> {
    vec![
        ("number", number(77)),
        ("requested_at", text("2026-11-23T12:00:01Z")),
        ("operator", text("bob@example.com")),
        ("operator_slack", text("U0BOB")),
        ("account", text("bob")),
        (
            "principal",
            text("arn:aws:sts::123456789012:assumed-role/PowerPoleOperator/bob@example.com"),
        ),
        ("cluster", text("orders-test")),
        ("level", text("ADMIN")),
        (
            "schemas",
            AttributeValue::L(vec![text("orders"), text("billing")]),
        ),
        ("duration_s", number(3600)),
        ("start_at", text("2026-11-23T12:00:00Z")),
        ("reason", text("something else")),
        ("asked_seal", text(&"0".repeat(64))),
    ]
}

/// Another value for every fact of an approval, on top.
fn approved() -> Vec<Edit> {
    let mut all = asked();
    all.retain(|(name, _)| *name != "asked_seal");
    all.extend([
        ("approver", text("bob@example.com")),
        ("approver_slack", text("U0BOB")),
        ("approved_at", text("2026-11-23T11:59:59Z")),
        ("approval_seal", text(&"0".repeat(64))),
    ]);
    all
}

async fn alter(stage: &Stage, request: &RequestId, (name, value): &Edit) {
    stage
        .edit(request.as_str(), &[(*name, value.clone())], &[])
        .await;
}

async fn asked_request(stage: &Stage) -> RequestId {
    let request = stage.ask("U0ALICE").await;
    execute::pursue(&stage.service, &request).await;
    request
}

async fn approved_request(stage: &Stage) -> RequestId {
    let request = asked_request(stage).await;
    stage.click("U0CAROL", "approve", &request).await;
    request
}

/// Failed, alarmed and told; the request's handoff is not there.
async fn is_stopped(stage: &Stage, request: &RequestId, alarm: &str, what: &str) {
    let item = stage.item(request).await;
    assert_eq!(item.state, State::Failed, "{what}");
    assert_eq!(item.failure.as_ref().unwrap().code, alarm, "{what}");
    assert!(alarms(request).iter().all(|told| told == alarm), "{what}");
    assert!(!alarms(request).is_empty(), "{what}");
    let dm = item.post(PostKind::Dm).unwrap();
    let posted = stage.slack.of("chat.postMessage");
    let told = stage.slack.shows(&dm.ts).contains("Security was alarmed")
        || posted.iter().any(|message| {
            let shown = message.to_string();
            message["channel"] == dm.channel
                && shown.contains(request.as_str())
                && shown.contains("Security was alarmed")
        });
    assert!(told, "{what}");
    assert_eq!(stage.secrets().await, 0, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_was_written_into_the_ledger_launches_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (other, _) = stage.launched().await;
    let theirs = stage.item(&other).await.approval_seal.unwrap();
    let instances = stage.instances().await.len();
    for seal in [None, Some(theirs)] {
        let request = stage.ask("U0BOB").await;
        stage.tick().await;
        let own = stage.item(&request).await.asked_seal.unwrap();
        let mut set = vec![
            ("state", text("APPROVED")),
            ("approver", text("carol@example.com")),
            ("approver_slack", text("U0CAROL")),
            ("approved_at", text(&stage.now().to_string())),
            ("approval_seal", text(&own)),
        ];
        if let Some(seal) = &seal {
            set.retain(|(name, _)| *name != "approval_seal");
            set.push(("approval_seal", text(seal)));
        }
        stage.edit(request.as_str(), &set, &[]).await;
        stage.tick().await;
        let item = stage.item(&request).await;
        assert_eq!(item.failure.clone().unwrap().code, "approval_altered");
        assert_eq!((item.state, item.attempt.0), (State::Failed, 0));
        assert_eq!(alarms(&request), ["approval_altered"]);
        let dm = item.post(PostKind::Dm).unwrap();
        let shown = stage.slack.shows(&dm.ts);
        assert!(shown.contains("Nothing was launched"), "{shown}");
        let receipt = stage
            .slack
            .of("chat.postMessage")
            .pop()
            .unwrap()
            .to_string();
        assert!(
            receipt.contains("no approval that control vouches for"),
            "{receipt}"
        );
    }
    assert_eq!(stage.instances().await.len(), instances);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_before_the_decision_is_neither_shown_nor_approved() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    for edit in asked() {
        let (name, _) = edit;
        // Before the card.
        let request = stage.ask("U0ALICE").await;
        alter(&stage, &request, &edit).await;
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "request_altered", name).await;
        let posted = stage.slack.of("chat.postMessage");
        let buttons = posted.iter().any(|message| {
            let shown = message.to_string();
            shown.contains(request.as_str()) && shown.contains("\"approve\"")
        });
        assert!(!buttons, "{name}");
        // After the card: what the approver has read is not what there is.
        let request = asked_request(&stage).await;
        alter(&stage, &request, &edit).await;
        let whispers = stage.slack.of("chat.postEphemeral").len();
        stage.click("U0CAROL", "approve", &request).await;
        let whispered = stage.slack.of("chat.postEphemeral");
        assert_eq!(whispered.len(), whispers + 1, "{name}");
        assert!(
            whispered[whispers]
                .to_string()
                .contains("Security was alarmed")
        );
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "request_altered", name).await;
    }
    assert_eq!(stage.instances().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_after_the_decision_launches_nothing() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    for edit in approved() {
        let (name, _) = edit;
        let request = approved_request(&stage).await;
        alter(&stage, &request, &edit).await;
        // Whoever asks the launcher at once, before any look at the request.
        let item = stage.item(&request).await;
        let begun = launcher::begin_first(&stage.service, &item).await;
        assert!(matches!(begun, Ok(Progress::Moved)), "{name}");
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "approval_altered", name).await;
        // A try that is begun and has no instance yet.
        let request = approved_request(&stage).await;
        let item = stage.item(&request).await;
        launcher::begin_first(&stage.service, &item).await.unwrap();
        alter(&stage, &request, &edit).await;
        let item = stage.item(&request).await;
        assert_eq!(item.state, State::Launching);
        launcher::proceed(&stage.service, &item).await.unwrap();
        execute::pursue(&stage.service, &request).await;
        is_stopped(&stage, &request, "approval_altered", name).await;
        // A try that failed and would be followed by another.
        let request = approved_request(&stage).await;
        let item = stage.item(&request).await;
        launcher::begin_first(&stage.service, &item).await.unwrap();
        stage.refusing.store(1, Ordering::SeqCst);
        let item = stage.item(&request).await;
        launcher::proceed(&stage.service, &item).await.unwrap();
        assert!(stage.item(&request).await.failure.unwrap().retry);
        alter(&stage, &request, &edit).await;
        execute::pursue(&stage.service, &request).await;
        let item = stage.item(&request).await;
        assert_eq!((item.state, item.attempt.0), (State::Failed, 1), "{name}");
        assert!(alarms(&request).contains(&"approval_altered".to_owned()));
    }
    assert_eq!(stage.instances().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_between_launch_and_handoff_gets_neither_handoff_nor_ticket() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    // A thief's instance under the same role.
    let theirs = stage.ec2.run_instances();
    let theirs = theirs.image_id(IMAGES[0]);
    let theirs = theirs.min_count(1).max_count(1).send().await.unwrap();
    let theirs = theirs.instances()[0].instance_id().unwrap().to_owned();
    let mut edits = approved();
    edits.push(("instance", text(&theirs)));
    edits.push(("attempt", number(3)));
    edits.push(("launched_at", text("2030-01-01T00:00:00Z")));
    for edit in edits {
        let (name, _) = edit;
        let request = approved_request(&stage).await;
        execute::pursue(&stage.service, &request).await;
        // As after a crash before it was written down that the handoff is there: the next look writes it again.
        stage.edit(request.as_str(), &[], &["handoff_at"]).await;
        alter(&stage, &request, &edit).await;
        let item = stage.item(&request).await;
        assert_eq!(item.state, State::Launching);
        launcher::proceed(&stage.service, &item).await.unwrap();
        assert_eq!(stage.item(&request).await.handoff_at, None, "{name}");
        execute::pursue(&stage.service, &request).await;
        let alarm = match name {
            "instance" => "instance_altered",
            "attempt" | "launched_at" => "try_altered",
            _ => "approval_altered",
        };
        is_stopped(&stage, &request, alarm, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_while_a_bastion_boots_opens_no_window() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let mut edits = approved();
    // The password to a message that somebody else reads.
    edits.push(("dm_channel", text("D0MALLORY")));
    for edit in edits {
        let (name, _) = edit;
        let request = approved_request(&stage).await;
        execute::pursue(&stage.service, &request).await;
        let bastion = stage.bastion(&request).await;
        bastion.clear(callback::HELLO, &bastion.hello_body()).await;
        alter(&stage, &request, &edit).await;
        let (status, _) = bastion.signed(callback::READY, &bastion.ready()).await;
        assert_ne!(status, 200, "{name}");
        execute::pursue(&stage.service, &request).await;
        let item = stage.item(&request).await;
        let alarm = if name == "dm_channel" {
            "dm_altered"
        } else {
            "approval_altered"
        };
        assert_eq!(item.state, State::Failed, "{name}");
        assert_eq!(item.failure.unwrap().code, alarm, "{name}");
        assert_eq!(alarms(&request), [alarm], "{name}");
    }
    let all = stage.slack.calls.lock().unwrap().clone();
    assert!(
        all.iter()
            .all(|(_, body)| !body.to_string().contains("never-stored"))
    );
    assert!(
        stage
            .instances()
            .await
            .iter()
            .all(|state| state == "terminated")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_was_used_is_good_for_nothing_later() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    let failed = bastion.failed_body("patch", "patch_failed");
    bastion.clear(callback::FAILED, &failed).await;
    stage.tick().await;
    stage.tick().await;
    assert_eq!(stage.item(&request).await.state, State::Failed);
    stage.wait(2 * 600 + 3600 + 1);
    let back = [("state", text("APPROVED")), ("open", text("open"))];
    stage
        .edit(
            request.as_str(),
            &back,
            &["attempt", "instance", "handoff", "terminated_at"],
        )
        .await;
    // A control that was started since, and remembers nothing.
    execute::tick(&stage.replica()).await;
    is_stopped(&stage, &request, "approval_stale", "set back").await;
    assert_eq!(stage.instances().await, ["terminated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_window_whose_grant_is_changed_is_alarmed_and_goes_on() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, bastion) = stage.launched().await;
    bastion.clear(callback::HELLO, &bastion.hello_body()).await;
    bastion.signed(callback::READY, &bastion.ready()).await;
    stage.tick().await;
    assert_eq!(alarms(&request), Vec::<String>::new());
    alter(&stage, &request, &("approver", text("bob@example.com"))).await;
    stage.tick().await;
    assert_eq!(alarms(&request), ["approval_altered"]);
    assert_eq!(stage.item(&request).await.state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_that_cannot_be_read_any_more_is_alarmed_and_holds_up_nobody() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let request = approved_request(&stage).await;
    alter(&stage, &request, &("level", text("ROOT"))).await;
    let other = approved_request(&stage).await;
    stage.tick().await;
    // At every look: by the launch, which asks for all that are open, and by tick.
    let told = alarms(&request);
    assert!(!told.is_empty() && told.iter().all(|alarm| alarm == "item_unreadable"));
    assert_eq!(stage.item(&other).await.state, State::Launching);
    assert_eq!(stage.instances().await, ["running"]);
}
