//! The only file that talks to CloudWatch Logs.

use super::shipper::{LogEvent, LogStream, LogsError, Rejected};
use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_cloudwatchlogs::types::InputLogEvent;

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
        let events = events
            .iter()
            .map(|event| {
                InputLogEvent::builder()
                    .timestamp(i64::try_from(event.t_ms).unwrap_or(i64::MAX))
                    .message(&event.message)
                    .build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| failed(e.to_string()))?;
        let answer = self
            .client
            .put_log_events()
            .log_group_name(&self.group)
            .log_stream_name(&self.stream)
            .set_log_events(Some(events))
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
