//! The messages: the approvers' card, the operator's DM, the notice, warnings and the receipt.

use super::modal::{button, finish_button};
use super::outcome::{decided, ended_by, outcome};
use super::{
    Message, SECRET_MARK, action, block, bullets, code, context, count, cut, duration, escape,
    name, plain, quote, section, time, title,
};
use crate::config::{Config, Links};
use crate::ledger::item::{Closing, Item, PostKind};
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
        text: format!("Your bastion is ready: {}", escape(&name(item, config))),
        blocks: json!([
            header("Your bastion is ready"),
            section(&format!("{}\nThe window ends {}.", what(item, config), time(access.deadline))),
            section(&format!("*1.* <{}|Open the session in your browser>, or in a terminal:\n```{}```", fill(session_url), escape(&fill(session_command)))),
            section(&format!("*2.* Open the database:\n```{}```", cut(&line, 2900))),
            section(&format!("*3.* The password, for this window only:\n```{SECRET_MARK}```")),
            {"type": "actions", "block_id": block::SESSION, "elements": [finish_button(item, config)]},
            context(&format!("{} · Everything in the session is recorded. Slack keeps what it was sent; this message is overwritten when the window ends.", item.request)),
        ]),
    }
}

/// That the window has begun, of which an update of the DM tells nobody.
#[must_use]
pub fn begun(item: &Item, config: &Config, left_s: u64) -> Message {
    let text = format!(
        "You can log in: {}\nThe window ends in {}. How to log in stands above, in the message with your password.",
        escape(&name(item, config)),
        duration(left_s)
    );
    Message {
        blocks: json!([section(&text)]),
        text,
    }
}

/// A warning before the end.
#[must_use]
pub fn warning(item: &Item, config: &Config, left_s: u64) -> Message {
    let text = format!(
        "Your window ends in {}: {}\nSessions end, open connections are cut and the account is removed.",
        duration(left_s),
        escape(&name(item, config))
    );
    Message {
        blocks: json!([section(&text)]),
        text,
    }
}

/// The receipt in the approval's thread.
#[must_use]
pub fn receipt(item: &Item, config: &Config) -> Message {
    let mut lines = vec![
        format!("*Receipt* · {}", what(item, config)),
        format!("Operator <@{}>, {}", item.operator_slack, decided(item)),
    ];
    let others = match (&item.closing, item.ready_at) {
        (Some(closing), Some(ready)) => {
            lines.extend(closed(closing, ready));
            let remarks: Vec<String> = closing
                .remarks
                .iter()
                .take(10)
                .map(|r| cut(r, 200))
                .collect();
            (!remarks.is_empty()).then(|| bullets(&remarks))
        }
        _ => {
            let outcome = outcome(item);
            lines.push(outcome.text);
            outcome.words.map(|words| quote(&words))
        }
    };
    lines.push(format!(
        "Instance {}, request no. {}: {}",
        item.instance.as_ref().map_or("none", |i| i.as_str()),
        item.number,
        item.request
    ));
    let blocks = std::iter::once(section(&lines.join("\n"))).chain(others);
    Message {
        text: format!("Receipt: {}", escape(&name(item, config))),
        blocks: blocks.collect(),
    }
}

/// The receipt's lines of a window that was open.
fn closed(closing: &Closing, ready: Timestamp) -> Vec<String> {
    let lasted = crate::clock::seconds_between(ready, closing.at);
    let mut lines = vec![
        format!(
            "From {} to {} ({}): {}",
            time(ready),
            time(closing.at),
            duration(lasted),
            ended_by(&closing.reason)
        ),
        format!(
            "{}, {} refused, {}",
            count(closing.sessions, "login", "logins"),
            closing.refused,
            count(closing.statements, "statement", "statements")
        ),
        if closing.sealed {
            "Evidence: sealed, shipped and anchored".to_owned()
        } else {
            "Evidence: *NOT sealed*. What was proven up to then, `powerpole verify` tells."
                .to_owned()
        },
        if closing.account_gone {
            "Account: read back as gone".to_owned()
        } else {
            "Account: *not read back as gone* everywhere by the bastion (below); the database's own event removes it when its lease ends.".to_owned()
        },
    ];
    if let Some((seq, hash)) = &closing.head {
        lines.push(format!("Final head: `{seq}` {}", code(hash)));
    }
    lines
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
        section("*Why*"),
        quote(&item.reason),
    ];
    if item.state == State::Requested {
        blocks.push(
            json!({"type": "actions", "block_id": block::DECISION, "elements": [
                button(action::APPROVE, "Approve", Some("primary"), &item.request),
                button(action::DENY, "Deny", Some("danger"), &item.request),
            ]}),
        );
    } else {
        blocks.extend(outcome(item).blocks());
    }
    blocks.push(context(item.request.as_str()));
    let text = format!(
        "{} asks for {}",
        escape(item.operator.as_str()),
        escape(&name(item, config))
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
    let mut blocks = vec![header(heading), section(&what(item, config))];
    blocks.extend(outcome(item).blocks());
    blocks.push(context(item.request.as_str()));
    Message {
        text: format!("{heading}: {}", escape(&name(item, config))),
        blocks: Value::Array(blocks),
    }
}

fn notice(item: &Item, config: &Config) -> Message {
    let mut outcome = outcome(item);
    outcome.text = format!(
        "<@{}> · {} · {}",
        item.operator_slack,
        what(item, config),
        outcome.text
    );
    let mut blocks = outcome.blocks();
    blocks.push(context(item.request.as_str()));
    Message {
        blocks: Value::Array(blocks),
        text: format!("{}: {}", item.state, escape(&name(item, config))),
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

fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain(text, 150)})
}

fn field(name: &str, text: &str) -> Value {
    json!({"type": "mrkdwn", "text": cut(&format!("*{name}*\n{text}"), 2000)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::item::Failure;
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
        check(&warning(&item, &config, 60));
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

    /// Texts in which Slack reads formatting.
    fn mrkdwn(message: &Message) -> String {
        fn walk(value: &Value, found: &mut String) {
            if value["type"] == "mrkdwn" {
                found.push_str(value["text"].as_str().unwrap());
            }
            for inner in value.as_array().into_iter().flatten() {
                walk(inner, found);
            }
            for inner in value
                .as_object()
                .into_iter()
                .flat_map(|fields| fields.values())
            {
                walk(inner, found);
            }
        }
        let mut found = message.text.clone();
        walk(&message.blocks, &mut found);
        found
    }

    const TYPED: &str = "*x* _y_ ~z~ `q` <@U1> <!channel> @here :x: &lt; http://evil.example";

    #[test]
    fn what_somebody_else_wrote_is_shown_as_it_was_written() {
        let config = config();
        let mut item = item("alice@example.com", 1);
        item.reason = TYPED.into();
        item.denial = Some(TYPED.into());
        item.failure = Some(Failure {
            step: "account".into(),
            code: "database_failed".into(),
            message: TYPED.into(),
            retry: false,
        });
        let mut shown = vec![render(PostKind::Card, &item, &config)];
        for state in [State::Denied, State::Failed] {
            item.state = state;
            shown.extend(PostKind::ALL.map(|kind| render(kind, &item, &config)));
            shown.push(receipt(&item, &config));
        }
        item.state = State::Closed;
        item.ready_at = Some(now());
        item.closing = Some(Closing {
            at: now(),
            reason: "failed".into(),
            sealed: true,
            account_gone: true,
            head: None,
            sessions: 1,
            refused: 1,
            statements: 1,
            remarks: vec![TYPED.into(), TYPED.into()],
        });
        shown.push(receipt(&item, &config));
        for message in &shown {
            let blocks = message.blocks.as_array().unwrap();
            let literal = json!({"type": "text", "text": TYPED}).to_string();
            let rich: Vec<&Value> = blocks.iter().filter(|b| b["type"] == "rich_text").collect();
            assert!(
                !rich.is_empty() && rich.iter().all(|b| b.to_string().contains(&literal)),
                "{blocks:?}"
            );
            assert!(!mrkdwn(message).contains("*x*"), "{blocks:?}");
            check(message);
        }
    }

    #[test]
    fn every_message_names_level_cluster_and_request() {
        let config = config();
        let mut item = item("alice@example.com", 1);
        item.state = State::Ready;
        let access = access(
            &item,
            &config,
            Access {
                instance: "i-0123456789abcdef0",
                mysql_line: "mysql -p",
                deadline: now(),
            },
        );
        let mut told = vec![access, warning(&item, &config, 60), receipt(&item, &config)];
        for state in State::ALL {
            item.state = state;
            told.extend(PostKind::ALL.map(|kind| render(kind, &item, &config)));
        }
        let title = &config.clusters[0].title;
        for message in told {
            assert!(
                message.text.contains(&name(&item, &config)),
                "{}",
                message.text
            );
            let blocks = message.blocks.to_string();
            for part in [item.level.as_str(), title, item.request.as_str()] {
                assert!(blocks.contains(part), "{part} in {blocks}");
            }
        }
    }

    #[test]
    fn no_text_of_a_person_holds_the_secrets_place() {
        let mut item = item("alice@example.com", 1);
        item.reason = "a\u{1}b".into();
        let card = render(PostKind::Card, &item, &config()).blocks.to_string();
        assert!(!card.contains("\\u0001"), "{card}");
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
        let (alarm, said) = (text.find("may have opened an account"), text.find("&&&"));
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
