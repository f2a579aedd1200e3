//! What a write to an existing pod may change.

use registry::kinds::pod;
use serde_json::{Value, json};

use crate::support::{check_status, check_update, prepared, updated, with};

const ONLY: &str = "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn old() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i:1"}],
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "activeDeadlineSeconds": 100,
    }})
}

fn change(field: &str, value: Value, expected: &str) {
    check_update("Pod", old(), with(old(), field, value), expected);
}

#[test]
fn what_may_change() {
    change("/spec/containers/0/image", json!("i:2"), "");
    change("/spec/activeDeadlineSeconds", json!(50), "");
    change("/spec/tolerations/-", json!({"key": "b", "operator": "Exists"}), "");
    change("/metadata/labels", json!({"a": "b"}), "");
}

#[test]
fn what_may_not() {
    change("/spec/containers/0/command", json!(["sh"]), ONLY);
    change("/spec/nodeName", json!("n"), ONLY);
    change("/spec/hostNetwork", json!(true), ONLY);
    change("/spec/terminationGracePeriodSeconds", json!(1), ONLY);
    change(
        "/spec/containers/-",
        json!({"name": "d", "image": "i"}),
        "spec.containers: Forbidden: pod updates may not add or remove containers",
    );
    change(
        "/spec/activeDeadlineSeconds",
        json!(200),
        "spec.activeDeadlineSeconds: Invalid value: 200: must be less than or equal to previous value",
    );
    change(
        "/spec/tolerations",
        json!([]),
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds",
    );
    change(
        "/spec/schedulingGates",
        json!([{"name": "late"}]),
        "spec.schedulingGates[0]: Forbidden: only deletion is allowed, but found new scheduling gate 'late'",
    );
}

#[test]
fn each_half_keeps_the_other() {
    let stored = prepared("Pod", old());
    let both = with(with(stored.clone(), "/spec/nodeName", json!("n")), "/status/phase", json!("Running"));
    let main = updated("Pod", &stored, both.clone(), false);
    assert_eq!((&main["status"]["phase"], &main["spec"]["nodeName"]), (&json!("Pending"), &json!("n")));
    let status = updated("Pod", &stored, both, true);
    assert_eq!((&status["status"]["phase"], &status["spec"]), (&json!("Running"), &stored["spec"]));
    assert_eq!(status["status"]["qosClass"], "BestEffort");
}

#[test]
fn the_dead_stay_dead() {
    let never = with(old(), "/spec/restartPolicy", json!("Never"));
    let statuses = |state: Value| json!([{"name": "c", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0}]);
    let ended = json!({"terminated": {"exitCode": 0}});
    let mut stored = prepared("Pod", never.clone());
    stored["status"]["containerStatuses"] = statuses(ended.clone());
    let alive = with(stored.clone(), "/status/containerStatuses", statuses(json!({"running": {}})));
    let rules = crate::support::rules("Pod");
    let ctx = registry::Context { status: true, ..crate::support::context() };
    let errors = rules.validate_update(&alive, &stored, &ctx).expect("decodes");
    let expected = "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state";
    assert_eq!(errors.to_string(), expected);
    check_status("Pod", never.clone(), with(never, "/status/containerStatuses", statuses(ended)), "");
}

#[test]
fn ephemeral_containers_are_only_added() {
    let typed = |value: &Value| serde_json::from_value(value.clone()).expect("a pod");
    let stored = prepared("Pod", old());
    let asked = with(stored.clone(), "/spec/ephemeralContainers", json!([{"name": "debug", "image": "b:1"}]));
    let asked = crate::support::defaulted("Pod", with(asked, "/spec/nodeName", json!("other")));
    let (mut new, before) = (typed(&asked), typed(&stored));
    pod::prepare_ephemeral_containers(&mut new, &before);
    assert_eq!(new.spec.as_ref().and_then(|s| s.node_name.clone()), None, "the rest of the spec is kept");
    assert!(pod::validate_ephemeral_containers(&new, &before).is_empty());
    let mut gone = new.clone();
    gone.spec.as_mut().expect("a spec").ephemeral_containers = None;
    let errors = pod::validate_ephemeral_containers(&gone, &new).to_string();
    let expected = "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n";
    assert_eq!(errors, expected);
}
