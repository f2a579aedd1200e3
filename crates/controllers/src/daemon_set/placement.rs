//! Which nodes a DaemonSet wants a pod on, and the pod for a node.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
};

use crate::meta::Meta;
use crate::revision::HASH_LABEL;
use crate::{node_match, pods};

const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A pod should be started here.
    pub should_run: bool,
    /// A pod that runs here may stay: a NoSchedule taint keeps new pods away, it does not drive old ones out.
    pub should_continue: bool,
}

pub fn decide(set: &DaemonSet, node: &Node) -> Verdict {
    let no = Verdict { should_run: false, should_continue: false };
    let Some(spec) = set.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()) else { return no };
    let elsewhere = spec.node_name.as_deref().is_some_and(|name| !name.is_empty() && name != node.name());
    if elsewhere || !node_match::fits_affinity(spec, node) {
        return no;
    }
    let tolerations = with_default_tolerations(spec);
    Verdict {
        should_run: node_match::tolerates_all(&tolerations, node, &["NoSchedule", "NoExecute"]),
        should_continue: node_match::tolerates_all(&tolerations, node, &["NoExecute"]),
    }
}

/// Daemons stay on nodes in trouble, and start on them.
fn with_default_tolerations(spec: &PodSpec) -> Vec<Toleration> {
    let mut tolerations = spec.tolerations.clone().unwrap_or_default();
    let mut wanted = vec![
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    if spec.host_network == Some(true) {
        wanted.push(("node.kubernetes.io/network-unavailable", "NoSchedule"));
    }
    for (key, effect) in wanted {
        let toleration = Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some(effect.into()),
            value: None,
            toleration_seconds: None,
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    tolerations
}

pub fn pod_for(set: &DaemonSet, node: &str, hash: &str) -> Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let mut pod = pods::from_template(&template, set);
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = set.annotation(TEMPLATE_GENERATION) {
        labels.insert("pod-template-generation".into(), generation.into());
    }
    labels.insert(HASH_LABEL.into(), hash.into());
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(with_default_tolerations(spec));
    pin(spec, node);
    pod
}

/// Replaces the required node affinity: it was already judged, and a pinned pod must not be judged again differently.
fn pin(spec: &mut PodSpec, node: &str) {
    let by_name = NodeSelectorRequirement {
        key: "metadata.name".into(),
        operator: "In".into(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_expressions: None, match_fields: Some(vec![by_name]) };
    let affinity = spec.affinity.get_or_insert_default().node_affinity.get_or_insert_default();
    affinity.required_during_scheduling_ignored_during_execution =
        Some(NodeSelector { node_selector_terms: vec![term] });
}

/// The node a pod is on, or the one it is pinned to while it waits for the scheduler.
pub fn target_node(pod: &Pod) -> String {
    let bound = pods::node_name(pod);
    if !bound.is_empty() {
        return bound.to_owned();
    }
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref())
        .map(|selector| selector.node_selector_terms.as_slice())
        .unwrap_or_default();
    terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten())
        .filter(|field| field.key == "metadata.name" && field.operator == "In")
        .find_map(|field| field.values.as_ref()?.first().cloned())
        .unwrap_or_default()
}
