//! Namespace.

use serde_json::{Value, json};

use crate::support::{check_status, prepared, updated, with};

fn namespace() -> Value {
    json!({"metadata": {"name": "blue"}})
}

#[test]
fn a_namespace_is_born_active_named_and_held() {
    let stored = prepared("Namespace", namespace());
    assert_eq!(stored["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "blue"}));
    assert_eq!(stored["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(stored["status"], json!({"phase": "Active"}));
}

#[test]
fn an_update_takes_no_finalizer_away() {
    let stored = prepared("Namespace", namespace());
    let free = with(stored.clone(), "/spec/finalizers", json!([]));
    assert_eq!(updated("Namespace", &stored, free.clone(), false)["spec"], stored["spec"]);
    assert_eq!(updated("Namespace", &stored, free, true)["spec"], stored["spec"]);
}

#[test]
fn phase_follows_deletion() {
    let ending = |object: Value| with(object, "/status/phase", json!("Terminating"));
    let dying = || with(namespace(), "/metadata/deletionTimestamp", json!("2026-01-02T03:04:05Z"));
    check_status(
        "Namespace",
        namespace(),
        ending(namespace()),
        "status.phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
    );
    check_status("Namespace", dying(), ending(dying()), "");
    check_status(
        "Namespace",
        dying(),
        with(dying(), "/status/phase", json!("Active")),
        "status.phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty",
    );
}
