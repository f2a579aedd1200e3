//! Server-side apply, and who owns what.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Client, Harness, config_map, deployment};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn apply(c: &Client, path: &str, query: &str, config: &Value) -> (u16, Value) {
    let body = config.to_string().into_bytes();
    c.send(Method::PATCH, &format!("{path}?{query}"), "application/apply-patch+yaml", body).await
}

/// What a manager owns through a subresource.
fn owned(object: &Value, manager: &str, subresource: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.into_iter().find(|e| {
        e["manager"] == manager && e.get("subresource").and_then(Value::as_str).unwrap_or_default() == subresource
    });
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_makes_changes_and_gives_back() {
    let h = Harness::start().await;
    let c = h.admin();
    let path = format!("{MAPS}/a");
    let wanted = config_map("a", json!({"k": "1", "l": "1"}));
    let (code, made) = apply(&c, &path, "fieldManager=one", &wanted).await;
    assert_eq!((code, &made["data"]), (201, &json!({"k": "1", "l": "1"})), "{made}");
    assert_eq!(owned(&made, "one", ""), json!({"f:data": {"f:k": {}, "f:l": {}}}));
    let (code, same) = apply(&c, &path, "fieldManager=one", &wanted).await;
    assert_eq!((code, &same), (200, &made), "what changes nothing is not written");

    let (code, conflict) = apply(&c, &path, "fieldManager=two", &config_map("a", json!({"k": "2"}))).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")), "{conflict}");
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".data.k"});
    assert_eq!(conflict["details"]["causes"], json!([cause]));
    let forced = "fieldManager=two&force=true";
    let (code, taken) = apply(&c, &path, forced, &config_map("a", json!({"k": "2"}))).await;
    assert_eq!((code, &taken["data"]), (200, &json!({"k": "2", "l": "1"})));
    assert_eq!(owned(&taken, "one", ""), json!({"f:data": {"f:l": {}}}));

    let (_, left) = apply(&c, &path, "fieldManager=one", &config_map("a", json!({}))).await;
    assert_eq!(left["data"], json!({"k": "2"}), "{left}");
    let (code, dry) = apply(&c, &path, "fieldManager=x&dryRun=All", &config_map("a", json!({"n": "1"}))).await;
    assert_eq!((code, &dry["data"]["n"]), (200, &json!("1")));
    assert_eq!(c.get(&path).await.1["data"], json!({"k": "2"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_writer_owns_what_it_writes() {
    let h = Harness::start().await;
    let c = h.admin();
    let path = format!("{DEPLOYMENTS}/web");
    let (_, made) = c.post(&format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment("web")).await;
    let spec = &owned(&made, "maker", "")["f:spec"];
    let container = &spec["f:template"]["f:spec"]["f:containers"][r#"k:{"name":"c"}"#];
    assert!(container["f:image"].is_object() && container["."].is_object(), "{made}");
    assert!(spec["f:progressDeadlineSeconds"].is_object(), "defaults are the maker's: {spec}");

    let patch = json!({"status": {"replicas": 1}});
    let (_, status) = c.patch(&format!("{path}/status?fieldManager=ctl"), "merge", &patch).await;
    assert_eq!(owned(&status, "ctl", "status"), json!({"f:status": {"f:replicas": {}}}), "{status}");
    let (_, _) = c.patch(&format!("{path}/scale?fieldManager=hpa"), "merge", &json!({"spec": {"replicas": 5}})).await;
    let (_, scaled) = c.get(&path).await;
    assert_eq!(owned(&scaled, "hpa", "scale"), json!({"f:spec": {"f:replicas": {}}}), "{scaled}");
    assert_eq!(owned(&scaled, "maker", "")["f:spec"]["f:replicas"], Value::Null);

    // A scale is applied like anything else.
    let scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"},
        "spec": {"replicas": 2}});
    let (code, conflict) = apply(&c, &format!("{path}/scale"), "fieldManager=me", &scale).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")), "{conflict}");
    let (code, scale) = apply(&c, &format!("{path}/scale"), "fieldManager=me&force=true", &scale).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(2)), "{scale}");
    assert_eq!(owned(&c.get(&path).await.1, "me", "scale"), json!({"f:spec": {"f:replicas": {}}}));

    // Owners can be put away, by who knows how; who leaves them out takes nothing away.
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let (_, bare) = c.patch(&path, "merge", &reset).await;
    assert_eq!(bare["metadata"]["managedFields"], Value::Null, "{bare}");
    let (_, again) = c.patch(&format!("{path}?fieldManager=x"), "merge", &json!({"spec": {"replicas": 7}})).await;
    let mut without = again.clone();
    without["metadata"].as_object_mut().expect("metadata").remove("managedFields");
    let (_, put) = c.put(&path, &without).await;
    assert_eq!(put["metadata"]["managedFields"], again["metadata"]["managedFields"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_that_are_refused() {
    let h = Harness::start().await;
    let c = h.admin();
    let path = format!("{DEPLOYMENTS}/web");
    let check = async |query: &str, config: Value, expected: (u16, &str)| {
        let (code, status) = apply(&c, &path, query, &config).await;
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!((code, message), expected, "{config}");
    };
    let mine = "fieldManager=me";
    check(
        "",
        deployment("web"),
        (422, r#"PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch"#),
    )
    .await;
    check(mine, json!({"apiVersion": "v1", "kind": "Pod"}), (400, "invalid object type: v1, Kind=Pod")).await;
    let mut unknown = deployment("web");
    unknown["spec"]["nope"] = 1.into();
    let words = "failed to create typed patch object (default/web; apps/v1, Kind=Deployment): .spec.nope: field not \
        declared in schema";
    unknown["metadata"]["namespace"] = "default".into();
    check(mine, unknown, (500, words)).await;
    let mut owners = deployment("web");
    owners["metadata"]["managedFields"] = json!([]);
    check(mine, owners, (400, "metadata.managedFields must be nil")).await;
    let words = "the name of the object (other) does not match the name on the URL (web)";
    check(mine, deployment("other"), (400, words)).await;
    assert_eq!(c.get(&path).await.0, 404, "nothing was made");
    let (code, _) = apply(&c, &format!("{path}/status"), mine, &deployment("web")).await;
    assert_eq!(code, 404, "a status does not make an object");
}
