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

#[test]
fn addresses() {
    let address = |name: &str| json!({"metadata": {"name": name}, "spec": {"parentRef": {"resource": "services", "namespace": "a", "name": "b"}}});
    check("IPAddress", address("10.0.0.1"), "");
    check("IPAddress", address("2001:db8::1"), "");
    let wrong = "metadata.name: Invalid value: \"2001:DB8::1\": must be a canonical format IP address";
    check("IPAddress", address("2001:DB8::1"), wrong);
    let one = |field: &str, value: Value, expected: &str| {
        check("IPAddress", with(address("10.0.0.1"), &format!("/spec/parentRef/{field}"), value), expected);
    };
    one("name", json!(""), "spec.parentRef.name: Required value");
    one("resource", json!(""), "spec.parentRef.resource: Required value");
    let changed = with(address("10.0.0.1"), "/spec/parentRef/name", json!("c"));
    let fixed = "spec.parentRef: Invalid value: {\"name\":\"c\",\"namespace\":\"a\",\"resource\":\"services\"}: \
        field is immutable";
    check_update("IPAddress", address("10.0.0.1"), changed, fixed);
}

#[test]
fn ranges_of_services() {
    let range = |cidrs: Value| json!({"spec": {"cidrs": cidrs}});
    let one = |cidrs: Value, expected: &str| check("ServiceCIDR", range(cidrs), expected);
    one(json!(["10.0.0.0/24", "2001:db8::/112"]), "");
    one(json!([]), "spec.cidrs: Required value: at least one CIDR required");
    let canonical = "spec.cidrs[0]: Invalid value: \"10.0.0.1/24\": must be in canonical form (\"10.0.0.0/24\")";
    one(json!(["10.0.0.1/24"]), canonical);
    let families = "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for \
        each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
    one(json!(["10.0.0.0/24", "10.1.0.0/24"]), families);
    let (old, both) = (range(json!(["10.0.0.0/24"])), range(json!(["10.0.0.0/24", "2001:db8::/112"])));
    check_update("ServiceCIDR", old.clone(), both.clone(), "");
    let other = range(json!(["10.1.0.0/24"]));
    let fixed = "spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable";
    check_update("ServiceCIDR", old.clone(), other, fixed);
    let fixed = "spec.cidrs: Invalid value: [\"10.0.0.0/24\"]: field is immutable";
    check_update("ServiceCIDR", both, old, fixed);
}
