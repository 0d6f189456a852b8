//! What each message of a bastion does. Every message may be repeated and has its effect once.

use crate::approval;
use crate::launcher::failure;
use crate::ledger::LedgerError;
use crate::ledger::item::{Closing, Item};
use crate::ledger::transitions as to;
use crate::request::one_line;
use crate::service::{Service, StepError};
use crate::theft::Theft;
use jiff::Timestamp;
use powerpole_protocol::callback::{
    Alarm, ChainHead, CloseReason, Closed, Command, Failed, Heartbeat, Hello, Ready,
};
use powerpole_protocol::envelope::{Envelope, Message, parse_key};
use powerpole_protocol::id::{Attempt, InstanceId, RequestId};
use powerpole_protocol::ledger::State;
use serde::Deserialize;

/// Alarms that one message is believed.
const MAX_ALARMS: usize = 32;

/// What the bastion is answered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// The deadline, once there is one.
    pub deadline: Option<Timestamp>,
    /// What the bastion must do.
    pub commands: Vec<Command>,
}

/// Why it is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusing {
    /// Not a message of this kind.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// No such request, a wrong token, or a wrong signature. The bearer is not told which.
    #[error("not authorised: {0}")]
    Unauthorised(&'static str),
    /// Another key has redeemed the token.
    #[error("redeemed by another key")]
    Redeemed,
    /// A later try has begun.
    #[error("the try is over")]
    Superseded,
    /// It will be possible in a moment.
    #[error("not yet: {0}")]
    NotYet(&'static str),
    /// A part of ours did not answer.
    #[error(transparent)]
    Step(#[from] StepError),
}

impl From<LedgerError> for Refusing {
    fn from(error: LedgerError) -> Self {
        Self::Step(error.into())
    }
}

/// A message that names its sender.
pub trait FromBastion: Message {
    /// Request, try and instance.
    fn sender(&self) -> (&RequestId, Attempt, &InstanceId);
}

macro_rules! from_bastion {
    ($($kind:ty),*) => {$(
        impl FromBastion for $kind {
            fn sender(&self) -> (&RequestId, Attempt, &InstanceId) {
                (&self.request, self.attempt, &self.instance)
            }
        }
    )*};
}
from_bastion!(Ready, Heartbeat, Closed);

#[derive(Deserialize)]
struct Who {
    request: RequestId,
    attempt: Attempt,
}

/// Opens an envelope with the key that the ledger holds for its sender, and gives the request's item.
///
/// # Errors
/// When there is no such request, no key yet, the signature does not fit, or the sender is not the one
/// bastion of the current try.
pub async fn open<M: FromBastion>(
    service: &Service,
    envelope: &Envelope,
) -> Result<(M, Item), Refusing> {
    // Read before the signature is checked, and used for nothing but to find the key that checks it.
    let who: Who =
        serde_json::from_str(&envelope.body).map_err(|_| Refusing::Malformed("no sender"))?;
    let item = service
        .ledger
        .read(&who.request)
        .await?
        .ok_or(Refusing::Unauthorised("no such request"))?;
    // Whoever lies about this learns only that a later try has begun.
    if who.attempt < item.attempt {
        return Err(Refusing::Superseded);
    }
    let key = item
        .bastion_key
        .as_deref()
        .ok_or(Refusing::Unauthorised("no key was named"))?;
    let key = parse_key(key).map_err(|_| Refusing::Unauthorised("the ledger's key is none"))?;
    let message: M = envelope
        .open(&key)
        .map_err(|_| Refusing::Unauthorised("the signature does not fit"))?;
    let (request, attempt, instance) = message.sender();
    if *request != item.request || Some(instance) != item.instance.as_ref() {
        return Err(Refusing::Unauthorised("another instance"));
    }
    if attempt != item.attempt {
        return Err(Refusing::Superseded);
    }
    Ok((message, item))
}

/// Redeems the handoff's token for the first key that comes, once.
///
/// # Errors
/// [`Refusing::Redeemed`] for any other key or instance that knows both tokens: somebody else has had the
/// handoff. It is written down, alarmed, and the first bastion is told to end.
pub async fn hello(service: &Service, message: &Hello) -> Result<Answered, Refusing> {
    let item = service
        .ledger
        .read(&message.request)
        .await?
        .ok_or(Refusing::Unauthorised("no such request"))?;
    if message.attempt < item.attempt {
        return Err(Refusing::Superseded);
    }
    // Made anew: whoever may write the ledger could write digests of their own. Both are compared, whatever the first says.
    let derivation = &service.keys.derivation;
    let boot = derivation.boot_token(&item.request, item.attempt).digest();
    let handoff = derivation
        .handoff_token(&item.request, item.attempt)
        .digest();
    let boot = message.boot_token.matches(&boot);
    let handoff = message.handoff_token.matches(&handoff);
    if message.attempt != item.attempt || !(boot & handoff) {
        return Err(Refusing::Unauthorised("a token does not fit"));
    }
    let key = parse_key(&message.bastion_key).map_err(|_| Refusing::Malformed("bastion_key"))?;
    let key = powerpole_protocol::envelope::key_text(&key);
    let Some(instance) = &item.instance else {
        return Err(Refusing::NotYet("the instance is not written down yet"));
    };
    if item.bastion_key.as_deref() == Some(&key) && *instance == message.instance {
        return Ok(answered(&item));
    }
    if item.bastion_key.is_none() && *instance == message.instance {
        if item.state.is_final() {
            return Err(Refusing::Superseded);
        }
        let seal = match approval::tried(service, &item) {
            Ok(tried) => service.keys.seals.bastion(&tried, instance, &key),
            Err(error) => return Err(doubted(service, &item, error).await),
        };
        let step = to::hello(&item, instance, &key, &seal, service.clock.now());
        if let Some(item) = service.apply(&item.request, step).await? {
            tracing::info!(request = %item.request, attempt = item.attempt.0, instance = %message.instance, agent = one_line(&message.agent), "a bastion said hello");
            return Ok(answered(&item));
        }
        let again = service
            .ledger
            .read(&message.request)
            .await?
            .ok_or(Refusing::Unauthorised("no such request"))?;
        if again.attempt != message.attempt || again.state.is_final() {
            return Err(Refusing::Superseded);
        }
        if again.bastion_key.as_deref() == Some(&key) {
            return Ok(answered(&again));
        }
    }
    tracing::error!(alarm = "redeemed_twice", request = %item.request, attempt = item.attempt.0, instance = %message.instance, "a handoff's token was presented by somebody else than the bastion that redeemed it");
    let _ = service
        .apply(
            &item.request,
            to::redeemed_twice(item.attempt, service.clock.now()),
        )
        .await?;
    service.nudge(&item.request);
    Err(Refusing::Redeemed)
}

/// What a bastion is told whose request is not what control wrote, or whose try is over: nothing yet. Security is alarmed,
/// and a look at the request clears it away.
pub(super) async fn doubted(service: &Service, item: &Item, error: StepError) -> Refusing {
    service.nudge(&item.request);
    match error {
        StepError::Doubt(doubt) => match approval::distrust(service, item, doubt).await {
            Ok(_) => Refusing::NotYet("the request is doubted"),
            Err(error) => error.into(),
        },
        StepError::Over => Refusing::NotYet("the try's time is over"),
        error => error.into(),
    }
}

/// Takes note that a bastion lives.
///
/// # Errors
/// When the ledger does not answer.
pub async fn heartbeat(
    service: &Service,
    message: &Heartbeat,
    item: Item,
) -> Result<Answered, Refusing> {
    if !is_hash(&message.head.hash) {
        return Err(Refusing::Malformed("head"));
    }
    if message.count > item.heartbeat && contradicts(&message.head, &item) {
        tracing::error!(alarm = "head_went_back", request = %item.request, seq = message.head.seq, "a chain's head went back or was replaced");
        return Err(Refusing::Malformed("head"));
    }
    let moved = service
        .apply(&item.request, to::heartbeat(message, service.clock.now()))
        .await?;
    if moved.is_some() {
        alarm(&item, "bastion", &message.alarms);
    }
    Ok(answered(&moved.unwrap_or(item)))
}

/// Closes the window.
///
/// # Errors
/// When the message cannot be believed, or the ledger does not answer.
pub async fn closed(service: &Service, message: &Closed, item: Item) -> Result<Answered, Refusing> {
    if !is_hash(&message.head.hash) {
        return Err(Refusing::Malformed("head"));
    }
    let mut remarks: Vec<String> = message
        .remarks
        .iter()
        .take(20)
        .map(|r| one_line(&cut(r)))
        .collect();
    if contradicts(&message.head, &item) {
        tracing::error!(alarm = "head_went_back", request = %item.request, seq = message.head.seq, "the final head contradicts one that was heard of");
        remarks.push("the final head contradicts the latest that control heard of".to_owned());
    }
    let closing = Closing {
        at: service.clock.now(),
        reason: reason_text(message.reason).to_owned(),
        sealed: message.sealed,
        account_gone: message.account_gone,
        head: Some((message.head.seq, message.head.hash.clone())),
        sessions: message.sessions.into(),
        refused: message.refused.into(),
        statements: message.statements,
        remarks,
    };
    let step = match item.state {
        State::Ready => to::close(item.attempt, &closing),
        State::Booting => {
            let failure = failure(
                "boot",
                reason_text(message.reason),
                "The bastion ended before it was ready.",
                false,
            );
            to::close_unready(item.attempt, &closing, &failure)
        }
        // Closed already, by this very message or as lost: what is written stays.
        _ => return Ok(Answered::default()),
    };
    let done = service.apply(&item.request, step).await?;
    if done.is_some() {
        alarm(&item, "bastion", &message.alarms);
        if let CloseReason::EvidenceLost | CloseReason::Intrusion = message.reason {
            tracing::error!(alarm = closing.reason, request = %item.request, attempt = item.attempt.0, instance = %message.instance, "a bastion ended its window early");
        }
    }
    tracing::info!(request = %item.request, reason = closing.reason, sealed = closing.sealed, seq = message.head.seq, won = done.is_some(), "a bastion closed");
    service.nudge(&item.request);
    if done.is_some() {
        Ok(Answered::default())
    } else {
        Err(Refusing::NotYet("the request moved meanwhile"))
    }
}

/// Logs what a bastion alarms of, once the message took effect: it is that bastion's own word. `by` is `bastion`, or
/// `bastion_unproven` where a boot token alone vouches for it.
fn alarm(item: &Item, by: &'static str, alarms: &[Alarm]) {
    for alarm in alarms.iter().take(MAX_ALARMS) {
        tracing::error!(alarm = by, code = one_line(&cut(&alarm.code)), count = alarm.count, request = %item.request, attempt = item.attempt.0, "a bastion alarms");
    }
}

/// Whether a head cannot follow the latest that control heard of: it lies before it, or is another one with its number.
fn contradicts(head: &ChainHead, item: &Item) -> bool {
    item.latest
        .as_ref()
        .is_some_and(|(seq, hash)| head.seq < *seq || (head.seq == *seq && head.hash != *hash))
}

/// Takes note that a bastion gave up before it was ready.
///
/// # Errors
/// When the token does not fit, or the ledger does not answer.
pub async fn failed(service: &Service, message: &Failed) -> Result<Answered, Refusing> {
    let item = service
        .ledger
        .read(&message.request)
        .await?
        .ok_or(Refusing::Unauthorised("no such request"))?;
    if message.attempt < item.attempt {
        return Err(Refusing::Superseded);
    }
    let derivation = &service.keys.derivation;
    let boot = derivation.boot_token(&item.request, item.attempt).digest();
    let fits = message.boot_token.matches(&boot);
    if message.attempt != item.attempt || !fits {
        return Err(Refusing::Unauthorised("the token does not fit"));
    }
    match &item.instance {
        None => return Err(Refusing::NotYet("the instance is not written down yet")),
        Some(instance) if *instance != message.instance => {
            return Err(Refusing::Unauthorised("another instance"));
        }
        Some(_) => {}
    }
    let (step, code, text) = (
        cut(&message.step),
        cut(&message.code),
        cut(&message.message),
    );
    let failure = failure(&one_line(&step), &one_line(&code), &one_line(&text), false);
    if let Some(theft) = Theft::of(&failure.code) {
        tracing::error!(alarm = theft.alarm(), request = %item.request, attempt = item.attempt.0, instance = %message.instance, "somebody else may have had what was made for a bastion");
    }
    let marked = service
        .apply(&item.request, to::mark_failed(item.attempt, &failure))
        .await?;
    if marked.is_some() {
        alarm(&item, "bastion_unproven", &message.alarms);
    }
    tracing::warn!(request = %item.request, attempt = item.attempt.0, step = failure.step, code = failure.code, won = marked.is_some(), "a bastion gave up");
    service.nudge(&item.request);
    Ok(Answered::default())
}

/// What a bastion of this request is told, whatever it asked.
#[must_use]
pub fn answered(item: &Item) -> Answered {
    let finish = |reason| vec![Command::Finish { reason }];
    let commands = if item.redeemed_twice_at.is_some() {
        finish(CloseReason::Redeemed)
    } else if item.state.is_final() || item.failure.is_some() {
        finish(CloseReason::Shutdown)
    } else if item.finish_asked_at.is_some() {
        finish(CloseReason::Finished)
    } else {
        Vec::new()
    };
    Answered {
        deadline: item.deadline,
        commands,
    }
}

/// A close reason as the ledger spells it.
#[must_use]
pub fn reason_text(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Deadline => "deadline",
        CloseReason::Finished => "finished",
        CloseReason::EvidenceLost => "evidence_lost",
        CloseReason::Redeemed => "redeemed",
        CloseReason::Intrusion => "intrusion",
        CloseReason::Failed => "failed",
        CloseReason::Shutdown => "shutdown",
    }
}

/// Whether a text is a SHA-256 in lower-case hexadecimal.
#[must_use]
pub fn is_hash(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn cut(text: &str) -> String {
    text.chars().take(500).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::item;

    #[test]
    fn reasons_are_spelt_as_the_protocol_spells_them() {
        for reason in [
            CloseReason::Deadline,
            CloseReason::Finished,
            CloseReason::EvidenceLost,
            CloseReason::Redeemed,
            CloseReason::Intrusion,
            CloseReason::Failed,
            CloseReason::Shutdown,
        ] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason_text(reason));
        }
    }

    #[test]
    fn a_bastion_is_told_to_end_for_the_gravest_reason() {
        let mut item = item("alice@example.com", 1);
        item.state = State::Ready;
        assert_eq!(answered(&item).commands, vec![]);
        let told = |item: &Item| match answered(item).commands.as_slice() {
            [Command::Finish { reason }] => *reason,
            _ => panic!("not told"),
        };
        item.finish_asked_at = Some(item.requested_at);
        assert_eq!(told(&item), CloseReason::Finished);
        item.state = State::Closed;
        assert_eq!(told(&item), CloseReason::Shutdown);
        item.redeemed_twice_at = Some(item.requested_at);
        assert_eq!(told(&item), CloseReason::Redeemed);
    }

    #[test]
    fn a_hash_is_64_lower_case_digits() {
        assert!(is_hash(&"0f".repeat(32)));
        for bad in ["", &"0F".repeat(32), &"0f".repeat(31), &"0g".repeat(32)] {
            assert!(!is_hash(bad));
        }
    }
}
