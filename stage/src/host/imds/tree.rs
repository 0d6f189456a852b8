//! What stands under which path: an instance's metadata as a flat table of leaves, from which folders follow.

use super::super::ec2::{Credentials, Instance};
use crate::host::root::host_name;
use serde_json::json;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A value, or a folder's listing.
    Text(String),
    /// The role's credentials, which have to be asked for.
    Credentials,
}

/// Finds a path below `/latest/`. Unknown ones lead nowhere; nothing is made up (there is no signature of the identity document,
/// since only Amazon has the key).
pub(crate) fn look_up(instance: &Instance, region: &str, role: &str, path: &str) -> Option<Leaf> {
    let path = path.strip_prefix("/latest/")?;
    let leaves = leaves(instance, region, role);
    let bare = path.trim_end_matches('/');
    if let Some((_, leaf)) = leaves.iter().find(|(name, _)| name == bare) {
        return Some(leaf.clone());
    }
    list(&leaves, bare).map(Leaf::Text)
}

/// The body of `iam/security-credentials/<role>`.
pub(crate) fn credentials_document(credentials: &Credentials, now: &str) -> String {
    json!({
        "Code": "Success",
        "LastUpdated": now,
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expiration,
    })
    .to_string()
}

fn leaves(instance: &Instance, region: &str, role: &str) -> Vec<(String, Leaf)> {
    let address = instance
        .address
        .map(|address| address.to_string())
        .unwrap_or_default();
    let host = instance.address.map(host_name).unwrap_or_default();
    let region = if instance.zone.is_empty() {
        region.to_owned()
    } else {
        instance
            .zone
            .trim_end_matches(|c: char| c.is_ascii_lowercase())
            .to_owned()
    };
    let mut leaves = Vec::new();
    let mut put =
        |path: &str, value: &str| leaves.push((path.to_owned(), Leaf::Text(value.to_owned())));
    put("meta-data/ami-id", &instance.image);
    put("meta-data/hostname", &format!("{host}.ec2.internal"));
    put("meta-data/instance-id", instance.id.as_str());
    put("meta-data/instance-life-cycle", "on-demand");
    put("meta-data/instance-type", &instance.instance_type);
    put("meta-data/local-hostname", &format!("{host}.ec2.internal"));
    put("meta-data/local-ipv4", &address);
    put("meta-data/placement/availability-zone", &instance.zone);
    put("meta-data/placement/region", &region);
    put("meta-data/services/domain", "amazonaws.com");
    put("meta-data/services/partition", "aws");
    if instance.tags_in_metadata {
        for (key, value) in &instance.tags {
            put(&format!("meta-data/tags/instance/{key}"), value);
        }
    }
    let document = json!({
        "accountId": instance.owner,
        "architecture": "x86_64",
        "availabilityZone": instance.zone,
        "imageId": instance.image,
        "instanceId": instance.id.as_str(),
        "instanceType": instance.instance_type,
        "pendingTime": instance.launched,
        "privateIp": address,
        "region": region,
        "version": "2017-09-30",
    });
    put(
        "dynamic/instance-identity/document",
        &format!("{document:#}"),
    );
    if let Some(profile) = &instance.profile {
        let info = json!({ "Code": "Success", "LastUpdated": instance.launched, "InstanceProfileArn": profile });
        put("meta-data/iam/info", &format!("{info:#}"));
        leaves.push((
            format!("meta-data/iam/security-credentials/{role}"),
            Leaf::Credentials,
        ));
    }
    leaves
}

/// A folder's children a line, folders with a slash; none if nothing stands below it.
fn list(leaves: &[(String, Leaf)], folder: &str) -> Option<String> {
    let prefix = if folder.is_empty() {
        String::new()
    } else {
        format!("{folder}/")
    };
    let mut children: Vec<String> = leaves
        .iter()
        .filter_map(|(name, _)| name.strip_prefix(&prefix))
        .map(|below| match below.split_once('/') {
            Some((child, _)) if !tag_folder(folder) => format!("{child}/"),
            _ => below.to_owned(),
        })
        .collect();
    children.sort();
    children.dedup();
    (!children.is_empty()).then(|| children.join("\n"))
}

/// A tag's key may hold slashes and is still one name.
fn tag_folder(folder: &str) -> bool {
    folder == "meta-data/tags/instance"
}

#[cfg(test)]
mod tests {
    use super::super::super::ec2::State;
    use super::*;

    fn instance() -> Instance {
        Instance {
            id: "i-0123456789abcdef0".parse().unwrap(),
            state: State::Running,
            image: "ami-1".to_owned(),
            address: Some("10.77.64.4".parse().unwrap()),
            instance_type: "t3.micro".to_owned(),
            zone: "us-east-1a".to_owned(),
            tags: [("powerpole:request", "req-1"), ("a/b", "c")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            profile: Some("arn:aws:iam::123456789012:instance-profile/PowerPoleBastion".to_owned()),
            tags_in_metadata: true,
            launched: "2026-01-01T00:00:00Z".to_owned(),
            owner: "123456789012".to_owned(),
        }
    }

    fn read(instance: &Instance, path: &str) -> Option<String> {
        match look_up(instance, "us-east-1", "PowerPoleBastion", path)? {
            Leaf::Text(text) => Some(text),
            Leaf::Credentials => Some("(credentials)".to_owned()),
        }
    }

    #[test]
    fn every_path_that_an_sdk_or_an_agent_asks_for_has_its_value() {
        let table = [
            ("/latest/meta-data/instance-id", "i-0123456789abcdef0"),
            ("/latest/meta-data/local-ipv4", "10.77.64.4"),
            (
                "/latest/meta-data/local-hostname",
                "ip-10-77-64-4.ec2.internal",
            ),
            ("/latest/meta-data/ami-id", "ami-1"),
            ("/latest/meta-data/instance-type", "t3.micro"),
            ("/latest/meta-data/placement/region", "us-east-1"),
            (
                "/latest/meta-data/placement/availability-zone",
                "us-east-1a",
            ),
            ("/latest/meta-data/tags/instance/powerpole:request", "req-1"),
            ("/latest/meta-data/tags/instance/a/b", "c"),
            ("/latest/meta-data/tags/instance/", "a/b\npowerpole:request"),
            (
                "/latest/meta-data/iam/security-credentials/",
                "PowerPoleBastion",
            ),
            (
                "/latest/meta-data/iam/security-credentials/PowerPoleBastion",
                "(credentials)",
            ),
            ("/latest/meta-data/iam/", "info\nsecurity-credentials/"),
            ("/latest/", "dynamic/\nmeta-data/"),
        ];
        for (path, value) in table {
            assert_eq!(read(&instance(), path).as_deref(), Some(value), "{path}");
        }
        let document = read(&instance(), "/latest/dynamic/instance-identity/document").unwrap();
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["privateIp"], "10.77.64.4");
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        for path in [
            "/latest/meta-data/nothing",
            "/latest/dynamic/instance-identity/pkcs7",
            "/latest/dynamic/instance-identity/signature",
            "/latest/meta-data/iam/security-credentials/Other",
            "/latest/meta-data/instance-id/x",
            "/2009-04-04/meta-data/instance-id",
            "/",
        ] {
            assert_eq!(read(&instance(), path), None, "{path}");
        }
    }

    #[test]
    fn without_a_profile_there_are_no_credentials_and_without_leave_no_tags() {
        let bare = Instance {
            profile: None,
            tags_in_metadata: false,
            ..instance()
        };
        assert_eq!(read(&bare, "/latest/meta-data/iam/info"), None);
        assert_eq!(
            read(
                &bare,
                "/latest/meta-data/iam/security-credentials/PowerPoleBastion"
            ),
            None
        );
        assert_eq!(
            read(&bare, "/latest/meta-data/tags/instance/powerpole:request"),
            None
        );
    }
}
