//! SSM Parameter Store: which image is the current one.

use super::cloud::{CloudError, sort};
use aws_sdk_ssm::Client;

pub(super) async fn parameter(client: &Client, name: &str) -> Result<String, CloudError> {
    let found = client
        .get_parameter()
        .name(name)
        .send()
        .await
        .map_err(|error| sort("GetParameter", &error))?;
    found
        .parameter
        .and_then(|p| p.value)
        .filter(|v| !v.is_empty())
        .ok_or(CloudError::Refused {
            operation: "GetParameter",
            code: "empty".to_owned(),
            message: format!("the parameter {name} has no value"),
        })
}
