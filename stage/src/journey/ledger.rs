//! The ledger as the platform team sees it: items read straight from the table.

use super::http::{HttpError, aws};
use crate::supervisor::LEDGER_TABLE;
use serde_json::{Value, json};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(250);

/// The ledger's table behind an endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    endpoint: String,
}

/// One request's item, in DynamoDB's typed JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Item(Value);

/// An item that did not come to be as it was waited for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// The table could not be read.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Waited in vain.
    #[error("{what} did not come within {} s; the item says: {last}", .limit.as_secs())]
    Absent {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// The item at the end.
        last: String,
    },
}

impl Item {
    /// A text; empty when the attribute is not there.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0
            .get(name)
            .and_then(|value| value.get("S"))
            .and_then(Value::as_str)
            .unwrap_or("")
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.get("N")?.as_str()?.parse().ok()
    }

    /// A truth value; absent is false.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.0
            .get(name)
            .and_then(|value| value.get("BOOL"))
            .and_then(Value::as_bool)
            == Some(true)
    }

    /// The state's spelling.
    pub(crate) fn state(&self) -> &str {
        self.text("state")
    }

    /// The request's id.
    pub(crate) fn request(&self) -> &str {
        self.text("request")
    }

    /// The whole item in typed JSON.
    pub(crate) fn json(&self) -> &Value {
        &self.0
    }
}

impl Ledger {
    /// The ledger behind the stage's AWS endpoint.
    pub(crate) fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
        }
    }

    /// One item.
    pub(crate) async fn item(&self, request: &str) -> Result<Option<Item>, HttpError> {
        let body = json!({
            "TableName": LEDGER_TABLE,
            "Key": { "request": { "S": request } },
            "ConsistentRead": true,
        });
        let answer = aws(
            &self.endpoint,
            "dynamodb",
            "DynamoDB_20120810.GetItem",
            &body,
        )
        .await?;
        Ok(answer.get("Item").cloned().map(Item))
    }

    /// Sets texts of an item, as whoever may write to the table.
    pub(crate) async fn write(
        &self,
        request: &str,
        texts: &[(&str, String)],
    ) -> Result<(), HttpError> {
        let mut sets = Vec::new();
        let (mut names, mut values) = (serde_json::Map::new(), serde_json::Map::new());
        for (number, (name, text)) in texts.iter().enumerate() {
            sets.push(format!("#n{number} = :v{number}"));
            names.insert(format!("#n{number}"), json!(name));
            values.insert(format!(":v{number}"), json!({ "S": text }));
        }
        let body = json!({
            "TableName": LEDGER_TABLE,
            "Key": { "request": { "S": request } },
            "UpdateExpression": format!("SET {}", sets.join(", ")),
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
        });
        aws(
            &self.endpoint,
            "dynamodb",
            "DynamoDB_20120810.UpdateItem",
            &body,
        )
        .await?;
        Ok(())
    }

    /// Every request's item.
    pub(crate) async fn items(&self) -> Result<Vec<Item>, HttpError> {
        let body = json!({ "TableName": LEDGER_TABLE, "ConsistentRead": true });
        let answer = aws(&self.endpoint, "dynamodb", "DynamoDB_20120810.Scan", &body).await?;
        let items = answer
            .get("Items")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let requests = items.into_iter().map(Item);
        // One item counts the requests and is none.
        Ok(requests
            .filter(|item| item.request().starts_with("req-"))
            .collect())
    }

    /// Waits until the item is as `wanted` says.
    pub(crate) async fn until(
        &self,
        request: &str,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Item) -> bool,
    ) -> Result<Item, LedgerError> {
        let mut last = None;
        let find = async {
            loop {
                if let Some(item) = self.item(request).await? {
                    if wanted(&item) {
                        return Ok(item);
                    }
                    last = Some(item);
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        match tokio::time::timeout(limit, find).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(LedgerError::Absent {
                what: format!("{what} of {request}"),
                limit,
                last: last.map_or_else(|| "there is none".to_owned(), |item| summary(&item)),
            }),
        }
    }
}

fn summary(item: &Item) -> String {
    let names = [
        "state",
        "instance",
        "failed_step",
        "failed_code",
        "failed_message",
        "close_reason",
    ];
    let said = names.iter().filter(|name| !item.text(name).is_empty());
    said.map(|name| format!("{name}={}", item.text(name)))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_json_is_read_by_kind() {
        let item = Item(json!({
            "state": {"S": "READY"}, "attempt": {"N": "2"}, "sealed": {"BOOL": true}
        }));
        assert_eq!(
            (item.state(), item.number("attempt"), item.is("sealed")),
            ("READY", Some(2), true)
        );
        assert_eq!(
            (item.text("attempt"), item.number("state"), item.is("state")),
            ("", None, false)
        );
    }
}
