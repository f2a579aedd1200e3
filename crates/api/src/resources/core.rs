//! The legacy group: `v1`, without the workload kinds.

use serde_json::Value;

use super::{cluster, namespaced, text};
use crate::names::NameRule;
use crate::printers::{config, events, network, node, storage};
use crate::table::{FieldGetter, Resource, Sub, Text};

const V1: (&str, &str) = ("", "v1");

pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespace(),
        cluster(V1, "Node", "nodes")
            .short(&["no"])
            .subs(&[Sub::Proxy, Sub::Status])
            .fields(&[("spec.unschedulable", |o| (text(o, "/spec/unschedulable") == "true").to_string())])
            .printed(node::node()),
        namespaced(V1, "Service", "services")
            .short(&["svc"])
            .named(NameRule::Dns1035)
            .in_all()
            .subs(&[Sub::Proxy, Sub::Status])
            .fields(&[("spec.clusterIP", |o| text(o, "/spec/clusterIP")), ("spec.type", |o| text(o, "/spec/type"))])
            .printed(network::service()),
        namespaced(V1, "Endpoints", "endpoints")
            .short(&["ep"])
            .printed(network::endpoints())
            .deprecated("v1.33", "discovery.k8s.io/v1 EndpointSlice"),
        namespaced(V1, "ConfigMap", "configmaps").short(&["cm"]).printed(config::config_map()),
        namespaced(V1, "Secret", "secrets").fields(&[("type", |o| text(o, "/type"))]).printed(config::secret()),
        namespaced(V1, "ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .subs(&[Sub::Token])
            .printed(config::service_account()),
        namespaced(V1, "Event", "events").short(&["ev"]).fields(EVENT_FIELDS).printed(events::event()),
        cluster(V1, "PersistentVolume", "persistentvolumes")
            .short(&["pv"])
            .subs(&[Sub::Status])
            .printed(storage::persistent_volume()),
        namespaced(V1, "PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .subs(&[Sub::Status])
            .printed(storage::persistent_volume_claim()),
        namespaced(V1, "LimitRange", "limitranges").short(&["limits"]),
        namespaced(V1, "ResourceQuota", "resourcequotas")
            .short(&["quota"])
            .subs(&[Sub::Status])
            .printed(config::resource_quota()),
    ]
}

/// Each namespace is emptied before it goes, so they are not deleted all at once.
fn namespace() -> Resource {
    let row = cluster(V1, "Namespace", "namespaces")
        .short(&["ns"])
        .named(NameRule::Label)
        .subs(&[Sub::Finalize, Sub::Status])
        .fields(&[("status.phase", |o| text(o, "/status/phase"))])
        .printed(config::namespace());
    Resource { delete_collection: false, ..row }
}

const EVENT_FIELDS: &[(&str, FieldGetter)] = &[
    ("involvedObject.kind", |o| text(o, "/involvedObject/kind")),
    ("involvedObject.namespace", |o| text(o, "/involvedObject/namespace")),
    ("involvedObject.name", |o| text(o, "/involvedObject/name")),
    ("involvedObject.uid", |o| text(o, "/involvedObject/uid")),
    ("involvedObject.apiVersion", |o| text(o, "/involvedObject/apiVersion")),
    ("involvedObject.resourceVersion", |o| text(o, "/involvedObject/resourceVersion")),
    ("involvedObject.fieldPath", |o| text(o, "/involvedObject/fieldPath")),
    ("reason", |o| text(o, "/reason")),
    ("reportingComponent", |o| text(o, "/reportingComponent")),
    ("source", event_source),
    ("type", |o| text(o, "/type")),
];

/// The same in the same order, as `events.k8s.io` names them: what is selected by is read from what is kept.
pub(super) fn events_fields() -> Vec<(Text, FieldGetter)> {
    let renamed = |name: &'static str| match name.split_once('.') {
        Some(("involvedObject", field)) => Text::from(format!("regarding.{field}")),
        _ if name == "reportingComponent" => "reportingController".into(),
        _ => name.into(),
    };
    EVENT_FIELDS.iter().map(|&(name, get)| (renamed(name), get)).collect()
}

/// An event of the newer API has its source in `reportingComponent`.
fn event_source(event: &Value) -> String {
    let component = text(event, "/source/component");
    if component.is_empty() { text(event, "/reportingComponent") } else { component }
}
