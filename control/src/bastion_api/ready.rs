//! `ready`: the password goes to the operator, then the clock starts.
//!
//! The DM exists already and is updated, never posted, with the password in it, so that a repetition shows
//! the same message. Only then is the ledger moved to `READY`. A crash between the two leaves a DM that
//! shows a password while the ledger says `BOOTING`: the agent repeats `ready` and both meet again, or the
//! try fails and the DM is overwritten because the ledger never said that it shows the password.
//!
//! The DM is written under the ledger's claim: neither tick nor another `ready` can write it meanwhile.

use super::answer::{Answered, Refusing, answered, doubted, is_hash};
use crate::approval::{self, Doubt};
use crate::clock::after;
use crate::ledger::Move;
use crate::ledger::item::{Item, PostKind};
use crate::ledger::transitions as to;
use crate::service::{Service, StepError};
use crate::slack::view::message::{Access, access};
use crate::tick::execute;
use powerpole_protocol::callback::Ready;
use powerpole_protocol::ledger::State;

/// What the ledger says that the DM shows while nobody may rely on it.
const STALE: &str = "STALE";
/// The longest mysql line, in characters.
const LINE_LIMIT: usize = 500;

/// Delivers the password and starts the window.
///
/// # Errors
/// [`Refusing::NotYet`] until Slack has taken the DM: the agent keeps the password and repeats.
pub async fn ready(service: &Service, message: &Ready, item: Item) -> Result<Answered, Refusing> {
    check(message, &item, &service.config.bastion.role_id)?;
    match item.state {
        State::Booting if item.redeemed_twice_at.is_none() && item.failure.is_none() => {}
        State::Booting | State::Ready | State::Closed | State::Failed => {
            return Ok(answered(&item));
        }
        State::Requested | State::Denied | State::Lapsed | State::Approved | State::Launching => {
            return Err(Refusing::NotYet("the bastion has not said hello"));
        }
    }
    if item.post(PostKind::Dm).is_none() {
        let _ = execute::post(service, &item, PostKind::Dm).await?;
    }
    // From here on the ledger says that the DM shows nothing that may stay: whoever comes after a crash
    // overwrites it.
    let claim = to::claim_post(PostKind::Dm, State::Booting, service.clock.now())
        .set(PostKind::Dm.shown(), STALE);
    let opened = item;
    let Some(item) = service.apply(&opened.request, claim).await? else {
        return Err(Refusing::NotYet("the DM is being written"));
    };
    let Some(dm) = item.post(PostKind::Dm) else {
        let _ = service
            .apply(&item.request, to::release_post(PostKind::Dm))
            .await?;
        return Err(Refusing::NotYet("the DM was not taken"));
    };
    if let Err(error) = may_open(service, &opened, &item, &dm.channel).await {
        let release = to::release_post(PostKind::Dm);
        let _ = service.apply(&item.request, release).await;
        return Err(doubted(service, &item, error).await);
    }
    let password = message
        .password
        .open(&service.keys.opening, &item.request, item.attempt)
        .map_err(|_| Refusing::Malformed("the password is not sealed to us"))?;
    let now = service.clock.now();
    let shows = Access {
        instance: message.instance.as_str(),
        mysql_line: &message.mysql_line,
        deadline: after(now, item.duration_s),
    };
    let shown = access(&item, &service.config, shows);
    if let Err(error) = service
        .chat
        .update(&dm.channel, &dm.ts, &shown, Some(&password))
        .await
    {
        tracing::warn!(request = %item.request, code = error.code(), error = %error, "the DM with the password was not taken");
        let step = if error.message_is_gone() {
            to::post_vanished(PostKind::Dm)
        } else {
            to::release_post(PostKind::Dm)
        };
        let _ = service.apply(&item.request, step).await;
        return Err(Refusing::NotYet("Slack has not taken the DM"));
    }
    if let Some(item) = service
        .apply(
            &item.request,
            to::ready(&item, message, State::Ready.as_str(), now),
        )
        .await?
    {
        tracing::info!(request = %item.request, attempt = item.attempt.0, instance = %message.instance, deadline = item.deadline.map(|d| d.to_string()), "a window began");
        service.nudge(&item.request);
        return Ok(answered(&item));
    }
    // The request moved on while Slack was asked: the DM must not go on showing a password.
    let stale = Move::default()
        .set(PostKind::Dm.shown(), STALE)
        .remove(PostKind::Dm.claim());
    let after = service.apply(&item.request, stale).await?;
    service.nudge(&item.request);
    after
        .map(|item| answered(&item))
        .ok_or(Refusing::NotYet("the request moved meanwhile"))
}

/// Whether the password may be sent: the try is one of an approved request and its time is not over, the bastion is the one
/// that redeemed the handoff and whose key, as the copy before said it, opened the message, and the message in Slack is the
/// operator's own, as Slack knows.
async fn may_open(
    service: &Service,
    opened: &Item,
    item: &Item,
    channel: &str,
) -> Result<(), StepError> {
    let tried = approval::tried(service, item)?;
    if item.attempt != opened.attempt {
        return Err(StepError::Over);
    }
    let same = item.bastion_key == opened.bastion_key && item.instance == opened.instance;
    if !same || !service.keys.seals.holds_bastion(&tried) {
        return Err(StepError::Doubt(Doubt::Bastion));
    }
    if service.chat.direct_channel(&tried.operator_slack).await? == channel {
        Ok(())
    } else {
        Err(StepError::Doubt(Doubt::Message))
    }
}

/// What goes into a message and the ledger must be what it says it is, even from a bastion gone bad.
fn check(message: &Ready, item: &Item, role_id: &str) -> Result<(), Refusing> {
    let line = &message.mysql_line;
    let printable = line.chars().all(|c| (' '..='~').contains(&c) && c != '`');
    if line.is_empty() || line.len() > LINE_LIMIT || !printable {
        return Err(Refusing::Malformed("mysql_line"));
    }
    if !message
        .account
        .starts_with(&format!("'{}'@'", item.account))
    {
        return Err(Refusing::Malformed("account"));
    }
    if !is_hash(&message.genesis_head) {
        return Err(Refusing::Malformed("genesis_head"));
    }
    // The one prefix that the bucket's policy lets this instance write: auditors look for anchors nowhere else.
    let own = format!("{role_id}:{}/{}/", message.instance, item.request);
    if message.anchor_prefix != own {
        return Err(Refusing::Malformed("anchor_prefix"));
    }
    if message.steps.len() > 50 || message.steps.iter().any(|s| s.step.len() > 40) {
        return Err(Refusing::Malformed("steps"));
    }
    Ok(())
}
