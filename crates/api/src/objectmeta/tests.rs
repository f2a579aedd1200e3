use serde_json::json;

use super::*;

fn meta(value: Value) -> ObjectMeta {
    serde_json::from_value(value).expect("metadata")
}

fn created(value: Value, scope: Scope) -> Vec<String> {
    let errors = validate_create(&meta(value), scope, NameRule::Subdomain, &Path::new("metadata"));
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn on_create() {
    let check = |value: Value, expected: &[&str]| assert_eq!(created(value, Scope::Namespaced), expected);
    check(json!({"name": "a", "namespace": "b"}), &[]);
    check(json!({"namespace": "b"}), &["metadata.name: Required value: name or generateName is required"]);
    check(json!({"name": "a"}), &["metadata.namespace: Required value"]);
    check(
        json!({"name": "A", "namespace": "b"}),
        &["metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
           alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
           'example.com', regex used for validation is \
           '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"],
    );
    check(
        json!({"name": "a", "namespace": "b", "finalizers": ["x"]}),
        &["metadata.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully \
           qualified"],
    );
    check(
        json!({"name": "a", "namespace": "b", "annotations": {"x": "y".repeat(ANNOTATIONS_MAX_BYTES)}}),
        &["metadata.annotations: Too long: may not be more than 262144 bytes"],
    );
    check(
        json!({"name": "a", "namespace": "b", "ownerReferences": [
            {"apiVersion": "", "kind": "K", "name": "n", "uid": ""}]}),
        &[
            "metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty",
            "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty",
        ],
    );
    assert_eq!(
        created(json!({"name": "a", "namespace": "b"}), Scope::Cluster),
        ["metadata.namespace: Forbidden: not allowed on this type"]
    );
}

#[test]
fn two_controllers_are_refused() {
    let owner = |name: &str| json!({"apiVersion": "v1", "kind": "K", "name": name, "uid": name, "controller": true});
    let errors =
        created(json!({"name": "a", "namespace": "b", "ownerReferences": [owner("p"), owner("q")]}), Scope::Namespaced);
    assert_eq!(errors.len(), 1);
    let end = "Only one reference can have Controller set to true. Found \"true\" in references for p and q";
    assert!(errors[0].ends_with(end), "{}", errors[0]);
}

#[test]
fn on_update() {
    let check = |new: Value, old: Value, expected: &[&str]| {
        let errors = validate_update(&meta(new), &meta(old), &Path::new("metadata"));
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    };
    let old = json!({"name": "a", "namespace": "b", "uid": "u", "resourceVersion": "1", "generation": 2});
    check(old.clone(), old.clone(), &[]);
    check(
        json!({"name": "z", "namespace": "b", "uid": "u", "generation": 1}),
        old.clone(),
        &[
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update",
            "metadata.generation: Invalid value: 1: must not be decremented",
            "metadata.name: Invalid value: \"z\": field is immutable",
        ],
    );
    let deleting = json!({"name": "a", "resourceVersion": "1", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    let mut more = deleting.clone();
    more["finalizers"] = json!(["x.y/z"]);
    check(
        more,
        deleting,
        &["metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
           finalizers []string{\"x.y/z\"}"],
    );
}
