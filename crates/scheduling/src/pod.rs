//! A pod as scheduling sees it: parsed once when it arrives, small enough to keep by the ten thousand.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use crate::labels::Labels;
use crate::ports::HostPort;
use crate::resources::Requests;
use crate::selector::{NodeTerm, Selector};
use crate::taints::Toleration;

pub const DEFAULT_SCHEDULER_NAME: &str = "default-scheduler";
const PREEMPTED_BY_SCHEDULER: &str = "PreemptionByScheduler";

#[derive(Clone, Debug, Default)]
pub struct PodInfo {
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub uid: Box<str>,
    pub labels: Labels,
    pub owner: Option<Owner>,
    pub scheduler_name: Box<str>,
    /// The node the pod is bound to; empty while it waits.
    pub node_name: Box<str>,
    /// The node a preemption freed for it, if any.
    pub nominated_node: Box<str>,
    pub priority: i32,
    pub never_preempts: bool,
    pub requests: Requests,
    pub host_ports: Box<[HostPort]>,
    pub tolerations: Box<[Toleration]>,
    pub node_affinity: Option<Box<NodeAffinity>>,
    pub pod_affinity: Option<Box<PodAffinity>>,
    pub spread: Box<[SpreadConstraint]>,
    pub images: Box<[Box<str>]>,
    pub gates: Box<[Box<str>]>,
    pub created: Option<Timestamp>,
    pub started: Option<Timestamp>,
    pub terminating: bool,
    /// Terminating because this scheduler made room.
    pub preempted: bool,
    /// Succeeded or Failed: it holds nothing any more.
    pub finished: bool,
    pub generation: Option<i64>,
    /// What the pod's status says about its waiting.
    pub waiting: Option<Box<Waiting>>,
}

/// A PodScheduled condition that is false.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub reason: Box<str>,
    pub message: Box<str>,
    pub since: Option<Timestamp>,
}

/// The controlling owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub kind: Box<str>,
    pub name: Box<str>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeAffinity {
    /// spec.nodeSelector; matches everything when absent.
    pub selector: Selector,
    /// Any term suffices; `None` asks for nothing, an empty list matches no node.
    pub required: Option<Box<[NodeTerm]>>,
    pub preferred: Box<[(i64, NodeTerm)]>,
}

impl NodeAffinity {
    pub fn admits(&self, name: &str, labels: &Labels) -> bool {
        self.selector.matches(labels)
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(name, labels)))
    }
}

#[derive(Clone, Debug, Default)]
pub struct PodAffinity {
    pub required: Box<[AffinityTerm]>,
    pub preferred: Box<[(i64, AffinityTerm)]>,
    pub anti_required: Box<[AffinityTerm]>,
    pub anti_preferred: Box<[(i64, AffinityTerm)]>,
}

#[derive(Clone, Debug)]
pub struct AffinityTerm {
    pub namespaces: Box<[Box<str>]>,
    pub namespace_selector: Selector,
    pub selector: Selector,
    pub topology_key: Box<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConstraint {
    pub max_skew: i64,
    pub topology_key: Box<str>,
    pub hard: bool,
    pub selector: Selector,
    pub min_domains: i64,
    /// Count only nodes the pod's node affinity admits.
    pub honor_affinity: bool,
    /// Count only nodes whose taints the pod tolerates.
    pub honor_taints: bool,
}

impl PodInfo {
    pub fn new(pod: &core::Pod) -> Self {
        let empty = core::PodSpec::default();
        let spec = pod.spec.as_ref().unwrap_or(&empty);
        let text = |s: &Option<String>| -> Box<str> { s.as_deref().unwrap_or_default().into() };
        let labels = Labels::from(pod.metadata.labels.as_ref());
        let namespace = text(&pod.metadata.namespace);
        let status = pod.status.as_ref();
        let terminating = pod.metadata.deletion_timestamp.is_some();
        PodInfo {
            name: text(&pod.metadata.name),
            uid: text(&pod.metadata.uid),
            owner: owner(pod),
            scheduler_name: spec.scheduler_name.as_deref().unwrap_or(DEFAULT_SCHEDULER_NAME).into(),
            node_name: text(&spec.node_name),
            nominated_node: status.map(|s| text(&s.nominated_node_name)).unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: Requests::new(pod),
            host_ports: HostPort::of(spec),
            tolerations: spec.tolerations.iter().flatten().map(Toleration::from).collect(),
            node_affinity: node_affinity(spec),
            pod_affinity: pod_affinity(spec, &namespace, &labels),
            spread: spec.topology_spread_constraints.iter().flatten().map(|c| spread(c, &labels)).collect(),
            images: images(spec),
            gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.as_str().into()).collect(),
            created: pod.metadata.creation_timestamp.as_ref().map(|t| t.0),
            started: status.and_then(|s| s.start_time.as_ref()).map(|t| t.0),
            terminating,
            preempted: terminating && preempted(status),
            finished: status.and_then(|s| s.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed"),
            generation: pod.metadata.generation,
            waiting: waiting(status),
            namespace,
            labels,
        }
    }

    pub fn admits_node(&self, name: &str, labels: &Labels) -> bool {
        self.node_affinity.as_ref().is_none_or(|affinity| affinity.admits(name, labels))
    }

    /// Whether anything differs that decides where the pod can go.
    pub fn wants_differ(&self, other: &PodInfo) -> bool {
        self.labels != other.labels
            || self.gates != other.gates
            || self.tolerations != other.tolerations
            || self.node_affinity != other.node_affinity
            || self.requests != other.requests
            || self.priority != other.priority
    }

    /// `namespace/name`, as logs and events print it.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn owner(pod: &core::Pod) -> Option<Owner> {
    let owners = pod.metadata.owner_references.iter().flatten();
    let owner = owners.into_iter().find(|o| o.controller == Some(true))?;
    Some(Owner { kind: owner.kind.as_str().into(), name: owner.name.as_str().into() })
}

fn preempted(status: Option<&core::PodStatus>) -> bool {
    status.and_then(|s| s.conditions.as_ref()).into_iter().flatten().any(|c| {
        c.type_ == "DisruptionTarget" && c.status == "True" && c.reason.as_deref() == Some(PREEMPTED_BY_SCHEDULER)
    })
}

fn waiting(status: Option<&core::PodStatus>) -> Option<Box<Waiting>> {
    let mut conditions = status.and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let condition = conditions.find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    Some(Box::new(Waiting {
        reason: condition.reason.as_deref().unwrap_or_default().into(),
        message: condition.message.as_deref().unwrap_or_default().into(),
        since: condition.last_transition_time.as_ref().map(|t| t.0),
    }))
}

fn images(spec: &core::PodSpec) -> Box<[Box<str>]> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.map(|c| normalized_image(c.image.as_deref().unwrap_or_default()).into()).collect()
}

/// Node status lists images with their tag; a pod may leave out `:latest`.
pub(crate) fn normalized_image(name: &str) -> String {
    match name.rfind(':') {
        Some(colon) if colon > name.rfind('/').unwrap_or(0) => name.to_owned(),
        _ => format!("{name}:latest"),
    }
}

fn node_affinity(spec: &core::PodSpec) -> Option<Box<NodeAffinity>> {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    if spec.node_selector.is_none() && affinity.is_none() {
        return None;
    }
    let pairs = spec.node_selector.iter().flatten().map(|(k, v)| (k.as_str(), v.as_str()));
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    Some(Box::new(NodeAffinity {
        selector: Selector::equal_to(pairs),
        required: required.map(|r| r.node_selector_terms.iter().map(NodeTerm::new).collect()),
        preferred: preferred
            .into_iter()
            .flatten()
            .map(|p| (i64::from(p.weight), NodeTerm::new(&p.preference)))
            .collect(),
    }))
}

fn pod_affinity(spec: &core::PodSpec, namespace: &str, labels: &Labels) -> Option<Box<PodAffinity>> {
    let affinity = spec.affinity.as_ref()?;
    if affinity.pod_affinity.is_none() && affinity.pod_anti_affinity.is_none() {
        return None;
    }
    let term = |t: &core::PodAffinityTerm| affinity_term(t, namespace, labels);
    let required = |list: Option<&Vec<core::PodAffinityTerm>>| list.into_iter().flatten().map(term).collect();
    let preferred = |list: Option<&Vec<core::WeightedPodAffinityTerm>>| {
        list.into_iter().flatten().map(|w| (i64::from(w.weight), term(&w.pod_affinity_term))).collect()
    };
    let (near, far) = (affinity.pod_affinity.as_ref(), affinity.pod_anti_affinity.as_ref());
    Some(Box::new(PodAffinity {
        required: required(near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
        preferred: preferred(near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())),
        anti_required: required(far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref())),
        anti_preferred: preferred(far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref())),
    }))
}

fn affinity_term(term: &core::PodAffinityTerm, namespace: &str, labels: &Labels) -> AffinityTerm {
    let mut selector = Selector::new(term.label_selector.as_ref());
    for (keys, wanted) in [(&term.match_label_keys, true), (&term.mismatch_label_keys, false)] {
        for key in keys.iter().flatten() {
            if let Some(value) = labels.get(key) {
                selector = selector.and(key, value, wanted);
            }
        }
    }
    let mut namespaces: Box<[Box<str>]> = term.namespaces.iter().flatten().map(|n| n.as_str().into()).collect();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces = Box::new([namespace.into()]);
    }
    AffinityTerm {
        namespaces,
        namespace_selector: Selector::new(term.namespace_selector.as_ref()),
        selector,
        topology_key: term.topology_key.as_str().into(),
    }
}

fn spread(constraint: &core::TopologySpreadConstraint, labels: &Labels) -> SpreadConstraint {
    let mut selector = Selector::new(constraint.label_selector.as_ref());
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            selector = selector.and(key, value, true);
        }
    }
    SpreadConstraint {
        max_skew: i64::from(constraint.max_skew),
        topology_key: constraint.topology_key.as_str().into(),
        hard: constraint.when_unsatisfiable == "DoNotSchedule",
        selector,
        min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
        honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
        honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
    }
}

#[cfg(test)]
mod tests {
    use super::normalized_image;

    #[test]
    fn image_names() {
        let check = |name: &str, expected: &str| assert_eq!(normalized_image(name), expected);
        check("busybox", "busybox:latest");
        check("localhost:5000/busybox", "localhost:5000/busybox:latest");
        check("localhost:5000/busybox:1.36", "localhost:5000/busybox:1.36");
    }
}
