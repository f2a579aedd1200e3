//! ConfigMap, Secret, ServiceAccount.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, prepared, with};

fn map(data: Value) -> Value {
    json!({"metadata": {"name": "m"}, "data": data})
}

fn secret(kind: &str, strings: Value) -> Value {
    json!({"metadata": {"name": "s"}, "type": kind, "stringData": strings})
}

const FROZEN: &str = "Forbidden: field is immutable when `immutable` is set";

#[test]
fn keys_and_sizes() {
    check(
        "ConfigMap",
        map(json!({"a/b": "x"})),
        "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of \
        alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for \
        validation is '[-._a-zA-Z0-9]+')",
    );
    check("ConfigMap", map(json!({"..": "x"})), "data[..]: Invalid value: \"..\": must not be '..'");
    let both = with(map(json!({"a": "x"})), "/binaryData", json!({"a": "eA=="}));
    check("ConfigMap", both, "data[a]: Invalid value: \"a\": duplicate of key present in binaryData");
    let big = "x".repeat(1024 * 1024 + 1);
    check("ConfigMap", map(json!({"a": big.clone()})), "[]: Too long: may not be more than 1048576 bytes");
    check("Secret", secret("Opaque", json!({"a": big})), "data: Too long: may not be more than 1048576 bytes");
}

#[test]
fn frozen() {
    let ice = |data: Value| with(map(data), "/immutable", json!(true));
    check_update("ConfigMap", ice(json!({"a": "1"})), ice(json!({"a": "2"})), &format!("data: {FROZEN}"));
    check_update("ConfigMap", ice(json!({"a": "1"})), map(json!({"a": "1"})), &format!("immutable: {FROZEN}"));
    check_update("ConfigMap", map(json!({"a": "1"})), ice(json!({"a": "2"})), "");
    let ice = |data: Value| with(secret("Opaque", data), "/immutable", json!(true));
    check_update("Secret", ice(json!({"a": "1"})), ice(json!({"a": "2"})), &format!("data: {FROZEN}"));
}

#[test]
fn strings_become_data() {
    let plain = json!({"metadata": {"name": "s"}, "data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "hello"}});
    let filled = defaulted("Secret", plain);
    assert_eq!(filled["type"], "Opaque");
    assert_eq!(filled["data"], json!({"a": "aGVsbG8=", "b": "eQ=="}));
    assert_eq!(filled["stringData"], Value::Null);
}

#[test]
fn a_secrets_type_names_its_keys() {
    let one = |kind: &str, strings: Value, expected: &str| check("Secret", secret(kind, strings), expected);
    one("kubernetes.io/tls", json!({"tls.crt": "x"}), "data[tls.key]: Required value");
    one("kubernetes.io/tls", json!({"tls.crt": "x", "tls.key": "y"}), "");
    one("kubernetes.io/basic-auth", json!({}), "[data[username]: Required value, data[password]: Required value]");
    one("kubernetes.io/ssh-auth", json!({}), "data[ssh-privatekey]: Required value");
    one("kubernetes.io/dockerconfigjson", json!({}), "data[.dockerconfigjson]: Required value");
    one("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "{}"}), "");
    one(
        "kubernetes.io/service-account-token",
        json!({}),
        "metadata.annotations[kubernetes.io/service-account.name]: Required value",
    );
    check_update(
        "Secret",
        secret("Opaque", json!({})),
        secret("example.com/other", json!({})),
        "type: Invalid value: \"example.com/other\": field is immutable",
    );
}

#[test]
fn an_accounts_secrets_are_names() {
    let account =
        json!({"metadata": {"name": "a"}, "secrets": [{"name": "s", "namespace": "other", "kind": "Secret"}]});
    assert_eq!(prepared("ServiceAccount", account)["secrets"], json!([{"name": "s"}]));
}
