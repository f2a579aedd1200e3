//! From the Node object and this host's interfaces to what the rules depend on.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use proxyrules::{Family, LocalDetector, NodePortAddresses};

use crate::config::{Config, DetectLocalMode};

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// What of a Node matters, for telling whether a change of it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub ips: BTreeSet<IpAddr>,
    pub zone: Option<String>,
    pub pod_cidrs: Vec<IpNet>,
    /// Load balancers should send traffic here: the node is neither leaving nor about to be removed.
    pub eligible: bool,
}

impl Facts {
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
        let internal = addresses.into_iter().flatten().filter(|a| a.type_ == "InternalIP" || a.type_ == "ExternalIP");
        let labels = node.metadata.labels.as_ref();
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        let leaving = taints.into_iter().any(|taint| taint.key == "ToBeDeletedByClusterAutoscaler");
        let pod_cidrs = spec.and_then(|spec| spec.pod_cidrs.as_ref()).into_iter().flatten();
        Self {
            ips: internal.filter_map(|address| address.address.parse().ok()).collect(),
            zone: labels.and_then(|labels| labels.get(ZONE_LABEL)).cloned(),
            pod_cidrs: pod_cidrs.filter_map(|cidr| cidr.parse().ok()).collect(),
            eligible: node.metadata.deletion_timestamp.is_none() && !leaving,
        }
    }

    /// Whether the rules can be made: NodeCIDR detection waits for the pod network.
    pub fn suffice(&self, config: &Config) -> bool {
        config.detect_local != DetectLocalMode::NodeCidr || !self.pod_cidrs.is_empty()
    }
}

/// The configuration of the rules of one family.
pub fn rules_config(config: &Config, facts: &Facts, family: Family, random_fully: bool) -> proxyrules::Config {
    let mut rules = proxyrules::Config::new(family, &config.node_name);
    rules.zone.clone_from(&facts.zone);
    let known = config.bind_address.iter().chain(&facts.ips);
    rules.node_ips = known.copied().filter(|ip| family.holds(*ip)).collect();
    rules.local_detector = local_detector(config, facts, family);
    rules.masquerade_bit = config.masquerade_bit;
    rules.masquerade_all = config.masquerade_all;
    rules.random_fully = random_fully;
    rules.localhost_node_ports = config.localhost_node_ports;
    rules.node_port_addresses = node_port_addresses(&config.node_port_addresses, &rules.node_ips, family);
    rules
}

fn local_detector(config: &Config, facts: &Facts, family: Family) -> LocalDetector {
    let of_family = |cidrs: &[IpNet]| {
        let cidr = cidrs.iter().find(|cidr| family.holds(cidr.addr()));
        cidr.map_or(LocalDetector::Unknown, |cidr| LocalDetector::Cidr(*cidr))
    };
    match &config.detect_local {
        DetectLocalMode::ClusterCidr => of_family(&config.cluster_cidrs),
        DetectLocalMode::NodeCidr => of_family(&facts.pod_cidrs),
        DetectLocalMode::BridgeInterface(name) => LocalDetector::Interface(name.clone()),
        DetectLocalMode::InterfaceNamePrefix(prefix) => LocalDetector::Interface(format!("{prefix}+")),
    }
}

fn node_port_addresses(listed: &[String], node_ips: &BTreeSet<IpAddr>, family: Family) -> NodePortAddresses {
    if listed.iter().any(|address| address == "primary") {
        return NodePortAddresses::Only(node_ips.clone());
    }
    let nets: Vec<IpNet> = listed.iter().filter_map(|net| net.parse().ok()).collect();
    let mut nets = nets.iter().filter(|net| family.holds(net.addr())).peekable();
    if nets.peek().is_none() || nets.clone().any(|net| net.prefix_len() == 0) {
        return NodePortAddresses::All;
    }
    let local = local_ips();
    NodePortAddresses::Only(local.into_iter().filter(|ip| nets.clone().any(|net| net.contains(ip))).collect())
}

/// Addresses of this host's interfaces.
fn local_ips() -> Vec<IpAddr> {
    let interfaces = match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "cannot list this host's addresses");
            return Vec::new();
        }
    };
    let ip = |address: nix::sys::socket::SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    interfaces.filter_map(|interface| interface.address.and_then(ip)).collect()
}
