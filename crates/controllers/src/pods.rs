//! What controllers ask of a pod: is it active, ready, available, and which ones go first when there are too many.

use std::cmp::Ordering;

use k8s_openapi::Metadata;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::meta::{Meta, after_seconds, controller_reference, seconds_since};

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub fn is_failed(pod: &Pod) -> bool {
    phase(pod) == "Failed"
}

pub fn is_succeeded(pod: &Pod) -> bool {
    phase(pod) == "Succeeded"
}

pub fn is_terminal(pod: &Pod) -> bool {
    is_failed(pod) || is_succeeded(pod)
}

pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !pod.deleting()
}

pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && pod.deleting()
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

fn ready_since(pod: &Pod) -> Option<jiff::Timestamp> {
    condition(pod, "Ready").filter(|ready| ready.status == "True")?.last_transition_time.as_ref().map(|time| time.0)
}

/// When a ready pod becomes (or became) available; `None` while it is not ready.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<jiff::Timestamp> {
    if !is_ready(pod) {
        return None;
    }
    if min_ready_seconds == 0 {
        return Some(jiff::Timestamp::MIN);
    }
    Some(after_seconds(ready_since(pod)?, i64::from(min_ready_seconds)))
}

pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: jiff::Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .map(|status| status.restart_count)
        .max()
        .unwrap_or_default()
}

/// A pod stamped from a template, owned by `owner`.
pub fn from_template<O>(template: &PodTemplateSpec, owner: &O) -> Pod
where
    O: Resource + Metadata<Ty = ObjectMeta>,
{
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            generate_name: Some(generate_name(owner.name())),
            namespace: owner.meta().namespace.clone(),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

fn generate_name(owner: &str) -> String {
    format!("{owner}-")
}

/// Orders the pods to delete first before those to keep: not scheduled before scheduled, pending before unknown
/// before running, not ready before ready, cheaper before dearer, crowded nodes before empty ones, ready for a
/// shorter time (by powers of two) before longer, more restarts before fewer, newer before older.
pub fn deletion_order(a: (&Pod, usize), b: (&Pod, usize), now: jiff::Timestamp) -> Ordering {
    let ((a, rank_a), (b, rank_b)) = (a, b);
    node_name(a)
        .is_empty()
        .cmp(&node_name(b).is_empty())
        .reverse()
        .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| rank_b.cmp(&rank_a))
        .then_with(|| age_bucket(ready_since(a), now).cmp(&age_bucket(ready_since(b), now)))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| age_bucket(Some(a.created()), now).cmp(&age_bucket(Some(b.created()), now)))
        .then_with(|| a.uid().cmp(b.uid()))
}

fn phase_rank(pod: &Pod) -> u8 {
    match phase(pod) {
        "Unknown" => 1,
        "Running" => 2,
        _ => 0,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    pod.annotation(DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or_default()
}

/// Ages on a logarithmic scale, so that scaling down does not always hit the very newest pod.
fn age_bucket(since: Option<jiff::Timestamp>, now: jiff::Timestamp) -> i64 {
    let Some(since) = since else { return -1 };
    let seconds = seconds_since(since, now).max(0.0);
    if seconds < 1.0 { 0 } else { seconds.log2() as i64 + 1 }
}
