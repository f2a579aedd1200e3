//! Kinds that are served in more than one version.

use futures::AsyncBufReadExt as _;
use futures::StreamExt as _;
use http::Request;
use serde_json::{Value, json};

use crate::harness::Harness;

const CORE: &str = "/api/v1/namespaces/default/events";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn event(name: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name},
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "Started", "action": "Start",
        "note": "it goes", "type": "Normal", "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "example.com/me", "reportingInstance": "me-1",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_the_same_in_both_groups() {
    let h = Harness::start().await;
    let c = h.admin();
    let watched = Request::get(format!("{EVENTS}?watch=1&fieldSelector=regarding.name=p")).body(Vec::new());
    let stream = c.0.request_stream(watched.expect("a request")).await.expect("a stream");
    let mut lines = Box::pin(stream).lines();

    let (code, made) = c.post(&format!("{EVENTS}?fieldManager=me"), &event("a")).await;
    assert_eq!((code, &made["note"], &made["regarding"]["name"]), (201, &json!("it goes"), &json!("p")), "{made}");
    assert_eq!((&made["apiVersion"], &made["message"]), (&json!("events.k8s.io/v1"), &Value::Null));
    let owned = &made["metadata"]["managedFields"][0];
    assert_eq!((&owned["apiVersion"], &owned["fieldsV1"]["f:note"]), (&json!("events.k8s.io/v1"), &json!({})));
    let line = tokio::time::timeout(std::time::Duration::from_secs(10), lines.next()).await.expect("in time");
    let seen: Value = serde_json::from_str(&line.expect("an event").expect("a line")).expect("JSON");
    assert_eq!((&seen["type"], &seen["object"]), (&json!("ADDED"), &made));

    let (_, core) = c.get(&format!("{CORE}/a")).await;
    let got = (&core["apiVersion"], &core["message"], &core["involvedObject"]["name"], &core["reportingComponent"]);
    assert_eq!(got, (&json!("v1"), &json!("it goes"), &json!("p"), &json!("example.com/me")), "{core}");
    let (_, listed) = c.get(&format!("{EVENTS}?fieldSelector=regarding.kind=Pod")).await;
    assert_eq!((&listed["kind"], &listed["apiVersion"]), (&json!("EventList"), &json!("events.k8s.io/v1")));
    assert_eq!(listed["items"][0]["note"], "it goes", "{listed}");

    let series = json!({"series": {"count": 2, "lastObservedTime": "2026-01-02T03:04:06.000000Z"}});
    let (code, patched) = c.patch(&format!("{EVENTS}/a"), "strategic-merge", &series).await;
    assert_eq!((code, &patched["series"]["count"], &patched["note"]), (200, &json!(2), &json!("it goes")), "{patched}");
    let (code, refused) = c.patch(&format!("{EVENTS}/a"), "merge", &json!({"note": "other"})).await;
    assert_eq!(code, 422, "{refused}");
    let mut put = patched.clone();
    put["series"]["count"] = 3.into();
    let (code, put) = c.put(&format!("{EVENTS}/a"), &put).await;
    assert_eq!((code, &put["series"]["count"]), (200, &json!(3)), "{put}");
    assert_eq!(c.get(&format!("{CORE}/a")).await.1["series"]["count"], 3);

    // The older rules hold for those who write the older version.
    let mut bad = event("b");
    bad["action"] = json!("");
    assert_eq!(c.post(EVENTS, &bad).await.0, 422);
    assert_eq!(c.delete(EVENTS, &json!({})).await.0, 200);
    assert_eq!(c.get(&format!("{CORE}/a")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn autoscalers_are_the_same_in_both_versions() {
    const FIRST: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    const SECOND: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    let h = Harness::start().await;
    let c = h.admin();
    let (_, group) = c.get("/apis/autoscaling").await;
    assert_eq!(group["preferredVersion"]["version"], "v2", "{group}");
    let scaler = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    });
    let (code, made) = c.post(FIRST, &scaler).await;
    assert_eq!((code, &made["spec"]["targetCPUUtilizationPercentage"]), (201, &json!(50)), "{made}");
    assert_eq!((&made["spec"]["minReplicas"], &made["status"]["currentReplicas"]), (&json!(1), &json!(0)));
    let (_, second) = c.get(&format!("{SECOND}/a")).await;
    assert_eq!(second["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], 50, "{second}");
    let status = json!({"status": {"currentReplicas": 2, "desiredReplicas": 3, "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 70, "averageValue": "1"}}}]}});
    let (code, changed) = c.patch(&format!("{SECOND}/a/status"), "merge", &status).await;
    assert_eq!(code, 200, "{changed}");
    let (_, first) = c.get(&format!("{FIRST}/a")).await;
    assert_eq!(first["status"]["currentCPUUtilizationPercentage"], 70, "{first}");
    // What the first version cannot say outlasts a change by it.
    let behavior = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 7}}}});
    c.patch(&format!("{SECOND}/a"), "merge", &behavior).await;
    let (code, patched) = c.patch(&format!("{FIRST}/a"), "merge", &json!({"spec": {"maxReplicas": 4}})).await;
    assert_eq!(code, 200, "{patched}");
    let (_, second) = c.get(&format!("{SECOND}/a")).await;
    let spec = &second["spec"];
    assert_eq!(
        (&spec["maxReplicas"], &spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"]),
        (&json!(4), &json!(7))
    );
    assert_eq!(second["metadata"]["annotations"], Value::Null, "{second}");
    // Checked as it is kept.
    let (code, refused) = c.patch(&format!("{FIRST}/a"), "merge", &json!({"spec": {"maxReplicas": 0}})).await;
    assert!(code == 422 && refused["message"].as_str().is_some_and(|m| m.contains("spec.maxReplicas")), "{refused}");
}
