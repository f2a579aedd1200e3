//! What the rules depend on besides Services and EndpointSlices: flags and facts of the node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

/// The IP family a rule set is for. iptables and ip6tables are separate worlds; a dual-stack proxy runs two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub fn holds(self, ip: IpAddr) -> bool {
        Self::of(ip) == self
    }

    /// `addressType` of an EndpointSlice of this family.
    pub fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub(crate) fn loopback(self) -> &'static str {
        match self {
            Self::V4 => "127.0.0.0/8",
            Self::V6 => "::1/128",
        }
    }
}

/// How traffic of this cluster's pods is told from other traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalDetector {
    /// Nothing is known to be local: no rule depends on it.
    Unknown,
    /// The source lies in the pods' network.
    Cidr(IpNet),
    /// The packet comes in through this interface (`cni0`) or prefix (`veth+`).
    Interface(String),
}

impl LocalDetector {
    /// Matches for "from a pod", or None when it cannot be told.
    pub(crate) fn if_local(&self) -> Option<String> {
        match self {
            Self::Unknown => None,
            Self::Cidr(net) => Some(format!("-s {net}")),
            Self::Interface(name) => Some(format!("-i {name}")),
        }
    }

    /// Matches for "not from a pod", or None when it cannot be told.
    pub(crate) fn if_not_local(&self) -> Option<String> {
        self.if_local().map(|matches| format!("! {matches}"))
    }
}

/// The addresses of the node on which node ports are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Every local address.
    All,
    /// These only, already resolved from `--nodeport-addresses`.
    Only(BTreeSet<IpAddr>),
}

/// Everything else a rule set depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub family: Family,
    pub node_name: String,
    /// `topology.kubernetes.io/zone` of the node, for traffic distribution hints.
    pub zone: Option<String>,
    /// Addresses of the node of this family.
    pub node_ips: BTreeSet<IpAddr>,
    pub local_detector: LocalDetector,
    /// Bit of the packet mark that asks for masquerade.
    pub masquerade_bit: u8,
    pub masquerade_all: bool,
    /// `MASQUERADE --random-fully`, where the kernel and iptables have it.
    pub random_fully: bool,
    pub node_port_addresses: NodePortAddresses,
    /// Node ports answer on 127.0.0.1 too; needs `route_localnet`.
    pub localhost_node_ports: bool,
    /// conntrack is told to be liberal about TCP windows, so INVALID packets need no dropping.
    pub conntrack_tcp_be_liberal: bool,
}

impl Config {
    /// The defaults of kube-proxy's flags.
    pub fn new(family: Family, node_name: impl Into<String>) -> Self {
        Self {
            family,
            node_name: node_name.into(),
            zone: None,
            node_ips: BTreeSet::new(),
            local_detector: LocalDetector::Unknown,
            masquerade_bit: 14,
            masquerade_all: false,
            random_fully: false,
            node_port_addresses: NodePortAddresses::All,
            localhost_node_ports: family == Family::V4,
            conntrack_tcp_be_liberal: false,
        }
    }

    /// The mark as rules write it: `0x4000`.
    pub(crate) fn mark(&self) -> String {
        format!("{:#x}", 1u32 << (self.masquerade_bit & 31))
    }

    /// Does a node port answer on loopback? Only IPv4 can be routed from 127.0.0.1.
    pub fn serves_localhost(&self) -> bool {
        self.family == Family::V4
            && self.localhost_node_ports
            && match &self.node_port_addresses {
                NodePortAddresses::All => true,
                NodePortAddresses::Only(ips) => ips.iter().any(IpAddr::is_loopback),
            }
    }
}
