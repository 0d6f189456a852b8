//! The EC2 and STS calls that the instance host makes, in their query form, and the XML they answer with.
//!
//! Requests carry a credential scope, by which moto knows the service, and no signature: this side of the stage stands where
//! Amazon's own machinery stands, not where a customer does.

use super::HostError;
use crate::hub::InstanceId;
use base64::Engine;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);
const EC2: (&str, &str) = ("ec2", "2016-11-15");
const STS: (&str, &str) = ("sts", "2011-06-15");

/// EC2's word for where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

/// What EC2 says of one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) state: State,
    pub(crate) image: String,
    /// Absent once it is terminated.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) instance_type: String,
    pub(crate) zone: String,
    pub(crate) tags: BTreeMap<String, String>,
    /// The instance profile's ARN.
    pub(crate) profile: Option<String>,
    /// Whether the metadata service may show the tags.
    pub(crate) tags_in_metadata: bool,
    pub(crate) launched: String,
    pub(crate) owner: String,
}

/// What happens in EC2 when the machine powers itself off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownBehaviour {
    Stop,
    Terminate,
}

/// Short-lived credentials of the instance's role.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) session_token: String,
    /// RFC 3339.
    pub(crate) expiration: String,
}

/// EC2 and STS, as far as an instance host needs them.
#[derive(Clone, Debug)]
pub(crate) struct Ec2 {
    endpoint: String,
    region: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Ec2 {
    /// `endpoint` is plain HTTP, without a path.
    pub(crate) fn new(endpoint: &str, region: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            client,
        }
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Every instance that EC2 still knows, terminated ones included.
    pub(crate) async fn instances(&self) -> Result<Vec<Instance>, HostError> {
        const ACTION: &str = "DescribeInstances";
        let mut found = Vec::new();
        let mut next: Option<String> = None;
        for _ in 0..1000 {
            let more = next
                .iter()
                .map(|token| ("NextToken", token.as_str()))
                .collect::<Vec<_>>();
            let page: xml::DescribeInstances = self.call(EC2, ACTION, &more).await?;
            for reservation in page.reservations.item {
                for instance in reservation.instances.item {
                    found.push(
                        instance
                            .read(&reservation.owner)
                            .map_err(unreadable(ACTION))?,
                    );
                }
            }
            next = page.next_token.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// The bytes that the instance was launched with, none if it was launched without.
    pub(crate) async fn user_data(
        &self,
        instance: &InstanceId,
    ) -> Result<Option<Vec<u8>>, HostError> {
        const ACTION: &str = "DescribeInstanceAttribute";
        let args = [("InstanceId", instance.as_str()), ("Attribute", "userData")];
        let answer: xml::Attribute = self.call(EC2, ACTION, &args).await?;
        let encoded = answer
            .user_data
            .and_then(|value| value.value)
            .unwrap_or_default();
        if encoded.is_empty() {
            return Ok(None);
        }
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .map_err(unreadable(ACTION))?;
        Ok(Some(bytes))
    }

    /// What a power-off from inside means for this instance.
    pub(crate) async fn shutdown_behaviour(
        &self,
        instance: &InstanceId,
    ) -> Result<ShutdownBehaviour, HostError> {
        let args = [
            ("InstanceId", instance.as_str()),
            ("Attribute", "instanceInitiatedShutdownBehavior"),
        ];
        let answer: xml::Attribute = self.call(EC2, "DescribeInstanceAttribute", &args).await?;
        let word = answer.shutdown_behaviour.and_then(|value| value.value);
        // EC2's own default is to stop.
        Ok(if word.as_deref() == Some("terminate") {
            ShutdownBehaviour::Terminate
        } else {
            ShutdownBehaviour::Stop
        })
    }

    pub(crate) async fn terminate(&self, instance: &InstanceId) -> Result<(), HostError> {
        self.call::<xml::Anything>(
            EC2,
            "TerminateInstances",
            &[("InstanceId.1", instance.as_str())],
        )
        .await
        .map(drop)
    }

    pub(crate) async fn stop(&self, instance: &InstanceId) -> Result<(), HostError> {
        self.call::<xml::Anything>(EC2, "StopInstances", &[("InstanceId.1", instance.as_str())])
            .await
            .map(drop)
    }

    /// Credentials for an hour, in a session named for the instance, as EC2 itself names them.
    pub(crate) async fn assume_role(
        &self,
        role_arn: &str,
        instance: &InstanceId,
    ) -> Result<Credentials, HostError> {
        let args = [
            ("RoleArn", role_arn),
            ("RoleSessionName", instance.as_str()),
            ("DurationSeconds", "3600"),
        ];
        let answer: xml::AssumeRole = self.call(STS, "AssumeRole", &args).await?;
        Ok(answer.result.credentials)
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        (service, version): (&str, &str),
        action: &'static str,
        args: &[(&str, &str)],
    ) -> Result<T, HostError> {
        let unanswered = |why: String| HostError::Unanswered {
            action,
            endpoint: self.endpoint.clone(),
            why,
        };
        let mut body = format!("Action={action}&Version={version}");
        for (key, value) in args {
            body.push_str(&format!("&{key}={}", form_encode(value)));
        }
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=AKIASTAGEHOST0000000/20260101/{}/{service}/aws4_request, SignedHeaders=host, Signature={:064}",
            self.region, 0
        );
        let request = Request::post(format!("{}/", self.endpoint))
            .header("host", format!("{service}.{}.amazonaws.com", self.region))
            .header("authorization", scope)
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=utf-8",
            )
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| unanswered(error.to_string()))?;
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((status, body.to_bytes()))
        };
        let (status, body) = match tokio::time::timeout(LIMIT, exchange).await {
            Ok(answered) => answered.map_err(unanswered)?,
            Err(_) => {
                return Err(unanswered(format!(
                    "no answer within {} s",
                    LIMIT.as_secs()
                )));
            }
        };
        let text = String::from_utf8_lossy(&body);
        if !status.is_success() {
            let (code, message) =
                xml::refusal(&text).unwrap_or_else(|| (status.to_string(), String::new()));
            return Err(HostError::Refused {
                action,
                code,
                message,
            });
        }
        quick_xml::de::from_str(&text).map_err(unreadable(action))
    }
}

fn unreadable<E: std::fmt::Display>(action: &'static str) -> impl Fn(E) -> HostError {
    move |error| HostError::Unreadable {
        action,
        why: error.to_string(),
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn form_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The shapes of the answers, as far as they are read.
mod xml {
    use super::{Credentials, State};
    use crate::hub::HubError;
    use serde::Deserialize;
    use std::net::Ipv4Addr;

    #[derive(Deserialize)]
    pub(super) struct Anything {}

    /// AWS's way to write a list.
    #[derive(Deserialize)]
    pub(super) struct List<T> {
        #[serde(default = "Vec::new")]
        pub(super) item: Vec<T>,
    }

    impl<T> Default for List<T> {
        fn default() -> Self {
            Self { item: Vec::new() }
        }
    }

    #[derive(Deserialize)]
    pub(super) struct DescribeInstances {
        #[serde(rename = "reservationSet", default)]
        pub(super) reservations: List<Reservation>,
        #[serde(rename = "nextToken")]
        pub(super) next_token: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct Reservation {
        #[serde(rename = "ownerId", default)]
        pub(super) owner: String,
        #[serde(rename = "instancesSet", default)]
        pub(super) instances: List<Instance>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Instance {
        instance_id: String,
        image_id: String,
        instance_state: InstanceState,
        private_ip_address: Option<String>,
        instance_type: String,
        placement: Option<Placement>,
        #[serde(default)]
        tag_set: List<Tag>,
        iam_instance_profile: Option<Profile>,
        metadata_options: Option<MetadataOptions>,
        #[serde(default)]
        launch_time: String,
    }

    #[derive(Deserialize)]
    struct InstanceState {
        name: State,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Placement {
        availability_zone: Option<String>,
    }

    #[derive(Deserialize)]
    struct Tag {
        key: String,
        #[serde(default)]
        value: String,
    }

    #[derive(Deserialize)]
    struct Profile {
        arn: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MetadataOptions {
        instance_metadata_tags: Option<String>,
    }

    impl Instance {
        pub(super) fn read(self, owner: &str) -> Result<super::Instance, HubError> {
            let tags_in_metadata = self
                .metadata_options
                .and_then(|options| options.instance_metadata_tags)
                .as_deref()
                == Some("enabled");
            Ok(super::Instance {
                id: self.instance_id.parse()?,
                state: self.instance_state.name,
                image: self.image_id,
                address: self
                    .private_ip_address
                    .and_then(|text| text.parse::<Ipv4Addr>().ok()),
                instance_type: self.instance_type,
                zone: self
                    .placement
                    .and_then(|placement| placement.availability_zone)
                    .unwrap_or_default(),
                tags: self
                    .tag_set
                    .item
                    .into_iter()
                    .map(|tag| (tag.key, tag.value))
                    .collect(),
                profile: self
                    .iam_instance_profile
                    .and_then(|profile| profile.arn)
                    .filter(|arn| !arn.is_empty()),
                tags_in_metadata,
                launched: self.launch_time,
                owner: owner.to_owned(),
            })
        }
    }

    #[derive(Deserialize)]
    pub(super) struct Attribute {
        #[serde(rename = "userData")]
        pub(super) user_data: Option<Value>,
        #[serde(rename = "instanceInitiatedShutdownBehavior")]
        pub(super) shutdown_behaviour: Option<Value>,
    }

    #[derive(Deserialize)]
    pub(super) struct Value {
        pub(super) value: Option<String>,
    }

    #[derive(Deserialize)]
    pub(super) struct AssumeRole {
        #[serde(rename = "AssumeRoleResult")]
        pub(super) result: AssumeRoleResult,
    }

    #[derive(Deserialize)]
    pub(super) struct AssumeRoleResult {
        #[serde(rename = "Credentials")]
        pub(super) credentials: Credentials,
    }

    /// EC2 wraps its error in `Errors`, the other query services do not.
    #[derive(Deserialize)]
    struct Refusal {
        #[serde(rename = "Errors")]
        wrapped: Option<Wrapped>,
        #[serde(rename = "Error")]
        bare: Option<Error>,
    }

    #[derive(Deserialize)]
    struct Wrapped {
        #[serde(rename = "Error")]
        error: Error,
    }

    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "Code", default)]
        code: String,
        #[serde(rename = "Message", default)]
        message: String,
    }

    pub(super) fn refusal(text: &str) -> Option<(String, String)> {
        let refusal: Refusal = quick_xml::de::from_str(text).ok()?;
        let error = refusal
            .wrapped
            .map(|wrapped| wrapped.error)
            .or(refusal.bare)?;
        Some((error.code, error.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_read_as_moto_writes_it() {
        let text = r#"<?xml version="1.0" encoding="utf-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15"><reservationSet><item><reservationId>r-1</reservationId><ownerId>123456789012</ownerId><groupSet/><instancesSet><item><iamInstanceProfile><arn>arn:aws:iam::123456789012:instance-profile/PowerPoleBastion</arn><id>x</id></iamInstanceProfile><networkInterfaceSet><item><privateIpAddress>10.9.9.9</privateIpAddress></item></networkInterfaceSet><tagSet><item><key>powerpole:request</key><value>req-1</value></item><item><key>empty</key><value/></item></tagSet><metadataOptions><instanceMetadataTags>enabled</instanceMetadataTags></metadataOptions><instanceId>i-5774a143981e971f4</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>running</name></instanceState><instanceType>t3.micro</instanceType><launchTime>2026-11-23T19:03:19.000Z</launchTime><placement><groupName/><tenancy>default</tenancy><availabilityZone>us-east-1a</availabilityZone></placement><privateIpAddress>10.77.64.4</privateIpAddress></item></instancesSet></item></reservationSet><requestId>r</requestId></DescribeInstancesResponse>"#;
        let page: xml::DescribeInstances = quick_xml::de::from_str(text).unwrap();
        let reservation = page.reservations.item.into_iter().next().unwrap();
        let instance = reservation
            .instances
            .item
            .into_iter()
            .next()
            .unwrap()
            .read(&reservation.owner)
            .unwrap();
        assert_eq!(instance.state, State::Running);
        assert_eq!(instance.address, Some(Ipv4Addr::new(10, 77, 64, 4)));
        assert_eq!(instance.tags.get("empty").map(String::as_str), Some(""));
        assert_eq!(instance.zone, "us-east-1a");
        assert!(instance.tags_in_metadata);
    }

    #[test]
    fn a_refusal_is_read_in_both_of_its_forms() {
        let ec2 = "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>no</Message></Error></Errors></Response>";
        let sts = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
        assert_eq!(xml::refusal(ec2).unwrap().0, "InvalidInstanceID.NotFound");
        assert_eq!(xml::refusal(sts).unwrap().0, "AccessDenied");
    }

    #[test]
    fn no_instances_at_all_is_an_empty_list() {
        let page: xml::DescribeInstances =
            quick_xml::de::from_str("<R><reservationSet/><requestId>r</requestId></R>").unwrap();
        assert!(page.reservations.item.is_empty());
    }

    #[test]
    fn form_encoding_leaves_only_unreserved_characters() {
        assert_eq!(form_encode("arn:a/b+c d"), "arn%3Aa%2Fb%2Bc%20d");
    }
}
