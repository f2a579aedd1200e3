//! What may happen in a cluster that makes a waiting pod worth another try.

use crate::labels::Labels;
use crate::node::NodeInfo;
use crate::pod::PodInfo;

/// A change, with what it was before where that matters to a plugin's hint.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    NodeAdded(&'a NodeInfo),
    NodeUpdated { old: &'a NodeInfo, new: &'a NodeInfo },
    AssignedPodAdded(&'a PodInfo),
    AssignedPodUpdated { old: &'a PodInfo, new: &'a PodInfo },
    AssignedPodDeleted(&'a PodInfo),
    NamespaceLabelled { name: &'a str, labels: &'a Labels },
}

impl<'a> Event<'a> {
    /// The name upstream gives it in `scheduler_queue_incoming_pods_total`.
    pub fn name(&self) -> &'static str {
        match self {
            Event::NodeAdded(_) => "NodeAdd",
            Event::NodeUpdated { .. } => "NodeUpdate",
            Event::AssignedPodAdded(_) => "AssignedPodAdd",
            Event::AssignedPodUpdated { .. } => "AssignedPodUpdate",
            Event::AssignedPodDeleted(_) => "AssignedPodDelete",
            Event::NamespaceLabelled { .. } => "NamespaceUpdate",
        }
    }

    /// The node as it is now, when the change is one of a node.
    pub fn node(&self) -> Option<&'a NodeInfo> {
        match self {
            Event::NodeAdded(node) | Event::NodeUpdated { new: node, .. } => Some(node),
            _ => None,
        }
    }

    /// Whether a node came, or changed in what `of` picks.
    pub fn node_changed<T: PartialEq>(&self, of: impl Fn(&'a NodeInfo) -> T) -> bool {
        match self {
            Event::NodeAdded(_) => true,
            Event::NodeUpdated { old, new } => of(old) != of(new),
            _ => false,
        }
    }

    /// The pod whose departure freed something.
    pub fn freed(&self) -> Option<&'a PodInfo> {
        match self {
            Event::AssignedPodDeleted(pod) => Some(pod),
            _ => None,
        }
    }
}
