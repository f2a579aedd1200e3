//! HorizontalPodAutoscaler of `autoscaling/v1`: one target for the processor; what else the second version has stands in
//! annotations, as upstream writes them.

use serde_json::{Map, Value, json};

use super::Conversion;
use crate::meta;

pub const AUTOSCALERS: Conversion =
    Conversion { kept: ("autoscaling", "v2", "horizontalpodautoscalers"), from_kept, to_kept };

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const TARGET: &str = "targetCPUUtilizationPercentage";
const CURRENT: &str = "currentCPUUtilizationPercentage";

/// A field of a metric in the second version, by pointer, and its name in the first.
type Fields = &'static [(&'static str, &'static str)];

/// Of a source and its target.
const WANTED: &[(&str, Fields)] = &[
    (
        "object",
        &[
            ("/describedObject", "target"),
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/target/value", "targetValue"),
            ("/target/averageValue", "averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/target/averageValue", "targetAverageValue"),
        ],
    ),
    ("resource", RESOURCE_WANTED),
    ("containerResource", RESOURCE_WANTED),
    (
        "external",
        &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "metricSelector"),
            ("/target/value", "targetValue"),
            ("/target/averageValue", "targetAverageValue"),
        ],
    ),
];
const RESOURCE_WANTED: Fields = &[
    ("/name", "name"),
    ("/container", "container"),
    ("/target/averageUtilization", "targetAverageUtilization"),
    ("/target/averageValue", "targetAverageValue"),
];

/// Of a source and what it is at.
const FOUND: &[(&str, Fields)] = &[
    (
        "object",
        &[
            ("/describedObject", "target"),
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/current/value", "currentValue"),
            ("/current/averageValue", "averageValue"),
        ],
    ),
    (
        "pods",
        &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "selector"),
            ("/current/averageValue", "currentAverageValue"),
        ],
    ),
    ("resource", RESOURCE_FOUND),
    ("containerResource", RESOURCE_FOUND),
    (
        "external",
        &[
            ("/metric/name", "metricName"),
            ("/metric/selector", "metricSelector"),
            ("/current/value", "currentValue"),
            ("/current/averageValue", "currentAverageValue"),
        ],
    ),
];
const RESOURCE_FOUND: Fields = &[
    ("/name", "name"),
    ("/container", "container"),
    ("/current/averageUtilization", "currentAverageUtilization"),
    ("/current/averageValue", "currentAverageValue"),
];

fn from_kept(mut scaler: Value) -> Value {
    scaler["apiVersion"] = "autoscaling/v1".into();
    let (metrics, behavior) = (take(&mut scaler, "spec", "metrics"), take(&mut scaler, "spec", "behavior"));
    let (current, conditions) =
        (take(&mut scaler, "status", "currentMetrics"), take(&mut scaler, "status", "conditions"));
    let (processor, others): (Vec<_>, Vec<_>) = items(&metrics).partition(|m| use_of(m, "target").is_some());
    if let Some(share) = processor.first().and_then(|m| use_of(m, "target")) {
        scaler["spec"][TARGET] = share.clone();
    }
    if let Some(share) = items(&current).find_map(|m| use_of(m, "current")) {
        scaler["status"][CURRENT] = share.clone();
    }
    for count in ["currentReplicas", "desiredReplicas"] {
        let status = &mut scaler["status"];
        if status[count].is_null() {
            status[count] = 0.into();
        }
    }
    let others: Vec<Value> = others.into_iter().map(|m| first_version(m, WANTED)).collect();
    let current: Vec<Value> = items(&current).map(|m| first_version(m, FOUND)).collect();
    let conditions: Vec<Value> = items(&conditions).cloned().collect();
    for (name, list) in [(METRICS, others), (CURRENT_METRICS, current), (CONDITIONS, conditions)] {
        if !list.is_empty() {
            annotate(&mut scaler, name, &Value::Array(list));
        }
    }
    if behavior.is_object() {
        annotate(&mut scaler, BEHAVIOR, &go_names(&behavior));
    }
    scaler
}

pub(crate) fn to_kept(mut scaler: Value) -> Value {
    scaler["apiVersion"] = "autoscaling/v2".into();
    let noted = |scaler: &mut Value, name: &str| -> Value {
        let text = meta::metadata_mut(scaler).get_mut("annotations").and_then(|all| all.as_object_mut()?.remove(name));
        text.and_then(|text| serde_json::from_str(text.as_str()?).ok()).unwrap_or_default()
    };
    let [metrics, current, conditions, behavior] =
        [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].map(|name| noted(&mut scaler, name));
    let mut wanted: Vec<Value> = items(&metrics).map(|m| second_version(m, WANTED)).collect();
    if let Some(share) = take(&mut scaler, "spec", TARGET).as_i64() {
        wanted.push(json!({"type": "Resource", "resource": {"name": "cpu", "target": {
            "type": "Utilization", "averageUtilization": share}}}));
    }
    if !wanted.is_empty() {
        scaler["spec"]["metrics"] = wanted.into();
    }
    let mut found: Vec<Value> = items(&current).map(|m| second_version(m, FOUND)).collect();
    if let Some(share) = take(&mut scaler, "status", CURRENT).as_i64().filter(|_| found.is_empty()) {
        found.push(json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": share}}}));
    }
    if !found.is_empty() {
        scaler["status"]["currentMetrics"] = found.into();
    }
    if conditions.is_array() {
        scaler["status"]["conditions"] = conditions;
    }
    if behavior.is_object() {
        scaler["spec"]["behavior"] = renamed(&behavior, small);
    }
    scaler
}

fn take(scaler: &mut Value, half: &str, field: &str) -> Value {
    let half = scaler.get_mut(half).and_then(Value::as_object_mut);
    half.and_then(|half| half.remove(field)).unwrap_or_default()
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The share of the processor's request that a metric is about.
fn use_of<'a>(metric: &'a Value, of: &str) -> Option<&'a Value> {
    let resource = metric.get("resource").filter(|_| metric["type"] == "Resource")?;
    resource.get(of)?.get("averageUtilization").filter(|share| resource["name"] == "cpu" && share.is_number())
}

fn annotate(scaler: &mut Value, name: &str, value: &Value) {
    let annotations = meta::metadata_mut(scaler).entry("annotations").or_insert_with(|| json!({}));
    annotations[name] = value.to_string().into();
}

fn first_version(metric: &Value, sources: &[(&str, Fields)]) -> Value {
    let mut out = json!({"type": metric["type"]});
    for (source, fields) in sources {
        let Some(from) = metric.get(source) else { continue };
        let named = fields.iter().filter_map(|(at, name)| Some(((*name).to_owned(), from.pointer(at)?.clone())));
        out[source] = Value::Object(named.collect());
    }
    out
}

fn second_version(metric: &Value, sources: &[(&str, Fields)]) -> Value {
    let mut out = json!({"type": metric["type"]});
    for (source, fields) in sources {
        let Some(from) = metric.get(source) else { continue };
        let mut to = json!({});
        for (at, name) in fields.iter().filter(|(_, name)| from.get(name).is_some_and(|v| !v.is_null())) {
            *at.split('/').skip(1).fold(&mut to, |place, step| &mut place[step]) = from[name].clone();
        }
        if let Some(target) = to.get_mut("target").filter(|_| sources == WANTED) {
            const KINDS: [(&str, &str); 3] =
                [("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value")];
            if let Some((_, kind)) = KINDS.iter().find(|(field, _)| target.get(field).is_some()) {
                target["type"] = (*kind).into();
            }
        }
        out[source] = to;
    }
    out
}

/// Upstream writes what it holds in memory, whose fields are named as in Go, and all of them.
fn go_names(behavior: &Value) -> Value {
    const RULES: &[(&str, &str)] = &[
        ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
        ("SelectPolicy", "selectPolicy"),
        ("Policies", "policies"),
        ("Tolerance", "tolerance"),
    ];
    let rules = |rules: Option<&Value>| -> Value {
        let Some(rules) = rules else { return Value::Null };
        RULES.iter().map(|(go, name)| ((*go).to_owned(), renamed(&rules[name], capital))).collect::<Map<_, _>>().into()
    };
    json!({"ScaleUp": rules(behavior.get("scaleUp")), "ScaleDown": rules(behavior.get("scaleDown"))})
}

/// All fields named otherwise, and those that hold nothing left out of what is read.
fn renamed(value: &Value, name: fn(&str) -> String) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| renamed(item, name)).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let held = fields.iter().filter(|(_, value)| !value.is_null());
            held.map(|(field, value)| (name(field), renamed(value, name))).collect::<Map<_, _>>().into()
        }
        plain => plain.clone(),
    }
}

fn capital(field: &str) -> String {
    field.chars().take(1).flat_map(char::to_uppercase).chain(field.chars().skip(1)).collect()
}

fn small(field: &str) -> String {
    field.chars().take(1).flat_map(char::to_lowercase).chain(field.chars().skip(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Value {
        let metric = json!({"name": "queue", "selector": {"matchLabels": {"a": "b"}}});
        let object = json!({"apiVersion": "v1", "kind": "Service", "name": "s"});
        let used = json!({"averageUtilization": 40, "averageValue": "200m"});
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {"own": "kept"}},
            "spec": {
                "minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "a"},
                "metrics": [
                    {"type": "Pods", "pods": {"metric": metric, "target": {"type": "AverageValue", "averageValue": "5"}}},
                    {"type": "Object", "object": {"metric": metric, "describedObject": object,
                        "target": {"type": "Value", "value": "7"}}},
                    {"type": "External", "external": {"metric": {"name": "q"},
                        "target": {"type": "AverageValue", "averageValue": "9"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c",
                        "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Resource", "resource": {"name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 60}}},
                ],
                "behavior": {"scaleDown": {"selectPolicy": "Max", "stabilizationWindowSeconds": 5,
                    "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}},
            },
            "status": {
                "currentReplicas": 2, "desiredReplicas": 2,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": used}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        })
    }

    #[test]
    fn there_and_back() {
        let first = from_kept(full());
        assert_eq!((&first["spec"][TARGET], &first["status"][CURRENT]), (&json!(60), &json!(40)), "{first:#}");
        assert_eq!((&first["spec"]["metrics"], &first["spec"]["behavior"]), (&Value::Null, &Value::Null));
        assert_eq!(to_kept(first), full());
    }

    #[test]
    fn as_upstream_writes_it() {
        let first = from_kept(full());
        let noted = |name: &str| -> Value {
            serde_json::from_str(first["metadata"]["annotations"][name].as_str().expect("noted")).expect("JSON")
        };
        let rules = json!({"ScaleUp": null, "ScaleDown": {"StabilizationWindowSeconds": 5, "SelectPolicy": "Max",
            "Policies": [{"Type": "Pods", "Value": 4, "PeriodSeconds": 15}], "Tolerance": null}});
        assert_eq!(noted(BEHAVIOR), rules);
        let pods = json!({"type": "Pods", "pods": {"metricName": "queue", "targetAverageValue": "5",
            "selector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(noted(METRICS)[0], pods);
        let used = json!([{"type": "Resource", "resource": {"name": "cpu", "currentAverageUtilization": 40,
            "currentAverageValue": "200m"}}]);
        assert_eq!(noted(CURRENT_METRICS), used);
        assert_eq!(first["metadata"]["annotations"]["own"], "kept");
    }

    #[test]
    fn what_was_never_in_the_second_version() {
        let plain = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "a"}, "spec": {"maxReplicas": 3}});
        assert_eq!(to_kept(plain)["spec"], json!({"maxReplicas": 3}));
        let wrong = json!({"metadata": {"annotations": {METRICS: "[", BEHAVIOR: "7"}}, "spec": {TARGET: 5}});
        assert_eq!(to_kept(wrong)["spec"]["metrics"].as_array().map(Vec::len), Some(1));
    }
}
