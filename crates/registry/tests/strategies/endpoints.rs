//! Endpoints and EndpointSlice.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, with};

fn endpoints() -> Value {
    json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]})
}

fn slice() -> Value {
    json!({"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 80}]})
}

#[test]
fn defaults() {
    assert_eq!(defaulted("Endpoints", endpoints())["subsets"][0]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    let ports = json!([{"port": 80, "protocol": "TCP", "name": ""}]);
    assert_eq!(defaulted("EndpointSlice", slice())["ports"], ports);
}

#[test]
fn endpoints_mistakes() {
    let one =
        |subset: Value, expected: &str| check("Endpoints", with(endpoints(), "/subsets", json!([subset])), expected);
    one(json!({}), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`");
    one(
        json!({"addresses": [{"ip": "127.0.0.1"}]}),
        "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
    );
    one(
        json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}, {"port": 81, "name": "b"}]}),
        "subsets[0].ports[0].name: Required value",
    );
}

#[test]
fn slice_mistakes() {
    let one = |field: &str, value: Value, expected: &str| check("EndpointSlice", with(slice(), field, value), expected);
    one("/addressType", Value::Null, "addressType: Required value");
    one(
        "/addressType",
        json!("IPv5"),
        "addressType: Unsupported value: \"IPv5\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
    );
    one("/endpoints/0/addresses", json!([]), "endpoints[0].addresses: Required value: must contain at least 1 address");
    one(
        "/endpoints/0/addresses",
        json!(["fd00::1"]),
        "endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be a valid IPv4 address",
    );
    one("/ports", json!([{"port": 80}, {"port": 81}]), "ports[1].name: Duplicate value: \"\"");
    let many: Vec<Value> = (0..1001).map(|_| json!({"addresses": ["10.0.0.1"]})).collect();
    let rules = crate::support::rules("EndpointSlice");
    let object = with(slice(), "/endpoints", json!(many));
    let errors = rules.validate_create(&object, &crate::support::context()).expect("decodes").to_string();
    assert!(errors.starts_with("endpoints: Too many: 1001: must have at most 1000 items"), "{errors}");
}

#[test]
fn the_family_never_changes() {
    let six = with(with(slice(), "/addressType", json!("IPv6")), "/endpoints/0/addresses", json!(["fd00::1"]));
    check_update("EndpointSlice", slice(), six, "addressType: Invalid value: \"IPv6\": field is immutable");
}
