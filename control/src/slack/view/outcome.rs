//! What became of a request: our sentences, and the words of others that go with them.
//!
//! Words of others (a reason, a bastion's error) never stand in a sentence of ours: they are shown as they were written,
//! in a block in which Slack reads no formatting.

use super::{code, count, cut, escape, quote, section, time};
use crate::approval::Doubt;
use crate::ledger::item::{Failure, Item};
use crate::theft::Theft;
use powerpole_protocol::ledger::State;
use serde_json::Value;

/// So much of somebody else's words is shown, in characters.
const WORDS_LIMIT: usize = 1000;

/// What became of a request.
#[derive(Debug)]
pub(super) struct Outcome {
    /// A sentence or two, in mrkdwn.
    pub(super) text: String,
    /// What somebody else wrote, as it was written.
    pub(super) words: Option<String>,
}

impl Outcome {
    /// As blocks, the words last.
    pub(super) fn blocks(&self) -> Vec<Value> {
        let words = self.words.iter().map(|words| quote(words));
        std::iter::once(section(&self.text)).chain(words).collect()
    }
}

/// What became of this request.
pub(super) fn outcome(item: &Item) -> Outcome {
    let by = approver(item);
    let text = match item.state {
        State::Requested => "Waiting for a decision.".to_owned(),
        State::Denied => {
            return Outcome {
                text: format!("Denied by {by}:"),
                words: Some(item.denial.clone().unwrap_or_else(|| "no reason given".to_owned())),
            };
        }
        State::Lapsed => "Nobody decided in time. Ask again if you still need it.".to_owned(),
        State::Approved => match item.start_at {
            Some(start) => format!("Approved by {by}. The window is planned for {}.", time(start)),
            None => format!("Approved by {by}."),
        },
        State::Launching | State::Booting => match item.attempt.0 {
            0 | 1 => format!("Approved by {by}; the bastion is being built. Waiting costs nothing: the clock starts when it is ready."),
            n => format!("Approved by {by}; the bastion is being built (attempt {n})."),
        },
        State::Ready => match item.deadline {
            Some(deadline) => format!("Approved by {by}; in use until {}.", time(deadline)),
            None => format!("Approved by {by}; in use."),
        },
        State::Closed => match &item.closing {
            Some(closing) if closing.reason == "lost" => "The bastion was lost. Its account is removed by the database when its lease ends; the evidence is not sealed. The receipt is in the approval's thread.".to_owned(),
            Some(closing) => format!(
                "Ended {}: {}. {} recorded.",
                time(closing.at),
                ended_by(&closing.reason),
                count(closing.statements, "statement", "statements")
            ),
            None => "Ended.".to_owned(),
        },
        State::Failed => match &item.failure {
            Some(failure) => return failed(item, failure),
            None => "It failed.".to_owned(),
        },
    };
    Outcome { text, words: None }
}

/// What failed, and what is known of what it left; an alarm stands first, where nothing can push it out of sight.
fn failed(item: &Item, failure: &Failure) -> Outcome {
    let short = |text: &str| code(&cut(text, 60));
    let what = format!(
        "It failed at {} ({}).",
        short(&failure.step),
        short(&failure.code)
    );
    let left = left(item);
    let theft = Theft::of(&failure.code).map(Theft::text);
    let text = match theft.or(Doubt::of(&failure.code).map(Doubt::text)) {
        Some(alarm) => format!(
            "*{alarm}* Show this to the platform's engineers before you ask again.\n{what}\n{left}"
        ),
        None => format!("{what} {left} Ask again, or show this to the platform's engineers."),
    };
    let words = cut(&said_once(&failure.message), WORDS_LIMIT);
    Outcome {
        text,
        words: Some(words).filter(|words| !words.is_empty()),
    }
}

/// What is left of a request that failed, as far as it was read back.
fn left(item: &Item) -> String {
    let instance = match (item.attempt.0, &item.instance, item.terminated_at) {
        (0, ..) => return "Nothing was launched.".to_owned(),
        (_, None, _) => return "EC2 knows no instance of it.".to_owned(),
        (_, Some(_), None) => "The instance is being ended.",
        (_, Some(_), Some(_)) => "The instance is gone.",
    };
    let account = if item.closing.as_ref().is_some_and(|c| c.account_gone) {
        "Its account was read back as gone."
    } else {
        "Whether it had opened an account was not read back; if it had, the database closes that when its lease runs out."
    };
    format!("{instance} {account}")
}

/// Why a window ended, for people; a word that is not known stays as it is.
pub(super) fn ended_by(reason: &str) -> String {
    match reason {
        "deadline" => "the deadline came",
        "finished" => "it was finished early",
        "evidence_lost" => "evidence could not be kept",
        "redeemed" => "the handoff was redeemed twice",
        "intrusion" => "a session went around the recorder",
        "failed" => "a step on the bastion failed",
        "shutdown" => "the machine was told to shut down",
        "lost" => "the bastion was lost",
        other => return escape(other),
    }
    .to_owned()
}

/// Who approved, unless control doubts that anybody did.
pub(super) fn decided(item: &Item) -> String {
    let doubted = item.failure.as_ref().and_then(|f| Doubt::of(&f.code));
    match doubted {
        Some(Doubt::Asked | Doubt::Approval) => "*no approval that control vouches for*".to_owned(),
        _ => format!("approved by {}", approver(item)),
    }
}

fn approver(item: &Item) -> String {
    match (&item.approver_slack, &item.approver) {
        (Some(slack), _) => format!("<@{slack}>"),
        (None, Some(email)) => escape(email.as_str()),
        (None, None) => "nobody".to_owned(),
    }
}

/// An error and its causes, of which some repeat the next one in their own words: what is said twice in a row is shown
/// once.
fn said_once(chain: &str) -> String {
    let mut parts: Vec<&str> = chain.split(": ").collect();
    let mut length = 1;
    while length * 2 <= parts.len() {
        let again = (0..=parts.len() - length * 2)
            .find(|at| parts.get(*at..at + length) == parts.get(at + length..at + length * 2));
        match again {
            Some(at) => {
                parts.drain(at..at + length);
                length = 1;
            }
            None => length += 1,
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_whose_links_repeat_each_other_is_said_once() {
        for (chain, once) in [
            (
                "database db:3306 was not reached: Input/output error: Input/output error: Connection refused (os error 111): Input/output error: Connection refused (os error 111): Connection refused (os error 111)",
                "database db:3306 was not reached: Input/output error: Connection refused (os error 111)",
            ),
            ("a: b: a: b: c", "a: b: c"),
            ("a: b: a", "a: b: a"),
            ("a", "a"),
            ("", ""),
        ] {
            assert_eq!(said_once(chain), once);
        }
        let long = "x: ".repeat(400);
        assert_eq!(said_once(&long), "x: ");
    }

    #[test]
    fn every_reason_of_the_protocol_has_words() {
        for reason in [
            "deadline",
            "finished",
            "evidence_lost",
            "redeemed",
            "intrusion",
            "failed",
            "shutdown",
            "lost",
        ] {
            assert_ne!(ended_by(reason), reason);
        }
        assert_eq!(ended_by("<@U1>"), "&lt;@U1&gt;");
    }
}
