//! DynamoDB: consistent reads of one item or of all.

use aws_sdk_dynamodb::{Client, primitives::Blob, types::AttributeValue};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use powerpole_protocol::ledger::attribute;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

use crate::{error::CheckError, ledger::Item};

/// The request's item.
pub(crate) async fn read_item(
    settings: &aws_config::SdkConfig,
    table: &str,
    request: &str,
) -> Result<Item, CheckError> {
    let answer = Client::new(settings)
        .get_item()
        .table_name(table)
        .key(attribute::REQUEST, AttributeValue::S(request.to_owned()))
        .consistent_read(true)
        .send()
        .await
        .map_err(super::failed("dynamodb GetItem"))?;
    let attributes = answer.item().ok_or_else(|| CheckError::NoItem {
        table: table.to_owned(),
        request: request.to_owned(),
    })?;
    Ok(item_of(attributes))
}

/// Every request's item, in no order.
pub(crate) async fn read_all(
    settings: &aws_config::SdkConfig,
    table: &str,
) -> Result<Vec<Item>, CheckError> {
    let client = Client::new(settings);
    let mut items = Vec::new();
    let mut from = None;
    loop {
        let page = client
            .scan()
            .table_name(table)
            .consistent_read(true)
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(super::failed("dynamodb Scan"))?;
        items.extend(page.items().iter().map(item_of));
        from = page.last_evaluated_key;
        if from.is_none() {
            items.retain(Item::is_request);
            return Ok(items);
        }
    }
}

fn item_of(attributes: &HashMap<String, AttributeValue>) -> Item {
    Item::new(
        attributes
            .iter()
            .map(|(name, value)| (name.clone(), typed(value)))
            .collect(),
    )
}

fn typed(value: &AttributeValue) -> Value {
    let base64 = |blob: &Blob| STANDARD.encode(blob.as_ref());
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::Null(flag) => json!({ "NULL": flag }),
        AttributeValue::B(blob) => json!({ "B": base64(blob) }),
        AttributeValue::Ss(list) => json!({ "SS": list }),
        AttributeValue::Ns(list) => json!({ "NS": list }),
        AttributeValue::Bs(list) => json!({ "BS": list.iter().map(base64).collect::<Vec<_>>() }),
        AttributeValue::L(list) => json!({ "L": list.iter().map(typed).collect::<Vec<_>>() }),
        AttributeValue::M(map) => {
            let map: Map<String, Value> = map
                .iter()
                .map(|(name, value)| (name.clone(), typed(value)))
                .collect();
            json!({ "M": map })
        }
        _ => json!({ "NULL": true }),
    }
}
