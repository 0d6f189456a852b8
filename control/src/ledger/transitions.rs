//! Every move of the ledger, as a pure function that gives its condition and what it writes.
//!
//! Each comment says what the condition keeps out. A move that is repeated after it happened loses; the
//! caller then reads the item and finds that its wish is fulfilled, or that somebody else was first.

use super::item::{Closing, Failure, Item, Post, PostKind, own};
use super::{Condition, Move, Value};
use crate::clock::after;
use crate::seal::{Begun, Decision};
use jiff::Timestamp;
use powerpole_protocol::callback::{Heartbeat, Ready};
use powerpole_protocol::id::{Attempt, Email, InstanceId};
use powerpole_protocol::ledger::{State, attribute as a};

/// How long a claim keeps other replicas out; longer than any single call may take.
pub const CLAIM_S: u64 = 45;

fn state_is(state: State) -> Condition {
    Condition::Is(a::STATE, state.into())
}

fn state_in(states: &[State]) -> Condition {
    Condition::IsOneOf(a::STATE, states.iter().map(|&s| s.into()).collect())
}

fn attempt_is(attempt: Attempt) -> Condition {
    Condition::Is(a::ATTEMPT, attempt.0.into())
}

/// Approves. One decision wins: both need `REQUESTED` and both leave it. The seal is over what the approver approved,
/// whatever the item says by now.
pub fn approve(decision: Decision<'_>, seal: &str) -> Move {
    Move::default()
        .when(state_is(State::Requested))
        .set(a::STATE, State::Approved)
        .set(a::APPROVER, decision.approver.as_str())
        .set(a::APPROVER_SLACK, decision.slack)
        .set(a::APPROVED_AT, decision.at)
        .set(own::APPROVAL_SEAL, seal)
}

/// Denies; see [`approve`].
pub fn deny(approver: &Email, slack: &str, why: &str, now: Timestamp) -> Move {
    Move::default()
        .when(state_is(State::Requested))
        .set(a::STATE, State::Denied)
        .set(a::APPROVER, approver.as_str())
        .set(a::APPROVER_SLACK, slack)
        .set(a::DENIED_AT, now)
        .set(a::DENIAL, why)
}

/// Lapses what nobody decided; see [`approve`].
pub fn lapse() -> Move {
    Move::default()
        .when(state_is(State::Requested))
        .set(a::STATE, State::Lapsed)
}

/// What is written down before anything of a try exists.
#[derive(Debug)]
pub struct NewAttempt<'a> {
    /// What its seal covers.
    pub begun: Begun<'a>,
    /// That seal.
    pub seal: String,
    /// Digest of the boot token, for people: control derives the token and never reads this back.
    pub boot_token: String,
    /// Digest of the handoff's token, as that.
    pub handoff_token: String,
    /// CloudWatch log group.
    pub log_group: String,
    /// Bucket of the anchors.
    pub anchor_bucket: String,
}

/// Begins a try: from `APPROVED`, or from a try that failed. Everything of the try before it is removed, so
/// that its tokens and its instance mean nothing any more. Two replicas cannot both begin one: the attempt
/// before must still be the current one. All that the seal covers is written with it or not at all, so that no crash
/// leaves a try whose seal does not hold.
pub fn begin_attempt(item: &Item, new: &NewAttempt<'_>) -> Move {
    let first = item.attempt.0 == 0;
    let from = if first {
        Move::default()
            .when(state_is(State::Approved))
            .when(Condition::Absent(a::ATTEMPT))
    } else {
        Move::default()
            .when(state_in(&[State::Launching, State::Booting]))
            .when(attempt_is(item.attempt))
            .when(Condition::Is(own::FAILED_ATTEMPT, item.attempt.0.into()))
    };
    from.set(a::STATE, State::Launching)
        .set(a::ATTEMPT, new.begun.attempt.0)
        .set(a::HANDOFF, new.begun.handoff)
        .set(a::IMAGE, new.begun.image)
        .set(own::SUBNETS, new.begun.subnets.to_vec())
        .set(a::LAUNCHED_AT, new.begun.at)
        .set(own::LAUNCH_AHEAD_S, new.begun.ahead_s)
        .set(own::TRY_SEAL, new.seal.as_str())
        .set(a::BOOT_TOKEN, new.boot_token.as_str())
        .set(a::HANDOFF_TOKEN, new.handoff_token.as_str())
        .set(a::LOG_GROUP, new.log_group.as_str())
        .set(a::ANCHOR_BUCKET, new.anchor_bucket.as_str())
        .remove(own::BASTION_SEAL)
        .remove(a::INSTANCE)
        .remove(a::LOG_STREAM)
        .remove(own::HANDOFF_AT)
        .remove(a::BASTION_KEY)
        .remove(a::HELLO_AT)
        .remove(a::HEARTBEAT)
        .remove(a::HEARTBEAT_AT)
        .remove(a::LATEST_SEQ)
        .remove(a::LATEST_HEAD)
        .remove(own::LAUNCH_CLAIM)
}

/// Claims the launch for one replica. Expires by itself, so a killed replica delays and never blocks.
pub fn claim_launch(attempt: Attempt, now: Timestamp) -> Move {
    Move::default()
        .when(state_is(State::Launching))
        .when(attempt_is(attempt))
        .when(Condition::AbsentOrBelow(own::LAUNCH_CLAIM, now.into()))
        .set(own::LAUNCH_CLAIM, after(now, CLAIM_S))
}

/// Gives the launch back.
pub fn release_launch(attempt: Attempt) -> Move {
    Move::default()
        .when(attempt_is(attempt))
        .remove(own::LAUNCH_CLAIM)
}

/// Writes the instance down, once a try.
pub fn record_instance(item: &Item, instance: &InstanceId) -> Move {
    Move::default()
        .when(state_is(State::Launching))
        .when(attempt_is(item.attempt))
        .when(Condition::Absent(a::INSTANCE))
        .set(a::INSTANCE, instance.as_str())
        .set(a::LOG_STREAM, format!("{}/{instance}", item.request))
}

/// The handoff is there.
pub fn handoff_written(attempt: Attempt, now: Timestamp) -> Move {
    Move::default()
        .when(attempt_is(attempt))
        .set(own::HANDOFF_AT, now)
        .remove(own::LAUNCH_CLAIM)
}

/// The first `hello` of a try names the bastion's key; a second key loses. The seal is over this try, instance and key.
pub fn hello(item: &Item, instance: &InstanceId, key: &str, seal: &str, now: Timestamp) -> Move {
    Move::default()
        .when(state_is(State::Launching))
        .when(attempt_is(item.attempt))
        .when(Condition::Is(a::INSTANCE, instance.as_str().into()))
        .when(Condition::Absent(a::BASTION_KEY))
        .set(a::STATE, State::Booting)
        .set(a::BASTION_KEY, key)
        .set(own::BASTION_SEAL, seal)
        .set(a::HELLO_AT, now)
}

/// The handoff's token came a second time.
pub fn redeemed_twice(attempt: Attempt, now: Timestamp) -> Move {
    Move::default()
        .when(attempt_is(attempt))
        .when(Condition::Absent(a::REDEEMED_TWICE_AT))
        .set(a::REDEEMED_TWICE_AT, now)
}

/// The DM with the password is taken: the clock starts. Needs that the token was not redeemed twice.
pub fn ready(item: &Item, message: &Ready, shown: &str, now: Timestamp) -> Move {
    Move::default()
        .when(state_is(State::Booting))
        .when(attempt_is(item.attempt))
        .when(Condition::Absent(a::REDEEMED_TWICE_AT))
        .set(a::STATE, State::Ready)
        .set(a::READY_AT, now)
        .set(a::DEADLINE, after(now, item.duration_s))
        .set(a::GENESIS_HEAD, message.genesis_head.as_str())
        .set(a::ANCHOR_PREFIX, message.anchor_prefix.as_str())
        .set(
            a::STEPS,
            serde_json::to_string(&message.steps).unwrap_or_default(),
        )
        .set(a::HEARTBEAT_AT, now)
        .set(PostKind::Dm.shown(), shown)
        .remove(PostKind::Dm.claim())
}

/// A heartbeat; an old one loses.
pub fn heartbeat(message: &Heartbeat, now: Timestamp) -> Move {
    Move::default()
        .when(state_in(&[State::Booting, State::Ready]))
        .when(attempt_is(message.attempt))
        .when(Condition::AbsentOrBelow(a::HEARTBEAT, message.count.into()))
        .set(a::HEARTBEAT, message.count)
        .set(a::HEARTBEAT_AT, now)
        .set(a::LATEST_SEQ, message.head.seq)
        .set(a::LATEST_HEAD, message.head.hash.as_str())
        .set(a::ADVISORIES, message.advisories)
}

/// The operator or an approver wants the window to end.
pub fn ask_finish(now: Timestamp) -> Move {
    Move::default()
        .when(state_is(State::Ready))
        .when(Condition::Absent(own::FINISH_ASKED_AT))
        .set(own::FINISH_ASKED_AT, now)
}

/// The window is over.
pub fn close(attempt: Attempt, closing: &Closing) -> Move {
    closed(
        Move::default()
            .when(state_is(State::Ready))
            .when(attempt_is(attempt)),
        closing,
    )
    .set(a::STATE, State::Closed)
}

/// A bastion closed properly before it was ready: the evidence is kept, the request failed.
pub fn close_unready(attempt: Attempt, closing: &Closing, failure: &Failure) -> Move {
    let from = Move::default()
        .when(state_is(State::Booting))
        .when(attempt_is(attempt));
    failed(closed(from, closing), attempt, failure)
}

fn closed(step: Move, closing: &Closing) -> Move {
    let head = closing.head.as_ref();
    step.set(a::CLOSED_AT, closing.at)
        .set(a::CLOSE_REASON, closing.reason.as_str())
        .set(a::SEALED, closing.sealed)
        .set(a::ACCOUNT_GONE, closing.account_gone)
        .set_some(a::FINAL_SEQ, head.map(|(seq, _)| *seq))
        .set_some(a::FINAL_HEAD, head.map(|(_, hash)| hash.as_str()))
        .set(a::SESSIONS, closing.sessions)
        .set(a::REFUSED, closing.refused)
        .set(a::STATEMENTS, closing.statements)
        .set(a::REMARKS, closing.remarks.clone())
}

/// Marks the current try as failed, once; what follows is tick's to decide.
pub fn mark_failed(attempt: Attempt, failure: &Failure) -> Move {
    let from = Move::default()
        .when(state_in(&[State::Launching, State::Booting]))
        .when(attempt_is(attempt))
        .when(Condition::AbsentOrBelow(
            own::FAILED_ATTEMPT,
            attempt.0.into(),
        ));
    failed(from, attempt, failure)
}

/// Marks the current try as failed for good, whatever it had failed for: nothing follows it.
pub fn condemn(attempt: Attempt, failure: &Failure) -> Move {
    let from = Move::default()
        .when(state_in(&[State::Launching, State::Booting]))
        .when(attempt_is(attempt));
    failed(from, attempt, failure)
}

fn failed(step: Move, attempt: Attempt, failure: &Failure) -> Move {
    step.set(own::FAILED_ATTEMPT, attempt.0)
        .set(own::FAILED_RETRY, failure.retry)
        .set(a::FAILED_STEP, failure.step.as_str())
        .set(a::FAILED_CODE, failure.code.as_str())
        .set(a::FAILED_MESSAGE, failure.message.as_str())
}

/// Gives up after a failed try. A `ready` cannot slip in: it demands `BOOTING`, as this does.
pub fn give_up(attempt: Attempt) -> Move {
    Move::default()
        .when(state_in(&[State::Launching, State::Booting]))
        .when(Condition::Is(own::FAILED_ATTEMPT, attempt.0.into()))
        .when(attempt_is(attempt))
        .set(a::STATE, State::Failed)
}

/// Nothing will be launched: the right was gone when the launch was due, or the request is not what it was.
pub fn refuse_launch(from: State, failure: &Failure) -> Move {
    Move::default()
        .when(state_is(from))
        .set(a::STATE, State::Failed)
        .set(a::FAILED_STEP, failure.step.as_str())
        .set(a::FAILED_CODE, failure.code.as_str())
        .set(a::FAILED_MESSAGE, failure.message.as_str())
}

/// EC2 says that the last instance is gone, or that it has none.
pub fn terminated(attempt: Attempt, now: Timestamp) -> Move {
    Move::default()
        .when(attempt_is(attempt))
        .when(Condition::Absent(a::TERMINATED_AT))
        .set(a::TERMINATED_AT, now)
}

/// The last handoff is gone.
pub fn handoff_gone(attempt: Attempt, now: Timestamp) -> Move {
    Move::default()
        .when(attempt_is(attempt))
        .set(own::HANDOFF_GONE_AT, now)
}

/// Claims a message for one replica, as long as the request stands where it was seen. Without the claim a
/// slow writer could cover a DM that shows the password with an older text.
pub fn claim_post(kind: PostKind, state: State, now: Timestamp) -> Move {
    Move::default()
        .when(state_is(state))
        .when(Condition::AbsentOrBelow(kind.claim(), now.into()))
        .set(kind.claim(), after(now, CLAIM_S))
}

/// Slack has taken the message; the claim ends.
pub fn posted(kind: PostKind, post: &Post) -> Move {
    Move::default()
        .set(kind.channel(), post.channel.as_str())
        .set(kind.ts(), post.ts.as_str())
        .set(kind.shown(), post.shown.as_str())
        .remove(kind.claim())
}

/// Slack has not taken the message; the claim ends.
pub fn release_post(kind: PostKind) -> Move {
    Move::default().remove(kind.claim())
}

/// Slack says that the message is no more; the next pass posts a new one.
pub fn post_vanished(kind: PostKind) -> Move {
    release_post(kind)
        .remove(kind.channel())
        .remove(kind.ts())
        .remove(kind.shown())
}

/// Claims the warning for one replica.
pub fn claim_warning(before_s: u64, now: Timestamp) -> Move {
    Move::default()
        .when(state_is(State::Ready))
        .when(Condition::AbsentOrAbove(own::WARNED_S, before_s.into()))
        .when(Condition::AbsentOrBelow(own::WARN_CLAIM, now.into()))
        .set(own::WARN_CLAIM, after(now, CLAIM_S))
}

/// The warning is posted.
pub fn warned(before_s: u64) -> Move {
    Move::default()
        .set(own::WARNED_S, before_s)
        .remove(own::WARN_CLAIM)
}

/// The warning was not taken; the claim ends.
pub fn release_warning() -> Move {
    Move::default().remove(own::WARN_CLAIM)
}

/// The receipt was not taken; the claim ends.
pub fn release_receipt() -> Move {
    Move::default().remove(own::RECEIPT_CLAIM)
}

/// Claims the receipt for one replica.
pub fn claim_receipt(now: Timestamp) -> Move {
    Move::default()
        .when(Condition::Absent(own::RECEIPT_TS))
        .when(Condition::AbsentOrBelow(own::RECEIPT_CLAIM, now.into()))
        .set(own::RECEIPT_CLAIM, after(now, CLAIM_S))
}

/// The receipt is posted.
pub fn receipt_posted(ts: &str) -> Move {
    Move::default()
        .set(own::RECEIPT_TS, ts)
        .remove(own::RECEIPT_CLAIM)
}

/// A roll in the bucket names the request's end. The state is final, so it cannot end in another way.
pub fn rolled(state: State, roll: u64) -> Move {
    Move::default()
        .when(state_is(state))
        .when(Condition::Is(a::UNROLLED, Value::from("unrolled")))
        .set(a::ROLL, roll)
        .remove(a::UNROLLED)
}

/// Nothing is left to do. The state is final, so nothing can come after it was decided.
pub fn settle(state: State) -> Move {
    Move::default()
        .when(state_is(state))
        .when(Condition::Is(a::OPEN, Value::from("open")))
        .remove(a::OPEN)
}
