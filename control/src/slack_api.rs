//! The Slack endpoint: commands and interactions, acknowledged within 3 s.
//!
//! A decision and a submission are in the ledger before they are acknowledged; everything slower comes
//! after. Work that takes too long goes on beside the answer that says so. Rights are asked of Slack
//! (`users.info`) and judged at every click; nothing is cached.

use crate::approval::{self, Doubt};
use crate::ledger::Created;
use crate::ledger::item::Item;
use crate::ledger::transitions as to;
use crate::listener::in_time;
use crate::policy::{Permission, Refused, may_ask, may_decide, may_finish, may_request};
use crate::request::{Form, one_line};
use crate::seal::Decision;
use crate::service::{Service, StepError};
use crate::slack::inbound::{self, Button, Interaction, Press};
use crate::slack::verify;
use crate::slack::view::{self, block, modal};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Json, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use powerpole_protocol::id::RequestId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The largest body that is read, in bytes; a submission brings its whole modal along.
const BODY_LIMIT: usize = 1 << 20;
/// Slack waits 3 s.
const ACK: Duration = Duration::from_millis(2600);
/// No request takes longer, however slowly its body comes: whoever sends it has not proven to be Slack until it is there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const SLOW: &str = "This takes longer than it should. Look whether it happened; if not, do it again: nothing is done twice.";
const NO_CLUSTER: &str = "You are on no cluster's list of operators. Ask the owner of the cluster that you need to add you.";
const TROUBLE: &str =
    "PowerPole could not do that just now; nothing was changed. Try again in a moment.";

/// The Slack endpoint's routes, and `/healthz`.
pub fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/slack/commands", post(commands))
        .route("/slack/interactions", post(interactions))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(|request, next| {
            in_time(REQUEST_TIMEOUT, request, next)
        }))
        .with_state(service)
}

async fn commands(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = authentic(&service, &headers, &body) {
        return refused.into_response();
    }
    let Ok(command) = inbound::slash_command(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if command.team_id != service.config.slack.team {
        return StatusCode::FORBIDDEN.into_response();
    }
    let work = {
        let service = Arc::clone(&service);
        async move { open_request(&service, &command.user_id, &command.trigger_id).await }
    };
    match within(&service, work).await {
        Some(Ok(None)) => StatusCode::OK.into_response(),
        Some(Ok(Some(text))) => ephemeral(&text),
        Some(Err(error)) => {
            tracing::warn!(code = error.code(), error = %error, "the request's modal was not opened");
            ephemeral(TROUBLE)
        }
        None => ephemeral(SLOW),
    }
}

async fn interactions(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refused) = authentic(&service, &headers, &body) {
        return refused.into_response();
    }
    let event = match inbound::interaction(&body, &service.config.slack.team) {
        Ok(event) => event,
        Err(error) => {
            tracing::warn!(error = %error, "refused an interaction");
            return StatusCode::BAD_REQUEST.into_response();
        }
    };
    match event {
        Interaction::Button(button) => {
            let work = {
                let service = Arc::clone(&service);
                async move { click(&service, &button).await }
            };
            if let Some(Err(error)) = within(&service, work).await {
                tracing::warn!(code = error.code(), error = %error, "a click was not carried out");
            }
            StatusCode::OK.into_response()
        }
        Interaction::Request {
            user,
            request,
            form,
        } => {
            let work = {
                let service = Arc::clone(&service);
                async move { submit(&service, &user, &request, &form).await }
            };
            submitted(within(&service, work).await)
        }
        Interaction::Denial {
            user,
            request,
            reason,
        } => {
            let work = {
                let service = Arc::clone(&service);
                async move { deny(&service, &user, &request, &reason).await }
            };
            submitted(within(&service, work).await)
        }
        Interaction::Other => StatusCode::OK.into_response(),
    }
}

/// `None` when the modal was opened, else a text for the person.
async fn open_request(
    service: &Service,
    user: &str,
    trigger: &str,
) -> Result<Option<String>, StepError> {
    let Some(person) = service.chat.person(user).await? else {
        return Ok(Some(
            "PowerPole knows full members of this workspace alone, by an email address that Slack vouches for.".to_owned(),
        ));
    };
    let clusters: Vec<_> = service
        .config
        .clusters
        .iter()
        .filter(|c| may_ask(c, &person.email) == Permission::Granted)
        .collect();
    if clusters.is_empty() {
        return Ok(Some(NO_CLUSTER.to_owned()));
    }
    if person.email.account_name().is_err() {
        return Ok(Some(Refused::NoAccount.text().to_owned()));
    }
    let request = RequestId::from_parts(service.clock.unix_ms(), crate::keys::random::<10>()?);
    let view = modal::request(&request, &clusters, &service.config.times);
    service.chat.open_view(trigger, &view).await?;
    Ok(None)
}

async fn submit(
    service: &Service,
    user: &str,
    request: &RequestId,
    form: &Form,
) -> Result<Value, StepError> {
    let now = service.clock.now();
    let wish = match form.validate(&service.config, now) {
        Ok(wish) => wish,
        Err(errors) => return Ok(json!({"response_action": "errors", "errors": errors})),
    };
    let Some(person) = service.chat.person(user).await? else {
        return Ok(refused(block::CLUSTER, Refused::NotOperator));
    };
    let open = service.ledger.open().await?;
    if let Permission::Refused(why) = may_request(&service.config, &wish, &person, &open) {
        return Ok(refused(block::CLUSTER, why));
    }
    let Ok(account) = person.email.account_name() else {
        return Ok(refused(block::CLUSTER, Refused::NoAccount));
    };
    let principal = service.config.principal_of(&person.email);
    let item = wish.into_item(request.clone(), &person, account, principal, now);
    match service.create(&item).await? {
        Created::New => {
            tracing::info!(request = %request, cluster = %item.cluster, level = %item.level, "a request was stored")
        }
        // The same modal, sent twice: the id was drawn when it was opened.
        Created::Exists => tracing::info!(request = %request, "a request was sent again"),
    }
    service.nudge(request);
    Ok(json!({"response_action": "clear"}))
}

async fn click(service: &Service, button: &Button) -> Result<(), StepError> {
    let Some(item) = service.ledger.read(&button.request).await? else {
        return Ok(());
    };
    let person = service.chat.person(&button.user).await?;
    // The card showed what was asked: a request that says anything else now is not what the approver decides on.
    let altered = approval::check(service, &item) == Err(Doubt::Asked);
    let permission = match (&person, button.press) {
        (Some(_), _) if altered => {
            let _ = approval::distrust(service, &item, Doubt::Asked).await?;
            Permission::Refused(Refused::Altered)
        }
        (None, _) => Permission::Refused(Refused::NotApprover),
        (Some(person), Press::Approve | Press::Deny) => may_decide(&service.config, &item, person),
        (Some(person), Press::Finish) => may_finish(&service.config, &item, person),
    };
    let (Permission::Granted, Some(person)) = (&permission, person) else {
        if let Permission::Refused(why) = permission {
            tracing::warn!(request = %item.request, user = button.user, code = why.code(), press = ?button.press, "refused a click");
            answer(service, button, &item, why.text()).await?;
            service.nudge(&item.request);
        }
        return Ok(());
    };
    match button.press {
        Press::Deny => {
            service
                .chat
                .open_view(&button.trigger, &modal::denial(&item, &service.config))
                .await?
        }
        Press::Approve => {
            let decision = Decision {
                approver: &person.email,
                slack: &person.slack,
                at: service.clock.now(),
            };
            let step = to::approve(decision, &service.keys.seals.approved(&item, decision));
            if service.apply(&item.request, step).await?.is_some() {
                tracing::info!(request = %item.request, approver = %person.email, "approved");
            } else {
                answer(service, button, &item, Refused::Decided.text()).await?;
            }
        }
        Press::Finish => {
            let _ = service
                .apply(&item.request, to::ask_finish(service.clock.now()))
                .await?;
            let text = "The bastion is told to finish with its next heartbeat.";
            answer(service, button, &item, text).await?;
        }
    }
    service.nudge(&item.request);
    Ok(())
}

/// Tells whoever clicked, and nobody else, what came of it, and of which request.
async fn answer(
    service: &Service,
    button: &Button,
    item: &Item,
    text: &str,
) -> Result<(), StepError> {
    let of = view::escape(&view::name(item, &service.config));
    service
        .chat
        .whisper(&button.channel, &button.user, &format!("{of}: {text}"))
        .await?;
    Ok(())
}

async fn deny(
    service: &Service,
    user: &str,
    request: &RequestId,
    reason: &str,
) -> Result<Value, StepError> {
    let reason = one_line(reason);
    let length = reason.chars().count();
    if !(1..=crate::request::REASON_LIMIT).contains(&length) {
        return Ok(
            json!({"response_action": "errors", "errors": {block::REASON: "Say why, in 1 to 256 characters."}}),
        );
    }
    let item = service.ledger.read(request).await?;
    let person = service.chat.person(user).await?;
    let (Some(item), Some(person)) = (item, person) else {
        return Ok(refused(block::REASON, Refused::NotApprover));
    };
    if let Permission::Refused(why) = may_decide(&service.config, &item, &person) {
        return Ok(refused(block::REASON, why));
    }
    let step = to::deny(&person.email, &person.slack, &reason, service.clock.now());
    let won = service.apply(request, step).await?.is_some();
    service.nudge(request);
    if !won {
        return Ok(refused(block::REASON, Refused::Decided));
    }
    tracing::info!(request = %request, approver = %person.email, "denied");
    Ok(json!({"response_action": "clear"}))
}

/// Work beside the request, which goes on when the acknowledgement cannot wait for it.
async fn within<T: Send + 'static>(
    service: &Service,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let running = service.tasks.spawn(work);
    tokio::time::timeout(ACK, running)
        .await
        .ok()
        .and_then(Result::ok)
}

fn authentic(service: &Service, headers: &HeaderMap, body: &[u8]) -> Result<(), StatusCode> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    verify::verify(
        &service.keys.slack_signing,
        text(verify::TIMESTAMP),
        text(verify::SIGNATURE),
        body,
        service.clock.now(),
    )
    .map_err(|error| {
        tracing::warn!(error = %error, "refused a request that is not Slack's");
        StatusCode::UNAUTHORIZED
    })
}

fn submitted(answer: Option<Result<Value, StepError>>) -> Response {
    let trouble = |text: &str| {
        Json(json!({"response_action": "errors", "errors": {block::REASON: text}})).into_response()
    };
    match answer {
        Some(Ok(value)) => Json(value).into_response(),
        Some(Err(error)) => {
            tracing::warn!(code = error.code(), error = %error, "a submission was not carried out");
            trouble(TROUBLE)
        }
        None => trouble(SLOW),
    }
}

fn refused(field: &str, why: Refused) -> Value {
    json!({"response_action": "errors", "errors": {field: why.text()}})
}

fn ephemeral(text: &str) -> Response {
    Json(json!({"response_type": "ephemeral", "text": text})).into_response()
}
