//! Node.

use serde_json::{Value, json};

use crate::support::{check, check_status, check_update, defaulted, prepared, updated, with};

fn node() -> Value {
    json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.0.0/24"}, "status": {"capacity": {"cpu": 2}}})
}

#[test]
fn defaults() {
    let filled = defaulted("Node", node());
    assert_eq!(filled["spec"], json!({"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24"]}));
    assert_eq!(filled["status"]["allocatable"], json!({"cpu": "2"}));
}

#[test]
fn taints() {
    let one = |taints: Value, expected: &str| check("Node", with(node(), "/spec/taints", taints), expected);
    one(json!([{"key": "a", "effect": "NoSchedule"}]), "");
    one(
        json!([{"key": "a", "effect": "Never"}]),
        "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \
         \"PreferNoSchedule\"",
    );
    one(
        json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]),
        "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\"}",
    );
}

#[test]
fn what_is_given_once() {
    let moved = with(with(node(), "/spec/podCIDR", json!("10.244.1.0/24")), "/spec/podCIDRs", json!(["10.244.1.0/24"]));
    check_update(
        "Node",
        node(),
        moved.clone(),
        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
    );
    let patched =
        with(with(node(), "/spec/podCIDRs", json!(["10.244.0.0/24"])), "/spec/podCIDR", json!("10.244.1.0/24"));
    check_update(
        "Node",
        node(),
        patched,
        "spec.podCIDRs: Forbidden: node updates may not change podCIDR except from \"\" to valid",
    );
    check_update("Node", with(node(), "/spec/podCIDR", Value::Null), moved, "");
    let provided = |id: &str| with(node(), "/spec/providerID", json!(id));
    check_update(
        "Node",
        provided("a"),
        provided("b"),
        "spec.providerID: Forbidden: node updates may not change providerID except from \"\" to valid",
    );
    check_update("Node", node(), with(node(), "/spec/unschedulable", json!(true)), "");
}

#[test]
fn each_half_keeps_the_other() {
    let stored = prepared("Node", node());
    let both = with(with(stored.clone(), "/spec/unschedulable", json!(true)), "/status/capacity/cpu", json!("4"));
    assert_eq!(updated("Node", &stored, both.clone(), false)["status"], stored["status"]);
    assert_eq!(updated("Node", &stored, both, true)["spec"], stored["spec"]);
    check_status(
        "Node",
        node(),
        with(node(), "/status/allocatable/cpu", json!("-4")),
        "status.allocatable[cpu]: Invalid value: \"-4\": must be greater than or equal to 0",
    );
}
