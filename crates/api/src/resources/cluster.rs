//! What describes the cluster itself: `coordination.k8s.io`, `node.k8s.io`, `storage.k8s.io`.

use super::{cluster, namespaced};
use crate::printers::{node, storage};
use crate::table::Resource;

const COORDINATION: (&str, &str) = ("coordination.k8s.io", "v1");
const NODE: (&str, &str) = ("node.k8s.io", "v1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(COORDINATION, "Lease", "leases").printed(node::lease()),
        cluster(NODE, "RuntimeClass", "runtimeclasses").printed(node::runtime_class()),
        cluster(STORAGE, "CSINode", "csinodes").printed(storage::csi_node()),
        cluster(STORAGE, "StorageClass", "storageclasses").short(&["sc"]).printed(storage::storage_class()),
    ]
}
