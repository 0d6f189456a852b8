//! Control's timed work. [`decide`] says what a request needs now, without an effect; [`execute`] does it.
//!
//! Every event ends in a look at its one request, and every few seconds a tick looks at all that are open:
//! whatever a killed replica left half done is seen here, and two replicas may look at once.

mod ending;
pub mod execute;

use crate::approval::due;
use crate::clock::{after, seconds_between};
use crate::config::Times;
use crate::launcher::failure;
use crate::ledger::item::{Failure, Item, PostKind};
use crate::slack::view::message::wanted;
use jiff::Timestamp;
use powerpole_protocol::ledger::State;

/// What a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Nobody decided in time.
    Lapse,
    /// The launch is due.
    Begin,
    /// The launch is not finished.
    Proceed,
    /// The try has failed; write it down.
    Fail(Failure),
    /// The try is marked as failed: clear it away, then try again or give up.
    Abandon,
    /// Ask EC2 whether a bastion that should live does.
    Look,
    /// End the instance and close the window without the bastion.
    EndLost(&'static str),
    /// Warn the operator, this many seconds before the end.
    Warn(u64),
    /// Post a message for the first time.
    Post(PostKind),
    /// Bring a message up to date.
    Update(PostKind),
    /// Post the receipt.
    Receipt,
    /// See that every instance is gone, and end what is left if `now`.
    EnsureGone {
        /// End it if it still lives; else its own power-off gets more time.
        now: bool,
    },
    /// Delete what may be left of the handoff.
    DeleteHandoff,
    /// Nothing is left: take the item out of the index.
    Settle,
}

/// The rules by which it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Times.
    pub times: &'a Times,
    /// Whether requests are announced in a channel.
    pub notice: bool,
}

/// A bastion that was closed properly powers itself off; after this many seconds control ends it.
const POWER_OFF_S: u64 = 60;
/// A bastion whose token was redeemed twice is told so; after this many seconds control ends it.
const REDEEMED_S: u64 = 60;
/// A final request whose messages Slack does not take any more is settled all the same after this.
const MESSAGES_S: u64 = 86_400;

/// What this request needs now; states first, then messages.
pub fn decide(item: &Item, now: Timestamp, rules: Rules<'_>) -> Vec<Action> {
    if !item.open {
        return Vec::new();
    }
    let mut actions = match item.state {
        State::Requested => waiting(item, now, rules.times),
        State::Approved => approved(item, now, rules.times),
        State::Launching | State::Booting => building(item, now, rules.times),
        State::Ready => running(item, now, rules.times),
        State::Denied | State::Lapsed | State::Closed | State::Failed => ended(item, now),
    };
    let messages = messages(item, rules.notice);
    if item.state.is_final() {
        let done = actions.is_empty() && messages.is_empty();
        let late = actions.is_empty() && now > after(last_event(item), MESSAGES_S);
        if done || late {
            return vec![Action::Settle];
        }
    }
    actions.extend(messages);
    actions
}

fn waiting(item: &Item, now: Timestamp, times: &Times) -> Vec<Action> {
    if now >= after(item.requested_at, times.lapse_s) {
        vec![Action::Lapse]
    } else {
        Vec::new()
    }
}

fn approved(item: &Item, now: Timestamp, times: &Times) -> Vec<Action> {
    if due(item, now, times.launch_ahead_s) {
        vec![Action::Begin]
    } else {
        Vec::new()
    }
}

fn building(item: &Item, now: Timestamp, times: &Times) -> Vec<Action> {
    if item.failure.is_some() {
        return vec![Action::Abandon];
    }
    if item.redeemed_twice_at.is_some() {
        let text = "The handoff was redeemed twice.";
        return vec![Action::Fail(failure("hello", "redeemed", text, false))];
    }
    let launched = item.launched_at.unwrap_or(item.requested_at);
    if now >= after(launched, times.attempt_timeout_s) {
        let text = format!(
            "The bastion was not ready within {} s.",
            times.attempt_timeout_s
        );
        return vec![Action::Fail(failure("boot", "boot_timeout", &text, true))];
    }
    if item.state == State::Launching && (item.instance.is_none() || item.handoff_at.is_none()) {
        return vec![Action::Proceed];
    }
    vec![Action::Look]
}

fn running(item: &Item, now: Timestamp, times: &Times) -> Vec<Action> {
    let Some(deadline) = item.deadline else {
        return vec![Action::EndLost("the ledger has no deadline")];
    };
    if now >= after(deadline, times.deadline_grace_s) {
        return vec![Action::EndLost(
            "the deadline passed and the bastion did not close",
        )];
    }
    if item
        .redeemed_twice_at
        .is_some_and(|at| now >= after(at, REDEEMED_S))
    {
        return vec![Action::EndLost(
            "the handoff was redeemed twice and the bastion did not close",
        )];
    }
    let heard = item
        .heartbeat_at
        .or(item.ready_at)
        .unwrap_or(item.requested_at);
    let silent = seconds_between(heard, now);
    if silent >= times.heartbeat_lost_s {
        return vec![Action::EndLost("no heartbeat came")];
    }
    let mut actions = Vec::new();
    if silent >= times.heartbeat_doubt_s {
        actions.push(Action::Look);
    }
    let left = seconds_between(now, deadline);
    // The first of them says that the window has begun: the DM that says how to log in is an update, and Slack tells nobody of
    // those. Only the latest that is due; earlier ones that nobody could post would only confuse.
    let due = times
        .warn_before_s
        .iter()
        .copied()
        .filter(|w| *w < item.duration_s)
        .chain([item.duration_s])
        .filter(|w| left > 0 && left <= *w)
        .min();
    if let Some(due) = due
        && item.warned_s.is_none_or(|warned| due < warned)
    {
        actions.push(Action::Warn(due));
    }
    actions
}

fn ended(item: &Item, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    let tried = item.attempt.0 > 0;
    if (tried || item.instance.is_some()) && item.terminated_at.is_none() {
        let proper = item.state == State::Closed
            && item.closing.as_ref().is_some_and(|c| c.reason != "lost");
        let waited = now >= after(last_event(item), POWER_OFF_S);
        actions.push(Action::EnsureGone {
            now: !proper || waited,
        });
    }
    if (tried || item.handoff.is_some()) && item.handoff_gone_at.is_none() {
        actions.push(Action::DeleteHandoff);
    }
    actions
}

fn messages(item: &Item, notice: bool) -> Vec<Action> {
    let mut actions = Vec::new();
    for kind in PostKind::ALL {
        // The DM of a running window holds the password: only the bastion API writes it.
        let skip = (kind == PostKind::Notice && !notice)
            || (kind == PostKind::Dm && item.state == State::Ready);
        match item.post(kind) {
            _ if skip => {}
            None => actions.push(Action::Post(kind)),
            Some(post) if post.shown != wanted(kind, item) => actions.push(Action::Update(kind)),
            Some(_) => {}
        }
    }
    let receipt = matches!(item.state, State::Closed | State::Failed) && item.receipt_ts.is_none();
    if receipt && item.post(PostKind::Card).is_some() {
        actions.push(Action::Receipt);
    }
    actions
}

fn last_event(item: &Item) -> Timestamp {
    let closed = item.closing.as_ref().map(|c| c.at);
    [closed, item.ready_at, item.launched_at, item.approved_at]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(item.requested_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::item::{Closing, Post};
    use crate::request::tests::{item, now};
    use powerpole_protocol::id::{Attempt, InstanceId};

    fn rules(times: &Times) -> Rules<'_> {
        Rules {
            times,
            notice: false,
        }
    }

    fn shown(mut item: Item) -> Item {
        for kind in [PostKind::Card, PostKind::Dm] {
            let post = Post {
                channel: "C".into(),
                ts: "1".into(),
                shown: wanted(kind, &item).into(),
            };
            item.posts[if kind == PostKind::Card { 0 } else { 1 }] = Some(post);
        }
        item
    }

    fn building_item(state: State) -> Item {
        let mut item = item("alice@example.com", 1);
        item.state = state;
        item.attempt = Attempt(1);
        item.launched_at = Some(now());
        item.handoff = Some("powerpole/handoff/x".into());
        shown(item)
    }

    fn ready_item() -> Item {
        let mut item = building_item(State::Ready);
        item.instance = Some(InstanceId::parse("i-0123456789abcdef0").unwrap());
        item.ready_at = Some(now());
        item.heartbeat_at = Some(now());
        item.deadline = Some(after(now(), item.duration_s));
        // It was said that the window has begun.
        item.warned_s = Some(item.duration_s);
        shown(item)
    }

    fn at(item: &Item, seconds: u64) -> Vec<Action> {
        let times = Times::default();
        decide(item, after(now(), seconds), rules(&times))
    }

    #[test]
    fn a_new_request_is_posted_and_lapses_in_the_end() {
        let item = item("alice@example.com", 1);
        assert_eq!(
            at(&item, 0),
            vec![Action::Post(PostKind::Card), Action::Post(PostKind::Dm)]
        );
        assert_eq!(at(&shown(item.clone()), 86_399), vec![]);
        assert_eq!(at(&shown(item), 86_400), vec![Action::Lapse]);
    }

    #[test]
    fn an_approved_request_launches_at_its_start_and_no_sooner() {
        let mut item = item("alice@example.com", 1);
        item.state = State::Approved;
        item.start_at = Some(after(now(), 1000));
        assert_eq!(at(&shown(item.clone()), 999), vec![]);
        assert_eq!(at(&shown(item.clone()), 1000), vec![Action::Begin]);
        item.start_at = None;
        assert_eq!(at(&shown(item), 0), vec![Action::Begin]);
    }

    #[test]
    fn a_half_done_launch_goes_on_and_a_late_one_fails() {
        let mut item = building_item(State::Launching);
        assert_eq!(at(&item, 1), vec![Action::Proceed]);
        item.instance = Some(InstanceId::parse("i-0123456789abcdef0").unwrap());
        assert_eq!(at(&item, 1), vec![Action::Proceed]);
        item.handoff_at = Some(now());
        assert_eq!(at(&item, 1), vec![Action::Look]);
        assert!(
            matches!(at(&item, 600).as_slice(), [Action::Fail(f)] if f.code == "boot_timeout" && f.retry)
        );
        item.redeemed_twice_at = Some(now());
        assert!(
            matches!(at(&item, 1).as_slice(), [Action::Fail(f)] if f.code == "redeemed" && !f.retry)
        );
        item.failure = Some(failure("patch", "patch_failed", "", false));
        assert_eq!(at(&item, 1), vec![Action::Abandon]);
    }

    #[test]
    fn warnings_come_once_each_and_only_those_shorter_than_the_window() {
        let mut item = ready_item();
        let beat = |item: &mut Item, s| item.heartbeat_at = Some(after(now(), s));
        for (seconds, warned, expected) in [
            (0, None, Some(900)),
            (1, Some(900), None),
            (300, None, Some(600)),
            (300, Some(900), Some(600)),
            (301, Some(600), None),
            (600, Some(600), Some(300)),
            (845, None, Some(60)),
            (845, Some(60), None),
            (900, Some(300), None),
        ] {
            beat(&mut item, seconds);
            item.warned_s = warned;
            assert_eq!(
                at(&item, seconds),
                expected.map(Action::Warn).into_iter().collect::<Vec<_>>(),
                "{seconds}"
            );
        }
    }

    #[test]
    fn a_silent_bastion_is_looked_for_and_then_ended_and_so_is_one_past_its_deadline() {
        let mut item = ready_item();
        assert_eq!(at(&item, 44), vec![]);
        assert_eq!(at(&item, 45), vec![Action::Look]);
        assert!(matches!(at(&item, 150).as_slice(), [Action::EndLost(_)]));
        item.heartbeat_at = Some(after(now(), 1049));
        assert_eq!(at(&item, 1049), vec![]);
        assert!(matches!(at(&item, 1050).as_slice(), [Action::EndLost(_)]));
    }

    #[test]
    fn a_running_windows_dm_is_never_rewritten_by_tick() {
        let mut item = ready_item();
        item.posts[1] = Some(Post {
            channel: "D".into(),
            ts: "1".into(),
            shown: "BUILDING".into(),
        });
        assert_eq!(at(&item, 1), vec![]);
        item.posts[1] = None;
        assert_eq!(at(&item, 1), vec![]);
    }

    #[test]
    fn a_closed_request_settles_only_when_all_is_gone_and_told() {
        let mut item = ready_item();
        item.state = State::Closed;
        item.closing = Some(Closing {
            at: now(),
            reason: "deadline".into(),
            sealed: true,
            account_gone: true,
            head: None,
            sessions: 0,
            refused: 0,
            statements: 0,
            remarks: vec![],
        });
        let all = at(&item, 1);
        assert_eq!(
            all,
            vec![
                Action::EnsureGone { now: false },
                Action::DeleteHandoff,
                Action::Update(PostKind::Card),
                Action::Update(PostKind::Dm),
                Action::Receipt,
            ]
        );
        assert!(at(&item, 60).contains(&Action::EnsureGone { now: true }));
        item.terminated_at = Some(now());
        item.handoff_gone_at = Some(now());
        item.receipt_ts = Some("2".into());
        let item = shown(item);
        assert_eq!(at(&item, 1), vec![Action::Settle]);
        let settled = Item {
            open: false,
            ..item
        };
        assert_eq!(at(&settled, 1), vec![]);
    }
}
