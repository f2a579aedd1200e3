//! The workloads of `apps`, and the ReplicationController before them.

use serde_json::{Value, json};

use crate::support::{check, check_status, check_update, check_warnings, defaulted, prepared, updated, with};

fn workload(kind: &str) -> Value {
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let selector = match kind {
        "ReplicationController" => json!({"app": "a"}),
        _ => json!({"matchLabels": {"app": "a"}}),
    };
    json!({"metadata": {"name": "w"}, "spec": {"selector": selector, "template": template}})
}

const KINDS: [&str; 5] = ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet", "ReplicationController"];

fn spec_of(kind: &str) -> Value {
    let mut spec = defaulted(kind, workload(kind))["spec"].take();
    spec.as_object_mut().expect("an object").retain(|name, _| name != "template" && name != "selector");
    spec
}

#[test]
fn defaults() {
    let check = |kind: &str, expected: Value| assert_eq!(spec_of(kind), expected, "{kind}");
    check(
        "Deployment",
        json!({"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}),
    );
    check("ReplicaSet", json!({"replicas": 1}));
    check("ReplicationController", json!({"replicas": 1}));
    check(
        "DaemonSet",
        json!({"revisionHistoryLimit": 10,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}),
    );
    check(
        "StatefulSet",
        json!({"replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}),
    );
}

#[test]
fn a_template_gets_the_defaults_of_templates_only() {
    let template = defaulted("Deployment", workload("Deployment"))["spec"]["template"].take();
    let expected = json!({"metadata": {"labels": {"app": "a"}}, "spec": {
        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
        "securityContext": {}, "schedulerName": "default-scheduler",
        "containers": [{"name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent", "resources": {},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
    }});
    assert_eq!(template, expected);
}

#[test]
fn selectors_and_templates() {
    for kind in ["Deployment", "ReplicaSet", "DaemonSet", "StatefulSet"] {
        check(
            kind,
            with(workload(kind), "/spec/template/metadata/labels", json!({"app": "b"})),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
        );
        for absent in [Value::Null, json!({})] {
            let expected = format!(
                "spec.template.metadata.labels: Invalid value: {absent}: `selector` does not match template `labels`"
            );
            check(kind, with(workload(kind), "/spec/template/metadata/labels", absent), &expected);
        }
        check(
            kind,
            with(workload(kind), "/spec/selector", Value::Null),
            "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` \
             does not match template `labels`]",
        );
        check(
            kind,
            with(workload(kind), "/spec/selector/matchExpressions", json!([{"key": "app", "operator": "Is"}])),
            "[spec.selector.matchExpressions[0].operator: Invalid value: \"Is\": not a valid selector operator, \
             spec.selector: Invalid value: {\"matchExpressions\":[{\"key\":\"app\",\"operator\":\"Is\"}],\
             \"matchLabels\":{\"app\":\"a\"}}: invalid label selector]",
        );
    }
    for kind in KINDS {
        check(
            kind,
            with(workload(kind), "/spec/template/spec/restartPolicy", json!("Never")),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        );
        check(
            kind,
            with(workload(kind), "/spec/template/spec/containers/0/image", Value::Null),
            "spec.template.spec.containers[0].image: Required value",
        );
    }
}

#[test]
fn numbers() {
    for kind in ["Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"] {
        check(
            kind,
            with(workload(kind), "/spec/replicas", json!(-1)),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        );
    }
    for kind in KINDS {
        check(
            kind,
            with(workload(kind), "/spec/minReadySeconds", json!(-1)),
            "spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0",
        );
    }
    check(
        "Deployment",
        with(
            with(workload("Deployment"), "/spec/minReadySeconds", json!(60)),
            "/spec/progressDeadlineSeconds",
            json!(60),
        ),
        "spec.progressDeadlineSeconds: Invalid value: 60: must be greater than minReadySeconds",
    );
}

#[test]
fn strategies() {
    let deployment = |strategy: Value, expected: &str| {
        check("Deployment", with(workload("Deployment"), "/spec/strategy", strategy), expected);
    };
    deployment(json!({"type": "Recreate"}), "");
    deployment(
        json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
        "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
    );
    deployment(
        json!({"type": "Blue"}),
        "spec.strategy.type: Unsupported value: \"Blue\": supported values: \"Recreate\", \"RollingUpdate\"",
    );
    deployment(
        json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
    );
    deployment(
        json!({"rollingUpdate": {"maxUnavailable": "120%"}}),
        "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"120%\": must not be greater than 100%",
    );
    let daemons = |strategy: Value, expected: &str| {
        check("DaemonSet", with(workload("DaemonSet"), "/spec/updateStrategy", strategy), expected);
    };
    daemons(json!({"type": "OnDelete"}), "");
    daemons(
        json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}),
        "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
    );
    daemons(
        json!({"rollingUpdate": {"maxUnavailable": 0}}),
        "spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0",
    );
    check(
        "StatefulSet",
        with(workload("StatefulSet"), "/spec/podManagementPolicy", json!("Any")),
        "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
    );
}

#[test]
fn selectors_never_change() {
    for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
        let new = with(workload(kind), "/spec/selector/matchLabels", json!({"app": "b"}));
        check_update(
            kind,
            workload(kind),
            with(new, "/spec/template/metadata/labels", json!({"app": "b"})),
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"b\"}}: field is immutable",
        );
    }
}

#[test]
fn a_stateful_set_changes_only_what_it_can_carry_out() {
    let set = || workload("StatefulSet");
    check_update("StatefulSet", set(), with(set(), "/spec/replicas", json!(3)), "");
    check_update("StatefulSet", set(), with(set(), "/spec/template/spec/containers/0/image", json!("i:2")), "");
    check_update(
        "StatefulSet",
        set(),
        with(set(), "/spec/serviceName", json!("other")),
        "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
         'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    );
}

#[test]
fn claims_of_a_stateful_set_are_volumes_of_its_template() {
    let claims = json!([{"metadata": {"name": "data"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]);
    let mounts = json!([{"name": "data", "mountPath": "/d"}]);
    let set = with(workload("StatefulSet"), "/spec/template/spec/containers/0/volumeMounts", mounts);
    check("StatefulSet", with(set.clone(), "/spec/volumeClaimTemplates", claims), "");
    check("StatefulSet", set, "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"");
}

#[test]
fn each_half_keeps_the_other() {
    for kind in KINDS {
        let stored = prepared(kind, workload(kind));
        let both =
            with(with(stored.clone(), "/spec/minReadySeconds", json!(9)), "/status/observedGeneration", json!(7));
        assert_eq!(updated(kind, &stored, both.clone(), false)["status"], stored["status"], "{kind}");
        let status = updated(kind, &stored, both, true);
        assert_eq!((&status["spec"], &status["status"]["observedGeneration"]), (&stored["spec"], &json!(7)), "{kind}");
    }
}

#[test]
fn statuses_add_up() {
    let status = |kind: &str, status: Value, expected: &str| {
        check_status(kind, workload(kind), with(workload(kind), "/status", status), expected);
    };
    status("Deployment", json!({"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}), "");
    status(
        "ReplicaSet",
        json!({"replicas": 1, "readyReplicas": 2}),
        "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
    );
    status(
        "Deployment",
        json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2}),
        "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
    );
    status(
        "DaemonSet",
        json!({"numberReady": -1}),
        "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
    );
}

#[test]
fn a_replication_controller_takes_over_its_templates_labels() {
    let plain = with(workload("ReplicationController"), "/spec/selector", Value::Null);
    let filled = defaulted("ReplicationController", plain);
    assert_eq!(filled["spec"]["selector"], json!({"app": "a"}));
    assert_eq!(filled["metadata"]["labels"], json!({"app": "a"}));
    check(
        "ReplicationController",
        with(workload("ReplicationController"), "/spec/template", Value::Null),
        "spec.template: Required value",
    );
}

#[test]
fn a_revision_is_frozen() {
    let revision = json!({"metadata": {"name": "r"}, "revision": 1, "data": {"a": 1}});
    check(
        "ControllerRevision",
        with(revision.clone(), "/data", Value::Null),
        "data: Required value: data is mandatory",
    );
    check_update("ControllerRevision", revision.clone(), with(revision.clone(), "/revision", json!(2)), "");
    check_update(
        "ControllerRevision",
        revision.clone(),
        with(revision, "/data", json!({"a": 2})),
        "data: Invalid value: {\"a\":2}: field is immutable",
    );
}

#[test]
fn warnings_name_the_place_in_the_template() {
    let env = json!([{"name": "X", "value": "1"}, {"name": "X", "value": "2"}]);
    check_warnings(
        "Deployment",
        with(workload("Deployment"), "/spec/template/spec/containers/0/env", env),
        &[
            "spec.template.spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply",
        ],
    );
}
