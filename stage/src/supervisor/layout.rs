//! Where the parts of a stage listen in its hub, and what they are called.

use std::net::{Ipv4Addr, SocketAddr};

/// The hub's address on the bridge.
pub(crate) const HUB: Ipv4Addr = crate::hub::HUB;
/// The AWS endpoint.
pub(crate) const AWS: SocketAddr = at(4566);
/// Control for bastions.
pub(crate) const CONTROL_BASTIONS: SocketAddr = at(8080);
/// Control for Slack.
pub(crate) const CONTROL_SLACK: SocketAddr = at(8081);
/// The workspace page and Slack's Web API.
pub(crate) const WORKSPACE: SocketAddr = at(8090);
/// The gateway of SSM sessions.
pub(crate) const GATEWAY: SocketAddr = at(8022);

/// Table of the ledger.
pub(crate) const LEDGER_TABLE: &str = "powerpole-ledger";
/// Log group of the evidence.
pub(crate) const LOG_GROUP: &str = "/powerpole/stage/evidence";
/// Bucket of the anchors.
pub(crate) const ANCHOR_BUCKET: &str = "powerpole-anchors";
/// Parameter that names the image.
pub(crate) const IMAGE_PARAMETER: &str = "/powerpole/stage/image";
/// Region of the stage.
pub(crate) const REGION: &str = "us-east-1";

const fn at(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(HUB), port)
}

/// A database cluster that people of the stage may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cluster {
    /// Its identifier.
    pub(crate) id: &'static str,
    /// What people read.
    pub(crate) title: &'static str,
    /// Where its server listens.
    pub(crate) port: u16,
    /// Schemas that may be asked for.
    pub(crate) schemas: &'static [&'static str],
    /// Whether PowerPole's procedures are installed on it.
    pub(crate) installed: bool,
    /// Whether control has the ticket key in KMS and not in a file.
    pub(crate) key_in_kms: bool,
}

/// The stage's clusters: MySQL, MariaDB, and one whose server is down.
pub(crate) fn clusters() -> [Cluster; 3] {
    [
        Cluster {
            id: "orders-prod",
            title: "Orders (MySQL 9.7)",
            port: 3306,
            schemas: &["orders"],
            installed: true,
            key_in_kms: false,
        },
        Cluster {
            id: "archive-prod",
            title: "Archive (MariaDB 10.11)",
            port: 3307,
            schemas: &["orders"],
            installed: true,
            key_in_kms: true,
        },
        Cluster {
            id: "broken-prod",
            title: "Broken (nothing listens there)",
            port: 3399,
            schemas: &["orders"],
            installed: false,
            key_in_kms: false,
        },
    ]
}

impl Cluster {
    /// Name of the grantor's credential in Secrets Manager.
    pub(crate) fn grantor_secret(&self) -> String {
        format!("powerpole/grantor/{}", self.id)
    }

    /// Alias of the ticket key in KMS.
    pub(crate) fn ticket_alias(&self) -> String {
        format!("alias/powerpole/ticket/{}", self.id)
    }
}
