//! The ledger item, as DynamoDB's typed JSON, and the facts that a chain is compared with.

use data_encoding::HEXLOWER;
use powerpole_chain::{Hash, verify::LedgerFacts};
use powerpole_protocol::ledger::{COUNTER_KEY, State, attribute};
use serde_json::{Map, Value};

use crate::error::CheckError;

/// Facts that are texts.
const TEXTS: [&str; 13] = [
    attribute::REQUEST,
    attribute::OPERATOR,
    attribute::PRINCIPAL,
    attribute::APPROVER,
    attribute::APPROVED_AT,
    attribute::REASON,
    attribute::CLUSTER,
    attribute::LEVEL,
    attribute::INSTANCE,
    attribute::LOG_GROUP,
    attribute::LOG_STREAM,
    attribute::ACCOUNT,
    attribute::STATE,
];

fn had_bastion(state: State) -> bool {
    match state {
        State::Launching | State::Booting | State::Ready | State::Closed | State::Failed => true,
        State::Requested | State::Denied | State::Lapsed | State::Approved => false,
    }
}

/// One item: attribute name → typed value.
#[derive(Clone, Debug)]
pub(crate) struct Item(Map<String, Value>);

impl Item {
    pub(crate) fn new(attributes: Map<String, Value>) -> Item {
        Item(attributes)
    }

    /// Reads the item, or the answer of `aws dynamodb get-item` around it.
    pub(crate) fn parse(name: &str, text: &[u8]) -> Result<Item, CheckError> {
        let wrong = |detail: String| CheckError::Ledger {
            path: name.to_owned(),
            detail,
        };
        let value: Value =
            serde_json::from_slice(text).map_err(|error| wrong(error.to_string()))?;
        Item::typed(name, value)
    }

    /// Takes a value that was read already.
    fn typed(name: &str, value: Value) -> Result<Item, CheckError> {
        let wrong = |detail: String| CheckError::Ledger {
            path: name.to_owned(),
            detail,
        };
        let Value::Object(mut map) = value else {
            return Err(wrong("not an object".to_owned()));
        };
        if let Some(Value::Object(inner)) = map.remove("Item") {
            map = inner;
        }
        for (name, value) in &map {
            let typed = value.as_object().is_some_and(|object| object.len() == 1);
            if !typed {
                return Err(wrong(format!("{name} has no type")));
            }
        }
        Ok(Item(map))
    }

    /// Whether this is a request's item and not the one that counts them.
    pub(crate) fn is_request(&self) -> bool {
        self.text(attribute::REQUEST)
            .is_some_and(|request| request != COUNTER_KEY)
    }

    pub(crate) fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name)?.get("S")?.as_str().map(str::to_owned)
    }

    /// Whether the attribute is there, of whatever type.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn need(&self, name: &'static str) -> Result<String, CheckError> {
        self.text(name).ok_or(CheckError::NoAttribute(name))
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.get("N")?.as_str()?.parse().ok()
    }

    /// Which try of the request it is.
    pub(crate) fn attempt(&self) -> Option<u32> {
        let attempt = self.number(attribute::ATTEMPT)?;
        u32::try_from(attempt).ok()
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.get("BOOL")?.as_bool()
    }

    fn list(&self, name: &str) -> Option<Vec<String>> {
        let value = self.0.get(name)?;
        if let Some(set) = value.get("SS").and_then(Value::as_array) {
            return set.iter().map(|v| v.as_str().map(str::to_owned)).collect();
        }
        let list = value.get("L")?.as_array()?;
        list.iter()
            .map(|v| v.get("S")?.as_str().map(str::to_owned))
            .collect()
    }

    /// A head that is there has to be one: a fact that cannot be compared must not pass for absent.
    fn head(&self, name: &'static str) -> Result<Option<Hash>, CheckError> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let text = value.get("S").and_then(Value::as_str).unwrap_or_default();
        let hash = HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| Hash::try_from(bytes).ok())
            .ok_or_else(|| CheckError::Ledger {
                path: "the ledger item".to_owned(),
                detail: format!("{name} is not 64 hexadecimal digits"),
            })?;
        Ok(Some(hash))
    }

    /// A fact of another type must not pass for absent, and a request that never had a bastion has no evidence.
    fn fit(&self) -> Result<(), CheckError> {
        let wrong = |detail: String| CheckError::Ledger {
            path: "the ledger item".to_owned(),
            detail,
        };
        for name in TEXTS {
            if self.0.contains_key(name) && self.text(name).is_none() {
                return Err(wrong(format!("{name} is not a text")));
            }
        }
        match self.text(attribute::STATE) {
            None => Ok(()),
            Some(state) => match State::parse(&state) {
                None => Err(wrong(format!("{state} is no state of a request"))),
                Some(parsed) if had_bastion(parsed) => Ok(()),
                Some(_) => Err(CheckError::NoBastion { state }),
            },
        }
    }

    /// What the chain is compared with.
    pub(crate) fn facts(&self) -> Result<LedgerFacts, CheckError> {
        self.fit()?;
        let pair = |seq: &'static str, head: Option<Hash>| match (self.number(seq), head) {
            (Some(seq), Some(head)) => Ok(Some((seq, head))),
            (None, None) => Ok(None),
            _ => Err(CheckError::NoAttribute(seq)),
        };
        Ok(LedgerFacts {
            request: self.text(attribute::REQUEST),
            attempt: self.attempt(),
            operator: self.text(attribute::OPERATOR),
            principal: self.text(attribute::PRINCIPAL),
            approver: self.text(attribute::APPROVER),
            approved_at: self.text(attribute::APPROVED_AT),
            reason: self.text(attribute::REASON),
            cluster: self.text(attribute::CLUSTER),
            level: self.text(attribute::LEVEL),
            schemas: self.list(attribute::SCHEMAS),
            account: self.text(attribute::ACCOUNT),
            instance: self.text(attribute::INSTANCE),
            log_group: self.text(attribute::LOG_GROUP),
            log_stream: self.text(attribute::LOG_STREAM),
            genesis_head: self.head(attribute::GENESIS_HEAD)?,
            latest: pair(attribute::LATEST_SEQ, self.head(attribute::LATEST_HEAD)?)?,
            last: pair(attribute::FINAL_SEQ, self.head(attribute::FINAL_HEAD)?)?,
            sealed: self.flag(attribute::SEALED),
        })
    }
}

/// Reads one item a line, or the answer of `aws dynamodb scan`. What is no request, as the counter of requests, is
/// left out.
pub(crate) fn parse_items(name: &str, text: &str) -> Result<Vec<Item>, CheckError> {
    let wrong = |error: serde_json::Error| CheckError::Ledger {
        path: name.to_owned(),
        detail: error.to_string(),
    };
    let mut items = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.map_err(wrong)? {
            Value::Object(mut map) if map.get("Items").is_some_and(Value::is_array) => {
                let all = map.remove("Items").unwrap_or_default();
                for one in all.as_array().into_iter().flatten() {
                    items.push(Item::typed(name, one.clone())?);
                }
            }
            one => items.push(Item::typed(name, one)?),
        }
    }
    items.retain(Item::is_request);
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_is_no_head_is_an_error_and_not_absent() {
        let item = Item::parse("x", br#"{"genesis_head":{"S":"abc"}}"#).unwrap();
        assert_eq!(item.facts().unwrap_err().code(), "ledger-form");
        let item = Item::parse("x", br#"{"latest_seq":{"N":"4"}}"#).unwrap();
        assert_eq!(item.facts().unwrap_err().code(), "ledger-no-attribute");
    }

    #[test]
    fn a_denied_request_and_a_fact_of_another_type_are_no_ledger_to_compare_with() {
        for (text, code) in [
            (r#"{"state":{"S":"DENIED"}}"#, "no-bastion"),
            (r#"{"state":{"S":"LATER"}}"#, "ledger-form"),
            (r#"{"approver":{"N":"5"}}"#, "ledger-form"),
            (r#"{"level":{"X":"READ"}}"#, "ledger-form"),
        ] {
            let item = Item::parse("x", text.as_bytes()).unwrap();
            assert_eq!(item.facts().unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn the_answer_of_the_aws_command_is_read_like_the_item_itself() {
        let item = Item::parse("x", br#"{"Item":{"schemas":{"L":[{"S":"a"}]}}}"#).unwrap();
        assert_eq!(item.facts().unwrap().schemas, Some(vec!["a".to_owned()]));
        assert!(Item::parse("x", br#"{"request":"req-1"}"#).is_err());
    }
}
