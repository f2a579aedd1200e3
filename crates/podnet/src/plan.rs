//! What this node's network shall be, as a pure function of the Nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

/// Everything to bring about. Nothing is planned before this node has its pod networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// This node's pod networks, at most one per IP family.
    pub pod_cidrs: Vec<IpNet>,
    /// The other nodes' pod networks and the address each is reached by.
    pub routes: BTreeMap<IpNet, IpAddr>,
}

/// None when this node does not exist or has no pod network yet.
pub fn plan<'a>(node_name: &str, nodes: impl IntoIterator<Item = &'a Node>) -> Option<Plan> {
    let mut own = None;
    let mut own_ips = BTreeSet::new();
    let mut routes = BTreeMap::new();
    for node in nodes {
        let pod_cidrs = pod_cidrs(node);
        let ips = internal_ips(node);
        if node.metadata.name.as_deref() == Some(node_name) {
            own_ips.extend(ips);
            own = Some(pod_cidrs);
            continue;
        }
        for cidr in pod_cidrs {
            if let Some(gateway) = ips.iter().find(|ip| ip.is_ipv4() == cidr.addr().is_ipv4()) {
                routes.insert(cidr, *gateway);
            }
        }
    }
    let pod_cidrs = own.filter(|cidrs| !cidrs.is_empty())?;
    // A node object that claims our address or our pods' network, say after a rename, must not take them away.
    routes.retain(|cidr, gateway| !own_ips.contains(gateway) && !pod_cidrs.contains(cidr));
    Some(Plan { pod_cidrs, routes })
}

fn pod_cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let listed = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
    let mut cidrs: Vec<IpNet> = Vec::new();
    for cidr in listed.filter_map(|cidr| cidr.parse::<IpNet>().ok()).map(|cidr| cidr.trunc()) {
        if !cidrs.iter().any(|known| known.addr().is_ipv4() == cidr.addr().is_ipv4()) {
            cidrs.push(cidr);
        }
    }
    cidrs
}

fn internal_ips(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref());
    let internal = addresses.into_iter().flatten().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, ip: &str, cidrs: &[&str]) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}]},
        }))
        .expect("a Node")
    }

    /// The node's own networks, and its routes as (destination, gateway).
    type Expected<'a> = Option<(&'a [&'a str], &'a [(&'a str, &'a str)])>;

    fn check(nodes: &[Node], expected: Expected<'_>) {
        let plan = plan("a", nodes).map(|plan| {
            let routes = plan.routes.iter().map(|(cidr, via)| (cidr.to_string(), via.to_string())).collect::<Vec<_>>();
            (plan.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>(), routes)
        });
        let expected = expected.map(|(cidrs, routes)| {
            let routes = routes.iter().map(|(cidr, via)| ((*cidr).to_owned(), (*via).to_owned())).collect();
            (cidrs.iter().map(ToString::to_string).collect(), routes)
        });
        assert_eq!(plan, expected);
    }

    #[test]
    fn other_nodes_pods_are_reached_by_their_nodes() {
        let own = node("a", "192.168.0.1", &["10.244.0.0/24"]);
        let other = node("b", "192.168.0.2", &["10.244.1.0/24"]);
        let unready = node("c", "192.168.0.3", &[]);
        check(
            &[own.clone(), other.clone(), unready.clone()],
            Some((&["10.244.0.0/24"], &[("10.244.1.0/24", "192.168.0.2")])),
        );
        check(&[unready.clone(), other], None);
        check(&[node("a", "192.168.0.1", &[]), unready], None);
        let impostor = node("old-a", "192.168.0.1", &["10.244.7.0/24"]);
        let thief = node("d", "192.168.0.4", &["10.244.0.0/24"]);
        check(&[own, impostor, thief], Some((&["10.244.0.0/24"], &[])));
    }

    #[test]
    fn families_do_not_mix() {
        let own = node("a", "192.168.0.1", &["10.244.0.0/24", "fd00:1::/64"]);
        let other = node("b", "192.168.0.2", &["10.244.1.0/24", "fd00:2::/64"]);
        check(&[own, other], Some((&["10.244.0.0/24", "fd00:1::/64"], &[("10.244.1.0/24", "192.168.0.2")])));
    }
}
