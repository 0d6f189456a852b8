//! The ledger in DynamoDB: conditional writes and consistent reads, nothing else. AWS types end here.
//!
//! Table: partition key `request` (S). Global secondary indexes `open` and `unrolled`: partition the attribute of
//! that name (S), sort `request` (S), all attributes; sparse, since only items with work left have `open`, and only
//! those whose end no roll names yet have `unrolled`. One item more, which is no request, counts them.

use super::item::Item;
use super::{Attributes, Condition, Created, Ledger, LedgerError, Move, Moved, Value};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValue, TransactWriteItem, Update};
use futures_util::future::BoxFuture;
use powerpole_protocol::id::RequestId;
use powerpole_protocol::ledger::{
    COUNTER_KEY, COUNTER_LAST, OPEN_INDEX, UNROLLED_INDEX, attribute as a,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that another request got first is asked for anew so often.
const NUMBER_TRIES: u32 = 20;

/// The adapter.
pub struct DynamoDb {
    client: Client,
    table: String,
    /// The highest number that is known to be given; a counter that says less was set back.
    given: AtomicU64,
}

impl DynamoDb {
    /// Takes the SDK's settings and the table's name.
    #[must_use]
    pub fn new(settings: &aws_config::SdkConfig, table: &str) -> Self {
        Self {
            client: Client::new(settings),
            table: table.to_owned(),
            given: AtomicU64::new(0),
        }
    }
}

impl Ledger for DynamoDb {
    fn create<'a>(
        &'a self,
        item: &'a Item,
        seal: &'a (dyn Fn(&Item) -> String + Send + Sync),
    ) -> BoxFuture<'a, Result<Created, LedgerError>> {
        Box::pin(async move {
            for _ in 0..NUMBER_TRIES {
                // Read before the counter, which counts at least as far.
                let given = self.given.load(Ordering::SeqCst);
                let last = self.counted().await?;
                if last < given {
                    tracing::error!(
                        alarm = "request_counter_back",
                        request = %item.request,
                        counted = last,
                        given,
                        "the ledger counts fewer requests than there were"
                    );
                }
                let mut numbered = item.clone();
                numbered.number = last.max(given).saturating_add(1);
                numbered.asked_seal = Some(seal(&numbered));
                match self.create_numbered(&numbered, last).await? {
                    Numbered::Done(created) => return Ok(created),
                    // Another request got this number between the read and the write.
                    Numbered::Taken => {}
                }
            }
            Err(LedgerError::Unavailable {
                operation: "TransactWriteItems",
                detail: format!("{NUMBER_TRIES} numbers in a row were taken by other requests"),
            })
        })
    }

    fn last_number(&self) -> BoxFuture<'_, Result<u64, LedgerError>> {
        Box::pin(self.counted())
    }

    fn given(&self, number: u64) {
        self.given.fetch_max(number, Ordering::SeqCst);
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
        Box::pin(self.indexed(OPEN_INDEX, a::OPEN, "open"))
    }

    fn unrolled(&self) -> BoxFuture<'_, Result<Vec<Item>, LedgerError>> {
        Box::pin(self.indexed(UNROLLED_INDEX, a::UNROLLED, "unrolled"))
    }
}

/// How making an item under a number ended.
enum Numbered {
    /// It is there, by this call or an earlier one.
    Done(Created),
    /// The number was not free any more; nothing was written.
    Taken,
}

impl DynamoDb {
    /// The number that was given last; 0 before the first.
    async fn counted(&self) -> Result<u64, LedgerError> {
        let got = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(a::REQUEST, AttributeValue::S(COUNTER_KEY.to_owned()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| unavailable("GetItem", &error))?;
        let Some(counter) = got.item else {
            return Ok(0);
        };
        counter
            .get(COUNTER_LAST)
            .and_then(|last| last.as_n().ok())
            .and_then(|last| last.parse().ok())
            .ok_or_else(|| LedgerError::Item {
                request: COUNTER_KEY.to_owned(),
                fault: format!("no number {COUNTER_LAST}"),
            })
    }

    /// Counter and item move together or not at all: a number without a request cannot come about. `last` is what the
    /// counter says.
    async fn create_numbered(&self, item: &Item, last: u64) -> Result<Numbered, LedgerError> {
        let number = |n: u64| AttributeValue::N(n.to_string());
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let condition = match last {
            0 => "attribute_not_exists(#k) OR #l = :last",
            _ => "#l = :last",
        };
        let mut count = Update::builder()
            .table_name(&self.table)
            .key(a::REQUEST, text(COUNTER_KEY))
            .update_expression("SET #l = :next")
            .condition_expression(condition)
            .expression_attribute_names("#l", COUNTER_LAST)
            .expression_attribute_values(":next", number(item.number))
            .expression_attribute_values(":last", number(last));
        if last == 0 {
            count = count.expression_attribute_names("#k", a::REQUEST);
        }
        let mut attributes = to_dynamo(item.new_attributes());
        attributes.insert(a::NUMBER.to_owned(), number(item.number));
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(attributes))
            .condition_expression("attribute_not_exists(#k)")
            .expression_attribute_names("#k", a::REQUEST);
        let unbuilt =
            |error: aws_sdk_dynamodb::error::BuildError| unavailable("TransactWriteItems", &error);
        let sent = self
            .client
            .transact_write_items()
            .transact_items(
                TransactWriteItem::builder()
                    .update(count.build().map_err(unbuilt)?)
                    .build(),
            )
            .transact_items(
                TransactWriteItem::builder()
                    .put(put.build().map_err(unbuilt)?)
                    .build(),
            )
            .send()
            .await;
        let error = match sent {
            Ok(_) => {
                self.given(item.number);
                return Ok(Numbered::Done(Created::New));
            }
            Err(error) => error,
        };
        let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) =
            error.as_service_error()
        else {
            return Err(unavailable("TransactWriteItems", &error));
        };
        let failed: Vec<bool> = canceled
            .cancellation_reasons()
            .iter()
            .map(|reason| reason.code() == Some("ConditionalCheckFailed"))
            .collect();
        let collided = canceled
            .cancellation_reasons()
            .iter()
            .any(|reason| reason.code() == Some("TransactionConflict"));
        match failed.as_slice() {
            // The item's own condition counts first: a repeated call finds the counter moved by itself.
            [_, true] => Ok(Numbered::Done(Created::Exists)),
            [true, _] => Ok(Numbered::Taken),
            _ if collided => Ok(Numbered::Taken),
            _ => Err(unavailable("TransactWriteItems", &error)),
        }
    }

    /// Every item of a sparse index.
    async fn indexed(
        &self,
        index: &str,
        attribute: &str,
        value: &str,
    ) -> Result<Vec<Item>, LedgerError> {
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let page = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(index)
                .key_condition_expression("#a = :v")
                .expression_attribute_names("#a", attribute)
                .expression_attribute_values(":v", AttributeValue::S(value.to_owned()))
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| unavailable("Query", &error))?;
            for item in page.items.unwrap_or_default() {
                // One unreadable item must not hide the others from tick.
                match Item::read(&from_dynamo(item)) {
                    Ok(item) => items.push(item),
                    Err(error) => {
                        let request = match &error {
                            LedgerError::Item { request, .. } => request.as_str(),
                            LedgerError::Unavailable { .. } => "",
                        };
                        tracing::error!(alarm = "item_unreadable", request, code = error.code(), error = %error, "skipped an item of the ledger");
                    }
                }
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(items);
            }
        }
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
