//! TaintNodesByCondition: a node that registers itself is not ready until the node controller has seen it ready.

use serde_json::{Value, json};

use super::{Attributes, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub fn admit(a: &Attributes<'_>, object: &mut Value) {
    if a.is(Operation::Create, "nodes") {
        taint(object);
    }
}

fn taint(node: &mut Value) {
    if !node.get("spec").is_some_and(Value::is_object) {
        node["spec"] = json!({});
    }
    let taints = &mut node["spec"]["taints"];
    if !taints.is_array() {
        *taints = json!([]);
    }
    let Some(taints) = taints.as_array_mut() else { return };
    if !taints.iter().any(|t| t["key"] == NOT_READY && t["effect"] == "NoSchedule") {
        taints.push(json!({"key": NOT_READY, "effect": "NoSchedule"}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_tainted_once() {
        let mut node = json!({"metadata": {"name": "a"}});
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node["spec"]["taints"], json!([{"key": NOT_READY, "effect": "NoSchedule"}]));
    }
}
