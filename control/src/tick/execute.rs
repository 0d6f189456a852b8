//! Does what [`super::decide`] says, one effect at a time. Each may be repeated, by this replica or another.

use super::ending::{abandon, delete_handoffs, end_lost, ensure_gone, look};
use super::{Action, Rules, decide};
use crate::approval::{self, Doubt};
use crate::clock::seconds_between;
use crate::launcher::{self, Progress, moved};
use crate::ledger::item::{Item, Post, PostKind};
use crate::ledger::transitions as to;
use crate::service::{Service, StepError};
use crate::slack::view::message::{begun, receipt, render, wanted, warning};
use futures_util::{StreamExt as _, stream};
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::State;

/// A pass over one request ends after so many moves; the next tick goes on.
const ROUNDS: usize = 12;
/// So many requests are looked at at once.
const AT_ONCE: usize = 8;

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
    if item.state == State::Ready
        && let Err(doubt) = approval::check_running(service, item)
        && service.furthest.first(&item.request, doubt.code())
    {
        approval::alarm(item, doubt);
    }
    let doubt = match approval::check(service, item) {
        Err(doubt) => doubt,
        Ok(()) => match stood(service, item).await {
            Stood::Here => return None,
            Stood::Overtaken => return Some(true),
            Stood::Unknown => return Some(false),
            Stood::Further if item.state == State::Ready || item.state.is_final() => {
                approval::alarm(item, Doubt::SetBack);
                return None;
            }
            Stood::Further => Doubt::SetBack,
        },
    };
    // One that has failed already is on its way out, unless it would be tried again.
    let retry = item.failure.as_ref().map(|failure| failure.retry);
    if retry == Some(false) || retry.is_some() && doubt != Doubt::SetBack {
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

/// How a request stands to what this replica has seen of it.
enum Stood {
    /// It never stood further.
    Here,
    /// It stands further by now: this copy is an old one.
    Overtaken,
    /// It stood further and was put back.
    Further,
    /// The ledger did not answer.
    Unknown,
}

async fn stood(service: &Service, item: &Item) -> Stood {
    if noted(service, item) {
        return Stood::Here;
    }
    // A read that begins now sees all that was seen before.
    match service.ledger.read(&item.request).await {
        Ok(Some(again)) if noted(service, &again) => Stood::Overtaken,
        Ok(_) => Stood::Further,
        Err(_) => Stood::Unknown,
    }
}

/// Either seal is over the request's id; nothing is built under an approval whose seal does not hold.
fn noted(service: &Service, item: &Item) -> bool {
    let seals = &service.keys.seals;
    let sealed = seals.holds_asked(item) || seals.holds_approved(item);
    service.furthest.note(item, sealed)
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
            delete_handoffs(service, item).await?;
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
    let words = if before_s < item.duration_s {
        warning(item, &service.config, left)
    } else {
        begun(item, &service.config, left)
    };
    if let Err(error) = service.chat.post(&dm.channel, None, &words).await {
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
