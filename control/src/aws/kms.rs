//! KMS: the MAC of a ticket under a key that stays there. Nothing else is asked of KMS.

use super::cloud::{CloudError, sort};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::MacAlgorithmSpec;

/// KMS takes messages up to this size, in bytes.
const MESSAGE_LIMIT: usize = 4096;

/// HMAC-SHA256 of `message` under the key of this id, ARN or alias.
pub(super) async fn mac(
    client: &Client,
    key: &str,
    message: &[u8],
) -> Result<[u8; 32], CloudError> {
    const OPERATION: &str = "GenerateMac";
    if message.len() > MESSAGE_LIMIT {
        return Err(CloudError::Refused {
            operation: OPERATION,
            code: "MessageTooLong".to_owned(),
            message: format!("{} bytes, and KMS takes {MESSAGE_LIMIT}", message.len()),
        });
    }
    let answer = client
        .generate_mac()
        .key_id(key)
        .mac_algorithm(MacAlgorithmSpec::HmacSha256)
        .message(Blob::new(message))
        .send()
        .await
        .map_err(|error| sort(OPERATION, &error))?;
    answer
        .mac()
        .and_then(|mac| <[u8; 32]>::try_from(mac.as_ref()).ok())
        .ok_or(CloudError::Unavailable {
            operation: OPERATION,
            detail: "the answer holds no MAC of 32 bytes".to_owned(),
        })
}
