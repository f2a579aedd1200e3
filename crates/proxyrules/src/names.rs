//! Names: a Service's port, and the chains derived from it.
//!
//! A chain's name is a prefix and the first 16 characters of base32(sha256(what it serves)), because the kernel limits
//! a chain's name to 28 characters.

use std::fmt;

use sha2::{Digest, Sha256};

/// Length of the hash in a chain's name.
const HASH_LEN: usize = 16;

/// Namespace and name of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub namespace: String,
    pub name: String,
}

impl ServiceKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// An absent protocol is TCP, an unknown one is none of ours.
    pub fn parse(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As iptables and the hash write it.
    pub fn as_lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of one Service: the unit that gets chains. Two ports of a Service may share a number, but not a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServicePortName {
    pub service: ServiceKey,
    pub port: String,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port.is_empty() { write!(f, "{}", self.service) } else { write!(f, "{}:{}", self.service, self.port) }
    }
}

/// The chains of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceChains {
    /// Endpoints of the whole cluster.
    pub cluster: String,
    /// Endpoints on this node only.
    pub local: String,
    /// Where traffic from outside of the cluster enters.
    pub external: String,
    /// Checks a load balancer's source ranges.
    pub firewall: String,
}

impl ServiceChains {
    pub fn new(port_name: &str, protocol: Protocol) -> Self {
        let hash = hash(&[port_name, protocol.as_lower()]);
        Self {
            cluster: format!("KUBE-SVC-{hash}"),
            local: format!("KUBE-SVL-{hash}"),
            external: format!("KUBE-EXT-{hash}"),
            firewall: format!("KUBE-FW-{hash}"),
        }
    }
}

/// The chain that sends traffic of a service port to one endpoint (`ip:port`).
pub(crate) fn endpoint_chain(port_name: &str, protocol: Protocol, endpoint: &str) -> String {
    format!("KUBE-SEP-{}", hash(&[port_name, protocol.as_lower(), endpoint]))
}

/// Is this a chain made for one service port, which must go when the port goes?
pub(crate) fn is_service_chain(name: &str) -> bool {
    ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"].iter().any(|prefix| name.starts_with(prefix))
}

fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part.as_bytes()));
    base32_prefix(&hasher.finalize())
}

/// RFC 4648 base32 of the first 80 bits: exactly [`HASH_LEN`] characters, so padding never arises.
fn base32_prefix(digest: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits = digest.iter().take(HASH_LEN * 5 / 8).fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    (0..HASH_LEN).rev().map(|i| char::from(ALPHABET[((bits >> (i * 5)) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names_are_the_ones_people_know() {
        let check = |name: &str, protocol, expected: &str| {
            assert_eq!(ServiceChains::new(name, protocol).cluster, expected);
        };
        check("default/kubernetes:https", Protocol::Tcp, "KUBE-SVC-NPX46M4PTMTKRN6Y");
        check("kube-system/kube-dns:dns", Protocol::Udp, "KUBE-SVC-TCOU7JCQXEZGVUNU");
        check("kube-system/kube-dns:dns-tcp", Protocol::Tcp, "KUBE-SVC-ERIFXISQEP7F7OF4");
        check("ns1/svc1:p80", Protocol::Tcp, "KUBE-SVC-XPGD46QRK7WJZT7O");
        assert_eq!(endpoint_chain("ns1/svc1:p80", Protocol::Tcp, "10.180.0.1:80"), "KUBE-SEP-SXIVWICOYRO3J4NJ");
    }

    #[test]
    fn a_port_without_a_name_leaves_no_colon() {
        let name = ServicePortName { service: ServiceKey::new("a", "b"), port: String::new() };
        assert_eq!(name.to_string(), "a/b");
    }
}
