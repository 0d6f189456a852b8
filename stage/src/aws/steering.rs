//! How a test steers and watches the endpoint: `/_stage/faults`, `/_stage/calls`, `/_stage/health`.
//!
//! `GET /_stage/faults` lists, `POST` adds one rule and answers its number, `DELETE` clears all or
//! `?id=`. `GET /_stage/calls?service=&operation=` is the journal.

use super::{
    answer::{Body, respond},
    call::query_value,
    faults::Rule,
    proxy::Endpoint,
};
use hyper::{Response, http::request::Parts};
use serde_json::{Value, json};

const JSON: &str = "application/json";

/// Answers one steering request.
pub(crate) fn answer(endpoint: &Endpoint, parts: &Parts, body: &[u8]) -> Response<Body> {
    match (parts.method.as_str(), parts.uri.path()) {
        ("GET", "/_stage/health") => ok(&json!({ "status": "ok" })),
        ("GET", "/_stage/faults") => ok(&json!({ "faults": endpoint.faults.list() })),
        ("POST", "/_stage/faults") => match serde_json::from_slice::<Rule>(body) {
            Ok(rule) => ok(&json!({ "id": endpoint.faults.add(rule) })),
            Err(error) => respond(400, JSON, json!({ "error": error.to_string() }).to_string()),
        },
        ("DELETE", "/_stage/faults") => {
            let id = query_value(parts, "id").map(|id| id.parse());
            match id.transpose() {
                Ok(id) => {
                    endpoint.faults.clear(id);
                    ok(&json!({}))
                }
                Err(_) => respond(400, JSON, json!({ "error": "id is no number" }).to_string()),
            }
        }
        ("GET", "/_stage/calls") => {
            let filled = |key| query_value(parts, key).filter(|value| !value.is_empty());
            let (service, operation) = (filled("service"), filled("operation"));
            let calls = endpoint
                .journal
                .select(service.as_deref(), operation.as_deref());
            ok(&json!({ "calls": calls }))
        }
        _ => respond(404, JSON, json!({ "error": "no such page" }).to_string()),
    }
}

fn ok(value: &Value) -> Response<Body> {
    respond(200, JSON, value.to_string())
}
