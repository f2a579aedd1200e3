//! Clears away pods nobody else will: those on nodes that are gone, those deleted before they were scheduled, and
//! the oldest finished ones when there are too many.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;

use crate::meta::{Meta, time};
use crate::plan::{Op, PatchType, Plan, Target};
use crate::pods;

/// A node must be missing for this long: caches of pods and nodes do not move together.
pub const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub struct Observed<'a> {
    pub pods: &'a [Arc<Pod>],
    pub node: &'a dyn Fn(&str) -> Option<Arc<Node>>,
    /// Whether this missing node has been missing for the quarantine.
    pub long_gone: &'a dyn Fn(&str) -> bool,
    /// Finished pods to keep; none are deleted when it is not positive.
    pub terminated_threshold: i32,
}

pub fn plan(observed: &Observed, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan_terminated(observed, now, &mut plan);
    for pod in observed.pods {
        let node = pods::node_name(pod);
        if node.is_empty() {
            if pod.deleting() {
                plan.push(Op::delete(pod.as_ref()).grace(0));
            }
            continue;
        }
        match (observed.node)(node) {
            None if (observed.long_gone)(node) => {
                let message = "PodGC: node no longer exists";
                evict(pod, message, now, &mut plan);
            }
            Some(node) if pod.deleting() && is_out_of_service(&node) => {
                let message = "PodGC: node has an out-of-service taint";
                evict(pod, message, now, &mut plan);
            }
            _ => {}
        }
    }
    plan
}

fn plan_terminated(observed: &Observed, now: jiff::Timestamp, plan: &mut Plan) {
    let Ok(threshold @ 1..) = usize::try_from(observed.terminated_threshold) else { return };
    let mut finished: Vec<&Arc<Pod>> =
        observed.pods.iter().filter(|pod| pods::is_terminal(pod) && !pod.deleting()).collect();
    let surplus = finished.len().saturating_sub(threshold);
    finished.sort_by_key(|pod| (pod.created(), pod.name().to_owned()));
    for pod in finished.into_iter().take(surplus) {
        fail(pod, None, now, plan);
        plan.push(Op::delete(pod.as_ref()).grace(0));
    }
}

fn is_out_of_service(node: &Node) -> bool {
    let ready = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let tainted =
        node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(|taint| taint.key == OUT_OF_SERVICE);
    !ready && tainted
}

fn evict(pod: &Pod, message: &str, now: jiff::Timestamp, plan: &mut Plan) {
    fail(pod, Some(message), now, plan);
    plan.push(Op::delete(pod).grace(0));
}

/// A pod that did not end by itself is marked failed first, so that whoever counts it counts a failure.
fn fail(pod: &Pod, message: Option<&str>, now: jiff::Timestamp, plan: &mut Plan) {
    if pods::is_terminal(pod) {
        return;
    }
    let mut patch = json!({"metadata": {"uid": pod.meta().uid}, "status": {"phase": "Failed"}});
    if let Some(message) = message {
        patch["status"]["conditions"] = json!([{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC", "message": message,
            "lastTransitionTime": time(now),
        }]);
    }
    plan.push(Op::patch_status(Target::of(pod), PatchType::Strategic, patch));
}
