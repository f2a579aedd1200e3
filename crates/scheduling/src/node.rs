//! A node with the pods on it and the sums that filtering and scoring read.
//!
//! Invariant: `requested`, `assumed`, `affinity_pods` and `anti_affinity_pods` always follow from `pods`;
//! they change only in [`NodeInfo::add_pod`] and [`NodeInfo::remove_pod`].

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;

use crate::labels::Labels;
use crate::pod::{PodInfo, normalized_image};
use crate::resources::{PODS, Resources};
use crate::taints::Taint;

pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: Arc<str>,
    pub labels: Labels,
    pub taints: Box<[Taint]>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub allowed_pods: i64,
    /// Bytes by image name.
    pub images: Arc<HashMap<Box<str>, i64>>,
    pub pods: Vec<Arc<PodInfo>>,
    pub affinity_pods: Vec<Arc<PodInfo>>,
    pub anti_affinity_pods: Vec<Arc<PodInfo>>,
    pub requested: Resources,
    /// `requested`, with defaults for containers that ask for nothing.
    pub assumed: Resources,
}

impl NodeInfo {
    pub fn new(node: &core::Node) -> Self {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        let mut resources = Resources::new(allocatable);
        let allowed_pods = resources.scalars.remove(PODS).unwrap_or(0);
        let spec = node.spec.as_ref();
        NodeInfo {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            labels: Labels::from(node.metadata.labels.as_ref()),
            taints: spec.and_then(|s| s.taints.as_ref()).into_iter().flatten().filter_map(Taint::new).collect(),
            unschedulable: spec.and_then(|s| s.unschedulable).unwrap_or(false),
            allocatable: resources,
            allowed_pods,
            images: Arc::new(images(node)),
            ..NodeInfo::default()
        }
    }

    /// Whether both describe the node alike, whatever runs there: a heartbeat changes nothing here.
    pub fn same_description(&self, other: &NodeInfo) -> bool {
        self.labels == other.labels
            && self.taints == other.taints
            && self.unschedulable == other.unschedulable
            && self.allocatable == other.allocatable
            && self.allowed_pods == other.allowed_pods
            && self.images == other.images
    }

    /// This node's pods under another description of the node.
    pub fn redescribed(&self, node: NodeInfo) -> NodeInfo {
        let NodeInfo { name, labels, taints, unschedulable, allocatable, allowed_pods, images, .. } = node;
        NodeInfo { name, labels, taints, unschedulable, allocatable, allowed_pods, images, ..self.clone() }
    }

    pub fn add_pod(&mut self, pod: Arc<PodInfo>) {
        self.requested.add(&pod.requests.exact);
        self.assumed.add(&pod.requests.assumed);
        if let Some(affinity) = &pod.pod_affinity {
            self.affinity_pods.push(pod.clone());
            if !affinity.anti_required.is_empty() {
                self.anti_affinity_pods.push(pod.clone());
            }
        }
        self.pods.push(pod);
    }

    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = take(&mut self.pods, uid)?;
        self.requested.subtract(&pod.requests.exact);
        self.assumed.subtract(&pod.requests.assumed);
        if let Some(affinity) = &pod.pod_affinity {
            take(&mut self.affinity_pods, uid);
            if !affinity.anti_required.is_empty() {
                take(&mut self.anti_affinity_pods, uid);
            }
        }
        Some(pod)
    }

    /// Nodes are visited zone by zone in turn, so that a search cut short still saw every zone.
    pub fn zone(&self) -> (&str, &str) {
        (self.labels.get(REGION_LABEL).unwrap_or_default(), self.labels.get(ZONE_LABEL).unwrap_or_default())
    }
}

fn take(pods: &mut Vec<Arc<PodInfo>>, uid: &str) -> Option<Arc<PodInfo>> {
    let at = pods.iter().position(|p| &*p.uid == uid)?;
    Some(pods.swap_remove(at))
}

fn images(node: &core::Node) -> HashMap<Box<str>, i64> {
    let list = node.status.as_ref().and_then(|s| s.images.as_ref());
    let mut images = HashMap::new();
    for image in list.into_iter().flatten() {
        for name in image.names.iter().flatten() {
            images.insert(normalized_image(name).into(), image.size_bytes.unwrap_or(0));
        }
    }
    images
}
