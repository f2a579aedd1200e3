//! The host's bridge and one network namespace per node, through iproute2.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::cluster::{Cluster, MAX_NODES, Node};

/// Runs a command; its words are the error when it fails.
pub fn run(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}", args.join(" "), words.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(command: &str) -> anyhow::Result<String> {
    run("ip", &command.split(' ').collect::<Vec<_>>())
}

fn link_exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

/// The directory of the cluster whose bridge this is, if it is there.
fn owner(bridge: &str) -> Option<String> {
    let alias = || fs::read_to_string(format!("/sys/class/net/{bridge}/ifalias")).unwrap_or_default();
    link_exists(bridge).then(|| alias().trim().to_owned())
}

/// The bridge with the control plane's address, forwarding, and a way out for the nodes.
pub fn ensure_bridge(cluster: &Cluster) -> anyhow::Result<()> {
    let bridge = cluster.bridge();
    let alias = cluster.dir.display().to_string();
    if let Some(owner) = owner(&bridge) {
        if owner != alias {
            bail!("the link {bridge} belongs to the cluster in {owner:?}");
        }
    } else {
        ip(&format!("link add {bridge} type bridge forward_delay 0"))?;
        run("ip", &["link", "set", &bridge, "alias", &alias])?;
    }
    ip(&format!("address replace {}/24 dev {bridge}", cluster.address()))?;
    ip(&format!("link set {bridge} up"))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot set net.ipv4.ip_forward")?;
    for (table, rule) in rules(cluster) {
        if iptables(table, "-C", &rule).is_err() {
            iptables(table, "-A", &rule)?;
        }
    }
    Ok(())
}

/// What the host must do for the nodes: hide their addresses from the world, and let their packets through.
fn rules(cluster: &Cluster) -> Vec<(&'static str, Vec<String>)> {
    let bridge = cluster.bridge();
    let words = |text: String| text.split(' ').map(ToOwned::to_owned).collect();
    vec![
        ("nat", words(format!("POSTROUTING -s {} ! -o {bridge} -j MASQUERADE", cluster.subnet()))),
        ("filter", words(format!("FORWARD -i {bridge} -j ACCEPT"))),
        ("filter", words(format!("FORWARD -o {bridge} -j ACCEPT"))),
    ]
}

fn iptables(table: &str, action: &str, rule: &[String]) -> anyhow::Result<()> {
    let mut args = vec!["-w", "5", "-t", table, action];
    args.extend(rule.iter().map(String::as_str));
    run("iptables", &args).map(drop)
}

/// A namespace with a link to the bridge, an address and a default route.
pub fn ensure_node(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    let (ns, link, bridge) = (&node.netns, &node.link, cluster.bridge());
    if !Path::new("/run/netns").join(ns).exists() {
        ip(&format!("netns add {ns}"))?;
    }
    if !link_exists(link) {
        ip(&format!("link add {link} type veth peer name eth0 netns {ns}"))?;
    }
    ip(&format!("link set {link} master {bridge} up"))?;
    ip(&format!("-n {ns} link set lo up"))?;
    ip(&format!("-n {ns} address replace {}/24 dev eth0", node.address))?;
    ip(&format!("-n {ns} link set eth0 up"))?;
    ip(&format!("-n {ns} route replace default via {}", cluster.address()))?;
    Ok(())
}

/// The way from the host to a node's pods, for what the API server proxies. It goes with the bridge.
pub fn route_pods(node: &Node, pod_cidr: &str) -> anyhow::Result<()> {
    ip(&format!("route replace {pod_cidr} via {}", node.address)).map(drop)
}

/// Everything `ensure_bridge` and `ensure_node` made. A namespace takes its links, routes and rules with it.
pub fn remove(cluster: &Cluster) -> anyhow::Result<()> {
    let prefix = format!("{}-node-", cluster.bridge());
    if let Ok(entries) = fs::read_dir("/run/netns") {
        for name in entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()) {
            if name.starts_with(&prefix) {
                ip(&format!("netns delete {name}"))?;
            }
        }
    }
    let bridge = cluster.bridge();
    let owner = owner(&bridge);
    if owner.as_ref().is_some_and(|owner| *owner != cluster.dir.display().to_string()) {
        return Ok(());
    }
    // Each by itself: somebody may have removed the others before. The kernel removes the far ends of the nodes' links
    // with their namespaces, but in its own time.
    for link in (1..=MAX_NODES).map(|n| cluster.node(n).link).filter(|link| link_exists(link)) {
        let _ = ip(&format!("link delete {link}"));
    }
    let mut found = owner.is_some();
    for (table, rule) in rules(cluster) {
        // As often as it is there.
        while iptables(table, "-D", &rule).is_ok() {
            found = true;
        }
    }
    if owner.is_some() {
        ip(&format!("link delete {bridge}"))?;
    }
    if found { restore_forwarding(cluster) } else { Ok(()) }
}

/// The last cluster on the host puts the setting back as it was found.
fn restore_forwarding(cluster: &Cluster) -> anyhow::Result<()> {
    let links = fs::read_dir("/sys/class/net").context("cannot list links")?;
    let other = |name: String| name.strip_prefix("cox").is_some_and(|n| n.parse::<u8>().is_ok());
    if !links.flatten().any(|e| other(e.file_name().to_string_lossy().into_owned())) {
        fs::write("/proc/sys/net/ipv4/ip_forward", &cluster.ip_forward)
            .context("cannot restore net.ipv4.ip_forward")?;
    }
    Ok(())
}
