//! Pod: what is filled in, what its spec may not say.

use serde_json::{Value, json};

use crate::support::{check, check_warnings, defaulted, prepared, rules, with};

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}})
}

#[test]
fn defaults() {
    let plain = json!({"metadata": {"name": "p"}, "spec": {
        "serviceAccountName": "robot",
        "volumes": [
            {"name": "a"},
            {"name": "b", "configMap": {"name": "m"}},
            {"name": "c", "hostPath": {"path": "/x"}},
            {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "e", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
        "containers": [{
            "name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi"}, "requests": {"memory": "512Mi"}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "livenessProbe": {"httpGet": {"port": "http"}},
        }],
    }});
    let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {}, "spec": {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": true,
        "serviceAccountName": "robot",
        "serviceAccount": "robot",
        "volumes": [
            {"name": "a", "emptyDir": {}},
            {"name": "b", "configMap": {"name": "m", "defaultMode": 420}},
            {"name": "c", "hostPath": {"path": "/x", "type": ""}},
            {"name": "d", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}]}},
            {"name": "e", "downwardAPI": {"defaultMode": 420, "items": [
                {"path": "n", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}]}},
        ],
        "containers": [{
            "name": "c", "image": "nginx", "imagePullPolicy": "Always",
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "512Mi"}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
            "livenessProbe": {
                "httpGet": {"port": "http", "path": "/", "scheme": "HTTP"},
                "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
            },
        }],
    }});
    assert_eq!(defaulted("Pod", plain), expected);
}

#[test]
fn a_creator_sets_no_status() {
    let check = |resources: Value, class: &str| {
        let asked = with(with(pod(), "/spec/containers/0/resources", resources), "/status/phase", json!("Running"));
        assert_eq!(prepared("Pod", asked)["status"], json!({"phase": "Pending", "qosClass": class}));
    };
    check(json!({}), "BestEffort");
    check(json!({"requests": {"cpu": "1"}}), "Burstable");
    check(json!({"limits": {"cpu": "1"}}), "Burstable");
    check(json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed");
    check(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}), "Burstable");
}

#[test]
fn a_gated_pod_says_why_it_waits() {
    let gated = prepared("Pod", with(pod(), "/spec/schedulingGates", json!([{"name": "example.com/wait"}])));
    assert_eq!(gated["status"]["conditions"][0]["reason"], "SchedulingGated");
}

#[test]
fn spec_fields() {
    let one = |field: &str, value: Value, expected: &str| {
        check("Pod", with(pod(), &format!("/spec/{field}"), value), expected)
    };
    one(
        "restartPolicy",
        json!("Sometimes"),
        "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
    );
    one(
        "dnsPolicy",
        json!("None"),
        "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
    );
    one(
        "activeDeadlineSeconds",
        json!(0),
        "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
    );
    one(
        "tolerations",
        json!([{"key": "a", "operator": "Exists", "value": "b"}]),
        "spec.tolerations[0].operator: Invalid value: {\"key\":\"a\",\"operator\":\"Exists\",\"value\":\"b\"}: value must \
         be empty when `operator` is 'Exists'",
    );
    one(
        "tolerations",
        json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 1}]),
        "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
    );
    one(
        "tolerations",
        json!([{"operator": "Equal"}]),
        "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \
         \"match all values and all keys\"",
    );
    one(
        "topologySpreadConstraints",
        json!([{"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]),
        "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
    );
    one(
        "ephemeralContainers",
        json!([{"name": "e", "image": "i"}]),
        "spec.ephemeralContainers: Forbidden: cannot be set on create",
    );
    one(
        "securityContext",
        json!({"sysctls": [{"name": "net.core.somaxconn", "value": "1"}, {"name": "net.core.somaxconn", "value": "2"}]}),
        "spec.securityContext.sysctls[1].name: Duplicate value: \"net.core.somaxconn\"",
    );
    one(
        "affinity",
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must \
         have at least one node selector term",
    );
    one(
        "affinity",
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 101, "podAffinityTerm": {"topologyKey": "zone"}}]}}),
        "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must \
         be in the range 1-100",
    );
}

#[test]
fn volumes() {
    let one = |volume: Value, expected: &str| check("Pod", with(pod(), "/spec/volumes", json!([volume])), expected);
    one(json!({"name": "a", "emptyDir": {}}), "");
    one(json!({"name": ""}), "spec.volumes[0].name: Required value");
    one(
        json!({"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}),
        "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
    );
    one(json!({"name": "a", "hostPath": {"path": ""}}), "spec.volumes[0].hostPath.path: Required value");
    one(json!({"name": "a", "secret": {}}), "spec.volumes[0].secret.secretName: Required value");
    one(
        json!({"name": "a", "configMap": {"name": "m", "defaultMode": 512}}),
        "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
    );
    one(
        json!({"name": "a", "persistentVolumeClaim": {"claimName": ""}}),
        "spec.volumes[0].persistentVolumeClaim.claimName: Required value",
    );
    check(
        "Pod",
        with(pod(), "/spec/volumes", json!([{"name": "a"}, {"name": "a"}])),
        "spec.volumes[1].name: Duplicate value: \"a\"",
    );
}

#[test]
fn warnings() {
    check_warnings("Pod", pod(), &[]);
    let env = json!([{"name": "X", "value": "1"}, {"name": "X", "value": "2"}]);
    check_warnings(
        "Pod",
        with(pod(), "/spec/containers/0/env", env),
        &["spec.containers[0].env[1]: hides previous definition of \"X\", which may be dropped when using apply"],
    );
    check_warnings(
        "Pod",
        with(pod(), "/spec/nodeSelector", json!({"beta.kubernetes.io/os": "linux"})),
        &["spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead"],
    );
}

#[test]
fn only_a_pod_on_a_node_needs_time_to_end() {
    let grace = |pod: Value| rules("Pod").grace_period_seconds(&defaulted("Pod", pod)).expect("decodes");
    assert_eq!(grace(pod()), Some(0));
    let bound = with(pod(), "/spec/nodeName", json!("n"));
    assert_eq!(grace(bound.clone()), Some(30));
    assert_eq!(grace(with(bound.clone(), "/spec/terminationGracePeriodSeconds", json!(5))), Some(5));
    assert_eq!(grace(with(bound.clone(), "/spec/terminationGracePeriodSeconds", json!(0))), Some(0));
    assert_eq!(grace(with(bound.clone(), "/spec/terminationGracePeriodSeconds", json!(-1))), Some(1));
    assert_eq!(grace(with(bound, "/status/phase", json!("Succeeded"))), Some(0));
}
