//! Plans as short lines, for tables of expectations.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::plan::{Op, Plan, Verb};

pub fn object<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the right shape")
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("in range")
}

/// A pod owned by `owner`: `phase` and whether it is ready, since second 0.
pub fn pod(name: &str, owner: &str, labels: Value, phase: &str, ready: bool) -> Arc<Pod> {
    let status = if ready { "True" } else { "False" };
    Arc::new(object(json!({
        "metadata": {
            "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "labels": labels,
            "creationTimestamp": "1970-01-01T00:00:00Z",
            "ownerReferences": [{"apiVersion": "v1", "kind": "X", "name": owner, "uid": owner, "controller": true}],
        },
        "spec": {"containers": [], "nodeName": "node"},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": status, "lastTransitionTime": "1970-01-01T00:00:00Z"}],
        },
    })))
}

/// The writes of a plan, without those of status.
pub fn writes(plan: &Plan) -> Vec<String> {
    plan.ops.iter().filter(|op| !line(op).ends_with("/status")).map(line).collect()
}

pub fn line(op: &Op) -> String {
    let target = format!("{}/{}", op.target.kind.plural, op.target.name);
    match &op.verb {
        Verb::Create(object) => {
            let prefix = object["metadata"]["generateName"].as_str().filter(|_| op.target.name.is_empty());
            format!("create {target}{}", prefix.unwrap_or_default())
        }
        Verb::Update { object, subresource } => {
            let scale = object["spec"]["replicas"].as_i64().filter(|_| subresource.is_none());
            let scale = scale.map(|count| format!(" replicas={count}")).unwrap_or_default();
            format!("update {target}{scale}{}", subresource.map(|sub| format!("/{sub}")).unwrap_or_default())
        }
        Verb::Patch { subresource, .. } => {
            format!("patch {target}{}", subresource.map(|sub| format!("/{sub}")).unwrap_or_default())
        }
        Verb::Delete { .. } => format!("delete {target}"),
    }
}

/// The status a plan writes.
pub fn status(plan: &Plan) -> Option<Value> {
    plan.ops.iter().find_map(|op| match &op.verb {
        Verb::Update { object, subresource: Some("status") } => Some(object["status"].clone()),
        _ => None,
    })
}

/// What a plan says aloud, whether at once or with a write.
pub fn said(plan: &Plan) -> Vec<String> {
    let with_writes = plan.ops.iter().filter_map(|op| op.announce.success.as_ref());
    plan.events.iter().chain(with_writes).map(|event| format!("{}: {}", event.reason, event.message)).collect()
}
