//! What describes the cluster itself: `coordination.k8s.io`, `events.k8s.io`, `apiextensions.k8s.io`, `node.k8s.io`,
//! `storage.k8s.io`.

use super::{cluster, core, namespaced};
use crate::conversion;
use crate::printers::{events, node, storage};
use crate::table::{Resource, Sub, Verbs};

const COORDINATION: (&str, &str) = ("coordination.k8s.io", "v1");
const EVENTS: (&str, &str) = ("events.k8s.io", "v1");
const EXTENSIONS: (&str, &str) = ("apiextensions.k8s.io", "v1");
const NODE: (&str, &str) = ("node.k8s.io", "v1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        Resource {
            selectable: core::events_fields(),
            ..namespaced(EVENTS, "Event", "events").short(&["ev"]).kept_as(conversion::events::EVENTS)
        }
        .printed(events::events_event()),
        namespaced(COORDINATION, "Lease", "leases").printed(node::lease()),
        // Clients look through the list before they call a kind unknown.
        Resource {
            verbs: Verbs::Read,
            categories: vec!["api-extensions".into()],
            ..cluster(EXTENSIONS, "CustomResourceDefinition", "customresourcedefinitions").short(&["crd", "crds"])
        },
        cluster(NODE, "RuntimeClass", "runtimeclasses").printed(node::runtime_class()),
        cluster(STORAGE, "CSIDriver", "csidrivers").printed(storage::csi_driver()),
        cluster(STORAGE, "CSINode", "csinodes").printed(storage::csi_node()),
        namespaced(STORAGE, "CSIStorageCapacity", "csistoragecapacities").printed(storage::csi_storage_capacity()),
        cluster(STORAGE, "StorageClass", "storageclasses").short(&["sc"]).printed(storage::storage_class()),
        cluster(STORAGE, "VolumeAttachment", "volumeattachments")
            .subs(&[Sub::Status])
            .printed(storage::volume_attachment()),
        cluster(STORAGE, "VolumeAttributesClass", "volumeattributesclasses")
            .short(&["vac"])
            .printed(storage::volume_attributes_class()),
    ]
}
