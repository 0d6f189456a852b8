//! The limits of CloudWatch Logs' PutLogEvents, which moto lacks.
//!
//! A batch holds 1 to 10,000 events and at most 1,048,576 bytes counting 26 for each event, in time
//! order, spanning at most 24 hours. Events older than 14 days or more than 2 hours ahead are dropped
//! while the call succeeds; `rejectedLogEventsInfo` alone tells.

use super::answer::Refusal;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

const MAX_EVENTS: usize = 10_000;
const MAX_BATCH_BYTES: usize = 1_048_576;
const EVENT_OVERHEAD_BYTES: usize = 26;
const MAX_SPAN: SignedDuration = SignedDuration::from_hours(24);
const MAX_AGE: SignedDuration = SignedDuration::from_hours(14 * 24);
const MAX_AHEAD: SignedDuration = SignedDuration::from_hours(2);

/// A batch that may go on to moto.
#[derive(Debug, PartialEq)]
pub(crate) struct Admitted {
    /// The request without the events that CloudWatch would drop.
    pub(crate) request: Value,
    /// How many events are left in it.
    pub(crate) kept: usize,
    /// `rejectedLogEventsInfo`, where something was dropped.
    pub(crate) rejected: Option<Value>,
}

/// Judges a PutLogEvents request at a time.
pub(crate) fn admit(request: Value, now: Timestamp) -> Result<Admitted, Refusal> {
    let Value::Object(mut fields) = request else {
        return Err(invalid("the body is no object"));
    };
    let Some(Value::Array(events)) = fields.remove("logEvents") else {
        return Err(invalid(
            "Value null at 'logEvents' failed to satisfy constraint",
        ));
    };
    if events.is_empty() || events.len() > MAX_EVENTS {
        return Err(invalid(
            "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length between 1 and 10000",
        ));
    }
    let mut times = Vec::with_capacity(events.len());
    let mut bytes = 0;
    for event in &events {
        let message = event
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let Some(time) = event.get("timestamp").and_then(Value::as_i64) else {
            return Err(invalid("an event has no timestamp"));
        };
        if message.is_empty() {
            return Err(invalid(
                "Value at 'logEvents.member.message' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ));
        }
        bytes += message.len() + EVENT_OVERHEAD_BYTES;
        times.push(time);
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(invalid(&format!(
            "Upload too large: {bytes} bytes exceeds limit of {MAX_BATCH_BYTES}"
        )));
    }
    if !times.is_sorted() {
        return Err(invalid(
            "Log events in a single PutLogEvents request must be in chronological order.",
        ));
    }
    let (first, last) = (
        times.first().copied().unwrap_or(0),
        times.last().copied().unwrap_or(0),
    );
    if i128::from(last) - i128::from(first) > MAX_SPAN.as_millis() {
        return Err(invalid(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        ));
    }
    Ok(drop_unacceptable(
        fields,
        events,
        &times,
        i128::from(now.as_millisecond()),
    ))
}

fn drop_unacceptable(
    mut fields: Map<String, Value>,
    events: Vec<Value>,
    times: &[i64],
    now: i128,
) -> Admitted {
    let old_end = times.partition_point(|time| i128::from(*time) < now - MAX_AGE.as_millis());
    let new_start = times.partition_point(|time| i128::from(*time) <= now + MAX_AHEAD.as_millis());
    let mut rejected = Map::new();
    if old_end > 0 {
        rejected.insert("tooOldLogEventEndIndex".into(), json!(old_end));
    }
    if new_start < events.len() {
        rejected.insert("tooNewLogEventStartIndex".into(), json!(new_start));
    }
    let kept: Vec<Value> = events.into_iter().take(new_start).skip(old_end).collect();
    let count = kept.len();
    fields.insert("logEvents".into(), Value::Array(kept));
    Admitted {
        request: Value::Object(fields),
        kept: count,
        rejected: (!rejected.is_empty()).then_some(Value::Object(rejected)),
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::new("InvalidParameterException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn batch(events: &[(i64, &str)]) -> Value {
        let events: Vec<Value> = events
            .iter()
            .map(|(offset, message)| {
                json!({"timestamp": now().as_millisecond() + offset, "message": message})
            })
            .collect();
        json!({"logGroupName": "g", "logStreamName": "s", "logEvents": events})
    }

    #[test]
    fn what_cloudwatch_refuses_is_refused() {
        let many = vec![(0, "x"); MAX_EVENTS + 1];
        let big = "x".repeat(MAX_BATCH_BYTES - EVENT_OVERHEAD_BYTES + 1);
        let half = "x".repeat(MAX_BATCH_BYTES / 2 - EVENT_OVERHEAD_BYTES);
        for (events, part) in [
            (vec![], "between 1 and 10000"),
            (many, "between 1 and 10000"),
            (vec![(0, big.as_str())], "too large"),
            (
                vec![(0, half.as_str()), (0, half.as_str()), (0, "x")],
                "too large",
            ),
            (vec![(1, "b"), (0, "a")], "chronological"),
            (vec![(-24 * HOUR - 1, "a"), (0, "b")], "span"),
            (vec![(0, "")], "greater than or equal to 1"),
        ] {
            let refusal = admit(batch(&events), now()).unwrap_err();
            assert_eq!(refusal.code, "InvalidParameterException");
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
    }

    #[test]
    fn what_cloudwatch_just_takes_is_taken() {
        let exact = "x".repeat(MAX_BATCH_BYTES - EVENT_OVERHEAD_BYTES);
        for events in [
            vec![(0, exact.as_str())],
            vec![(0, "x"); MAX_EVENTS],
            vec![(-24 * HOUR, "a"), (0, "b")],
            vec![(2 * HOUR, "a")],
            vec![(-14 * 24 * HOUR, "a")],
        ] {
            let admitted = admit(batch(&events), now()).unwrap();
            assert_eq!((admitted.kept, admitted.rejected), (events.len(), None));
        }
    }

    #[test]
    fn too_old_and_too_new_events_are_dropped_and_said() {
        let old = admit(
            batch(&[(-14 * 24 * HOUR - 1, "old"), (-14 * 24 * HOUR, "kept")]),
            now(),
        );
        let old = old.unwrap();
        assert_eq!(
            (old.kept, old.rejected),
            (1, Some(json!({"tooOldLogEventEndIndex": 1})))
        );
        let new = admit(batch(&[(0, "kept"), (2 * HOUR + 1, "new")]), now()).unwrap();
        assert_eq!(
            (new.kept, new.rejected),
            (1, Some(json!({"tooNewLogEventStartIndex": 1})))
        );
    }
}
