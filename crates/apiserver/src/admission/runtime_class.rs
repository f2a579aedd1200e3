//! RuntimeClass: a pod's runtime class exists, and gives the pod its overhead, node selector and tolerations.

use api::{ApiError, meta};
use serde_json::{Map, Value};

use super::{Attributes, Operation};

pub async fn admit(a: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !a.is(Operation::Create, "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    let name = pod.pointer("/spec/runtimeClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = if name.is_empty() { None } else { Some(named(a, pod, &name).await?) };
    let applied = match &class {
        Some(class) => apply(class, &mut pod["spec"]),
        None => overhead(&Value::Null, &mut pod["spec"]),
    };
    applied.map_err(|why| a.refuse(meta::name(pod), &why))
}

async fn named(a: &Attributes<'_>, pod: &Value, name: &str) -> Result<Value, ApiError> {
    let classes = a.api.builtin("runtimeclasses");
    a.api.caches.own_writes(classes).await?;
    let found = classes.get(name).map(|c| c.value());
    found.ok_or_else(|| a.refuse(meta::name(pod), &format!("pod rejected: RuntimeClass {name:?} not found")))
}

fn apply(class: &Value, spec: &mut Value) -> Result<(), String> {
    overhead(&class["overhead"]["podFixed"], spec)?;
    node_selector(&class["scheduling"]["nodeSelector"], spec)?;
    tolerations(&class["scheduling"]["tolerations"], spec);
    Ok(())
}

/// The class alone says what a pod costs beside its containers.
fn overhead(of_class: &Value, spec: &mut Value) -> Result<(), String> {
    let given = spec.get("overhead").filter(|v| v.as_object().is_some_and(|o| !o.is_empty()));
    match (given, of_class.is_null()) {
        (None, true) => {}
        (None, false) => spec["overhead"] = of_class.clone(),
        (Some(_), true) => {
            return Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned());
        }
        (Some(given), false) if given == of_class => {}
        (Some(_), false) => {
            return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
    }
    Ok(())
}

fn node_selector(of_class: &Value, spec: &mut Value) -> Result<(), String> {
    let Some(of_class) = of_class.as_object().filter(|labels| !labels.is_empty()) else { return Ok(()) };
    let mut merged: Map<String, Value> = spec["nodeSelector"].as_object().cloned().unwrap_or_default();
    for (key, wanted) in of_class {
        let given = merged.entry(key.clone()).or_insert_with(|| wanted.clone());
        if given != wanted {
            let shown = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                shown(wanted),
                shown(given)
            ));
        }
    }
    spec["nodeSelector"] = Value::Object(merged);
    Ok(())
}

fn tolerations(of_class: &Value, spec: &mut Value) {
    let Some(of_class) = of_class.as_array().filter(|list| !list.is_empty()) else { return };
    let mut merged = spec["tolerations"].as_array().cloned().unwrap_or_default();
    for toleration in of_class {
        if !merged.contains(toleration) {
            merged.push(toleration.clone());
        }
    }
    spec["tolerations"] = Value::Array(merged);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(class: &Value, spec: &Value, expected: Result<&Value, &str>) {
        let mut after = spec.clone();
        let result = apply(class, &mut after);
        assert_eq!(result.as_ref().map(|()| &after).map_err(String::as_str), expected);
    }

    #[test]
    fn a_class_gives_what_it_has() {
        let class = json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]},
        });
        let full = json!({
            "overhead": {"cpu": "250m"}, "nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}],
        });
        check(&class, &json!({}), Ok(&full));
        check(&class, &full, Ok(&full));
        check(
            &class,
            &json!({"nodeSelector": {"vm": "no"}}),
            Err("conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no"),
        );
        check(
            &class,
            &json!({"overhead": {"cpu": "1"}}),
            Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        );
    }

    #[test]
    fn no_overhead_without_a_class_that_has_one() {
        let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
        check(&json!({}), &json!({"overhead": {"cpu": "1"}}), Err(why));
        check(&json!({}), &json!({}), Ok(&json!({})));
    }
}
