//! EC2: launches, finds, looks at and ends bastions. Nothing else.

use super::cloud::{CloudError, Found, InstanceState, Launch, sort};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::types::{
    Filter, HttpTokensState, IamInstanceProfileSpecification, Instance,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceMetadataTagsState,
    InstanceStateName, InstanceType, ResourceType, ShutdownBehavior, Tag, TagSpecification,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use powerpole_protocol::id::InstanceId;
use std::net::Ipv4Addr;

/// Tag with the request id.
pub const TAG_REQUEST: &str = "powerpole:request";
/// Tag with the attempt.
pub const TAG_ATTEMPT: &str = "powerpole:attempt";

/// Launches, or gives what the client token has launched. IMDSv2 only, one hop; a power-off terminates; no key
/// pair; tags hold no person.
pub(super) async fn launch(client: &Client, wish: &Launch<'_>) -> Result<InstanceId, CloudError> {
    let sent = client
        .run_instances()
        .client_token(wish.client_token)
        .image_id(wish.image)
        .instance_type(InstanceType::from(wish.instance_type))
        .min_count(1)
        .max_count(1)
        .subnet_id(wish.subnet)
        .set_security_group_ids(Some(wish.security_groups.to_vec()))
        .iam_instance_profile(
            IamInstanceProfileSpecification::builder()
                .name(wish.instance_profile)
                .build(),
        )
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate)
        .metadata_options(
            InstanceMetadataOptionsRequest::builder()
                .http_endpoint(InstanceMetadataEndpointState::Enabled)
                .http_tokens(HttpTokensState::Required)
                .http_put_response_hop_limit(1)
                .instance_metadata_tags(InstanceMetadataTagsState::Enabled)
                .build(),
        )
        .user_data(STANDARD.encode(wish.user_data.expose()))
        .tag_specifications(tags(wish, ResourceType::Instance))
        .tag_specifications(tags(wish, ResourceType::Volume))
        .send()
        .await;
    let done = match sent {
        Ok(done) => done,
        // The configuration changed since the first launch of this try: that instance is the one.
        Err(error) if error.code() == Some("IdempotentParameterMismatch") => {
            let found = find(client, wish.client_token).await?;
            return found
                .into_iter()
                .find(|found| found.subnet.as_deref() == Some(wish.subnet))
                .map(|found| found.instance)
                .ok_or_else(|| sort("RunInstances", &error));
        }
        Err(error) => return Err(sort("RunInstances", &error)),
    };
    let id = done.instances().first().and_then(|i| i.instance_id());
    id.and_then(|id| InstanceId::parse(id).ok())
        .ok_or(CloudError::Unavailable {
            operation: "RunInstances",
            detail: "the answer names no instance".to_owned(),
        })
}

/// What this client token has launched. The token is set at the launch and never after, and nobody but control can tell it
/// before; tags may be set by whoever may tag. Whoever may look can use it after that, in another zone: EC2 holds a token to
/// one launch within each.
pub(super) async fn find(client: &Client, client_token: &str) -> Result<Vec<Found>, CloudError> {
    let launched = Filter::builder()
        .name("client-token")
        .values(client_token)
        .build();
    let found = client
        .describe_instances()
        .filters(launched)
        .send()
        .await
        .map_err(|error| sort("DescribeInstances", &error))?;
    let mut all: Vec<Found> = found
        .reservations()
        .iter()
        .flat_map(|r| r.instances())
        .filter_map(|i| {
            Some(Found {
                instance: InstanceId::parse(i.instance_id()?).ok()?,
                state: state(i),
                subnet: i.subnet_id().map(str::to_owned),
            })
        })
        .collect();
    all.sort_by(|one, other| one.instance.cmp(&other.instance));
    Ok(all)
}

fn state(instance: &Instance) -> InstanceState {
    match instance.state().and_then(|state| state.name()) {
        Some(InstanceStateName::Terminated | InstanceStateName::Stopped) => InstanceState::Gone,
        Some(InstanceStateName::ShuttingDown | InstanceStateName::Stopping) => {
            InstanceState::Ending
        }
        // A state that is not known is one to be ended.
        Some(_) | None => InstanceState::Alive,
    }
}

/// An instance that EC2 does not show yet, or without an address, is asked for again at the next pass.
pub(super) async fn address(
    client: &Client,
    instance: &InstanceId,
) -> Result<Ipv4Addr, CloudError> {
    let none = |detail: &str| CloudError::Unavailable {
        operation: "DescribeInstances",
        detail: detail.to_owned(),
    };
    let described = match client
        .describe_instances()
        .instance_ids(instance.as_str())
        .send()
        .await
    {
        Ok(described) => described,
        Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => {
            return Err(none("the instance is not shown yet"));
        }
        Err(error) => return Err(sort("DescribeInstances", &error)),
    };
    described
        .reservations()
        .iter()
        .flat_map(|r| r.instances())
        .find_map(|i| i.private_ip_address()?.parse().ok())
        .ok_or_else(|| none("the instance has no private address"))
}

pub(super) async fn terminate(client: &Client, instance: &InstanceId) -> Result<(), CloudError> {
    match client
        .terminate_instances()
        .instance_ids(instance.as_str())
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some("InvalidInstanceID.NotFound") => Ok(()),
        Err(error) => Err(sort("TerminateInstances", &error)),
    }
}

fn tags(wish: &Launch<'_>, resource: ResourceType) -> TagSpecification {
    let own = [
        (TAG_REQUEST.to_owned(), wish.request.to_string()),
        (TAG_ATTEMPT.to_owned(), wish.attempt.to_string()),
        ("Name".to_owned(), format!("powerpole-{}", wish.request)),
    ];
    let further = wish.tags.iter().map(|(k, v)| (k.clone(), v.clone()));
    let tags = own
        .into_iter()
        .chain(further)
        .map(|(k, v)| Tag::builder().key(k).value(v).build())
        .collect();
    TagSpecification::builder()
        .resource_type(resource)
        .set_tags(Some(tags))
        .build()
}
