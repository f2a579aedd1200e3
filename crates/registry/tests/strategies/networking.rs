//! NetworkPolicy, Ingress, IngressClass.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, with};

fn policy() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}})
}

fn ingress() -> Value {
    json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": "a.example.com", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
}

#[test]
fn policy_defaults() {
    let filled = defaulted("NetworkPolicy", policy());
    assert_eq!(filled["spec"]["policyTypes"], json!(["Ingress"]));
    assert_eq!(filled["spec"]["ingress"][0]["ports"][0], json!({"port": 80, "protocol": "TCP"}));
    let both = defaulted("NetworkPolicy", with(policy(), "/spec/egress", json!([{}])));
    assert_eq!(both["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
}

#[test]
fn policy_mistakes() {
    let peer = |peer: Value, expected: &str| {
        check("NetworkPolicy", with(policy(), "/spec/ingress/0/from", json!([peer])), expected);
    };
    peer(json!({}), "spec.ingress[0].from[0]: Required value: must specify a peer");
    peer(
        json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
        "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
    );
    peer(
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}),
        "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr` \
         (10.0.0.0/8)",
    );
    check(
        "NetworkPolicy",
        with(policy(), "/spec/ingress/0/ports/0/endPort", json!(79)),
        "spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`",
    );
}

#[test]
fn ingress_mistakes() {
    let one = |field: &str, value: Value, expected: &str| {
        check("Ingress", with(ingress(), &format!("/spec/{field}"), value), expected)
    };
    one("rules", Value::Null, "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified");
    one(
        "rules/0/host",
        json!("10.0.0.1"),
        "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
    );
    one(
        "rules/0/http/paths/0/pathType",
        Value::Null,
        "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
    );
    one(
        "rules/0/http/paths/0/path",
        json!("a"),
        "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
    );
    one(
        "rules/0/http/paths/0/backend",
        json!({"service": {"name": "web"}}),
        "spec.rules[0].http.paths[0].backend.service: Required value: port name or number is required",
    );
}

#[test]
fn a_class_keeps_its_controller() {
    let class = |controller: &str| json!({"metadata": {"name": "c"}, "spec": {"controller": controller}});
    check("IngressClass", class(""), "spec.controller: Required value");
    check(
        "IngressClass",
        class("nginx"),
        "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
    );
    check_update(
        "IngressClass",
        class("a.io/x"),
        class("a.io/y"),
        "spec.controller: Invalid value: \"a.io/y\": field is immutable",
    );
}
