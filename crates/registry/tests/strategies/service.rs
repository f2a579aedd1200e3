//! Service.

use serde_json::{Value, json};

use crate::support::{check, check_update, check_warnings, defaulted, prepared, updated, with};

fn service() -> Value {
    json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "a"}, "ports": [{"port": 80}]}})
}

/// As stored, after the server has allocated what a service of its type has.
fn allocated() -> Value {
    let mut stored = prepared("Service", with(service(), "/spec/type", json!("NodePort")));
    stored["spec"]["clusterIP"] = json!("10.96.0.7");
    stored["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
    stored["spec"]["ipFamilies"] = json!(["IPv4"]);
    stored["spec"]["ipFamilyPolicy"] = json!("SingleStack");
    stored["spec"]["ports"][0]["nodePort"] = json!(30080);
    stored
}

#[test]
fn defaults() {
    let expected = json!({"selector": {"app": "a"}, "type": "ClusterIP", "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}]});
    assert_eq!(defaulted("Service", service())["spec"], expected);
    let balancer = defaulted("Service", with(service(), "/spec/type", json!("LoadBalancer")));
    assert_eq!(balancer["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(balancer["spec"]["allocateLoadBalancerNodePorts"], true);
    let sticky = defaulted("Service", with(service(), "/spec/sessionAffinity", json!("ClientIP")));
    assert_eq!(sticky["spec"]["sessionAffinityConfig"], json!({"clientIP": {"timeoutSeconds": 10800}}));
    assert_eq!(prepared("Service", service())["status"], json!({"loadBalancer": {}}));
    let fixed = prepared("Service", with(service(), "/spec/clusterIP", json!("10.96.0.10")));
    assert_eq!(fixed["spec"]["clusterIPs"], json!(["10.96.0.10"]));
}

#[test]
fn ports() {
    let one = |ports: Value, expected: &str| check("Service", with(service(), "/spec/ports", ports), expected);
    one(json!([]), "spec.ports: Required value");
    one(
        json!([{"port": 0}]),
        "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, \
        spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]",
    );
    one(json!([{"port": 80}, {"port": 81, "name": "b"}]), "spec.ports[0].name: Required value");
    one(json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}]), "spec.ports[1].name: Duplicate value: \"a\"");
    one(
        json!([{"port": 80, "name": "a"}, {"port": 80, "name": "b"}]),
        "spec.ports[1]: Duplicate value: {\"AppProtocol\":null,\"Name\":\"\",\"NodePort\":0,\"Port\":80,\
         \"Protocol\":\"TCP\",\"TargetPort\":0}",
    );
    one(
        json!([{"port": 80, "nodePort": 30000}]),
        "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
    );
    one(
        json!([{"port": 80, "protocol": "HTTP"}]),
        "spec.ports[0].protocol: Unsupported value: \"HTTP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
    );
}

#[test]
fn types() {
    let one = |field: &str, value: Value, expected: &str| {
        check("Service", with(service(), &format!("/spec/{field}"), value), expected);
    };
    one(
        "type",
        json!("Internal"),
        "spec.type: Unsupported value: \"Internal\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \
         \"NodePort\"",
    );
    one("type", json!("ExternalName"), "spec.externalName: Required value");
    one(
        "externalTrafficPolicy",
        json!("Local"),
        "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
    );
    one(
        "sessionAffinity",
        json!("Cookie"),
        "spec.sessionAffinity: Unsupported value: \"Cookie\": supported values: \"ClientIP\", \"None\"",
    );
    one("clusterIP", json!("None"), "");
    one(
        "clusterIP",
        json!("nope"),
        "spec.clusterIPs[0]: Invalid value: \"nope\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    );
    let headless = with(with(service(), "/spec/clusterIP", json!("None")), "/spec/type", json!("NodePort"));
    check(
        "Service",
        headless,
        "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
    );
}

#[test]
fn what_was_allocated_is_kept() {
    let stored = allocated();
    let again = with(service(), "/spec/type", json!("NodePort"));
    assert_eq!(updated("Service", &stored, again, false)["spec"], stored["spec"]);
}

#[test]
fn a_change_of_type_gives_up_what_the_new_one_lacks() {
    let stored = allocated();
    let inner = updated("Service", &stored, with(stored.clone(), "/spec/type", json!("ClusterIP")), false);
    assert_eq!(inner["spec"]["ports"][0]["nodePort"], Value::Null);
    assert_eq!(inner["spec"]["externalTrafficPolicy"], Value::Null);
    assert_eq!(inner["spec"]["clusterIP"], "10.96.0.7");
    let named = with(with(stored.clone(), "/spec/type", json!("ExternalName")), "/spec/externalName", json!("a.b"));
    assert_eq!(updated("Service", &stored, named, false)["spec"]["clusterIPs"], Value::Null);
}

#[test]
fn the_first_address_never_changes() {
    let fixed = |ip: &str| with(service(), "/spec/clusterIP", json!(ip));
    check_update(
        "Service",
        fixed("10.96.0.10"),
        fixed("10.96.0.11"),
        "spec.clusterIPs[0]: Invalid value: [\"10.96.0.11\"]: may not change once set",
    );
    check_update("Service", fixed("10.96.0.10"), service(), "");
}

#[test]
fn warnings() {
    let headless = with(with(service(), "/spec/clusterIP", json!("None")), "/spec/sessionAffinity", json!("ClientIP"));
    check_warnings("Service", headless, &["spec.SessionAffinity is ignored for headless services"]);
}
