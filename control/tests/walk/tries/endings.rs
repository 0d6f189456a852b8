//! What control ends and deletes is its own, whatever the ledger names.

use super::{is_ready, number, state_of, text};
use crate::fixture::Stage;
use powerpole_control::tick::execute;
use powerpole_protocol::callback;
use powerpole_protocol::ledger::State;

#[tokio::test(flavor = "multi_thread")]
async fn control_ends_what_it_launched_and_never_what_the_ledger_names() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (other, theirs) = stage.launched().await;
    is_ready(&theirs).await;
    let named = [("instance", text(theirs.instance.as_str()))];
    // A window that is lost, one that closed by itself, a try that gave up.
    for what in ["lost", "closed", "gave up"] {
        let (request, ours) = stage.launched().await;
        if what != "gave up" {
            is_ready(&ours).await;
        }
        stage.edit(request.as_str(), &named, &[]).await;
        match what {
            "lost" => {
                let past = [("deadline", text("2026-11-23T00:00:00Z"))];
                stage.edit(request.as_str(), &past, &[]).await;
            }
            "closed" => {
                let closed = [
                    ("state", text("CLOSED")),
                    ("closed_at", text("2026-11-23T00:00:00Z")),
                    ("close_reason", text("deadline")),
                ];
                stage.edit(request.as_str(), &closed, &[]).await;
            }
            _ => {
                let failed = [
                    ("failed_attempt", number(1)),
                    ("failed_code", text("patch_failed")),
                ];
                stage.edit(request.as_str(), &failed, &[]).await;
            }
        }
        if what == "closed" {
            stage.wait(61);
        }
        execute::pursue(&stage.service, &request).await;
        execute::pursue(&stage.service, &request).await;
        assert_eq!(
            state_of(&stage, &ours.instance).await,
            "terminated",
            "{what}"
        );
        assert_eq!(
            state_of(&stage, &theirs.instance).await,
            "running",
            "{what}"
        );
        assert!(stage.item(&request).await.state.is_final(), "{what}");
    }
    assert_eq!(stage.item(&other).await.state, State::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn control_deletes_its_own_handoff_and_never_the_one_that_the_ledger_names() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (_, theirs) = stage.launched().await;
    let (request, ours) = stage.launched().await;
    assert_eq!(stage.secrets().await, 2);
    let failed = ours.failed_body("patch", "patch_failed");
    ours.clear(callback::FAILED, &failed).await;
    let named = [("handoff", text(&theirs.boot.handoff))];
    stage.edit(request.as_str(), &named, &[]).await;
    stage.tick().await;
    assert_eq!(stage.item(&request).await.state, State::Failed);
    assert_eq!(stage.secrets().await, 1);
    is_ready(&theirs).await;
    let secrets = aws_sdk_secretsmanager::Client::new(&stage.settings);
    let left = secrets.get_secret_value().secret_id(&theirs.boot.handoff);
    assert!(left.send().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_the_ledger_lost_is_found_and_ended_whichever_try_launched_it() {
    let Some(stage) = Stage::start().await else {
        return;
    };
    let (request, first) = stage.launched().await;
    is_ready(&first).await;
    let ended = [
        ("state", text("FAILED")),
        ("attempt", number(2)),
        ("failed_attempt", number(2)),
    ];
    stage.edit(request.as_str(), &ended, &["instance"]).await;
    stage.tick().await;
    stage.tick().await;
    assert_eq!(state_of(&stage, &first.instance).await, "terminated");
}
