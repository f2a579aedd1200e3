//! The small kinds: Lease, LimitRange, ResourceQuota, PodTemplate, PodDisruptionBudget, PriorityClass, autoscaler,
//! RuntimeClass.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, prepared, with};

#[test]
fn leases() {
    let lease = |spec: Value| json!({"metadata": {"name": "l"}, "spec": spec});
    check(
        "Lease",
        lease(json!({"leaseDurationSeconds": 0})),
        "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
    );
    check(
        "Lease",
        lease(json!({"leaseTransitions": -1})),
        "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
    );
}

#[test]
fn limit_ranges() {
    let range = |item: Value| json!({"metadata": {"name": "l"}, "spec": {"limits": [item]}});
    let filled =
        defaulted("LimitRange", range(json!({"type": "Container", "max": {"cpu": 2}, "min": {"memory": "1Mi"}})));
    let item = &filled["spec"]["limits"][0];
    assert_eq!(item["default"], json!({"cpu": "2"}));
    assert_eq!(item["defaultRequest"], json!({"cpu": "2", "memory": "1Mi"}));
    check(
        "LimitRange",
        range(json!({"type": "Pod", "min": {"cpu": 2}, "max": {"cpu": 1}})),
        "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
    );
    check(
        "LimitRange",
        range(json!({"type": "Pod", "default": {"cpu": 2}})),
        "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
    );
}

#[test]
fn quotas() {
    let quota = |spec: Value| json!({"metadata": {"name": "q"}, "spec": spec});
    check(
        "ResourceQuota",
        quota(json!({"hard": {"pods": "1500m"}})),
        "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
    );
    check(
        "ResourceQuota",
        quota(json!({"scopes": ["Terminating", "NotTerminating"]})),
        "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes",
    );
    check_update(
        "ResourceQuota",
        quota(json!({})),
        quota(json!({"scopes": ["Terminating"]})),
        "spec.scopes: Invalid value: [\"Terminating\"]: field is immutable",
    );
}

#[test]
fn pod_templates() {
    let template = json!({"metadata": {"name": "t"}, "template": {"spec": {"containers": [{"name": "c"}]}}});
    check("PodTemplate", template, "template.spec.containers[0].image: Required value");
}

#[test]
fn budgets() {
    let budget = |spec: Value| json!({"metadata": {"name": "b"}, "spec": spec});
    let counts = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    assert_eq!(prepared("PodDisruptionBudget", budget(json!({})))["status"], counts);
    check(
        "PodDisruptionBudget",
        budget(json!({"minAvailable": 1, "maxUnavailable": 1})),
        "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set",
    );
    check(
        "PodDisruptionBudget",
        budget(json!({"minAvailable": "half"})),
        "spec.minAvailable: Invalid value: \"half\": a valid percent string must be a numeric string followed by an \
         ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
    );
}

#[test]
fn priorities() {
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
    assert_eq!(defaulted("PriorityClass", class("a", 1))["preemptionPolicy"], "PreemptLowerPriority");
    check(
        "PriorityClass",
        class("a", 1_000_000_001),
        "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
    );
    check("PriorityClass", class("system-node-critical", 2_000_001_000), "");
    check_update("PriorityClass", class("a", 1), class("a", 2), "value: Forbidden: may not be changed in an update.");
}

#[test]
fn autoscalers() {
    let scaler = || {
        json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}}})
    };
    let filled = defaulted("HorizontalPodAutoscaler", scaler());
    assert_eq!(filled["spec"]["minReplicas"], 1);
    let metric = json!([{"type": "Resource", "resource": {"name": "cpu", "target": {
        "type": "Utilization", "averageUtilization": 80}}}]);
    assert_eq!(filled["spec"]["metrics"], metric);
    check(
        "HorizontalPodAutoscaler",
        with(scaler(), "/spec/minReplicas", json!(5)),
        "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
    );
    check(
        "HorizontalPodAutoscaler",
        with(scaler(), "/spec/scaleTargetRef/name", json!("")),
        "spec.scaleTargetRef.name: Required value",
    );
}

#[test]
fn runtime_classes() {
    let class = |handler: &str| json!({"metadata": {"name": "r"}, "handler": handler});
    check_update("RuntimeClass", class("runc"), class("crun"), "handler: Invalid value: \"crun\": field is immutable");
}
