//! Priority: a pod's priority class becomes its priority.

use api::{ApiError, meta};
use serde_json::Value;

use super::{Attributes, Operation};

const LOWER_PRIORITY: &str = "PreemptLowerPriority";

pub async fn admit(a: &Attributes<'_>, pod: &mut Value) -> Result<(), ApiError> {
    if !a.is(Operation::Create, "pods") || !pod.get("spec").is_some_and(Value::is_object) {
        return Ok(());
    }
    a.api.caches.own_writes(a.api.builtin("priorityclasses")).await?;
    let given = pod.pointer("/spec/priorityClassName").and_then(Value::as_str).unwrap_or_default().to_owned();
    let class = if given.is_empty() { default_class(a) } else { Some(named(a, pod, &given)?) };
    let value = class.as_ref().and_then(|c| c["value"].as_i64()).unwrap_or(0);
    let policy = class.as_ref().and_then(|c| c["preemptionPolicy"].as_str()).unwrap_or(LOWER_PRIORITY).to_owned();
    if let (Some(class), true) = (&class, given.is_empty()) {
        pod["spec"]["priorityClassName"] = meta::name(class).into();
    }
    set(
        a,
        pod,
        "priority",
        "the integer value of priority",
        value.into(),
        "must not be provided in pod spec; priority admission controller computed",
    )?;
    set(
        a,
        pod,
        "preemptionPolicy",
        "the string value of PreemptionPolicy",
        policy.into(),
        "must not be provided in pod spec; priority admission controller computed",
    )
}

/// Sets what the class says; a pod that already says something else is refused.
fn set(a: &Attributes<'_>, pod: &mut Value, field: &str, what: &str, value: Value, why: &str) -> Result<(), ApiError> {
    let given = &pod["spec"][field];
    if !given.is_null() && *given != value {
        let shown = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let why = format!("{what} ({}) {why} {} from the given PriorityClass name", shown(given), shown(&value));
        return Err(a.refuse(meta::name(pod), &why));
    }
    pod["spec"][field] = value;
    Ok(())
}

fn named(a: &Attributes<'_>, pod: &Value, name: &str) -> Result<Value, ApiError> {
    let found = a.api.builtin("priorityclasses").get(name).map(|c| c.value());
    found.ok_or_else(|| a.refuse(meta::name(pod), &format!("no PriorityClass with name {name} was found")))
}

/// Of several global defaults the lowest counts.
fn default_class(a: &Attributes<'_>) -> Option<Value> {
    let classes = a.api.builtin("priorityclasses").all().into_iter().map(|c| c.value());
    classes.filter(|c| c["globalDefault"] == Value::Bool(true)).min_by_key(|c| c["value"].as_i64().unwrap_or(0))
}
