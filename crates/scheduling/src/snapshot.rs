//! The cluster as the scheduler knows it, kept up to date one change at a time.
//!
//! Invariants: a pod that names a node unknown here waits in `homeless` and moves in when the node appears;
//! `images` counts, for every image, the nodes that have it; `order` is recomputed only after the set of
//! nodes or their zones changed. Cloning is cheap (nodes are shared), so a decision can be kept for replay.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::labels::Labels;
use crate::node::NodeInfo;
use crate::pod::{Owner, PodInfo};
use crate::selector::Selector;

/// (namespace, name)
pub type Key = (Box<str>, Box<str>);

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<Arc<NodeInfo>>,
    index: HashMap<Arc<str>, usize>,
    order: OnceLock<Arc<[u32]>>,
    homeless: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    images: HashMap<Box<str>, usize>,
    /// Pods that preemption made room for, by the node that was freed.
    nominated: HashMap<Box<str>, Vec<Arc<PodInfo>>>,
    pub namespaces: HashMap<Box<str>, Labels>,
    pub services: BTreeMap<Key, Labels>,
    /// Selectors of ReplicationControllers, ReplicaSets and StatefulSets.
    pub workloads: HashMap<(Box<str>, Owner), Selector>,
    pub budgets: BTreeMap<Key, Budget>,
}

/// What preemption needs of a PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    pub selector: Selector,
    pub allowed: i32,
    /// Pods whose eviction is already paid for.
    pub disrupted: Box<[Box<str>]>,
}

impl Budget {
    pub fn new(budget: &PodDisruptionBudget) -> Self {
        let status = budget.status.as_ref();
        Budget {
            selector: Selector::new(budget.spec.as_ref().and_then(|s| s.selector.as_ref())),
            allowed: status.and_then(|s| s.disruptions_allowed).unwrap_or(0),
            disrupted: status
                .and_then(|s| s.disrupted_pods.as_ref())
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str().into())
                .collect(),
        }
    }
}

impl Snapshot {
    pub fn nodes(&self) -> &[Arc<NodeInfo>] {
        &self.nodes
    }

    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.index.get(name).map(|i| &self.nodes[*i])
    }

    /// All nodes, taking one of every zone in turn.
    pub fn in_order(&self) -> impl ExactSizeIterator<Item = &Arc<NodeInfo>> {
        let order = self.order.get_or_init(|| interleave(&self.nodes));
        order.iter().map(|i| &self.nodes[*i as usize])
    }

    /// On how many nodes an image is present.
    pub fn nodes_with_image(&self, image: &str) -> usize {
        self.images.get(image).copied().unwrap_or(0)
    }

    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Adds a node or replaces its description; its pods stay.
    pub fn set_node(&mut self, node: NodeInfo) {
        let name = node.name.clone();
        self.count_images(&node, true);
        match self.index.get(&name) {
            Some(at) => {
                let before = self.nodes[*at].clone();
                if before.zone() != node.zone() {
                    self.order.take();
                }
                self.nodes[*at] = Arc::new(before.redescribed(node));
                self.count_images(&before, false);
            }
            None => {
                let mut node = node;
                for pod in self.homeless.remove(&*name).unwrap_or_default() {
                    node.add_pod(pod);
                }
                self.index.insert(name, self.nodes.len());
                self.nodes.push(Arc::new(node));
                self.order.take();
            }
        }
    }

    /// Removes a node; pods still bound to it are remembered until they go, or the node comes back.
    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let node = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name.clone(), at);
        }
        self.order.take();
        self.count_images(&node, false);
        if !node.pods.is_empty() {
            self.homeless.insert(name.into(), node.pods.clone());
        }
    }

    /// Puts a pod on the node it names.
    pub fn add_pod(&mut self, node: &str, pod: Arc<PodInfo>) {
        match self.index.get(node) {
            Some(at) => Arc::make_mut(&mut self.nodes[*at]).add_pod(pod),
            None => self.homeless.entry(node.into()).or_default().push(pod),
        }
    }

    pub fn remove_pod(&mut self, node: &str, uid: &str) -> Option<Arc<PodInfo>> {
        match self.index.get(node) {
            Some(at) => Arc::make_mut(&mut self.nodes[*at]).remove_pod(uid),
            None => remove_from(&mut self.homeless, node, uid),
        }
    }

    pub fn nominate(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.nominated.entry(node.into()).or_default().push(pod);
    }

    pub fn remove_nomination(&mut self, node: &str, uid: &str) {
        remove_from(&mut self.nominated, node, uid);
    }

    fn count_images(&mut self, node: &NodeInfo, present: bool) {
        for image in node.images.keys() {
            if present {
                *self.images.entry(image.clone()).or_default() += 1;
            } else if let Some(count) = self.images.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.images.remove(image);
                }
            }
        }
    }
}

fn remove_from(by_node: &mut HashMap<Box<str>, Vec<Arc<PodInfo>>>, node: &str, uid: &str) -> Option<Arc<PodInfo>> {
    let pods = by_node.get_mut(node)?;
    let at = pods.iter().position(|p| &*p.uid == uid)?;
    let pod = pods.swap_remove(at);
    if pods.is_empty() {
        by_node.remove(node);
    }
    Some(pod)
}

fn interleave(nodes: &[Arc<NodeInfo>]) -> Arc<[u32]> {
    let mut zones: BTreeMap<(&str, &str), Vec<u32>> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        zones.entry(node.zone()).or_default().push(i as u32);
    }
    let longest = zones.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|turn| zones.values().filter_map(move |zone| zone.get(turn).copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::json;

    fn order(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.in_order().map(|n| &*n.name).collect()
    }

    #[test]
    fn nodes_are_visited_zone_by_zone() {
        let mut snapshot = Snapshot::default();
        for (name, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("a3", "a")] {
            snapshot.set_node(node(name, json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}})));
        }
        assert_eq!(order(&snapshot), ["a1", "b1", "a2", "b2", "a3"]);
        snapshot.remove_node("a1");
        assert_eq!(order(&snapshot).len(), 4);
        assert_eq!(snapshot.node("a3").map(|n| &*n.name), Some("a3"));
    }

    #[test]
    fn pods_survive_their_node_and_its_changes() {
        let mut snapshot = Snapshot::default();
        let p = Arc::new(pod("p", json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "1"}}}]}})));
        let requested = |s: &Snapshot| s.node("n").map(|n| n.requested.milli_cpu);
        snapshot.add_pod("n", p.clone());
        assert_eq!(requested(&snapshot), None);
        snapshot.set_node(node("n", json!({})));
        assert_eq!(requested(&snapshot), Some(1000));
        snapshot.set_node(node("n", json!({"spec": {"unschedulable": true}})));
        assert_eq!(requested(&snapshot), Some(1000));
        snapshot.remove_node("n");
        snapshot.set_node(node("n", json!({})));
        assert_eq!(requested(&snapshot), Some(1000));
        assert!(snapshot.remove_pod("n", &p.uid).is_some());
        assert_eq!(requested(&snapshot), Some(0));
        assert!(snapshot.remove_pod("n", &p.uid).is_none());
    }

    #[test]
    fn images_are_counted_over_nodes() {
        let mut snapshot = Snapshot::default();
        let with = json!({"status": {"images": [{"names": ["web:1"], "sizeBytes": 7}]}});
        snapshot.set_node(node("a", with.clone()));
        snapshot.set_node(node("b", with));
        assert_eq!(snapshot.nodes_with_image("web:1"), 2);
        snapshot.set_node(node("b", json!({})));
        assert_eq!(snapshot.nodes_with_image("web:1"), 1);
        snapshot.remove_node("a");
        assert_eq!(snapshot.nodes_with_image("web:1"), 0);
    }
}
