//! The journal of calls: who called what about what, and how it ended. Names only, never bodies.

use super::{call::Call, people};
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

/// Calls kept; older ones are forgotten.
const KEPT: usize = 20_000;

/// One call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    time: Timestamp,
    service: String,
    operation: String,
    access_key: Option<String>,
    principal: Option<String>,
    resource: String,
    /// HTTP status that the caller saw; absent where the connection was dropped.
    status: Option<u16>,
    /// The fault that was applied.
    fault: Option<String>,
}

/// The last calls, oldest first.
#[derive(Default)]
pub(crate) struct Journal {
    entries: Mutex<VecDeque<Entry>>,
}

impl Journal {
    /// Notes a call that has ended.
    pub(crate) fn note(
        &self,
        time: Timestamp,
        call: Call,
        status: Option<u16>,
        fault: Option<String>,
    ) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() == KEPT {
            entries.pop_front();
        }
        entries.push_back(Entry {
            time,
            principal: call
                .access_key
                .as_deref()
                .and_then(people::principal)
                .map(|who| who.arn),
            service: call.service,
            operation: call.operation,
            access_key: call.access_key,
            resource: call.resource,
            status,
            fault,
        });
    }

    /// The calls to a service and an operation, any where absent.
    pub(crate) fn select(&self, service: Option<&str>, operation: Option<&str>) -> Vec<Entry> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter()
            .filter(|entry| service.is_none_or(|service| service == entry.service))
            .filter(|entry| operation.is_none_or(|operation| operation == entry.operation))
            .cloned()
            .collect()
    }
}
