//! The AWS SDK's settings: everything from its usual sources, and no call without an end.
//!
//! The SDK itself sets a limit for connecting only; an answer that never comes would hang the boot, or keep a
//! tail from being shipped.

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use std::time::Duration;

/// Longest time for a connection to come about.
const CONNECT: Duration = Duration::from_secs(3);
/// Longest time for one try of a call.
const TRY: Duration = Duration::from_secs(8);
/// Longest time for a call with all its tries.
const CALL: Duration = Duration::from_secs(25);

/// Loads the settings; without a region the SDK finds it out.
pub(crate) async fn settings(region: Option<&str>) -> SdkConfig {
    let limits = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(TRY)
        .operation_timeout(CALL)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(limits);
    if let Some(region) = region {
        loader = loader.region(Region::new(region.to_owned()));
    }
    loader.load().await
}
