//! Ranges of services, and who has which address.

use serde_json::{Value, json};

use crate::harness::Harness;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

fn service(name: &str, address: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIP": address, "ports": [{"port": 80}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_is_an_object() {
    let h = Harness::start().await;
    let c = h.admin();
    let (code, range) = c.get(&format!("{RANGES}/kubernetes")).await;
    assert_eq!(code, 200, "{range}");
    let (code, made) = c.post(SERVICES, &service("a", Value::Null)).await;
    assert_eq!(code, 201, "{made}");
    let address = made["spec"]["clusterIP"].as_str().expect("an address").to_owned();
    let (code, object) = c.get(&format!("{ADDRESSES}/{address}")).await;
    let parent = json!({"resource": "services", "namespace": "default", "name": "a"});
    assert_eq!((code, &object["spec"]["parentRef"]), (200, &parent), "{object}");

    // Taken by someone else.
    let other = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.96.0.77"},
        "spec": {"parentRef": {"group": "example.com", "resource": "routers", "name": "r"}}});
    let (code, made) = c.post(ADDRESSES, &other).await;
    assert_eq!(code, 201, "{made}");
    let (code, refused) = c.post(SERVICES, &service("b", "10.96.0.77".into())).await;
    let why = "failed to allocate IP 10.96.0.77: provided IP is already allocated";
    assert!(code == 422 && refused["message"].as_str().is_some_and(|m| m.contains(why)), "{refused}");

    // Nothing is left of what was not written.
    let wrong = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"},
        "spec": {"clusterIP": "10.96.0.78", "ports": [{"port": 0}]}});
    assert_eq!(c.post(SERVICES, &wrong).await.0, 422);
    let (code, made) = c.post(&format!("{SERVICES}?dryRun=All"), &service("d", "10.96.0.78".into())).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(c.get(&format!("{ADDRESSES}/10.96.0.78")).await.0, 404);

    assert_eq!(c.delete(&format!("{SERVICES}/a"), &json!({})).await.0, 200);
    assert_eq!(c.get(&format!("{ADDRESSES}/{address}")).await.0, 404);
    assert_eq!(c.get(&format!("{ADDRESSES}/10.96.0.77")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_added_while_all_runs() {
    let h = Harness::start().await;
    let c = h.admin();
    let (code, refused) = c.post(SERVICES, &service("a", "10.200.0.9".into())).await;
    let why = "provided IP is not in the valid range";
    assert!(code == 422 && refused["message"].as_str().is_some_and(|m| m.contains(why)), "{refused}");
    let range = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"},
        "spec": {"cidrs": ["10.200.0.0/28"]}});
    let (code, made) = c.post(RANGES, &range).await;
    assert_eq!(code, 201, "{made}");
    let (code, made) = c.post(SERVICES, &service("a", "10.200.0.9".into())).await;
    assert_eq!(code, 201, "{made}");
    // One that is not ready gives none.
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "Terminating",
        "message": "m", "lastTransitionTime": "2026-01-02T03:04:05Z"}]}});
    let (code, patched) = c.patch(&format!("{RANGES}/more/status"), "merge", &unready).await;
    assert_eq!(code, 200, "{patched}");
    assert_eq!(c.post(SERVICES, &service("b", "10.200.0.10".into())).await.0, 422);
}
