//! The four RBAC kinds.

use serde_json::{Value, json};

use crate::support::{check, check_update, defaulted, with};

fn role() -> Value {
    json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]})
}

fn binding() -> Value {
    json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "robot", "namespace": "x"}]})
}

const GROUP: &str = "rbac.authorization.k8s.io";

#[test]
fn defaults() {
    let filled = defaulted("RoleBinding", binding());
    assert_eq!(filled["roleRef"], json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": "view"}));
    let subjects = json!([{"apiGroup": GROUP, "kind": "User", "name": "jane"},
        {"kind": "ServiceAccount", "name": "robot", "namespace": "x"}]);
    assert_eq!(filled["subjects"], subjects);
}

#[test]
fn rules() {
    let one = |kind: &str, rule: Value, expected: &str| check(kind, with(role(), "/rules", json!([rule])), expected);
    for kind in ["Role", "ClusterRole"] {
        one(
            kind,
            json!({"apiGroups": [""], "resources": ["pods"]}),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        );
        one(
            kind,
            json!({"verbs": ["get"], "resources": ["pods"]}),
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
        );
        one(
            kind,
            json!({"verbs": ["get"], "apiGroups": [""]}),
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        );
    }
    one("ClusterRole", json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}), "");
    one(
        "Role",
        json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}),
        "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs",
    );
}

#[test]
fn references_and_subjects() {
    check(
        "ClusterRoleBinding",
        with(binding(), "/roleRef/kind", json!("Role")),
        "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
    );
    check("RoleBinding", with(binding(), "/roleRef/name", json!("")), "roleRef.name: Required value");
    check(
        "RoleBinding",
        with(binding(), "/subjects/0/kind", json!("Robot")),
        "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"Group\", \"ServiceAccount\", \"User\"",
    );
    check(
        "ClusterRoleBinding",
        with(binding(), "/subjects/1/namespace", json!("")),
        "subjects[1].namespace: Required value",
    );
}

#[test]
fn the_role_never_changes() {
    for kind in ["RoleBinding", "ClusterRoleBinding"] {
        check_update(
            kind,
            binding(),
            with(binding(), "/roleRef/name", json!("edit")),
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\
             \"name\":\"edit\"}: cannot change roleRef",
        );
        check_update(kind, binding(), with(binding(), "/subjects", json!([])), "");
    }
}
