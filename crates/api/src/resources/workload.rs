//! Pods and what makes them in the legacy group.

use serde_json::Value;

use super::{namespaced, review, text};
use crate::printers::{pod, workload};
use crate::table::{FieldGetter, Resource, Scope, Sub};

const V1: (&str, &str) = ("", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced(V1, "Pod", "pods")
            .short(&["po"])
            .in_all()
            .subs(&[
                Sub::Attach,
                Sub::Binding,
                Sub::EphemeralContainers,
                Sub::Eviction,
                Sub::Exec,
                Sub::Log,
                Sub::PortForward,
                Sub::Proxy,
                Sub::Resize,
                Sub::Status,
            ])
            .fields(POD_FIELDS)
            .printed(pod::pod()),
        namespaced(V1, "ReplicationController", "replicationcontrollers")
            .short(&["rc"])
            .in_all()
            .subs(&[Sub::Scale, Sub::Status])
            .fields(&[("status.replicas", |o| count(o, "/status/replicas"))])
            .printed(workload::replication_controller()),
        namespaced(V1, "PodTemplate", "podtemplates").printed(workload::pod_template()),
        review(V1, "Binding", "bindings", Scope::Namespaced),
    ]
}

const POD_FIELDS: &[(&str, FieldGetter)] = &[
    ("spec.nodeName", |o| text(o, "/spec/nodeName")),
    ("spec.restartPolicy", |o| text(o, "/spec/restartPolicy")),
    ("spec.schedulerName", |o| text(o, "/spec/schedulerName")),
    ("spec.serviceAccountName", |o| text(o, "/spec/serviceAccountName")),
    ("spec.hostNetwork", |o| (text(o, "/spec/hostNetwork") == "true").to_string()),
    ("status.phase", |o| text(o, "/status/phase")),
    ("status.podIP", |o| text(o, "/status/podIP")),
    ("status.podIPs", |o| text(o, "/status/podIP")),
    ("status.nominatedNodeName", |o| text(o, "/status/nominatedNodeName")),
];

/// A count that Go would hold as a plain integer: zero when absent.
pub(super) fn count(object: &Value, pointer: &str) -> String {
    let found = text(object, pointer);
    if found.is_empty() { "0".to_owned() } else { found }
}
