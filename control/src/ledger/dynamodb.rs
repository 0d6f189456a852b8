//! The ledger in DynamoDB: conditional writes and consistent reads, nothing else. AWS types end here.
//!
//! Table: partition key `request` (S). Global secondary index `open`: partition `open` (S), sort `request`
//! (S), all attributes; sparse, since only items with work left have `open`.

use super::item::Item;
use super::{Attributes, Condition, Created, Ledger, LedgerError, Move, Moved, Value};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures_util::future::BoxFuture;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::{OPEN_INDEX, attribute as a};
use std::collections::HashMap;

/// The adapter.
pub struct DynamoDb {
    client: Client,
    table: String,
}

impl DynamoDb {
    /// Takes the SDK's settings and the table's name.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, table: &str) -> Self {
        Self {
            client: Client::new(settings),
            table: table.to_owned(),
        }
    }
}

impl Ledger for DynamoDb {
    fn create<'a>(&'a self, item: &'a Item) -> BoxFuture<'a, Result<Created, LedgerError>> {
        Box::pin(async move {
            let sent = self
                .client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(to_dynamo(item.new_attributes())))
                .condition_expression("attribute_not_exists(#k)")
                .expression_attribute_names("#k", a::REQUEST)
                .send()
                .await;
            match sent {
                Ok(_) => Ok(Created::New),
                Err(error) if lost(&error) => Ok(Created::Exists),
                Err(error) => Err(unavailable("PutItem", &error)),
            }
        })
    }

    fn read<'a>(
        &'a self,
        request: &'a RequestId,
    ) -> BoxFuture<'a, Result<Option<Item>, LedgerError>> {
        Box::pin(async move {
            let got = self
                .client
                .get_item()
                .table_name(&self.table)
                .key(a::REQUEST, AttributeValue::S(request.to_string()))
                .consistent_read(true)
                .send()
                .await
                .map_err(|error| unavailable("GetItem", &error))?;
            got.item
                .map(|item| Item::read(&from_dynamo(item)))
                .transpose()
        })
    }

    fn apply<'a>(
        &'a self,
        request: &'a RequestId,
        step: &'a Move,
    ) -> BoxFuture<'a, Result<Moved, LedgerError>> {
        Box::pin(async move {
            let Expression {
                update,
                condition,
                names,
                values,
            } = Expression::of(step);
            let sent = self
                .client
                .update_item()
                .table_name(&self.table)
                .key(a::REQUEST, AttributeValue::S(request.to_string()))
                .update_expression(update)
                .condition_expression(condition)
                .set_expression_attribute_names(Some(names))
                .set_expression_attribute_values(Some(values).filter(|v| !v.is_empty()))
                .return_values(ReturnValue::AllNew)
                .send()
                .await;
            match sent {
                Ok(done) => {
                    let item = Item::read(&from_dynamo(done.attributes.unwrap_or_default()))?;
                    Ok(Moved::Won(Box::new(item)))
                }
                Err(error) if lost(&error) => Ok(Moved::Lost),
                Err(error) => Err(unavailable("UpdateItem", &error)),
            }
        })
    }

    fn open(&self) -> BoxFuture<'_, Result<Vec<Item>, LedgerError>> {
        Box::pin(async move {
            let mut items = Vec::new();
            let mut from = None;
            loop {
                let page = self
                    .client
                    .query()
                    .table_name(&self.table)
                    .index_name(OPEN_INDEX)
                    .key_condition_expression("#o = :open")
                    .expression_attribute_names("#o", a::OPEN)
                    .expression_attribute_values(":open", AttributeValue::S("open".to_owned()))
                    .set_exclusive_start_key(from)
                    .send()
                    .await
                    .map_err(|error| unavailable("Query", &error))?;
                for item in page.items.unwrap_or_default() {
                    // One unreadable item must not hide the others from tick.
                    match Item::read(&from_dynamo(item)) {
                        Ok(item) => items.push(item),
                        Err(error) => {
                            tracing::error!(code = error.code(), error = %error, "skipped an item of the ledger")
                        }
                    }
                }
                from = page.last_evaluated_key;
                if from.is_none() {
                    return Ok(items);
                }
            }
        })
    }
}

struct Expression {
    update: String,
    condition: String,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Expression {
    fn of(step: &Move) -> Self {
        let mut this = Self {
            update: String::new(),
            // An update creates an item that is not there; no move may.
            condition: "attribute_exists(#key)".to_owned(),
            names: HashMap::from([("#key".to_owned(), a::REQUEST.to_owned())]),
            values: HashMap::new(),
        };
        for condition in &step.when {
            let text = this.condition(condition);
            this.condition.push_str(" AND ");
            this.condition.push_str(&text);
        }
        let set: Vec<String> = step
            .set
            .iter()
            .map(|(name, value)| format!("{} = {}", this.name(name), this.value(value)))
            .collect();
        let remove: Vec<String> = step.remove.iter().map(|name| this.name(name)).collect();
        if !set.is_empty() {
            this.update.push_str(&format!("SET {}", set.join(", ")));
        }
        if !remove.is_empty() {
            this.update
                .push_str(&format!(" REMOVE {}", remove.join(", ")));
        }
        this
    }

    fn name(&mut self, name: &str) -> String {
        let place = format!("#{name}");
        self.names.insert(place.clone(), name.to_owned());
        place
    }

    fn value(&mut self, value: &Value) -> String {
        let place = format!(":v{}", self.values.len());
        self.values.insert(place.clone(), to_value(value.clone()));
        place
    }

    fn condition(&mut self, condition: &Condition) -> String {
        match condition {
            Condition::Absent(name) => format!("attribute_not_exists({})", self.name(name)),
            Condition::Is(name, value) => format!("{} = {}", self.name(name), self.value(value)),
            Condition::IsOneOf(name, all) => {
                let name = self.name(name);
                let all: Vec<String> = all.iter().map(|value| self.value(value)).collect();
                format!("{name} IN ({})", all.join(", "))
            }
            Condition::AbsentOrBelow(name, value) => {
                let (name, value) = (self.name(name), self.value(value));
                format!("(attribute_not_exists({name}) OR {name} < {value})")
            }
            Condition::AbsentOrAbove(name, value) => {
                let (name, value) = (self.name(name), self.value(value));
                format!("(attribute_not_exists({name}) OR {name} > {value})")
            }
        }
    }
}

fn to_value(value: Value) -> AttributeValue {
    match value {
        Value::Text(text) => AttributeValue::S(text),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::Flag(flag) => AttributeValue::Bool(flag),
        Value::List(list) => AttributeValue::L(list.into_iter().map(AttributeValue::S).collect()),
    }
}

fn to_dynamo(attributes: Attributes) -> HashMap<String, AttributeValue> {
    attributes
        .into_iter()
        .map(|(name, value)| (name, to_value(value)))
        .collect()
}

// What control never writes is left out: an attribute that somebody added must not stop a request.
fn from_dynamo(item: HashMap<String, AttributeValue>) -> Attributes {
    item.into_iter()
        .filter_map(|(name, value)| {
            let value = match value {
                AttributeValue::S(text) => Value::Text(text),
                AttributeValue::N(number) => Value::Number(number.parse().ok()?),
                AttributeValue::Bool(flag) => Value::Flag(flag),
                AttributeValue::L(list) => Value::List(
                    list.into_iter()
                        .filter_map(|v| v.as_s().ok().cloned())
                        .collect(),
                ),
                _ => return None,
            };
            Some((name, value))
        })
        .collect()
}

fn lost(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("ConditionalCheckFailedException")
}

fn unavailable<E: std::error::Error>(operation: &'static str, error: &E) -> LedgerError {
    LedgerError::Unavailable {
        operation,
        detail: DisplayErrorContext(error).to_string(),
    }
}
