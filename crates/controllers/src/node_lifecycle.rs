//! Watches over nodes: says so when one falls silent, and marks it with the taints that keep pods away or drive them
//! out.
//!
//! A node lives as long as its Lease is renewed or its Ready condition reported. When that last happened is judged by
//! this controller's own clock, from when it saw the change: clocks of nodes are not compared with ours, and a
//! restart of the controller grants every node a full grace period.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use serde_json::{Value, json};

use crate::meta::{Meta, time};
use crate::plan::{EventType, Op, PatchType, Plan, Target, normal, reference, warning};
use crate::pods;

pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions a silent kubelet can no longer vouch for.
const KUBELET_CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// `--node-monitor-grace-period`
    pub grace: Duration,
    /// `--node-startup-grace-period`, for nodes whose kubelet never reported
    pub startup_grace: Duration,
}

/// What was last heard of a node, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    signs: (Option<Timestamp>, Option<Timestamp>),
    pub seen: Timestamp,
}

pub struct Observed<'a> {
    pub node: &'a Node,
    pub lease: Option<&'a Lease>,
    /// Pods bound to this node.
    pub pods: &'a [Arc<Pod>],
    /// No node of the cluster is ready: the fault is more likely ours than theirs, so nothing is driven out.
    pub all_silent: bool,
}

/// `heartbeat` is kept by the caller per node; `None` for a node not seen before.
pub fn plan(observed: &Observed, heartbeat: &mut Option<Heartbeat>, config: &Config, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    if observed.node.deleting() {
        return plan;
    }
    let beat = listen(observed, heartbeat, &mut plan, now);
    let mut node = observed.node.clone();
    let reported = find(&node, "Ready").is_some_and(|ready| ready.last_heartbeat_time.is_some());
    let grace = if reported { config.grace } else { config.startup_grace };
    let deadline = beat.checked_add(grace).unwrap_or(Timestamp::MAX);
    if deadline <= now {
        silence(&mut node, now);
    } else {
        plan.requeue_at(deadline, now);
    }
    // One write of the node at a time: the change it makes brings the next plan about.
    if !write_conditions(observed, &node, &mut plan) {
        write_taints(observed, &node, now, &mut plan);
    }
    if ready_status(&node) != "True" {
        for pod in observed.pods.iter().filter(|pod| pods::is_ready(pod) && !pods::is_terminal(pod)) {
            mark_not_ready(pod, now, &mut plan);
        }
    }
    plan
}

/// Any news resets the clock.
fn listen(observed: &Observed, heartbeat: &mut Option<Heartbeat>, plan: &mut Plan, now: Timestamp) -> Timestamp {
    let reported = find(observed.node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|at| at.0);
    let renewed = observed.lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref()).map(|at| at.0);
    let signs = (reported, renewed);
    match heartbeat {
        Some(old) if old.signs == signs => old.seen,
        known => {
            if known.is_none() {
                let name = observed.node.name();
                let message = format!("Node {name} event: Registered Node {name} in Controller");
                plan.event(reference(observed.node), EventType::Normal, "RegisteredNode", message);
            }
            *known = Some(Heartbeat { signs, seen: now });
            now
        }
    }
}

fn find<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn ready_status(node: &Node) -> &str {
    find(node, "Ready").map_or("Unknown", |condition| condition.status.as_str())
}

pub fn is_ready(node: &Node) -> bool {
    ready_status(node) == "True"
}

fn silence(node: &mut Node, now: Timestamp) {
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in KUBELET_CONDITIONS {
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: created.clone(),
                last_transition_time: Some(time(now)),
            }),
        }
    }
}

fn write_conditions(observed: &Observed, node: &Node, plan: &mut Plan) -> bool {
    if node.status == observed.node.status {
        return false;
    }
    let mut op = Op::update_status(node);
    if is_ready(observed.node) {
        let message = format!("Node {} status is now: NodeNotReady", node.name());
        op = op.on_success(normal(&reference(node), "NodeNotReady", message));
    }
    plan.push(op);
    true
}

/// The taints this controller owns, as the node's conditions demand them.
fn wanted_taints(node: &Node, drive_out: bool) -> Vec<(&'static str, &'static str)> {
    let mut taints = Vec::new();
    let troubles = [
        ("Ready", "False", NOT_READY),
        ("Ready", "Unknown", UNREACHABLE),
        ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
        ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
        ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
        ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ];
    for (kind, status, key) in troubles {
        if find(node, kind).is_some_and(|condition| condition.status == status) {
            taints.push((key, "NoSchedule"));
            if kind == "Ready" && drive_out {
                taints.push((key, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        taints.push((UNSCHEDULABLE, "NoSchedule"));
    }
    taints
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = ["memory-pressure", "disk-pressure", "pid-pressure", "network-unavailable", "unschedulable"];
    let suffix = taint.key.strip_prefix("node.kubernetes.io/").unwrap_or_default();
    match taint.effect.as_str() {
        "NoSchedule" => matches!(suffix, "not-ready" | "unreachable") || by_condition.contains(&suffix),
        "NoExecute" => matches!(suffix, "not-ready" | "unreachable"),
        _ => false,
    }
}

fn write_taints(observed: &Observed, node: &Node, now: Timestamp, plan: &mut Plan) {
    // A kubelet that never reported keeps the taints it registered with.
    if find(node, "Ready").is_none() {
        return;
    }
    let wanted = wanted_taints(node, !observed.all_silent);
    let current: Vec<Taint> =
        observed.node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).cloned().collect();
    let matches = |taint: &Taint, (key, effect): (&str, &str)| taint.key == key && taint.effect == effect;
    let mut taints: Vec<Taint> = current
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.iter().any(|wanted| matches(taint, *wanted)))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| matches(taint, (key, effect))) {
            let time_added = Some(time(now));
            taints.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added });
        }
    }
    if taints != current {
        let taints = if taints.is_empty() { Value::Null } else { json!(taints) };
        // The list is replaced as a whole, so it must be the one that was read.
        let patch = json!({
            "metadata": {"uid": node.meta().uid, "resourceVersion": node.meta().resource_version},
            "spec": {"taints": taints},
        });
        plan.push(Op::patch(Target::of(node), PatchType::Merge, patch));
    }
}

fn mark_not_ready(pod: &Pod, now: Timestamp, plan: &mut Plan) {
    let patch = json!({
        "metadata": {"uid": pod.meta().uid},
        "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": time(now)}]},
    });
    let event = warning(&reference(pod), "NodeNotReady", "Node is not ready");
    plan.push(Op::patch_status(Target::of(pod), PatchType::Strategic, patch).on_success(event));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, line, object};

    const CONFIG: Config = Config { grace: Duration::from_secs(50), startup_grace: Duration::from_secs(60) };

    fn node(ready: &str, taints: serde_json::Value) -> Node {
        object(json!({
            "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
            "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready, "lastHeartbeatTime": "1970-01-01T00:00:00Z"}]},
        }))
    }

    fn check(node: &Node, heard: i64, all_silent: bool, expected: &[&str]) {
        let signs = (Some(at(0)), None);
        let mut heartbeat = Some(Heartbeat { signs, seen: at(heard) });
        let pods = [crate::testing::pod("p", "o", json!({}), "Running", true)];
        let observed = Observed { node, lease: None, pods: &pods, all_silent };
        let plan = plan(&observed, &mut heartbeat, &CONFIG, at(1000));
        assert_eq!(plan.ops.iter().map(line).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_silent_node_is_marked_and_its_pods_with_it() {
        check(&node("True", json!([])), 990, false, &[]);
        check(&node("True", json!([])), 950, false, &["update nodes/n/status", "patch pods/p/status"]);
    }

    #[test]
    fn taints_follow_the_conditions() {
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let both = json!([taint(NOT_READY, "NoSchedule"), taint(NOT_READY, "NoExecute")]);
        check(&node("True", json!([])), 999, false, &[]);
        check(&node("True", both.clone()), 999, false, &["patch nodes/n"]);
        check(&node("False", both.clone()), 999, false, &["patch pods/p/status"]);
        check(&node("False", json!([])), 999, false, &["patch nodes/n", "patch pods/p/status"]);
        // With no node ready anywhere nobody is driven out, so the second taint goes.
        check(&node("False", both), 999, true, &["patch nodes/n", "patch pods/p/status"]);
        check(&node("True", json!([taint("mine", "NoExecute")])), 999, false, &[]);
    }
}
