//! Containers: names, images, ports, environment, mounts, probes, resources, security.

use serde_json::{Value, json};

use crate::support::{check, with};

fn pod() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "volumes": [{"name": "data"}],
        "containers": [{"name": "c", "image": "i:1"}],
    }})
}

/// One field of the only container is changed.
fn one(field: &str, value: Value, expected: &str) {
    check("Pod", with(pod(), &format!("/spec/containers/0/{field}"), value), expected);
}

#[test]
fn names_and_images() {
    one("name", json!(""), "spec.containers[0].name: Required value");
    one(
        "name",
        json!("Web"),
        "spec.containers[0].name: Invalid value: \"Web\": a lowercase RFC 1123 label must consist of lower case \
         alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
         '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
    );
    one("image", Value::Null, "spec.containers[0].image: Required value");
    one(
        "image",
        json!(" i"),
        "spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace",
    );
    one(
        "imagePullPolicy",
        json!("Sometimes"),
        "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
         \"IfNotPresent\", \"Never\"",
    );
    check("Pod", with(pod(), "/spec/containers", json!([])), "spec.containers: Required value");
    let twice = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]);
    check("Pod", with(pod(), "/spec/containers", twice), "spec.containers[1].name: Duplicate value: \"c\"");
    let init = json!([{"name": "c", "image": "i"}]);
    check("Pod", with(pod(), "/spec/initContainers", init), "spec.initContainers[0].name: Duplicate value: \"c\"");
}

#[test]
fn ports() {
    one("ports", json!([{"containerPort": 0}]), "spec.containers[0].ports[0].containerPort: Required value");
    one(
        "ports",
        json!([{"containerPort": 70000}]),
        "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
    );
    one(
        "ports",
        json!([{"containerPort": 80, "protocol": "http"}]),
        "spec.containers[0].ports[0].protocol: Unsupported value: \"http\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
    );
    one(
        "ports",
        json!([{"name": "web", "containerPort": 80}, {"name": "web", "containerPort": 81}]),
        "spec.containers[0].ports[1].name: Duplicate value: \"web\"",
    );
    one(
        "ports",
        json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 80}]),
        "spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//80\"",
    );
}

#[test]
fn host_network_ports_are_the_containers_own() {
    let host = with(pod(), "/spec/hostNetwork", json!(true));
    check("Pod", with(host.clone(), "/spec/containers/0/ports", json!([{"containerPort": 80}])), "");
    check(
        "Pod",
        with(host, "/spec/containers/0/ports", json!([{"containerPort": 80, "hostPort": 81}])),
        "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
    );
}

#[test]
fn environment() {
    one("env", json!([{"name": ""}]), "spec.containers[0].env[0].name: Required value");
    one(
        "env",
        json!([{"name": "A=B"}]),
        "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only \
         of printable ASCII characters other than '='",
    );
    one(
        "env",
        json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
        "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
    );
    one(
        "env",
        json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]),
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.containers\": error converting \
         fieldPath: field label not supported: spec.containers",
    );
    one("env", json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}]), "");
    one(
        "env",
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]),
        "spec.containers[0].env[0].valueFrom.configMapKeyRef.key: Required value",
    );
    one(
        "envFrom",
        json!([{}]),
        "spec.containers[0].envFrom[0]: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
    );
}

#[test]
fn volume_mounts() {
    one("volumeMounts", json!([{"name": "data", "mountPath": "/d"}]), "");
    one(
        "volumeMounts",
        json!([{"name": "nope", "mountPath": "/d"}]),
        "spec.containers[0].volumeMounts[0].name: Not found: \"nope\"",
    );
    one("volumeMounts", json!([{"name": "data"}]), "spec.containers[0].volumeMounts[0].mountPath: Required value");
    one(
        "volumeMounts",
        json!([{"name": "data", "mountPath": "/d"}, {"name": "data", "mountPath": "/d"}]),
        "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/d\": must be unique",
    );
    one(
        "volumeMounts",
        json!([{"name": "data", "mountPath": "/d", "subPath": "../x"}]),
        "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"../x\": must not contain '..'",
    );
    one(
        "volumeMounts",
        json!([{"name": "data", "mountPath": "/d", "mountPropagation": "Bidirectional"}]),
        "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available \
         only to privileged containers",
    );
}

#[test]
fn probes_and_hooks() {
    one("livenessProbe", json!({"httpGet": {"port": 80}}), "");
    one("livenessProbe", json!({}), "spec.containers[0].livenessProbe: Required value: must specify a handler type");
    one(
        "livenessProbe",
        json!({"httpGet": {"port": 80}, "tcpSocket": {"port": 80}}),
        "spec.containers[0].livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type",
    );
    one(
        "livenessProbe",
        json!({"tcpSocket": {"port": 80}, "successThreshold": 2}),
        "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
    );
    one(
        "readinessProbe",
        json!({"httpGet": {}}),
        "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
    );
    one(
        "readinessProbe",
        json!({"exec": {"command": ["true"]}, "periodSeconds": -1}),
        "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
    );
    one("lifecycle", json!({"preStop": {"sleep": {"seconds": 5}}}), "");
    one(
        "lifecycle",
        json!({"preStop": {}}),
        "spec.containers[0].lifecycle.preStop: Required value: must specify a handler type",
    );
    check(
        "Pod",
        with(
            pod(),
            "/spec/initContainers",
            json!([{"name": "i", "image": "i", "livenessProbe": {"tcpSocket": {"port": 80}}}]),
        ),
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
    );
}

#[test]
fn resources() {
    one("resources", json!({"limits": {"cpu": 1}, "requests": {"cpu": "1000m"}}), "");
    one(
        "resources",
        json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
        "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
    );
    one(
        "resources",
        json!({"requests": {"cpu": "-1"}}),
        "spec.containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
    );
    one(
        "resources",
        json!({"limits": {"disk": "1"}}),
        "[spec.containers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully \
         qualified, spec.containers[0].resources.limits[disk]: Invalid value: \"disk\": must be a standard resource for \
         containers, spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a standard resource \
         type or fully qualified, spec.containers[0].resources.requests[disk]: Invalid value: \"disk\": must be a \
         standard resource for containers]",
    );
    one(
        "resources",
        json!({"requests": {"example.com/gpu": "1"}}),
        "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
    );
    one(
        "resources",
        json!({"limits": {"example.com/gpu": "500m"}}),
        "[spec.containers[0].resources.limits[example.com/gpu]: Invalid value: \"500m\": must be an integer, \
         spec.containers[0].resources.requests[example.com/gpu]: Invalid value: \"500m\": must be an integer]",
    );
}

#[test]
fn security() {
    one(
        "securityContext",
        json!({"runAsUser": -1}),
        "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
    );
    one(
        "securityContext",
        json!({"seccompProfile": {"type": "Localhost"}}),
        "spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp \
         type is Localhost",
    );
    one(
        "securityContext",
        json!({"privileged": true, "allowPrivilegeEscalation": false}),
        "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: \
         cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
    );
}
