//! The bastion's own packet filter, by uid: what the operator's processes may reach is the recorder's database
//! endpoint and nothing else, and instance metadata is root's alone. The ports of the database's servers are the
//! agent's alone, by its group: amazon-ssm-agent runs as root, and a port-forwarding session dials from there.

use crate::config::Config;
use crate::failure::Coded;
use std::collections::BTreeSet;
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
    /// The unit gives the agent no group of its own.
    #[error("the agent has no group of its own, so the filter cannot know it")]
    NoGroup,
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
            Self::NoGroup => "group_missing",
            Self::Start(_) => "nft_missing",
            Self::Refused(_) => "nft_refused",
        }
    }
}

/// Puts the filter in force, replacing an earlier one of ours in the same transaction. Before the database's ports are known
/// there are none: nobody but root runs then.
///
/// # Errors
/// When a user is missing or the kernel does not take the rules; nothing has changed then.
pub(crate) async fn apply(
    config: &Config,
    database_ports: &BTreeSet<u16>,
) -> Result<(), FirewallError> {
    let agent = rustix::process::getegid().as_raw();
    if agent == 0 {
        return Err(FirewallError::NoGroup);
    }
    let who = Who {
        operator: uid(&config.operator_user)?,
        ssm: uid(&config.ssm_user)?,
        agent,
    };
    load(&rules(who, config.sql_listen, database_ports)).await
}

/// Whom the filter knows.
#[derive(Debug, Clone, Copy)]
struct Who {
    /// uid of the operator's shell.
    operator: u32,
    /// uid of the shim.
    ssm: u32,
    /// gid of the agent.
    agent: u32,
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

/// The rules' text. The loopback's connections are not tracked: an operator could fill that table, and the agent's own new
/// connections would be dropped. Nothing is forwarded; nothing comes in but answers, the loopback's own traffic and what an
/// address needs to be had (DHCP, neighbour discovery, path MTU).
fn rules(who: Who, endpoint: SocketAddr, database_ports: &BTreeSet<u16>) -> String {
    let Who {
        operator,
        ssm,
        agent,
    } = who;
    let family = if endpoint.is_ipv4() { "ip" } else { "ip6" };
    let (address, port) = (endpoint.ip(), endpoint.port());
    let database_ports: Vec<String> = database_ports.iter().map(u16::to_string).collect();
    let databases = if database_ports.is_empty() {
        String::new()
    } else {
        let ports = database_ports.join(", ");
        format!(
            "oif != lo tcp dport {{ {ports} }} meta skgid != {agent} reject with icmpx admin-prohibited"
        )
    };
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
    {databases}
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
  chain own {{
    type filter hook output priority raw;
    oif lo notrack
  }}
  chain answers {{
    type filter hook prerouting priority raw;
    iif lo notrack
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

    const WHO: Who = Who {
        operator: 1002,
        ssm: 1001,
        agent: 1000,
    };

    #[test]
    fn the_operator_reaches_the_endpoint_and_metadata_is_roots() {
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 3306));
        let rules = rules(WHO, endpoint, &BTreeSet::from([3306, 3308]));
        for line in [
            "meta skuid 1002 jump operator",
            "ip daddr 127.0.0.1 tcp dport 3306 accept\n    reject",
            "meta skuid 1001 reject",
            "ip daddr 169.254.169.254 meta skuid != 0 reject",
            "oif != lo tcp dport { 3306, 3308 } meta skgid != 1000 reject",
            "policy drop;",
        ] {
            assert!(rules.contains(line), "{line}");
        }
    }

    #[test]
    fn before_the_databases_are_known_all_else_holds_and_the_loopback_is_never_tracked() {
        let endpoint = SocketAddr::from(([127, 0, 0, 1], 3306));
        let early = rules(WHO, endpoint, &BTreeSet::new());
        assert!(
            !early.contains("skgid") && !early.contains("{  }"),
            "{early}"
        );
        let late = rules(WHO, endpoint, &BTreeSet::from([3306]));
        for rules in [early, late] {
            for line in [
                "oif lo notrack",
                "iif lo notrack",
                "policy drop;",
                "jump operator",
            ] {
                assert!(rules.contains(line), "{line}");
            }
        }
    }

    #[test]
    fn the_kernel_takes_the_rules_twice_and_judges_by_uid() {
        // A network namespace of its own; without root or nft this says so.
        let script = r#"
            ip link set lo up && ip link add far type veth peer name near && ip link set far up && ip link set near up \
                && ip addr add 10.9.9.1/24 dev near || exit 77
            nft list ruleset >/dev/null || exit 77
            echo "$RULES" | nft -f - && echo "$RULES" | nft -f - || exit 1
            nft 'add table inet seen; add chain inet seen out { type filter hook output priority 10; }
                add rule inet seen out tcp dport 3308 counter'
            far() { setpriv --reuid=0 --regid="$1" --clear-groups timeout 0.5 bash -c 'exec 3<>/dev/tcp/10.9.9.2/3308' 2>/dev/null
                nft list table inet seen | grep -q 'packets 0' && echo "$1 rejected" || echo "$1 passed"; }
            far 0; far 1000
            python3 -m http.server 3306 --bind 127.0.0.1 >/dev/null 2>&1 & a=$!
            python3 -m http.server 3307 --bind 127.0.0.1 >/dev/null 2>&1 & b=$!
            try() { setpriv --reuid="$1" --clear-groups bash -c "exec 3<>/dev/tcp/127.0.0.1/$2" 2>/dev/null; }
            for n in $(seq 100); do try 0 3306 && try 0 3307 && break; sleep 0.1; done
            for uid in 0 1002 1001; do for port in 3306 3307; do
                try $uid $port && echo "$uid $port open" || echo "$uid $port refused"
            done; done
            kill $a $b"#;
        let output = std::process::Command::new("unshare")
            .args(["--net", "bash", "-c", script])
            .env(
                "RULES",
                rules(
                    WHO,
                    SocketAddr::from(([127, 0, 0, 1], 3306)),
                    &BTreeSet::from([3306, 3308]),
                ),
            )
            .output();
        let Some(output) = output.ok().filter(|o| o.status.code() != Some(77)) else {
            eprintln!("SKIPPED: no network namespace with nft to be had here");
            return;
        };
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = "0 rejected\n1000 passed\n0 3306 open\n0 3307 open\n1002 3306 open\n1002 3307 refused\n\
                        1001 3306 refused\n1001 3307 refused\n";
        assert_eq!(seen, expected);
    }
}
