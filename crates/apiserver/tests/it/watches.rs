//! Watches: what is sent, from where they resume, when they end.

use std::time::Duration;

use futures::AsyncBufReadExt as _;
use futures::io::Lines;
use futures::{AsyncBufRead, StreamExt as _};
use http::Request;
use serde_json::{Value, json};

use crate::harness::{Client, Harness, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WAIT: Duration = Duration::from_secs(10);

struct Events(Lines<std::pin::Pin<Box<dyn AsyncBufRead + Send>>>);

impl Events {
    async fn open(client: &Client, path: &str) -> Self {
        let request = Request::get(path).body(Vec::new()).expect("a request");
        let stream = client.0.request_stream(request).await.expect("a stream");
        let stream: std::pin::Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(stream);
        Self(stream.lines())
    }

    async fn next(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(WAIT, self.0.next()).await.expect("an event in time")?;
        Some(serde_json::from_str(&line.expect("a line")).expect("JSON"))
    }

    /// `ADDED a`
    async fn text(&mut self) -> String {
        let event = self.next().await.expect("an event");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        format!("{} {}", text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

fn labelled(name: &str, value: &str) -> Value {
    let mut map = config_map(name, json!({}));
    map["metadata"]["labels"] = json!({"on": value});
    map
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_in_order_and_resume() {
    let h = Harness::start().await;
    let c = h.admin();
    let (_, first) = c.post(MAPS, &config_map("a", json!({}))).await;
    let from = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    // Without a version the present state comes first.
    let mut all = Events::open(&c, &format!("{MAPS}?watch=1")).await;
    assert_eq!(all.text().await, "ADDED a");
    c.post(MAPS, &config_map("b", json!({}))).await;
    c.patch(&format!("{MAPS}/b"), "merge", &json!({"data": {"x": "y"}})).await;
    c.delete(&format!("{MAPS}/a"), &json!({})).await;
    for expected in ["ADDED b", "MODIFIED b", "DELETED a"] {
        assert_eq!(all.text().await, expected);
    }
    // From a version, exactly what followed.
    let mut later = Events::open(&c, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    let mut last = 0;
    for expected in ["ADDED", "MODIFIED", "DELETED"] {
        let event = later.next().await.expect("an event");
        let version = event["object"]["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok());
        assert_eq!(event["type"], expected);
        assert!(version.is_some_and(|v| v > last), "{event}");
        last = version.unwrap_or_default();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selector_sees_objects_come_and_go() {
    let h = Harness::start().await;
    let c = h.admin();
    let mut events = Events::open(&c, &format!("{MAPS}?watch=1&labelSelector=on%3Dyes")).await;
    c.post(MAPS, &labelled("a", "no")).await;
    for value in ["yes", "yes2", "yes"] {
        c.patch(&format!("{MAPS}/a"), "merge", &json!({"metadata": {"labels": {"on": value}}})).await;
    }
    c.patch(&format!("{MAPS}/a"), "merge", &json!({"data": {"k": "v"}})).await;
    c.delete(&format!("{MAPS}/a"), &json!({})).await;
    for expected in ["ADDED a", "DELETED a", "ADDED a", "MODIFIED a", "DELETED a"] {
        assert_eq!(events.text().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bookmarks_initial_events_timeouts_and_old_versions() {
    let h = Harness::start().await;
    let c = h.admin();
    c.post(MAPS, &config_map("a", json!({}))).await;
    let initial = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut events = Events::open(&c, &format!("{MAPS}?{initial}&timeoutSeconds=1")).await;
    assert_eq!(events.text().await, "ADDED a");
    let bookmark = events.next().await.expect("a bookmark");
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    // At its end a watch says how far it came.
    while let Some(event) = events.next().await {
        assert_eq!(event["type"], "BOOKMARK");
    }

    assert_eq!(c.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await.0, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_no_longer_kept_is_gone() {
    let h = Harness::start().await;
    let c = h.admin();
    let (_, first) = c.post(MAPS, &config_map("a", json!({}))).await;
    let from = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    // More than the cache keeps, by count and by weight.
    for i in 0..110 {
        let text = char::from(b'a' + i % 26).to_string().repeat(100_000);
        assert_eq!(c.put(&format!("{MAPS}/a"), &config_map("a", json!({"k": text}))).await.0, 200);
    }
    let mut old = Events::open(&c, &format!("{MAPS}?watch=1&resourceVersion={from}")).await;
    let error = old.next().await.expect("an error event");
    let object = &error["object"];
    assert_eq!((&error["type"], &object["code"], &object["reason"]), (&json!("ERROR"), &json!(410), &json!("Expired")));
    assert_eq!(old.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_at_a_compacted_version_is_gone() {
    let h = Harness::start().await;
    let c = h.admin();
    let (_, first) = c.post(MAPS, &config_map("a", json!({}))).await;
    let old = first["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    let (_, second) = c.put(&format!("{MAPS}/a"), &config_map("a", json!({"k": "v"}))).await;
    let new = second["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a version");
    let mut store = etcd_client::Client::connect([&h.store_url], None).await.expect("the store");
    store.compact(new, None).await.expect("compacted");
    let (code, gone) = c.get(&format!("{MAPS}?resourceVersion={old}&resourceVersionMatch=Exact")).await;
    assert_eq!(
        (code, &gone["reason"], &gone["message"]),
        (410, &json!("Expired"), &json!("The resourceVersion for the provided list is too old."))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_page_says_how_to_go_on() {
    let h = Harness::start().await;
    let c = h.admin();
    for name in ["a", "b", "c"] {
        c.post(MAPS, &config_map(name, json!({}))).await;
    }
    let (_, first) = c.get(&format!("{MAPS}?limit=1")).await;
    let token = first["metadata"]["continue"].as_str().expect("more").to_owned();
    let (_, later) = c.put(&format!("{MAPS}/b"), &config_map("b", json!({"k": "v"}))).await;
    let newest = later["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).expect("a version");
    let mut store = etcd_client::Client::connect([&h.store_url], None).await.expect("the store");
    store.compact(newest, None).await.expect("compacted");
    let (code, gone) = c.get(&format!("{MAPS}?limit=1&continue={token}")).await;
    assert_eq!((code, &gone["reason"]), (410, &json!("Expired")));
    let again = gone["metadata"]["continue"].as_str().expect("a token to go on with").to_owned();
    let (code, rest) = c.get(&format!("{MAPS}?continue={again}")).await;
    let names: Vec<_> = rest["items"].as_array().into_iter().flatten().map(|i| i["metadata"]["name"].clone()).collect();
    assert_eq!((code, names), (200, vec![json!("b"), json!("c")]));
}
