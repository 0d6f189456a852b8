//! The Web API against the client that control uses: slack-morphism, over a real connection.

use super::people::{CHANNEL_ALL, person_named};
use super::store::Store;
use super::{Workspace, faults, outbound, router};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Client = SlackClient<SlackClientHyperConnector<HttpConnector>>;

async fn serve() -> (Arc<Workspace>, Client) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let workspace = Arc::new(Workspace {
        store: Mutex::new(Store::open(None).unwrap()),
        faults: Mutex::new(faults::Faults::new(true)),
        control: outbound::Control::new("http://127.0.0.1:9", "s".into(), Duration::from_secs(3)),
        token: "xoxb-1".into(),
        base_url: base_url.clone(),
    });
    let app = router(workspace.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let connector = SlackClientHyperConnector::with_connector(HttpConnector::new())
        .with_slack_api_url(&format!("{base_url}/api"));
    (workspace, SlackClient::new(connector))
}

fn token() -> SlackApiToken {
    SlackApiToken::new("xoxb-1".into())
}

fn content(text: &str) -> SlackMessageContent {
    SlackMessageContent::new().with_text(text.into())
}

fn blocks() -> Vec<SlackBlock> {
    serde_json::from_value(json!([
        {"type": "section", "text": {"type": "mrkdwn", "text": "*hello*"}},
        {"type": "actions", "elements": [{"type": "button", "action_id": "approve", "value": "req-1",
            "style": "primary", "text": {"type": "plain_text", "text": "Approve"}}]},
    ]))
    .unwrap()
}

#[tokio::test]
async fn messages_are_posted_updated_and_deleted() {
    let (workspace, client) = serve().await;
    let token = token();
    let session = client.open_session(&token);
    let request = SlackApiChatPostMessageRequest::new(
        CHANNEL_ALL.into(),
        content("hello").with_blocks(blocks()),
    );
    let posted = session.chat_post_message(&request).await.unwrap();
    assert_eq!(posted.channel.to_string(), CHANNEL_ALL);
    let reply = SlackApiChatPostMessageRequest::new(CHANNEL_ALL.into(), content("reply"))
        .with_thread_ts(posted.ts.clone());
    let replied = session.chat_post_message(&reply).await.unwrap();
    assert_eq!(replied.message.origin.thread_ts, Some(posted.ts.clone()));
    let update = SlackApiChatUpdateRequest::new(
        CHANNEL_ALL.into(),
        content("new").with_blocks(vec![]),
        posted.ts.clone(),
    );
    let updated = session.chat_update(&update).await.unwrap();
    assert!(updated.message.edited.is_some());
    let delete = SlackApiChatDeleteRequest::new(CHANNEL_ALL.into(), replied.ts);
    session.chat_delete(&delete).await.unwrap();
    let store = workspace.store();
    assert_eq!(store.messages()[0].text, "new");
    assert_eq!(store.messages()[0].history[0].text, "hello");
    assert!(store.messages()[1].deleted);
}

#[tokio::test]
async fn people_and_conversations_are_understood() {
    let (_workspace, client) = serve().await;
    let token = token();
    let session = client.open_session(&token);
    assert_eq!(
        session.auth_test().await.unwrap().team_id.to_string(),
        "T0POWERPOLE"
    );
    let alice = person_named("alice").unwrap();
    let found = session
        .users_info(&SlackApiUsersInfoRequest::new(alice.id.into()))
        .await
        .unwrap();
    let email = found.user.profile.unwrap().email.unwrap();
    assert_eq!(email.to_string(), "alice@example.com");
    let by_email = SlackApiUsersLookupByEmailRequest::new(email);
    let found = session.users_lookup_by_email(&by_email).await.unwrap();
    assert_eq!(found.user.id.to_string(), alice.id);
    assert_eq!(
        session
            .users_list(&SlackApiUsersListRequest::new())
            .await
            .unwrap()
            .members
            .len(),
        6
    );
    let open = SlackApiConversationsOpenRequest::new().with_users(vec![alice.id.into()]);
    let opened = session.conversations_open(&open).await.unwrap();
    assert_eq!(opened.channel.id.to_string(), alice.dm());
    let members = SlackApiConversationsMembersRequest::new().with_channel(CHANNEL_ALL.into());
    assert_eq!(
        session
            .conversations_members(&members)
            .await
            .unwrap()
            .members
            .len(),
        6
    );
    let ephemeral = SlackApiChatPostEphemeralRequest::new(
        CHANNEL_ALL.into(),
        alice.id.into(),
        content("only you"),
    );
    session.chat_post_ephemeral(&ephemeral).await.unwrap();
}

#[tokio::test]
async fn a_modal_opens_once_and_is_updated() {
    let (workspace, client) = serve().await;
    let token = token();
    let session = client.open_session(&token);
    let view: SlackView = serde_json::from_value(json!({
        "type": "modal", "callback_id": "request", "private_metadata": "m",
        "title": {"type": "plain_text", "text": "Request"},
        "submit": {"type": "plain_text", "text": "Ask"},
        "blocks": [{"type": "input", "block_id": "reason",
            "label": {"type": "plain_text", "text": "Reason"},
            "element": {"type": "plain_text_input", "action_id": "value"}}],
    }))
    .unwrap();
    let alice = person_named("alice").unwrap();
    let trigger = workspace
        .store()
        .new_trigger(super::clock::now_us(), alice.id, false);
    let open = SlackApiViewsOpenRequest::new(trigger.into(), view.clone());
    let opened = session.views_open(&open).await.unwrap();
    let error = session.views_open(&open).await.unwrap_err();
    assert!(
        format!("{error}").contains("exchanged_trigger_id"),
        "{error}"
    );
    let update =
        SlackApiViewsUpdateRequest::new(view).with_view_id(opened.view.state_params.id.clone());
    let updated = session.views_update(&update).await.unwrap();
    assert_ne!(
        updated.view.state_params.hash,
        opened.view.state_params.hash
    );
}

#[tokio::test]
async fn refusals_reach_the_client_as_what_they_are() {
    let (workspace, client) = serve().await;
    let wrong = SlackApiToken::new("xoxb-2".into());
    let error = client.open_session(&wrong).auth_test().await.unwrap_err();
    assert!(format!("{error}").contains("invalid_auth"), "{error}");
    let token = token();
    let session = client.open_session(&token);
    let nowhere = SlackApiChatPostMessageRequest::new("C0NOWHERE".into(), content("x"));
    let error = session.chat_post_message(&nowhere).await.unwrap_err();
    assert!(format!("{error}").contains("channel_not_found"), "{error}");
    let here = SlackApiChatPostMessageRequest::new(CHANNEL_ALL.into(), content("x"));
    for _ in 0..5 {
        session.chat_post_message(&here).await.unwrap();
    }
    let error = session.chat_post_message(&here).await.unwrap_err();
    let SlackClientError::RateLimitError(limit) = error else {
        panic!("{error}")
    };
    assert_eq!(limit.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(workspace.store().messages().len(), 5);
}

#[tokio::test]
async fn apply_then_fail_breaks_the_answer_and_keeps_the_effect() {
    let (workspace, client) = serve().await;
    let token = token();
    let session = client.open_session(&token);
    let here = SlackApiChatPostMessageRequest::new(CHANNEL_ALL.into(), content("x"));
    for (kind, messages) in [
        ("drop", 0),
        ("apply-then-fail", 1),
        ("500", 1),
        ("error", 1),
    ] {
        let fault = json!({"method": "chat.postMessage", "kind": kind});
        workspace
            .faults()
            .plan(serde_json::from_value(fault).unwrap());
        assert!(session.chat_post_message(&here).await.is_err(), "{kind}");
        assert_eq!(workspace.store().messages().len(), messages, "{kind}");
    }
}

#[tokio::test]
async fn what_is_sent_to_control_is_what_its_models_read() {
    use super::{act, click, outbound, submit};
    use axum::extract::{Form, State};
    use std::collections::HashMap;
    type Seen = Arc<Mutex<Vec<(String, String)>>>;
    let seen: Seen = Arc::default();
    let record = |kind: &'static str| {
        move |State(seen): State<Seen>, Form(form): Form<HashMap<String, String>>| async move {
            let body = form.get("payload").cloned();
            let body = body.unwrap_or_else(|| serde_json::to_string(&form).unwrap());
            seen.lock().unwrap().push((kind.into(), body));
            if kind == "commands" {
                r#"{"text": "done"}"#
            } else {
                ""
            }
        }
    };
    let control = axum::Router::new()
        .route("/slack/commands", axum::routing::post(record("commands")))
        .route(
            "/slack/interactions",
            axum::routing::post(record("interactions")),
        )
        .with_state(seen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, control).await });
    let workspace = Workspace {
        store: Mutex::new(Store::open(None).unwrap()),
        faults: Mutex::new(faults::Faults::new(false)),
        control: outbound::Control::new(&base, "s".into(), Duration::from_secs(3)),
        token: "xoxb-1".into(),
        base_url: "http://127.0.0.1:1".into(),
    };
    let alice = person_named("alice").unwrap();
    act::command(&workspace, "alice", CHANNEL_ALL, "/powerpole")
        .await
        .unwrap();
    let mut message = super::messages::blank_message(CHANNEL_ALL, super::people::BOT_USER);
    message.blocks = serde_json::to_value(blocks()).unwrap();
    let posted = workspace.store().post(1, message);
    let click = click::Click {
        message: Some((CHANNEL_ALL.into(), posted.ts)),
        action_id: "approve".into(),
        ..click::Click::default()
    };
    let clicked = click::click(&workspace, "alice", &click).await.unwrap();
    clicked.ack.unwrap();
    let now = super::clock::now_us();
    let trigger = workspace.store().new_trigger(now, alice.id, false);
    let view = json!({"type": "modal", "title": {"type": "plain_text", "text": "T"},
        "submit": {"type": "plain_text", "text": "Go"}, "blocks": [
        {"type": "input", "block_id": "start", "label": {"type": "plain_text", "text": "Start"},
         "element": {"type": "datetimepicker", "action_id": "value",
                     "initial_date_time": 1_795_428_000}}]});
    let opened = workspace.store().open_view(now, &trigger, &view).unwrap();
    submit::submit(&workspace, "alice", &opened.id, &Default::default())
        .await
        .unwrap();

    let seen = seen.lock().unwrap();
    let command: SlackCommandEvent = serde_json::from_str(&seen[0].1).unwrap();
    assert_eq!(command.user_id.to_string(), alice.id);
    let action: SlackInteractionEvent = serde_json::from_str(&seen[1].1).unwrap();
    let SlackInteractionEvent::BlockActions(action) = action else {
        panic!("not an action")
    };
    assert_eq!(action.actions.unwrap()[0].value.as_deref(), Some("req-1"));
    let submission: SlackInteractionEvent = serde_json::from_str(&seen[2].1).unwrap();
    let SlackInteractionEvent::ViewSubmission(submission) = submission else {
        panic!("not one")
    };
    let values = submission.view.state_params.state.unwrap().values;
    let start = &values[&"start".into()][&"value".into()];
    assert!(start.selected_date_time.is_some());
}
