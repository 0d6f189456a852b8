//! The bastion's own packet filter, by uid: what the operator's processes may reach is the recorder's database
//! endpoint and nothing else, and instance metadata is root's alone.

use crate::config::Config;
use crate::failure::Coded;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const NFT: &str = "/usr/sbin/nft";

/// The filter is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirewallError {
    /// The image has no such user.
    #[error("there is no user {0}")]
    NoUser(String),
    /// `nft` cannot be run.
    #[error("cannot run {NFT}")]
    Start(#[source] io::Error),
    /// `nft` refused the rules.
    #[error("nft refused the rules: {0}")]
    Refused(String),
}

impl Coded for FirewallError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoUser(_) => "user_missing",
            Self::Start(_) => "nft_missing",
            Self::Refused(_) => "nft_refused",
        }
    }
}

/// Puts the filter in force, replacing an earlier one of ours in the same transaction.
///
/// # Errors
/// When a user is missing or the kernel does not take the rules; nothing has changed then.
pub(crate) async fn apply(config: &Config) -> Result<(), FirewallError> {
    let operator = uid(&config.operator_user)?;
    let ssm = uid(&config.ssm_user)?;
    load(&rules(operator, ssm, config.sql_listen)).await
}

fn uid(name: &str) -> Result<u32, FirewallError> {
    nix::unistd::User::from_name(name)
        .ok()
        .flatten()
        .map(|user| user.uid.as_raw())
        .ok_or_else(|| FirewallError::NoUser(name.to_owned()))
}

async fn load(rules: &str) -> Result<(), FirewallError> {
    let mut nft = Command::new(NFT)
        .args(["-f", "-"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(FirewallError::Start)?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin
            .write_all(rules.as_bytes())
            .await
            .map_err(FirewallError::Start)?;
    }
    let output = nft.wait_with_output().await.map_err(FirewallError::Start)?;
    if output.status.success() {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(FirewallError::Refused(text.chars().take(500).collect()))
    }
}

/// The rules' text. Nothing is forwarded; nothing comes in but answers, the loopback's own traffic and what an
/// address needs to be had (DHCP, neighbour discovery, path MTU).
fn rules(operator: u32, ssm: u32, endpoint: SocketAddr) -> String {
    let family = if endpoint.is_ipv4() { "ip" } else { "ip6" };
    let (address, port) = (endpoint.ip(), endpoint.port());
    let mut text = String::from("table inet powerpole\ndelete table inet powerpole\n");
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "table inet powerpole {{
  chain operator {{
    {family} daddr {address} tcp dport {port} accept
    reject with icmpx admin-prohibited
  }}
  chain output {{
    type filter hook output priority filter; policy accept;
    meta skuid {operator} jump operator
    meta skuid {ssm} reject with icmpx admin-prohibited
    ip daddr 169.254.169.254 meta skuid != 0 reject with icmpx admin-prohibited
    ip6 daddr fd00:ec2::254 meta skuid != 0 reject with icmpx admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    iif lo accept
    ct state established,related accept
    ct state invalid drop
    udp sport 67 udp dport 68 accept
    udp sport 547 udp dport 546 accept
    icmp type {{ destination-unreachable, time-exceeded, parameter-problem }} accept
    icmpv6 type {{ destination-unreachable, packet-too-big, time-exceeded, parameter-problem, \
         nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
  }}
}}
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operator_reaches_the_endpoint_and_metadata_is_roots() {
        let rules = rules(1002, 1001, SocketAddr::from(([127, 0, 0, 1], 3306)));
        for line in [
            "meta skuid 1002 jump operator",
            "ip daddr 127.0.0.1 tcp dport 3306 accept\n    reject",
            "meta skuid 1001 reject",
            "ip daddr 169.254.169.254 meta skuid != 0 reject",
            "policy drop;",
        ] {
            assert!(rules.contains(line), "{line}");
        }
    }
}
