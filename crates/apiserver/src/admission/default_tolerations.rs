//! DefaultTolerationSeconds: a pod stays five minutes on a node that has become unreachable or not ready, unless it
//! says otherwise.

use serde_json::{Value, json};

use super::{Attributes, Operation};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub fn admit(a: &Attributes<'_>, object: &mut Value) {
    // On update too: a manifest that is applied again does not carry what was added here.
    if a.is(Operation::Create, "pods") || a.is(Operation::Update, "pods") {
        add(object);
    }
}

fn add(pod: &mut Value) {
    let given: Vec<Value> = pod.pointer("/spec/tolerations").and_then(Value::as_array).cloned().unwrap_or_default();
    let covered = |taint: &str| {
        given.iter().any(|t| {
            let text = |f: &str| t.get(f).and_then(Value::as_str).unwrap_or_default();
            matches!(text("key"), "" | "*")
                && text("operator") == "Exists"
                && matches!(text("effect"), "" | "NoExecute")
                || text("key") == taint && matches!(text("effect"), "" | "NoExecute")
        })
    };
    let added: Vec<Value> = TAINTS
        .iter()
        .filter(|taint| !covered(taint))
        .map(|taint| json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS}))
        .collect();
    if !added.is_empty() && pod.get("spec").is_some_and(Value::is_object) {
        pod["spec"]["tolerations"] = given.into_iter().chain(added).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tolerations: Value, expected: usize) {
        let mut pod = json!({"spec": {"tolerations": tolerations}});
        add(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().map_or(0, Vec::len), expected);
    }

    #[test]
    fn tolerations() {
        check(json!([]), 2);
        check(json!([{"key": TAINTS[0], "operator": "Exists"}]), 2);
        check(json!([{"operator": "Exists"}]), 1);
        check(json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]), 3);
    }
}
