//! Shorthand for tests: objects as the JSON a user would write, filled up with what a valid object needs.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::framework::{Cycle, PreFilter, Rejection, Score};
use crate::node::NodeInfo;
use crate::plugins;
use crate::pod::PodInfo;
use crate::snapshot::Snapshot;

pub fn pod(name: &str, mut object: Value) -> PodInfo {
    object["metadata"]["name"] = json!(name);
    object["metadata"]["uid"] = json!(name);
    if object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = json!("default");
    }
    let containers = object["spec"]["containers"].as_array_mut();
    for container in containers.into_iter().flatten() {
        container["name"] = json!("c");
    }
    if object["spec"]["containers"].is_null() {
        object["spec"]["containers"] = json!([]);
    }
    PodInfo::new(&serde_json::from_value(object).expect("a pod"))
}

/// A pod that asks for milli-CPU at a priority.
pub fn sized(name: &str, milli_cpu: i64, priority: i32) -> PodInfo {
    let requests = json!({"requests": {"cpu": format!("{milli_cpu}m")}});
    pod(name, json!({"spec": {"priority": priority, "containers": [{"resources": requests}]}}))
}

pub fn node(name: &str, mut object: Value) -> NodeInfo {
    object["metadata"]["name"] = json!(name);
    if object["metadata"]["labels"]["kubernetes.io/hostname"].is_null() {
        object["metadata"]["labels"]["kubernetes.io/hostname"] = json!(name);
    }
    if object["status"]["allocatable"].is_null() {
        object["status"]["allocatable"] = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    }
    NodeInfo::new(&serde_json::from_value(object).expect("a node"))
}

pub fn labelled(name: &str, labels: Value) -> NodeInfo {
    node(name, json!({"metadata": {"labels": labels}}))
}

pub fn cluster(
    nodes: impl IntoIterator<Item = NodeInfo>,
    pods: impl IntoIterator<Item = (&'static str, PodInfo)>,
) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(node);
    }
    for (node, pod) in pods {
        snapshot.add_pod(node, Arc::new(pod));
    }
    snapshot
}

/// What one plugin says about each node: `None` when it lets the pod through.
pub fn verdicts(plugin: &str, args: Value, snapshot: &Snapshot, pod: &PodInfo) -> Vec<Option<String>> {
    let plugin = plugins::build(plugin, &args).expect("the plugin");
    let cycle = Cycle { snapshot, pod };
    let text = |r: Rejection| Some(r.to_string());
    match plugin.pre_filter(cycle) {
        PreFilter::Skip => snapshot.nodes().iter().map(|_| None).collect(),
        PreFilter::Reject(rejection) => snapshot.nodes().iter().map(|_| text(rejection.clone())).collect(),
        PreFilter::Check(filter) => snapshot.nodes().iter().map(|n| filter.filter(n).err().and_then(text)).collect(),
        PreFilter::Only(names, filter) => snapshot
            .nodes()
            .iter()
            .map(|n| match names.contains(&*n.name) {
                true => filter.filter(n).err().and_then(text),
                false => Some("not considered".into()),
            })
            .collect(),
    }
}

/// One plugin's normalized scores, all nodes being feasible; `None` when it abstains.
pub fn scores(plugin: &str, args: Value, snapshot: &Snapshot, pod: &PodInfo) -> Option<Vec<i64>> {
    let plugin = plugins::build(plugin, &args).expect("the plugin");
    let feasible: Vec<&NodeInfo> = snapshot.nodes().iter().map(|n| &**n).collect();
    let score: Box<dyn Score> = plugin.pre_score(Cycle { snapshot, pod }, &feasible)?;
    let mut scores: Vec<i64> = feasible.iter().map(|n| score.score(n)).collect();
    score.normalize(&feasible, &mut scores);
    Some(scores)
}
