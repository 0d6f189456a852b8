//! Asking, approving and reading in the workspace, as its page does it for people.

use super::http::{HttpError, get, post};
use crate::supervisor::Person;
use serde_json::{Value, json};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(250);
const ALL: &str = "C0POWERPOLE";
const APPROVALS: &str = "C0APPROVALS";

/// What a person fills into the modal.
#[derive(Debug, Clone)]
pub(crate) struct Form<'a> {
    /// Cluster id.
    pub(crate) cluster: &'a str,
    /// READ, WRITE or ADMIN.
    pub(crate) level: &'a str,
    /// Schema.
    pub(crate) schema: &'a str,
    /// Length of the window in seconds.
    pub(crate) duration_s: u64,
    /// Why.
    pub(crate) reason: &'a str,
}

/// What the DM gives a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// The line that opens a session in a terminal.
    pub(crate) session_line: String,
    /// The line that opens the database.
    pub(crate) mysql_line: String,
    /// The one-time password.
    pub(crate) password: String,
}

/// The workspace did not show what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlackError {
    /// The page could not be reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// An act was refused or came to nothing.
    #[error("{what}: {answer}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// What came back.
        answer: String,
    },
    /// A message did not come.
    #[error("{what} did not come within {} s", .limit.as_secs())]
    Absent {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
    },
}

/// The workspace page.
#[derive(Debug, Clone)]
pub(crate) struct Slack {
    base: String,
}

impl Slack {
    /// The workspace at `http://127.0.0.1:…`.
    pub(crate) fn at(base: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// Asks for access; answers the request's id.
    pub(crate) async fn request(
        &self,
        person: Person,
        form: &Form<'_>,
    ) -> Result<String, SlackError> {
        let (view_id, request) = self.open_form(person).await?;
        let answer = self.submit(person, &view_id, &values(form)).await?;
        if answer.get("outcome").and_then(Value::as_str) == Some("closed") {
            return Ok(request);
        }
        Err(SlackError::Refused {
            what: "the request's modal stayed",
            answer: answer.to_string(),
        })
    }

    /// Opens the modal; answers its id and the request's.
    pub(crate) async fn open_form(&self, person: Person) -> Result<(String, String), SlackError> {
        let body = json!({ "user": person.slack, "channel": ALL, "text": "/powerpole" });
        let answer = post(&self.url("act/command"), &body).await?;
        let view = answer.get("view_id").and_then(Value::as_str);
        let request = answer
            .pointer("/view/private_metadata")
            .and_then(Value::as_str);
        match (view, request) {
            (Some(view), Some(request)) => Ok((view.to_owned(), request.to_owned())),
            _ => Err(SlackError::Refused {
                what: "/powerpole opened no modal",
                answer: answer.to_string(),
            }),
        }
    }

    /// Submits a modal; answers the page's own words.
    pub(crate) async fn submit(
        &self,
        person: Person,
        view_id: &str,
        values: &Value,
    ) -> Result<Value, SlackError> {
        let body = json!({ "user": person.slack, "view_id": view_id, "values": values });
        Ok(post(&self.url("act/submit"), &body).await?)
    }

    /// Clicks *Approve* on the request's card.
    pub(crate) async fn approve(&self, person: Person, request: &str) -> Result<(), SlackError> {
        self.click(person, request, "approve").await.map(|_| ())
    }

    /// Clicks *Deny* and gives a reason.
    pub(crate) async fn deny(
        &self,
        person: Person,
        request: &str,
        why: &str,
    ) -> Result<(), SlackError> {
        let answer = self.click(person, request, "deny").await?;
        let view = answer
            .get("view_id")
            .and_then(Value::as_str)
            .ok_or_else(|| SlackError::Refused {
                what: "deny opened no modal",
                answer: answer.to_string(),
            })?;
        let answer = self
            .submit(person, view, &json!({ "reason": { "reason": why } }))
            .await?;
        if answer.get("outcome").and_then(Value::as_str) == Some("closed") {
            return Ok(());
        }
        Err(SlackError::Refused {
            what: "the denial's modal stayed",
            answer: answer.to_string(),
        })
    }

    /// Waits for the request's card and returns the timestamp of its message.
    pub(crate) async fn card(&self, request: &str, limit: Duration) -> Result<String, SlackError> {
        let message = self
            .until("the approval card", limit, |message| {
                channel(message) == APPROVALS && button(message, "approve") == Some(request)
            })
            .await?;
        Ok(text(&message, "ts").to_owned())
    }

    /// Clicks *Approve* on a message that was seen before, whatever became of it since.
    pub(crate) async fn click_at(
        &self,
        person: Person,
        ts: &str,
        request: &str,
        action: &str,
    ) -> Result<Value, SlackError> {
        let body = json!({
            "user": person.slack, "channel": APPROVALS, "ts": ts, "action_id": action, "value": request,
            // Deny answers with a modal, which control opens after its acknowledgement.
            "wait_view": action == "deny",
        });
        Ok(post(&self.url("act/click"), &body).await?)
    }

    /// Waits for the DM with the password and takes it apart.
    pub(crate) async fn delivered(
        &self,
        request: &str,
        limit: Duration,
    ) -> Result<Delivered, SlackError> {
        let message = self
            .until("the DM with the password", limit, |message| {
                button(message, "finish") == Some(request)
            })
            .await?;
        let blocks = message.get("blocks").map(code_blocks).unwrap_or_default();
        match blocks.as_slice() {
            [session, mysql, password, ..] => Ok(Delivered {
                session_line: session.clone(),
                mysql_line: mysql.clone(),
                password: password.clone(),
            }),
            _ => Err(SlackError::Refused {
                what: "the DM lacks the session line, the mysql line or the password",
                answer: format!("{} code blocks", blocks.len()),
            }),
        }
    }

    /// Clicks *Finish now* in the DM.
    pub(crate) async fn finish(&self, person: Person, request: &str) -> Result<(), SlackError> {
        let limit = Duration::from_secs(15);
        let message = self
            .until("the DM with the button", limit, |message| {
                button(message, "finish") == Some(request)
            })
            .await?;
        let body = json!({
            "user": person.slack, "channel": channel(&message), "ts": text(&message, "ts"),
            "action_id": "finish", "value": request,
        });
        let answer = post(&self.url("act/click"), &body).await?;
        if answer.get("ok").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        Err(SlackError::Refused {
            what: "control did not take the click",
            answer: answer.to_string(),
        })
    }

    /// Waits for a message that mentions the request and holds `wanted` in its text or blocks.
    pub(crate) async fn says(
        &self,
        request: &str,
        wanted: &str,
        limit: Duration,
    ) -> Result<Value, SlackError> {
        self.until(
            &format!("a message about {request} with {wanted:?}"),
            limit,
            |message| {
                let all = message.to_string();
                all.contains(request) && all.contains(wanted)
            },
        )
        .await
    }

    /// Every message, with its edits.
    pub(crate) async fn messages(&self) -> Result<Vec<Value>, SlackError> {
        let answer = get(&self.url("messages")).await?;
        Ok(answer
            .get("messages")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default())
    }

    /// What people see now of every message: nothing of its earlier wordings.
    pub(crate) async fn shown(&self) -> Result<Vec<Value>, SlackError> {
        let mut messages = self.messages().await?;
        for message in &mut messages {
            if let Some(fields) = message.as_object_mut() {
                fields.remove("history");
            }
        }
        Ok(messages)
    }

    async fn click(
        &self,
        person: Person,
        request: &str,
        action: &str,
    ) -> Result<Value, SlackError> {
        let ts = self.card(request, Duration::from_secs(15)).await?;
        let answer = self.click_at(person, &ts, request, action).await?;
        if answer.get("ok").and_then(Value::as_bool) == Some(true) {
            return Ok(answer);
        }
        Err(SlackError::Refused {
            what: "control did not take the click",
            answer: answer.to_string(),
        })
    }

    async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, SlackError> {
        let find = async {
            loop {
                if let Some(found) = self
                    .shown()
                    .await?
                    .into_iter()
                    .find(|message| wanted(message))
                {
                    return Ok(found);
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(limit, find).await.unwrap_or_else(|_| {
            Err(SlackError::Absent {
                what: what.to_owned(),
                limit,
            })
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/_stage/{path}", self.base)
    }
}

/// The modal's values as the page sends them.
pub(crate) fn values(form: &Form<'_>) -> Value {
    json!({
        "cluster": { "cluster": form.cluster },
        "level": { "level": form.level },
        "schemas": { "schemas": [format!("{}/{}", form.cluster, form.schema)] },
        "duration": { "duration": form.duration_s.to_string() },
        "reason": { "reason": form.reason },
    })
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or("")
}

fn channel(message: &Value) -> &str {
    text(message, "channel")
}

/// The value of a message's button.
fn button<'v>(message: &'v Value, action: &str) -> Option<&'v str> {
    let blocks = message.get("blocks")?.as_array()?;
    let elements = blocks
        .iter()
        .filter_map(|block| block.get("elements")?.as_array())
        .flatten();
    elements
        .filter(|element| text(element, "action_id") == action)
        .find_map(|element| element.get("value")?.as_str())
}

/// The insides of all ``` blocks, with Slack's three escapes undone.
fn code_blocks(blocks: &Value) -> Vec<String> {
    let texts = blocks
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|block| block.pointer("/text/text"));
    texts
        .filter_map(Value::as_str)
        .flat_map(|text| text.split("```").skip(1).step_by(2))
        .map(|code| {
            code.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&amp;", "&")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dm_is_taken_apart() {
        let blocks = json!([
            {"type": "section", "text": {"text": "*1.*\n```aws ssm start-session --reason 'r'```"}},
            {"type": "section", "text": {"text": "*2.* ```mysql -u alice```"}},
            {"type": "section", "text": {"text": "```a&lt;b&amp;c```"}},
        ]);
        assert_eq!(
            code_blocks(&blocks),
            [
                "aws ssm start-session --reason 'r'",
                "mysql -u alice",
                "a<b&c"
            ]
        );
        let message =
            json!({"blocks": [{"elements": [{"action_id": "finish", "value": "req-1"}]}]});
        assert_eq!(button(&message, "finish"), Some("req-1"));
        assert_eq!(button(&message, "approve"), None);
    }
}
