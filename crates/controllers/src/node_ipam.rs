//! Gives every node its share of the cluster's pod networks.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::meta::Meta;
use crate::plan::{EventType, Op, PatchType, Plan, Target, reference};

/// One cluster network and the size of a node's share of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    pub cluster: IpNet,
    pub node_prefix: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("the node mask /{node} must be at least as long as the cluster network's /{cluster}")]
    MaskTooShort { node: u8, cluster: u8 },
    #[error("the node mask /{0} is too long for this address family")]
    MaskTooLong(u8),
    #[error("the cluster network /{cluster} holds more than 2^16 node networks of /{node}")]
    TooMany { node: u8, cluster: u8 },
}

impl Pool {
    pub fn new(cluster: IpNet, node_prefix: u8) -> Result<Self, PoolError> {
        let prefix = cluster.prefix_len();
        if node_prefix > cluster.max_prefix_len() {
            return Err(PoolError::MaskTooLong(node_prefix));
        }
        let bits =
            node_prefix.checked_sub(prefix).ok_or(PoolError::MaskTooShort { node: node_prefix, cluster: prefix })?;
        if bits > 16 {
            return Err(PoolError::TooMany { node: node_prefix, cluster: prefix });
        }
        Ok(Self { cluster: cluster.trunc(), node_prefix })
    }

    fn free(&self, taken: &[IpNet]) -> Option<IpNet> {
        let overlaps = |net: &IpNet| taken.iter().any(|other| net.contains(other) || other.contains(net));
        self.cluster.subnets(self.node_prefix).ok()?.find(|net| !overlaps(net))
    }
}

/// Shares handed out but perhaps not yet seen in the cache, by node name.
pub type Reserved = BTreeMap<String, Vec<IpNet>>;

pub struct Observed<'a> {
    pub node: &'a Node,
    pub nodes: &'a [Arc<Node>],
    pub pools: &'a [Pool],
}

pub fn plan(observed: &Observed, reserved: &mut Reserved) -> Plan {
    let mut plan = Plan::default();
    reserved.retain(|name, _| observed.nodes.iter().any(|node| node.name() == name && cidrs(node).is_empty()));
    if !cidrs(observed.node).is_empty() || observed.node.deleting() {
        return plan;
    }
    let name = observed.node.name();
    if !reserved.contains_key(name) {
        let taken: Vec<IpNet> =
            observed.nodes.iter().flat_map(|node| cidrs(node)).chain(reserved.values().flatten().copied()).collect();
        let shares: Option<Vec<IpNet>> = observed.pools.iter().map(|pool| pool.free(&taken)).collect();
        let Some(shares) = shares else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            plan.event(reference(observed.node), EventType::Normal, "CIDRNotAvailable", message);
            return plan;
        };
        reserved.insert(name.to_owned(), shares);
    }
    let shares: Vec<String> = reserved[name].iter().map(ToString::to_string).collect();
    let patch = json!({
        "metadata": {"uid": observed.node.meta().uid},
        "spec": {"podCIDR": shares.first(), "podCIDRs": shares},
    });
    plan.push(Op::patch(Target::of(observed.node), PatchType::Strategic, patch));
    plan
}

fn cidrs(node: &Node) -> Vec<IpNet> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let all: Vec<&String> = match &spec.pod_cidrs {
        Some(list) if !list.is_empty() => list.iter().collect(),
        _ => spec.pod_cidr.iter().collect(),
    };
    all.into_iter().filter_map(|cidr| cidr.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, cidr: Option<&str>) -> Arc<Node> {
        let mut node = Node::default();
        node.metadata.name = Some(name.into());
        node.spec.get_or_insert_default().pod_cidr = cidr.map(str::to_owned);
        Arc::new(node)
    }

    fn check(nodes: &[Arc<Node>], reserved: &mut Reserved, expected: Option<&str>) {
        let pool = Pool::new("10.244.0.0/22".parse().expect("a network"), 24).expect("a pool");
        let plan = plan(&Observed { node: &nodes[0], nodes, pools: &[pool] }, reserved);
        let patched = plan.ops.first().map(|op| match &op.verb {
            crate::plan::Verb::Patch { patch, .. } => patch["spec"]["podCIDR"].as_str().map(str::to_owned),
            _ => None,
        });
        assert_eq!(patched.flatten().as_deref(), expected);
    }

    #[test]
    fn the_first_free_share_is_given_once() {
        let mut reserved = Reserved::new();
        let taken = node("b", Some("10.244.0.0/24"));
        check(&[node("a", None), taken.clone()], &mut reserved, Some("10.244.1.0/24"));
        // Not in the cache yet, but handed out.
        check(&[node("c", None), taken.clone(), node("a", None)], &mut reserved, Some("10.244.2.0/24"));
        check(&[node("a", None), taken.clone(), node("c", None)], &mut reserved, Some("10.244.1.0/24"));
        check(&[node("a", Some("10.244.1.0/24"))], &mut reserved, None);
    }

    #[test]
    fn an_exhausted_pool_is_said_aloud() {
        let mut reserved = Reserved::new();
        let full: Vec<Arc<Node>> = std::iter::once(node("new", None))
            .chain((0..4).map(|n| node(&format!("n{n}"), Some(&format!("10.244.{n}.0/24")))))
            .collect();
        check(&full, &mut reserved, None);
    }
}
