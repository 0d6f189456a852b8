//! The only file that talks to CloudWatch Logs.
//!
//! A batch's JSON is made here: the SDK looks at each character of a message by itself, which cost 6 ns a byte of output, more
//! than all the rest of recording. It is put into the SDK's request before that is signed.

use super::shipper::{LogEvent, LogStream, LogsError, Rejected};
use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::{DisplayErrorContext, ProvideErrorMetadata};
use bytes::Bytes;
use serde::Serialize;

/// One log stream.
#[derive(Debug, Clone)]
pub(crate) struct CloudWatchStream {
    client: Client,
    group: String,
    stream: String,
}

impl CloudWatchStream {
    /// The stream of this name in this group; nothing is called yet.
    pub(crate) fn new(config: &SdkConfig, group: &str, stream: &str) -> Self {
        Self {
            client: Client::new(config),
            group: group.to_owned(),
            stream: stream.to_owned(),
        }
    }
}

/// What PutLogEvents takes (CloudWatch Logs API reference).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PutLogEvents<'a> {
    log_group_name: &'a str,
    log_stream_name: &'a str,
    log_events: Vec<InputLogEvent<'a>>,
}

#[derive(Serialize)]
struct InputLogEvent<'a> {
    timestamp: u64,
    message: &'a str,
}

impl CloudWatchStream {
    fn body(&self, events: &[LogEvent]) -> serde_json::Result<Bytes> {
        let log_events = events.iter().map(|event| InputLogEvent {
            timestamp: event.t_ms,
            message: &event.message,
        });
        let put = PutLogEvents {
            log_group_name: &self.group,
            log_stream_name: &self.stream,
            log_events: log_events.collect(),
        };
        serde_json::to_vec(&put).map(Bytes::from)
    }
}

impl LogStream for CloudWatchStream {
    async fn create(&self) -> Result<(), LogsError> {
        let answer = self
            .client
            .create_log_stream()
            .log_group_name(&self.group)
            .log_stream_name(&self.stream)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(e) if e.code() == Some("ResourceAlreadyExistsException") => Ok(()),
            Err(e) => Err(LogsError {
                operation: "CreateLogStream",
                reason: DisplayErrorContext(&e).to_string(),
            }),
        }
    }

    async fn put(&self, events: &[LogEvent]) -> Result<Rejected, LogsError> {
        let failed = |reason| LogsError {
            operation: "PutLogEvents",
            reason,
        };
        let body = self.body(events).map_err(|e| failed(e.to_string()))?;
        let length = body.len().to_string();
        let answer = self
            .client
            .put_log_events()
            .log_group_name(&self.group)
            .log_stream_name(&self.stream)
            // Should these ever be sent instead of the body, the service refuses a batch of none.
            .set_log_events(Some(Vec::new()))
            .customize()
            .mutate_request(move |request| {
                request
                    .headers_mut()
                    .insert("content-length", length.clone());
                *request.body_mut() = body.clone().into();
            })
            .send()
            .await
            .map_err(|e| failed(DisplayErrorContext(&e).to_string()))?;
        let index = |number: Option<i32>| number.and_then(|number| usize::try_from(number).ok());
        Ok(answer
            .rejected_log_events_info()
            .map_or_else(Rejected::default, |info| Rejected {
                too_old_before: index(info.too_old_log_event_end_index()),
                expired_before: index(info.expired_log_event_end_index()),
                too_new_from: index(info.too_new_log_event_start_index()),
            }))
    }
}

#[cfg(test)]
mod tests;
