//! Does what [`super::decide`] says, one effect at a time. Each may be repeated, by this replica or another.

use super::{Action, Rules, decide};
use crate::approval::{self, Doubt};
use crate::aws::cloud::InstanceState;
use crate::clock::seconds_between;
use crate::launcher::{self, Progress, failure};
use crate::ledger::item::{Closing, Item, Post, PostKind};
use crate::ledger::transitions as to;
use crate::service::{Service, StepError};
use crate::slack::view::message::{receipt, render, wanted, warning};
use futures_util::{StreamExt as _, stream};
use powerpole_protocol::id::{Attempt, RequestId};
use powerpole_protocol::ledger::State;

/// A pass over one request ends after so many moves; the next tick goes on.
const ROUNDS: usize = 12;
/// So many requests are looked at at once.
const AT_ONCE: usize = 8;
/// EC2 may not know an instance yet for this many seconds after its launch.
const NOT_YET_KNOWN_S: u64 = 60;

/// Looks at every open request once.
pub async fn tick(service: &Service) {
    match service.ledger.open().await {
        Ok(open) => {
            // Slack or AWS that answers one request slowly must not make the others late.
            stream::iter(open)
                .for_each_concurrent(AT_ONCE, |item| async move {
                    pursue(service, &item.request).await;
                })
                .await;
        }
        Err(error) => {
            tracing::error!(code = error.code(), error = %error, "the ledger's open requests cannot be read")
        }
    }
}

/// Brings one request as far as it goes now.
pub async fn pursue(service: &Service, request: &RequestId) {
    for _ in 0..ROUNDS {
        let item = match service.ledger.read(request).await {
            Ok(Some(item)) => item,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(request = %request, code = error.code(), error = %error, "a request cannot be read");
                return;
            }
        };
        if !round(service, &item).await {
            return;
        }
    }
}

/// Whether the request has moved and should be looked at again.
async fn round(service: &Service, item: &Item) -> bool {
    if let Some(moved) = doubted(service, item).await {
        return moved;
    }
    let rules = Rules {
        times: &service.config.times,
        notice: service.config.slack.requests_channel.is_some(),
    };
    for action in decide(item, service.clock.now(), rules) {
        match execute(service, item, &action).await {
            Ok(Progress::Moved) => return true,
            Ok(Progress::Stayed) => {}
            // One effect that fails must not hold up the others.
            Err(error) => {
                tracing::warn!(request = %item.request, action = ?action, code = error.code(), error = %error, "a step failed and will be repeated")
            }
        }
    }
    false
}

/// Whether a request that is not what control wrote has moved; none when it is. One that runs is only alarmed about: its
/// bastion has its grant and asks the ledger for nothing.
async fn doubted(service: &Service, item: &Item) -> Option<bool> {
    if !item.open {
        return None;
    }
    if item.state == State::Ready && !service.keys.seals.holds_approved(item) {
        approval::alarm(item, Doubt::Approval);
    }
    // One that has failed already is on its way out.
    let doubt = approval::check(service, item).err()?;
    if item.failure.is_some() {
        return None;
    }
    match approval::distrust(service, item, doubt).await {
        Ok(progress) => Some(progress == Progress::Moved),
        Err(error) => {
            tracing::warn!(request = %item.request, code = error.code(), error = %error, "a request that is doubted was not failed and will be");
            Some(false)
        }
    }
}

async fn execute(service: &Service, item: &Item, action: &Action) -> Result<Progress, StepError> {
    let id = &item.request;
    let now = service.clock.now();
    match action {
        Action::Lapse => moved(service.apply(id, to::lapse()).await?),
        Action::Begin => launcher::begin_first(service, item).await,
        Action::Proceed => launcher::proceed(service, item).await,
        Action::Fail(failure) => {
            tracing::error!(request = %id, attempt = item.attempt.0, step = failure.step, code = failure.code, "a try failed");
            moved(
                service
                    .apply(id, to::mark_failed(item.attempt, failure))
                    .await?,
            )
        }
        Action::Abandon => abandon(service, item).await,
        Action::Look => look(service, item).await,
        Action::EndLost(why) => end_lost(service, item, why).await,
        Action::Warn(before_s) => warn(service, item, *before_s).await,
        Action::Post(kind) => post(service, item, *kind).await,
        Action::Update(kind) => update(service, item, *kind).await,
        Action::Receipt => post_receipt(service, item).await,
        Action::EnsureGone { now } => ensure_gone(service, item, *now).await,
        Action::DeleteHandoff => {
            if let Some(name) = &item.handoff {
                service.cloud.delete_handoff(name).await?;
            }
            moved(
                service
                    .apply(id, to::handoff_gone(item.attempt, now))
                    .await?,
            )
        }
        Action::Settle => {
            let _ = service.apply(id, to::settle(item.state)).await?;
            Ok(Progress::Stayed)
        }
    }
}

/// Clears a failed try away before the next begins, so that no request ever has two bastions.
async fn abandon(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let instance = match &item.instance {
        Some(instance) => Some(instance.clone()),
        // It may have been launched without being written down.
        None => {
            let derivation = &service.keys.derivation;
            let token = derivation.client_token(&item.request, item.attempt);
            service.cloud.find(&token).await?
        }
    };
    if let Some(instance) = &instance {
        service.cloud.terminate(instance).await?;
        if item.instance.is_none() {
            let _ = service
                .apply(&item.request, to::record_instance(item, instance))
                .await?;
        }
    }
    if let Some(name) = &item.handoff {
        service.cloud.delete_handoff(name).await?;
    }
    let again = item.failure.as_ref().is_some_and(|f| f.retry)
        && item.attempt.0 < service.config.times.max_attempts;
    if again {
        match approval::approved(service, item) {
            Ok(item) => {
                return launcher::begin(service, item, Attempt(item.attempt.0 + 1)).await;
            }
            Err(doubt) => approval::alarm(item, doubt),
        }
    }
    moved(
        service
            .apply(&item.request, to::give_up(item.attempt))
            .await?,
    )
}

async fn look(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let Some(instance) = &item.instance else {
        return Ok(Progress::Stayed);
    };
    match service.cloud.state(instance).await? {
        InstanceState::Alive | InstanceState::Ending => Ok(Progress::Stayed),
        InstanceState::Unknown if young(service, item) => Ok(Progress::Stayed),
        InstanceState::Gone | InstanceState::Unknown => match item.state {
            State::Ready => end_lost(service, item, "the instance vanished").await,
            _ => {
                let failure = failure(
                    "boot",
                    "instance_gone",
                    "The instance ended before it was ready, without a word.",
                    true,
                );
                tracing::error!(request = %item.request, attempt = item.attempt.0, instance = %instance, "an instance ended before it was ready");
                moved(
                    service
                        .apply(&item.request, to::mark_failed(item.attempt, &failure))
                        .await?,
                )
            }
        },
    }
}

/// Ends the instance first: closing the ledger of a bastion that still runs would be a lie.
async fn end_lost(service: &Service, item: &Item, why: &str) -> Result<Progress, StepError> {
    tracing::error!(alarm = "bastion_lost", request = %item.request, why, "a bastion is lost");
    if let Some(instance) = &item.instance {
        service.cloud.terminate(instance).await?;
    }
    let closing = Closing {
        at: service.clock.now(),
        reason: "lost".to_owned(),
        sealed: false,
        account_gone: false,
        head: item.latest.clone(),
        sessions: 0,
        refused: 0,
        statements: 0,
        remarks: vec![
            format!("bastion lost: {why}"),
            "the head is the latest that control heard of; numbers of logins and statements are in the evidence".to_owned(),
        ],
    };
    moved(
        service
            .apply(&item.request, to::close(item.attempt, &closing))
            .await?,
    )
}

async fn ensure_gone(service: &Service, item: &Item, end: bool) -> Result<Progress, StepError> {
    let Some(instance) = &item.instance else {
        return Ok(Progress::Stayed);
    };
    match service.cloud.state(instance).await? {
        InstanceState::Gone | InstanceState::Unknown => moved(
            service
                .apply(
                    &item.request,
                    to::terminated(item.attempt, service.clock.now()),
                )
                .await?,
        ),
        InstanceState::Alive if end => {
            service.cloud.terminate(instance).await?;
            Ok(Progress::Stayed)
        }
        InstanceState::Alive | InstanceState::Ending => Ok(Progress::Stayed),
    }
}

fn young(service: &Service, item: &Item) -> bool {
    let now = service.clock.now();
    item.launched_at
        .is_some_and(|at| seconds_between(at, now) < NOT_YET_KNOWN_S)
}

async fn warn(service: &Service, item: &Item, before_s: u64) -> Result<Progress, StepError> {
    let now = service.clock.now();
    let Some(dm) = item.post(PostKind::Dm) else {
        return Ok(Progress::Stayed);
    };
    let Some(claimed) = service
        .apply(&item.request, to::claim_warning(before_s, now))
        .await?
    else {
        return Ok(Progress::Stayed);
    };
    let left = claimed
        .deadline
        .map_or(before_s, |deadline| seconds_between(now, deadline));
    if let Err(error) = service
        .chat
        .post(&dm.channel, None, &warning(item, &service.config, left))
        .await
    {
        let _ = service.apply(&item.request, to::release_warning()).await;
        return Err(error.into());
    }
    moved(service.apply(&item.request, to::warned(before_s)).await?)
}

/// Posts a message for the first time; see `update` for the claim. A crash between Slack's answer and the
/// ledger leaves a message that nobody updates, and a second one: neither holds a secret.
pub async fn post(service: &Service, item: &Item, kind: PostKind) -> Result<Progress, StepError> {
    let claim = to::claim_post(kind, item.state, service.clock.now());
    let Some(item) = service.apply(&item.request, claim).await? else {
        return Ok(Progress::Stayed);
    };
    if item.post(kind).is_some() {
        let _ = service.apply(&item.request, to::release_post(kind)).await?;
        return Ok(Progress::Moved);
    }
    // What is shown is this copy of the item.
    if let Err(doubt) = approval::check(service, &item)
        && item.failure.is_none()
    {
        let _ = service.apply(&item.request, to::release_post(kind)).await?;
        return approval::distrust(service, &item, doubt).await;
    }
    let sent = async {
        let channel = match kind {
            PostKind::Card => service.config.slack.approvals_channel.clone(),
            PostKind::Notice => service
                .config
                .slack
                .requests_channel
                .clone()
                .unwrap_or_default(),
            PostKind::Dm => service.chat.direct_channel(&item.operator_slack).await?,
        };
        let ts = service
            .chat
            .post(&channel, None, &render(kind, &item, &service.config))
            .await?;
        Ok::<_, StepError>(Post {
            channel,
            ts,
            shown: wanted(kind, &item).to_owned(),
        })
    };
    match sent.await {
        Ok(post) => moved(
            service
                .apply(&item.request, to::posted(kind, &post))
                .await?,
        ),
        Err(error) => {
            let _ = service.apply(&item.request, to::release_post(kind)).await;
            Err(error)
        }
    }
}

/// Brings a message up to date, alone: the claim keeps an older text from covering a newer one.
async fn update(service: &Service, item: &Item, kind: PostKind) -> Result<Progress, StepError> {
    let claim = to::claim_post(kind, item.state, service.clock.now());
    let Some(item) = service.apply(&item.request, claim).await? else {
        return Ok(Progress::Stayed);
    };
    let Some(post) = item.post(kind) else {
        return Ok(Progress::Stayed);
    };
    if let Err(doubt) = approval::check(service, &item)
        && item.failure.is_none()
    {
        let _ = service.apply(&item.request, to::release_post(kind)).await?;
        return approval::distrust(service, &item, doubt).await;
    }
    match service
        .chat
        .update(
            &post.channel,
            &post.ts,
            &render(kind, &item, &service.config),
            None,
        )
        .await
    {
        Ok(()) => {
            let post = Post {
                shown: wanted(kind, &item).to_owned(),
                ..post.clone()
            };
            moved(
                service
                    .apply(&item.request, to::posted(kind, &post))
                    .await?,
            )
        }
        Err(error) => {
            let step = if error.message_is_gone() {
                to::post_vanished(kind)
            } else {
                to::release_post(kind)
            };
            let _ = service.apply(&item.request, step).await;
            Err(error.into())
        }
    }
}

async fn post_receipt(service: &Service, item: &Item) -> Result<Progress, StepError> {
    let Some(card) = item.post(PostKind::Card) else {
        return Ok(Progress::Stayed);
    };
    let claim = to::claim_receipt(service.clock.now());
    let Some(item) = service.apply(&item.request, claim).await? else {
        return Ok(Progress::Stayed);
    };
    let message = receipt(&item, &service.config);
    let posted = service
        .chat
        .post(&card.channel, Some(&card.ts), &message)
        .await;
    let ts = match posted {
        Ok(ts) => ts,
        Err(error) => {
            let _ = service.apply(&item.request, to::release_receipt()).await;
            return Err(error.into());
        }
    };
    moved(
        service
            .apply(&item.request, to::receipt_posted(&ts))
            .await?,
    )
}

fn moved(item: Option<Item>) -> Result<Progress, StepError> {
    Ok(if item.is_some() {
        Progress::Moved
    } else {
        Progress::Stayed
    })
}
