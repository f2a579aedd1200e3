//! When two pod templates are the same.
//!
//! The API keeps what a client wrote: one client leaves `tty` out, another writes `tty: false`, and both mean the
//! same. A rollback writes an earlier template back through another client, and must find the earlier ReplicaSet.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

/// Booleans whose absence means false. For others (`automountServiceAccountToken`, `enableServiceLinks`, ...) absent
/// and false differ.
const FALSE_BY_DEFAULT: [&str; 7] = ["hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty"];

pub fn same(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let canonical = |template: &PodTemplateSpec| {
        canonical(serde_json::to_value(template).expect("a template has string keys only"))
    };
    a == b || canonical(a) == canonical(b)
}

/// Without what says nothing: nulls, empty lists and objects, and the booleans above when false.
pub fn canonical(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let said = fields.into_iter().map(|(name, value)| (name, canonical(value)));
            Value::Object(said.filter(|(name, value)| says_something(name, value)).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        other => other,
    }
}

fn says_something(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(false) => !FALSE_BY_DEFAULT.contains(&name),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(a: Value, b: Value, expected: bool) {
        let template = |spec: Value| {
            let mut spec = spec;
            spec["containers"] = json!([{"name": "c"}]);
            serde_json::from_value::<PodTemplateSpec>(json!({"spec": spec})).expect("a template")
        };
        assert_eq!(same(&template(a.clone()), &template(b.clone())), expected, "{a} {b}");
    }

    #[test]
    fn silence_and_its_spellings() {
        check(json!({"hostNetwork": false, "volumes": [], "securityContext": {}}), json!({}), true);
        check(json!({"hostNetwork": true}), json!({}), false);
        check(json!({"automountServiceAccountToken": false}), json!({}), false);
        check(json!({"nodeSelector": {"a": ""}}), json!({}), false);
    }
}
