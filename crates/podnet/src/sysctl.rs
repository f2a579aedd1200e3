//! Kernel settings of this network namespace: `/proc/sys/net` shows the namespace of the process that looks.

use std::path::Path;

use anyhow::Context;

const BRIDGE_NETFILTER: [&str; 2] = ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"];

/// Lets this node route between its pods and the others, and lets Services work between pods of one bridge.
pub fn apply(ipv6: bool) -> anyhow::Result<()> {
    set("net/ipv4/ip_forward", "1")?;
    if ipv6 {
        set("net/ipv6/conf/all/forwarding", "1")?;
    }
    load_bridge_netfilter();
    for key in BRIDGE_NETFILTER {
        set(key, "1").context("is the module br_netfilter loaded?")?;
    }
    Ok(())
}

/// A kernel may have it built in, or this host may not be allowed to load it: the setting tells.
fn load_bridge_netfilter() {
    if !path(BRIDGE_NETFILTER[0]).exists() {
        let loaded = std::process::Command::new("modprobe").arg("br_netfilter").output();
        tracing::debug!(?loaded, "modprobe br_netfilter");
    }
}

fn set(key: &str, value: &str) -> anyhow::Result<()> {
    let path = path(key);
    let present = std::fs::read_to_string(&path).unwrap_or_default();
    if present.trim() == value {
        return Ok(());
    }
    std::fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))
}

fn path(key: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(key)
}
