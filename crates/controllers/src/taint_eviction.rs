//! Drives pods off nodes with NoExecute taints, at once or when their toleration runs out.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use serde_json::json;

use crate::meta::{Meta, after_seconds, time};
use crate::node_match::tolerates;
use crate::plan::{EventType, Op, PatchType, Plan, Target, reference};
use crate::pods;

/// When the wait of a pod began, by uid. Kept by the caller; a pod that may stay is forgotten.
pub type Waiting = HashMap<String, Timestamp>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stay,
    Leave,
    LeaveAfter(i64),
}

pub fn plan(node: &Node, pods: &[Arc<Pod>], waiting: &mut Waiting, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let taints: Vec<&Taint> = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .filter(|taint| taint.effect == "NoExecute")
        .collect();
    for pod in pods.iter().filter(|pod| !pod.deleting()) {
        match judge(pod, &taints) {
            Verdict::Stay => {
                if waiting.remove(pod.uid()).is_some() {
                    let message = format!("Cancelling deletion of Pod {}/{}", pod.namespace(), pod.name());
                    plan.event(reference(pod.as_ref()), EventType::Normal, "TaintManagerEviction", message);
                }
            }
            Verdict::Leave => evict(pod, waiting, now, &mut plan),
            Verdict::LeaveAfter(seconds) => {
                let started = *waiting.entry(pod.uid().to_owned()).or_insert(now);
                let at = after_seconds(started, seconds);
                if at <= now { evict(pod, waiting, now, &mut plan) } else { plan.requeue_at(at, now) }
            }
        }
    }
    plan
}

fn judge(pod: &Pod, taints: &[&Taint]) -> Verdict {
    if taints.is_empty() {
        return Verdict::Stay;
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if taints.iter().any(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint))) {
        return Verdict::Leave;
    }
    let used = tolerations.iter().filter(|toleration| taints.iter().any(|taint| tolerates(toleration, taint)));
    match used.filter_map(|toleration| toleration.toleration_seconds).min() {
        None => Verdict::Stay,
        Some(seconds) if seconds <= 0 => Verdict::Leave,
        Some(seconds) => Verdict::LeaveAfter(seconds),
    }
}

fn evict(pod: &Pod, waiting: &mut Waiting, now: Timestamp, plan: &mut Plan) {
    waiting.remove(pod.uid());
    let message = format!("Marking for deletion Pod {}/{}", pod.namespace(), pod.name());
    plan.event(reference(pod), EventType::Normal, "TaintManagerEviction", message);
    if !pods::is_terminal(pod) {
        let condition = json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": time(now),
        });
        let patch = json!({"metadata": {"uid": pod.meta().uid}, "status": {"conditions": [condition]}});
        plan.push(Op::patch_status(Target::of(pod), PatchType::Strategic, patch));
    }
    plan.push(Op::delete(pod));
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Toleration;

    fn check(tolerations: &[(&str, Option<i64>)], taints: &[&str], expected: Verdict) {
        let mut pod = Pod::default();
        let convert = |(key, seconds): &(&str, Option<i64>)| Toleration {
            key: Some((*key).into()),
            operator: Some("Exists".into()),
            toleration_seconds: *seconds,
            ..Toleration::default()
        };
        pod.spec.get_or_insert_default().tolerations = Some(tolerations.iter().map(convert).collect());
        let taints: Vec<Taint> = taints
            .iter()
            .map(|key| Taint { key: (*key).into(), effect: "NoExecute".into(), value: None, time_added: None })
            .collect();
        assert_eq!(judge(&pod, &taints.iter().collect::<Vec<_>>()), expected);
    }

    #[test]
    fn the_shortest_toleration_counts() {
        check(&[], &[], Verdict::Stay);
        check(&[], &["a"], Verdict::Leave);
        check(&[("a", None)], &["a"], Verdict::Stay);
        check(&[("a", None)], &["a", "b"], Verdict::Leave);
        check(&[("a", Some(300)), ("b", Some(60))], &["a", "b"], Verdict::LeaveAfter(60));
        check(&[("a", Some(300)), ("b", Some(60))], &["a"], Verdict::LeaveAfter(300));
        check(&[("a", Some(0))], &["a"], Verdict::Leave);
    }

    #[test]
    fn a_wait_runs_from_when_it_was_first_seen() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let mut node = Node::default();
        let taint = Taint { key: "a".into(), effect: "NoExecute".into(), value: None, time_added: None };
        node.spec.get_or_insert_default().taints = Some(vec![taint]);
        let mut pod = Pod::default();
        pod.metadata.uid = Some("u".into());
        pod.spec.get_or_insert_default().tolerations = Some(vec![Toleration {
            operator: Some("Exists".into()),
            toleration_seconds: Some(30),
            ..Toleration::default()
        }]);
        let pods = [Arc::new(pod)];
        let mut waiting = Waiting::new();
        assert!(plan(&node, &pods, &mut waiting, at(100)).ops.is_empty());
        assert!(plan(&node, &pods, &mut waiting, at(129)).ops.is_empty());
        assert!(plan(&node, &pods, &mut waiting, at(130)).ops.iter().any(Op::is_delete));
    }
}
