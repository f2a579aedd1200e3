//! Flags, checked before anything is started.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use ipnet::IpNet;

/// Longest name of a network interface.
const MAX_INTERFACE_NAME: usize = 15;

/// Connects the pods of this node
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "kube-podnet", version = daemon::VERSION)]
pub struct Flags {
    /// Path to the kubeconfig file with authorization information
    #[arg(long, required_unless_present = "cleanup")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node, when it differs from the host's name
    #[arg(long)]
    pub node_name: Option<String>,
    /// Where the CNI configuration is written
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the CNI plugins keep the addresses they have given out
    #[arg(long, default_value = "/var/lib/cni/networks")]
    pub cni_state_dir: PathBuf,
    /// The networks of all pods, at most one per IP family: traffic within is not masqueraded
    #[arg(long, value_delimiter = ',', default_value = "10.244.0.0/16")]
    pub cluster_cidr: Vec<IpNet>,
    /// The bridge that the pods of this node are attached to
    #[arg(long, default_value = "cni0")]
    pub bridge_name: String,
    /// MTU of the pods' interfaces; 0 leaves it to the kernel
    #[arg(long, default_value_t = 0)]
    pub mtu: u32,
    /// The address of the metrics and health server; empty to disable
    #[arg(long, default_value = "127.0.0.1:10244")]
    pub metrics_bind_address: String,
    /// Remove bridge, routes, rules and CNI configuration, and exit
    #[arg(long, action = clap::ArgAction::Set, default_value_t = false, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub cleanup: bool,
    #[command(flatten)]
    pub log: daemon::LogArgs,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub kubeconfig: PathBuf,
    pub node_name: String,
    pub cni_conf_dir: PathBuf,
    pub cni_state_dir: PathBuf,
    pub cluster_cidrs: Vec<IpNet>,
    pub bridge_name: String,
    pub mtu: u32,
    pub metrics_address: Option<SocketAddr>,
}

impl Config {
    pub fn load(flags: Flags) -> anyhow::Result<Self> {
        let address = &flags.metrics_bind_address;
        let parsed = || address.parse().with_context(|| format!("--metrics-bind-address: invalid address {address:?}"));
        let metrics_address = if address.is_empty() { None } else { Some(parsed()?) };
        let name = &flags.bridge_name;
        let valid = !name.is_empty() && name.len() <= MAX_INTERFACE_NAME && !name.contains(['/', ' ']);
        ensure!(valid, "--bridge-name: {name:?} is no valid name of an interface");
        let v4 = flags.cluster_cidr.iter().filter(|cidr| cidr.addr().is_ipv4()).count();
        let one_each = v4 <= 1 && flags.cluster_cidr.len() - v4 <= 1;
        ensure!(one_each, "--cluster-cidr: only one network per IP family is allowed");
        Ok(Self {
            kubeconfig: flags.kubeconfig.context("--kubeconfig is required")?,
            node_name: node_name(flags.node_name)?,
            cni_conf_dir: flags.cni_conf_dir,
            cni_state_dir: flags.cni_state_dir,
            cluster_cidrs: flags.cluster_cidr.iter().map(IpNet::trunc).collect(),
            bridge_name: flags.bridge_name,
            mtu: flags.mtu,
            metrics_address,
        })
    }
}

fn node_name(given: Option<String>) -> anyhow::Result<String> {
    let name = match given {
        Some(name) => name,
        None => {
            let host = nix::unistd::gethostname().context("cannot read the host's name")?;
            host.into_string().ok().context("the host's name is not UTF-8")?
        }
    };
    let name = name.trim().to_lowercase();
    ensure!(!name.is_empty(), "--node-name: empty");
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn mistakes_are_named() {
        let check = |flag: &str, words: &str| {
            let flags = Flags::try_parse_from(["kube-podnet", "--kubeconfig=/k", "--node-name=n", flag]);
            let error = Config::load(flags.expect("flags that parse")).expect_err(words);
            assert!(format!("{error:#}").contains(words), "{error:#}");
        };
        check("--bridge-name=a-name-that-is-too-long", "--bridge-name");
        check("--cluster-cidr=10.0.0.0/8,11.0.0.0/8", "only one network per IP family");
        check("--metrics-bind-address=here", "--metrics-bind-address");
        assert!(Flags::try_parse_from(["kube-podnet"]).is_err(), "a kubeconfig is required");
    }
}
