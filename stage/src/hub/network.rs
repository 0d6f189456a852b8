//! The hub's network: a bridge in a namespace of its own, and machines plugged into it.
//!
//! What holds for every machine: it reaches the hub's services that a bastion has any business with, and nothing else; it
//! never reaches another machine (isolated bridge ports); it cannot speak from another machine's address (nftables by port and
//! address), so the IMDS may trust the source address. Moto itself listens on the hub's loopback, out of every machine's reach.

use super::command::{run, run_with_input};
use super::{HubError, InstanceId, Stage};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The hub's own address; every service of the stage listens here.
pub(crate) const HUB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The instance metadata service's address, also on the hub's bridge.
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// What a machine may open on the hub: AWS endpoint, databases, package repository, control's bastion API, SSM gateway.
/// Slack's side (8081, 8090) is not among them: no bastion ever talks to Slack.
const MACHINE_PORTS: &str = "3306, 3307, 4566, 8000, 8022, 8080";

/// The path that names a namespace, for `nsenter` and nspawn.
pub(crate) fn namespace_path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// True when the namespace exists.
pub(crate) fn exists(namespace: &str) -> bool {
    namespace_path(namespace).exists()
}

/// True when the calling process is in the stage's hub.
pub(crate) fn inside_hub(stage: &Stage) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let here = identity(Path::new("/proc/self/ns/net"));
    here.is_some() && here == identity(&namespace_path(&stage.hub_namespace()))
}

/// Every network namespace of the stage, the hub included.
pub(crate) fn namespaces(stage: &Stage) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| stage.owns_namespace(name))
        .collect();
    names.sort();
    names
}

/// Makes the hub. Repeating it on a whole hub changes nothing; a half-made one is replaced.
pub(crate) fn create_hub(stage: &Stage) -> Result<(), HubError> {
    let hub = stage.hub_namespace();
    if exists(&hub) {
        if hub_is_whole(&hub) {
            return Ok(());
        }
        delete(&hub)?;
    }
    run("ip", &["netns", "add", &hub])?;
    // Without an address of its own a bridge takes its lowest port's, so every machine that comes or goes could
    // leave the others with a wrong neighbour entry for the hub, for a minute and more.
    let links = format!(
        "link set lo up\n\
         link add br0 address 02:50:50:00:00:01 type bridge\n\
         addr add {HUB}/16 dev br0\n\
         addr add {METADATA}/32 dev br0\n\
         link set br0 up\n"
    );
    run_with_input("ip", &["-n", &hub, "-batch", "-"], &links)?;
    in_namespace(&hub, "nft", &["-f", "-"], &hub_rules()).map(drop)
}

/// The last thing that [`create_hub`] does is the rule set, so its presence means that all came before it.
fn hub_is_whole(hub: &str) -> bool {
    in_namespace(hub, "nft", &["list", "table", "bridge", "ports"], "").is_ok()
}

/// One transaction: either both tables are there or none.
fn hub_rules() -> String {
    format!(
        "table inet hub {{
           chain input {{
             type filter hook input priority filter; policy drop;
             iifname lo accept
             ct state established,related accept
             iifname br0 ip daddr {HUB} tcp dport {{ {MACHINE_PORTS} }} accept
             iifname br0 ip daddr {METADATA} tcp dport 80 accept
             iifname br0 icmp type echo-request accept
             iifname br0 meta l4proto tcp reject with tcp reset
           }}
           chain forward {{ type filter hook forward priority filter; policy drop; }}
         }}
         table bridge ports {{
           set owners {{ type ifname . ipv4_addr; }}
           chain prerouting {{
             type filter hook prerouting priority dstnat; policy drop;
             ether type ip iifname . ip saddr @owners accept
             ether type arp iifname . arp saddr ip @owners accept
           }}
         }}
"
    )
}

/// Gives a machine a fresh namespace with its address, plugged into the hub. What the machine before it left there is gone.
pub(crate) fn plug(
    stage: &Stage,
    instance: &InstanceId,
    address: Ipv4Addr,
) -> Result<(), HubError> {
    let hub = stage.hub_namespace();
    if !exists(&hub) {
        return Err(HubError::NoHub { namespace: hub });
    }
    let own = stage.machine_namespace(instance);
    unplug(stage, instance)?;
    run("ip", &["netns", "add", &own])?;
    let port = port_name(instance);
    let inside = format!(
        "link set lo up\n\
         link add eth0 type veth peer name {port} netns {hub}\n\
         addr add {address}/32 dev eth0\n\
         link set eth0 up\n\
         route add {HUB} dev eth0 scope link\n\
         route add default via {HUB} dev eth0\n"
    );
    run_with_input("ip", &["-n", &own, "-batch", "-"], &inside)?;
    let outside = format!(
        "link set {port} master br0\n\
         link set {port} type bridge_slave isolated on\n\
         link set {port} up\n\
         route replace {address}/32 dev br0\n"
    );
    run_with_input("ip", &["-n", &hub, "-batch", "-"], &outside)?;
    let owner = format!("add element bridge ports owners {{ \"{port}\" . {address} }}\n");
    in_namespace(&hub, "nft", &["-f", "-"], &owner).map(drop)
}

/// Removes a machine's namespace, its port and its right to an address. Nothing there is success.
pub(crate) fn unplug(stage: &Stage, instance: &InstanceId) -> Result<(), HubError> {
    let hub = stage.hub_namespace();
    let port = port_name(instance);
    if exists(&hub) {
        // The port goes with its peer too, but only once the last process has left the machine's namespace.
        let _ = run("ip", &["-n", &hub, "link", "del", &port]);
        if let Ok(owners) = in_namespace(
            &hub,
            "nft",
            &["list", "set", "bridge", "ports", "owners"],
            "",
        ) {
            for address in owned_addresses(&owners, &port) {
                let element =
                    format!("delete element bridge ports owners {{ \"{port}\" . {address} }}\n");
                in_namespace(&hub, "nft", &["-f", "-"], &element)?;
            }
        }
    }
    let own = stage.machine_namespace(instance);
    if exists(&own) { delete(&own) } else { Ok(()) }
}

/// Removes a network namespace by name.
pub(crate) fn delete(namespace: &str) -> Result<(), HubError> {
    run("ip", &["netns", "del", namespace]).map(drop)
}

/// Runs a tool in a network namespace, in the caller's mount namespace.
fn in_namespace(
    namespace: &str,
    program: &str,
    args: &[&str],
    input: &str,
) -> Result<String, HubError> {
    let net = format!("--net={}", namespace_path(namespace).display());
    let mut all = vec![net.as_str(), "--", program];
    all.extend_from_slice(args);
    run_with_input("nsenter", &all, input)
}

/// The hub's end of a machine's cable: 14 characters of the kernel's 15, the instance id's last digits.
fn port_name(instance: &InstanceId) -> String {
    let digits = instance.as_str().trim_start_matches("i-");
    let tail = digits
        .get(digits.len().saturating_sub(13)..)
        .unwrap_or(digits);
    format!("v{tail}")
}

/// The addresses that a port owns, out of nft's listing of the set.
fn owned_addresses(listing: &str, port: &str) -> Vec<Ipv4Addr> {
    listing
        .split(['{', '}', ',', '='])
        .filter_map(|element| {
            let (name, address) = element.trim().split_once(" . ")?;
            (name.trim_matches('"') == port)
                .then(|| address.trim().parse().ok())
                .flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_name_fits_the_kernel_and_tells_machines_apart() {
        let one = port_name(&"i-0123456789abcdef0".parse().unwrap());
        let other = port_name(&"i-0123456789abcdef1".parse().unwrap());
        assert_eq!(one, "v456789abcdef0");
        assert!(one.len() <= 15 && one != other);
        assert_eq!(port_name(&"i-01234567".parse().unwrap()), "v01234567");
    }

    #[test]
    fn only_the_ports_own_addresses_are_found_in_the_listing() {
        let listing = "table bridge ports {\n set owners {\n type ifname . ipv4_addr\n elements = { \"v1\" . 10.77.64.4,\n \"v12\" . 10.77.64.5, \"v1\" . 10.77.64.6 }\n }\n}";
        assert_eq!(
            owned_addresses(listing, "v1"),
            [Ipv4Addr::new(10, 77, 64, 4), Ipv4Addr::new(10, 77, 64, 6)]
        );
        assert!(owned_addresses(listing, "v9").is_empty());
    }
}
