//! NodeRestriction: a kubelet writes its own node, the pods bound to it and its own lease, and nothing else.

use api::{ApiError, meta};
use serde_json::Value;

use super::{Attributes, Operation};

const LEASE_NAMESPACE: &str = "kube-node-lease";
const MIRROR: &str = "kubernetes.io/config.mirror";

pub fn check(a: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let Some(node) = a.writer.user.node_name() else { return Ok(()) };
    let row = &a.kind.row;
    match (&*row.group, &*row.plural, a.subresource) {
        ("", "nodes", _) => check_node(a, object, node),
        ("", "pods", "") => check_pod(a, object, node),
        ("", "pods", "status" | "eviction") => check_bound(a, object, node),
        ("coordination.k8s.io", "leases", _) => check_lease(a, object, node),
        ("storage.k8s.io", "csinodes", _) if meta::name(object) != node => {
            Err(a.refuse(meta::name(object), "can only access CSINode with the same name as the requesting node"))
        }
        _ => Ok(()),
    }
}

fn check_node(a: &Attributes<'_>, object: &Value, node: &str) -> Result<(), ApiError> {
    let name = meta::name(object);
    if name != node {
        return Err(a.refuse(name, &format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let Some(old) = a.old.filter(|_| a.operation == Operation::Update) else { return Ok(()) };
    if old["spec"]["taints"] != object["spec"]["taints"] {
        return Err(a.refuse(name, &format!("node {node:?} is not allowed to modify taints")));
    }
    let (before, after) = (meta::labels(old), meta::labels(object));
    let changed = before.keys().chain(after.keys()).filter(|k| before.get(*k) != after.get(*k));
    let mut restricted: Vec<&str> = changed.filter(|k| is_restricted(k)).map(String::as_str).collect();
    restricted.sort_unstable();
    restricted.dedup();
    if restricted.is_empty() {
        return Ok(());
    }
    Err(a.refuse(name, &format!("is not allowed to modify labels: {}", restricted.join(", "))))
}

/// Labels with which workloads are kept away from nodes; a node may not give them to itself.
fn is_restricted(label: &str) -> bool {
    let prefix = label.split_once('/').map_or("", |(prefix, _)| prefix);
    prefix == "node-restriction.kubernetes.io" || prefix.ends_with(".node-restriction.kubernetes.io")
}

fn check_pod(a: &Attributes<'_>, object: &Value, node: &str) -> Result<(), ApiError> {
    let name = meta::name(object);
    match a.operation {
        Operation::Create if meta::annotation(object, MIRROR).is_none() => Err(a.refuse(
            name,
            &format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"),
        )),
        Operation::Create if references_secrets(object) => {
            Err(a.refuse(name, "a mirror pod may not reference service accounts, secrets or config maps"))
        }
        Operation::Create | Operation::Delete => check_bound(a, object, node),
        Operation::Update => Err(a.refuse(name, &format!("node {node:?} can only update status of pods"))),
    }
}

fn references_secrets(pod: &Value) -> bool {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let named = pod.pointer("/spec/serviceAccountName").and_then(Value::as_str).is_some_and(|n| !n.is_empty());
    let reads =
        |v: &Value| ["secret", "configMap", "persistentVolumeClaim", "projected"].iter().any(|k| v.get(k).is_some());
    named || volumes.is_some_and(|v| v.iter().any(reads))
}

fn check_bound(a: &Attributes<'_>, object: &Value, node: &str) -> Result<(), ApiError> {
    let pod = a.old.unwrap_or(object);
    let bound = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if bound == node {
        return Ok(());
    }
    let verb = match a.operation {
        Operation::Create => "create pods for",
        Operation::Update => "update pod status for pods with",
        Operation::Delete => "delete pods with",
    };
    Err(a.refuse(meta::name(object), &format!("node {node:?} can only {verb} spec.nodeName set to itself")))
}

fn check_lease(a: &Attributes<'_>, object: &Value, node: &str) -> Result<(), ApiError> {
    let name = meta::name(object);
    if meta::namespace(object) != LEASE_NAMESPACE {
        return Err(a.refuse(name, &format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace")));
    }
    if name != node {
        return Err(a.refuse(name, "can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}
