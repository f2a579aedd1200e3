use serde_json::json;

use super::*;
use crate::builtin::Schemas;

fn merged(kind: (&str, &str, &str), original: Value, patch: Value) -> Result<Value, MergeError> {
    let schemas = Schemas::builtin();
    strategic_merge(&original, &patch, schemas.kind(kind.0, kind.1, kind.2).expect("a known kind"))
}

const POD: (&str, &str, &str) = ("", "v1", "Pod");
const SERVICE: (&str, &str, &str) = ("", "v1", "Service");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");

fn check(kind: (&str, &str, &str), original: Value, patch: Value, expected: Value) {
    assert_eq!(merged(kind, original, patch.clone()), Ok(expected), "{patch}");
}

/// A pod with these containers.
fn pod(containers: Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn maps_merge_by_field_and_null_deletes() {
    check(
        POD,
        json!({"metadata": {"labels": {"a": "1", "b": "2"}, "name": "x"}}),
        json!({"metadata": {"labels": {"b": null, "c": "3", "d": null}}}),
        json!({"metadata": {"labels": {"a": "1", "c": "3"}, "name": "x"}}),
    );
    check(POD, json!({"spec": {"a": 1}}), json!({"spec": null}), json!({}));
    check(POD, json!({}), json!({"spec": {"nodeName": "n", "tolerations": null}}), json!({"spec": {"nodeName": "n"}}));
}

#[test]
fn lists_of_objects_merge_by_key() {
    check(
        POD,
        pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
        pod(json!([{"name": "b", "image": "3"}, {"name": "c", "image": "4"}])),
        pod(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "3"}, {"name": "c", "image": "4"}])),
    );
    check(
        SERVICE,
        json!({"spec": {"ports": [{"port": 80, "name": "a"}]}}),
        json!({"spec": {"ports": [{"port": 80, "name": "b"}, {"port": 81}]}}),
        json!({"spec": {"ports": [{"port": 80, "name": "b"}, {"port": 81}]}}),
    );
    let nested = |env: Value| pod(json!([{"name": "a", "env": env}]));
    check(
        POD,
        nested(json!([{"name": "X", "value": "1"}])),
        nested(json!([{"name": "Y", "value": "2"}])),
        // What only the patch has comes first where nothing orders the two.
        nested(json!([{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}])),
    );
}

#[test]
fn lists_without_a_strategy_are_replaced() {
    check(
        POD,
        pod(json!([{"name": "a", "command": ["x", "y"]}])),
        pod(json!([{"name": "a", "command": ["z"]}])),
        pod(json!([{"name": "a", "command": ["z"]}])),
    );
    check(
        POD,
        json!({"spec": {"tolerations": [{"key": "a"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}),
        json!({"spec": {"tolerations": [{"key": "b"}]}}),
    );
}

#[test]
fn lists_of_scalars_merge_as_sets() {
    let meta = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}});
    check(POD, meta(json!(["a/b", "c/d"])), meta(json!(["c/d", "e/f"])), meta(json!(["a/b", "c/d", "e/f"])));
    check(
        POD,
        meta(json!(["a/b", "c/d"])),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}),
        meta(json!(["c/d"])),
    );
    check(
        POD,
        json!({"metadata": {"name": "x"}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}),
        json!({"metadata": {"name": "x"}}),
    );
    check(
        POD,
        meta(json!(["a/b", "c/d"])),
        json!({"metadata": {"$setElementOrder/finalizers": ["c/d", "e/f", "a/b"], "finalizers": ["e/f"]}}),
        meta(json!(["c/d", "e/f", "a/b"])),
    );
}

#[test]
fn the_patch_directive() {
    let two = || pod(json!([{"name": "a", "image": "1"}, {"name": "b"}]));
    check(POD, two(), pod(json!([{"name": "a", "$patch": "delete"}])), pod(json!([{"name": "b"}])));
    check(POD, two(), pod(json!([{"$patch": "replace"}, {"name": "c"}])), pod(json!([{"name": "c"}])));
    check(
        POD,
        pod(json!([{"name": "a", "resources": {"limits": {"cpu": "1"}}}])),
        pod(json!([{"name": "a", "resources": {"$patch": "replace", "requests": {"cpu": "2"}}}])),
        pod(json!([{"name": "a", "resources": {"requests": {"cpu": "2"}}}])),
    );
    check(
        POD,
        json!({"metadata": {"labels": {"a": "b"}, "name": "x"}}),
        json!({"metadata": {"labels": {"$patch": "delete"}}}),
        json!({"metadata": {"labels": {}, "name": "x"}}),
    );
    check(POD, json!({}), json!({"spec": {"nodeSelector": {"$patch": "delete"}}}), json!({"spec": {}}));
}

#[test]
fn retain_keys_removes_every_other_key() {
    let spec = |strategy: Value| json!({"spec": {"strategy": strategy}});
    check(
        DEPLOYMENT,
        spec(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}})),
        spec(json!({"$retainKeys": ["type"], "type": "Recreate"})),
        spec(json!({"type": "Recreate"})),
    );
    check(
        POD,
        json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
        json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
    );
}

#[test]
fn set_element_order_orders_what_it_names() {
    let order = |names: &[&str]| Value::Array(names.iter().map(|name| json!({"name": name})).collect());
    check(
        POD,
        pod(json!([{"name": "a"}, {"name": "s"}, {"name": "b"}])),
        json!({"spec": {"$setElementOrder/containers": order(&["b", "a"])}}),
        // `s` stood before `b`, and stays there.
        pod(json!([{"name": "s"}, {"name": "b"}, {"name": "a"}])),
    );
    check(
        POD,
        pod(json!([{"name": "a", "image": "1"}, {"name": "b"}])),
        json!({"spec": {"$setElementOrder/containers": order(&["c", "a"]),
            "containers": [{"name": "c"}, {"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}]}}),
        pod(json!([{"name": "c"}, {"name": "a", "image": "2"}])),
    );
}

#[test]
fn refusals() {
    let check = |patch: Value, code: u16, expected: &str| {
        let original = pod(json!([{"name": "a"}]));
        let error = merged(POD, original, patch).expect_err("a bad patch");
        assert_eq!(error.to_string(), expected);
        assert_eq!(ApiError::from(error).code(), code);
    };
    check(
        pod(json!([{"image": "x", "ports": [{"containerPort": 80}]}])),
        500,
        "map: map[image:x ports:[map[containerPort:80]]] does not contain declared merge key: name",
    );
    check(json!({"spec": {"$patch": "burn"}}), 500, "unknown patch type: burn in map: map[$patch:burn]");
    check(pod(json!([{"$patch": "merge"}])), 500, "merging lists cannot yet be specified in the patch");
    check(json!({"spec": {"$retainKeys": "x"}}), 400, "invalid patch format of retainKeys");
    check(json!({"spec": {"$retainKeys": ["x"], "nodeName": "n"}}), 400, "invalid patch format of retainKeys");
    check(json!({"spec": {"$setElementOrder/containers": 1}}), 400, "invalid patch format of setElementOrder list");
    check(
        json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
        500,
        "The order in patch list:\n[map[name:a]]\n doesn't match $setElementOrder/ list:\n[map[name:b]]\n",
    );
    check(json!([]), 400, "json: cannot unmarshal array into Go value of type map[string]interface {}");
    check(json!({"spec": {"containers": [[]]}}), 422, "lists of lists are not supported");
}
