//! What describes the cluster itself: `coordination.k8s.io`, `node.k8s.io`, `storage.k8s.io`.

use super::{cluster, namespaced};
use crate::table::Resource;

const COORDINATION: (&str, &str) = ("coordination.k8s.io", "v1");
const NODE: (&str, &str) = ("node.k8s.io", "v1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(COORDINATION, "Lease", "leases"),
        cluster(NODE, "RuntimeClass", "runtimeclasses"),
        cluster(STORAGE, "CSINode", "csinodes"),
        cluster(STORAGE, "StorageClass", "storageclasses").short(&["sc"]),
    ]
}
