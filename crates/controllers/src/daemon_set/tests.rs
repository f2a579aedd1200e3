use serde_json::{Value, json};

use super::placement::{Verdict, decide};
use super::*;
use crate::testing::object;

fn check(pod_spec: Value, node: Value, should_run: bool, should_continue: bool) {
    let set: DaemonSet = object(json!({
        "metadata": {"name": "ds"},
        "spec": {"selector": {}, "template": {"spec": pod_spec}},
    }));
    let mut node: Node = object(node);
    node.metadata.name = Some("n1".into());
    assert_eq!(decide(&set, &node), Verdict { should_run, should_continue }, "{node:?}");
}

fn plain() -> Value {
    json!({"containers": []})
}

fn tainted(key: &str, effect: &str) -> Value {
    json!({"metadata": {}, "spec": {"taints": [{"key": key, "effect": effect}]}})
}

#[test]
fn nodes_that_get_a_pod() {
    check(plain(), json!({"metadata": {}}), true, true);
    check(plain(), tainted("dedicated", "NoSchedule"), false, true);
    check(plain(), tainted("dedicated", "NoExecute"), false, false);
    check(plain(), tainted("dedicated", "PreferNoSchedule"), true, true);
    for key in ["not-ready", "unreachable"] {
        check(plain(), tainted(&format!("node.kubernetes.io/{key}"), "NoExecute"), true, true);
    }
    check(plain(), tainted("node.kubernetes.io/unschedulable", "NoSchedule"), true, true);
    check(plain(), tainted("node.kubernetes.io/network-unavailable", "NoSchedule"), false, true);
    let host = json!({"containers": [], "hostNetwork": true});
    check(host, tainted("node.kubernetes.io/network-unavailable", "NoSchedule"), true, true);
    let chosen = json!({"containers": [], "nodeSelector": {"disk": "ssd"}});
    check(chosen.clone(), json!({"metadata": {"labels": {"disk": "ssd"}}}), true, true);
    check(chosen, json!({"metadata": {}}), false, false);
    check(json!({"containers": [], "nodeName": "n2"}), json!({"metadata": {}}), false, false);
}

#[test]
fn a_pod_knows_its_node() {
    let set: DaemonSet = object(json!({
        "metadata": {"name": "ds", "namespace": "ns", "uid": "u"},
        "spec": {"selector": {}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": plain()}},
    }));
    let pod = placement::pod_for(&set, "n7", "hash");
    assert_eq!(placement::target_node(&pod), "n7");
    assert_eq!(pod.label("controller-revision-hash"), Some("hash"));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("ds-"));
}

#[test]
fn a_failed_pod_is_replaced_with_back_off() {
    let set: DaemonSet = object(json!({
        "metadata": {"name": "ds", "namespace": "ns", "uid": "u"},
        "spec": {"selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": plain()}},
    }));
    let mut node = Node::default();
    node.metadata.name = Some("node".into());
    let pods = [crate::testing::pod("p", "u", json!({"a": "b"}), "Failed", false)];
    let mut backoff = new_backoff();
    let mut deletes = |now| {
        let observed = Observed {
            set: &set,
            nodes: &[Arc::new(node.clone())],
            pods: &pods,
            revisions: &[],
            name_taken: &|_| false,
        };
        plan(&observed, &mut backoff, crate::testing::at(now)).ops.iter().any(Op::is_delete)
    };
    assert!(deletes(100));
    assert!(!deletes(100), "one second must pass");
    assert!(deletes(101));
    assert!(!deletes(102), "then two");
    assert!(deletes(103));
}
