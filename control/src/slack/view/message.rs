//! The messages: the approvers' card, the operator's DM, the notice, warnings and the receipt.

use super::modal::button;
use super::{
    Message, SECRET_MARK, action, block, context, cut, duration, escape, plain, section, time,
};
use crate::approval::Doubt;
use crate::config::{Config, Links};
use crate::ledger::item::{Failure, Item, PostKind};
use crate::theft::Theft;
use jiff::Timestamp;
use powerpole_protocol::ledger::State;
use serde_json::{Value, json};

/// What a message shows when it is up to date. The DM of a running window holds the password and is
/// written by the bastion API alone.
#[must_use]
pub fn wanted(kind: PostKind, item: &Item) -> &'static str {
    match (item.state, kind) {
        (State::Launching | State::Booting, _) => "BUILDING",
        // An approval for later is told to the operator before the building starts.
        (state, _) => state.as_str(),
    }
}

/// The message of a kind for a request as it stands.
#[must_use]
pub fn render(kind: PostKind, item: &Item, config: &Config) -> Message {
    match kind {
        PostKind::Card => card(item, config),
        PostKind::Dm => direct(item, config),
        PostKind::Notice => notice(item, config),
    }
}

/// What the DM of a running window shows.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The instance.
    pub instance: &'a str,
    /// The line that opens the database, without the password.
    pub mysql_line: &'a str,
    /// When the window ends.
    pub deadline: Timestamp,
}

/// The DM that opens the window. [`SECRET_MARK`] stands where the password goes.
#[must_use]
pub fn access(item: &Item, config: &Config, access: Access<'_>) -> Message {
    let Links {
        session_url,
        session_command,
    } = &config.links;
    let fill = |template: &str| {
        template
            .replace("{region}", &config.region)
            .replace("{instance}", access.instance)
            .replace("{request}", item.request.as_str())
    };
    let line = escape(access.mysql_line).replace('`', "'");
    Message {
        text: format!(
            "Your bastion for {} is ready.",
            escape(&title(item, config))
        ),
        blocks: json!([
            header("Your bastion is ready"),
            section(&format!("{}\nThe window ends {}.", what(item, config), time(access.deadline))),
            section(&format!("*1.* <{}|Open the session in your browser>, or in a terminal:\n```{}```", fill(session_url), escape(&fill(session_command)))),
            section(&format!("*2.* Open the database:\n```{}```", cut(&line, 2900))),
            section(&format!("*3.* The password, for this window only:\n```{SECRET_MARK}```")),
            {"type": "actions", "block_id": block::SESSION, "elements": [button(action::FINISH, "Finish now", None, &item.request)]},
            context(&format!("{} · Everything in the session is recorded. Slack keeps what it was sent; this message is overwritten when the window ends.", item.request)),
        ]),
    }
}

/// A warning before the end.
#[must_use]
pub fn warning(item: &Item, left_s: u64) -> Message {
    let text = format!(
        "Your window on {} ends in {}. Sessions end, open connections are cut and the account is removed.",
        item.cluster,
        duration(left_s)
    );
    Message {
        blocks: json!([section(&text)]),
        text,
    }
}

/// The receipt in the approval's thread.
#[must_use]
pub fn receipt(item: &Item, config: &Config) -> Message {
    let mut lines = vec![format!("*Receipt* · {}", what(item, config))];
    lines.push(format!(
        "Operator <@{}>, {}",
        item.operator_slack,
        decided(item)
    ));
    match (&item.closing, item.ready_at) {
        (Some(closing), Some(ready)) => {
            let lasted = crate::clock::seconds_between(ready, closing.at);
            lines.push(format!(
                "From {} to {} ({}), ended by: {}",
                time(ready),
                time(closing.at),
                duration(lasted),
                escape(&closing.reason)
            ));
            lines.push(format!(
                "{} login(s), {} refused, {} statement(s)",
                closing.sessions, closing.refused, closing.statements
            ));
            lines.push(if closing.sealed {
                "Evidence: sealed, shipped and anchored".to_owned()
            } else {
                "Evidence: *NOT sealed*. What was proven up to then, `powerpole verify` tells."
                    .to_owned()
            });
            lines.push(if closing.account_gone {
                "Account: read back as gone".to_owned()
            } else {
                "Account: *not read back as gone* everywhere by the bastion (below); the database's own event removes it when its lease ends.".to_owned()
            });
            if let Some((seq, hash)) = &closing.head {
                lines.push(format!("Final head: `{seq}` `{}`", escape(hash)));
            }
            lines.extend(
                closing
                    .remarks
                    .iter()
                    .take(10)
                    .map(|r| format!("• {}", escape(&cut(r, 200)))),
            );
        }
        _ => lines.push(outcome(item)),
    }
    lines.push(format!(
        "Instance {}, request no. {}: {}",
        item.instance.as_ref().map_or("none", |i| i.as_str()),
        item.number,
        item.request
    ));
    let text = lines.join("\n");
    Message {
        text: format!("Receipt of {}", item.request),
        blocks: json!([section(&text)]),
    }
}

fn card(item: &Item, config: &Config) -> Message {
    let start = item
        .start_at
        .map_or_else(|| "as soon as approved".to_owned(), time);
    let schemas: Vec<&str> = item.schemas.iter().map(|s| s.as_str()).collect();
    let mut blocks = vec![
        header(&format!("{} on {}", item.level, title(item, config))),
        json!({"type": "section", "fields": [
            field("Who", &format!("<@{}> ({})", item.operator_slack, escape(item.operator.as_str()))),
            field("Cluster", &escape(&title(item, config))),
            field("Level", item.level.as_str()),
            field("Schemas", &escape(&schemas.join(", "))),
            field("For", &duration(item.duration_s)),
            field("Start", &start),
        ]}),
        section(&format!("*Why*\n&gt; {}", escape(&item.reason))),
    ];
    if item.state == State::Requested {
        blocks.push(
            json!({"type": "actions", "block_id": block::DECISION, "elements": [
                button(action::APPROVE, "Approve", Some("primary"), &item.request),
                button(action::DENY, "Deny", Some("danger"), &item.request),
            ]}),
        );
    } else {
        blocks.push(section(&outcome(item)));
    }
    blocks.push(context(item.request.as_str()));
    let text = format!(
        "{} asks for {} on {}",
        escape(item.operator.as_str()),
        item.level,
        escape(&title(item, config))
    );
    Message {
        text,
        blocks: Value::Array(blocks),
    }
}

fn direct(item: &Item, config: &Config) -> Message {
    let heading = match item.state {
        State::Requested => "Your request waits for an approver",
        State::Denied => "Your request was denied",
        State::Lapsed => "Your request lapsed",
        State::Approved => "Your request was approved",
        State::Launching | State::Booting => "Your bastion is being built",
        State::Ready => "Your bastion is in use",
        State::Closed => "Your window has ended",
        State::Failed => "Your bastion could not be built",
    };
    Message {
        text: format!("{heading}: {}", escape(&title(item, config))),
        blocks: json!([
            header(heading),
            section(&what(item, config)),
            section(&outcome(item)),
            context(item.request.as_str())
        ]),
    }
}

fn notice(item: &Item, config: &Config) -> Message {
    let text = format!(
        "<@{}> · {} · {}",
        item.operator_slack,
        what(item, config),
        outcome(item)
    );
    Message {
        blocks: json!([section(&text)]),
        text: format!("{} {}", item.request, item.state),
    }
}

/// What became of the request, in a sentence or two.
fn outcome(item: &Item) -> String {
    let reason = |text: &str| escape(&cut(text, 1000));
    match item.state {
        State::Requested => "Waiting for a decision.".to_owned(),
        State::Denied => format!("Denied by {}: {}", approver(item), reason(item.denial.as_deref().unwrap_or("no reason given"))),
        State::Lapsed => "Nobody decided in time. Ask again if you still need it.".to_owned(),
        State::Approved => match item.start_at {
            Some(start) => format!("Approved by {}. The window is planned for {}.", approver(item), time(start)),
            None => format!("Approved by {}.", approver(item)),
        },
        State::Launching | State::Booting => match item.attempt.0 {
            0 | 1 => format!("Approved by {}; the bastion is being built. Waiting costs nothing: the clock starts when it is ready.", approver(item)),
            n => format!("Approved by {}; the bastion is being built (attempt {n}).", approver(item)),
        },
        State::Ready => match item.deadline {
            Some(deadline) => format!("Approved by {}; in use until {}.", approver(item), time(deadline)),
            None => format!("Approved by {}; in use.", approver(item)),
        },
        State::Closed => match &item.closing {
            Some(closing) if closing.reason == "lost" => "The bastion was lost. Its account is removed by the database when its lease ends; the evidence is not sealed. The receipt is in the approval's thread.".to_owned(),
            Some(closing) => format!("Ended {} ({}). {} statement(s) recorded.", time(closing.at), escape(&closing.reason), closing.statements),
            None => "Ended.".to_owned(),
        },
        State::Failed => match &item.failure {
            Some(failure) => failed(item, failure),
            None => "It failed.".to_owned(),
        },
    }
}

/// What failed, and what is known of what it left; an alarm stands first, where nothing can push it out of sight.
fn failed(item: &Item, failure: &Failure) -> String {
    let short = |text: &str, limit| escape(&cut(text, limit));
    let what = format!(
        "It failed at *{}* (`{}`): {}",
        short(&failure.step, 60),
        short(&failure.code, 60),
        short(&failure.message, 400)
    );
    let left = left(item);
    let theft = Theft::of(&failure.code).map(Theft::text);
    match theft.or(Doubt::of(&failure.code).map(Doubt::text)) {
        Some(alarm) => format!(
            "*{alarm}* Show this to the platform's engineers before you ask again.\n{what}\n{left}"
        ),
        None => format!("{what}\n{left} Ask again, or show this to the platform's engineers."),
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

/// Who approved, unless control doubts that anybody did.
fn decided(item: &Item) -> String {
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

fn what(item: &Item, config: &Config) -> String {
    let schemas: Vec<&str> = item.schemas.iter().map(|s| s.as_str()).collect();
    cut(
        &format!(
            "*{}* on *{}* ({}) for {}",
            item.level,
            escape(&title(item, config)),
            escape(&schemas.join(", ")),
            duration(item.duration_s)
        ),
        1500,
    )
}

fn title(item: &Item, config: &Config) -> String {
    config
        .cluster(&item.cluster)
        .map_or_else(|| item.cluster.to_string(), |c| c.title.clone())
}

fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain(text, 150)})
}

fn field(name: &str, text: &str) -> Value {
    json!({"type": "mrkdwn", "text": cut(&format!("*{name}*\n{text}"), 2000)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::item::Closing;
    use crate::request::tests::{config, item, now};
    use powerpole_protocol::id::{Attempt, InstanceId, SchemaName};

    fn check(message: &Message) {
        let blocks = message.blocks.as_array().unwrap();
        assert!((1..=50).contains(&blocks.len()));
        for block in blocks {
            if let Some(text) = block["text"]["text"].as_str() {
                let limit = if block["type"] == "header" { 150 } else { 3000 };
                assert!((1..=limit).contains(&text.chars().count()));
            }
            for field in block["fields"].as_array().into_iter().flatten() {
                assert!(field["text"].as_str().unwrap().chars().count() <= 2000);
            }
        }
        let _: Vec<slack_morphism::prelude::SlackBlock> =
            serde_json::from_value(message.blocks.clone()).unwrap();
    }

    #[test]
    fn every_message_of_every_state_keeps_slacks_limits_at_the_worst() {
        let config = config();
        let mut item = item("alice@example.com", 1);
        item.schemas = (0..100)
            .map(|n| SchemaName::parse(&format!("{}{n:03}", "s".repeat(61))).unwrap())
            .collect();
        item.reason = "&".repeat(256);
        item.denial = Some("<".repeat(256));
        item.ready_at = Some(now());
        item.failure = Some(Failure {
            step: "s".repeat(3000),
            code: "c".into(),
            message: "&".repeat(3000),
            retry: false,
        });
        item.closing = Some(Closing {
            at: now(),
            reason: "lost".into(),
            sealed: false,
            account_gone: false,
            head: Some((1, "a".repeat(64))),
            sessions: 1,
            refused: 0,
            statements: 3,
            remarks: vec!["<".repeat(5000); 40],
        });
        for state in State::ALL {
            item.state = state;
            for kind in PostKind::ALL {
                check(&render(kind, &item, &config));
            }
        }
        check(&receipt(&item, &config));
        check(&warning(&item, 60));
        check(&access(
            &item,
            &config,
            Access {
                instance: "i-0123456789abcdef0",
                mysql_line: &"x".repeat(5000),
                deadline: now(),
            },
        ));
    }

    #[test]
    fn what_a_person_typed_mentions_nobody_and_holds_no_secrets_place() {
        let mut item = item("alice@example.com", 1);
        item.reason = "<!channel> \u{1} & <@U1>".into();
        let card = render(PostKind::Card, &item, &config()).blocks.to_string();
        assert!(
            !card.contains("<!channel>") && !card.contains("<@U1>") && !card.contains("\\u0001")
        );
        let access = access(
            &item,
            &config(),
            Access {
                instance: "i-0123456789abcdef0",
                mysql_line: "mysql -p",
                deadline: now(),
            },
        );
        assert_eq!(access.blocks.to_string().matches("\\u0001").count(), 1);
    }

    #[test]
    fn a_failure_claims_what_was_read_back_and_an_alarm_stands_before_what_the_bastion_wrote() {
        let mut item = item("alice@example.com", 1);
        item.state = State::Failed;
        let mut shown = |code: &str, change: fn(&mut Item)| {
            item.failure = Some(Failure {
                step: "account".into(),
                code: code.into(),
                message: "&".repeat(3000),
                retry: false,
            });
            change(&mut item);
            let message = render(PostKind::Dm, &item, &config());
            check(&message);
            message.blocks.to_string()
        };
        let text = shown("policy", |_| {});
        assert!(text.contains("Nothing was launched."), "{text}");
        let text = shown("no_capacity", |item| item.attempt = Attempt(1));
        assert!(
            text.contains("no instance") && !text.contains("lease"),
            "{text}"
        );
        let text = shown("patch_failed", |item| {
            item.instance = InstanceId::parse("i-0123456789abcdef0").ok();
        });
        assert!(text.contains("is being ended"), "{text}");
        assert!(
            text.contains("not read back") && text.contains("Ask again"),
            "{text}"
        );
        let text = shown("ticket_used", |item| item.terminated_at = Some(now()));
        assert!(text.contains("The instance is gone"), "{text}");
        let (alarm, said) = (text.find("may have opened an account"), text.find("&amp;"));
        assert!(alarm.is_some() && alarm < said, "{text}");
        assert!(
            text.contains("Security was alarmed") && !text.contains("or show"),
            "{text}"
        );
    }

    #[test]
    fn only_a_waiting_request_has_buttons() {
        let mut item = item("alice@example.com", 1);
        let config = config();
        assert!(
            render(PostKind::Card, &item, &config)
                .blocks
                .to_string()
                .contains("\"approve\"")
        );
        item.state = State::Approved;
        assert!(
            !render(PostKind::Card, &item, &config)
                .blocks
                .to_string()
                .contains("\"approve\"")
        );
    }
}
