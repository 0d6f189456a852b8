//! CloudWatch Logs: every event of one stream, page by page.

use aws_sdk_cloudwatchlogs::Client;

use crate::error::CheckError;

/// Calls `each` with time in milliseconds and message of every event, oldest first. A page may be
/// empty before the end: the end is where the token repeats.
pub(crate) async fn read_stream(
    settings: &aws_config::SdkConfig,
    group: &str,
    stream: &str,
    each: &mut (dyn FnMut(i64, &str) -> Result<(), CheckError> + Send),
) -> Result<(), CheckError> {
    let client = Client::new(settings);
    let mut token: Option<String> = None;
    loop {
        let page = client
            .get_log_events()
            .log_group_name(group)
            .log_stream_name(stream)
            .start_from_head(true)
            .set_next_token(token.clone())
            .send()
            .await;
        let page = match page {
            Ok(page) => page,
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                return Ok(());
            }
            Err(error) => return Err(super::failed("logs GetLogEvents")(error)),
        };
        for event in page.events() {
            each(
                event.timestamp().unwrap_or_default(),
                event.message().unwrap_or_default(),
            )?;
        }
        let next = page.next_forward_token().map(str::to_owned);
        if next.is_none() || next == token {
            return Ok(());
        }
        token = next;
    }
}
