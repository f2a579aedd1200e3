//! Event, of both groups.

use serde_json::{Value, json};

use crate::support::{check, context, with};

fn event() -> Value {
    json!({"metadata": {"name": "e", "namespace": "default"}, "involvedObject": {"kind": "Pod", "namespace": "default"},
        "reason": "Started"})
}

#[test]
fn an_event_lives_beside_its_object() {
    let involved = |namespace: &str| with(event(), "/involvedObject/namespace", json!(namespace));
    check("Event", event(), "");
    check("Event", involved(""), "");
    check(
        "Event",
        involved("other"),
        "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace",
    );
    let far = with(involved(""), "/metadata/namespace", json!("other"));
    check("Event", far, "involvedObject.namespace: Invalid value: \"\": does not match event.namespace");
}

#[test]
fn an_event_with_a_time_names_its_recorder() {
    let timed = with(event(), "/eventTime", json!("2026-01-02T03:04:05.000000Z"));
    let named = with(timed, "/reportingComponent", json!("kubelet"));
    check("Event", named.clone(), "[reportingInstance: Required value, action: Required value]");
    let whole = with(with(named, "/reportingInstance", json!("node-1")), "/action", json!("Start"));
    check("Event", whole, "");
}

#[test]
fn the_new_group_is_strict() {
    let rules = registry::strategy_for("events.k8s.io", "v1", "Event").expect("a row");
    let object = json!({"metadata": {"namespace": "default"}, "regarding": {"namespace": "default"},
        "reportingController": "kubelet", "reportingInstance": "n", "action": "a", "reason": "r", "type": "Normal"});
    let errors = rules.validate_create(&object, &context()).expect("decodes");
    assert_eq!(errors.to_string(), "eventTime: Required value");
}
