//! Protobuf answers say what JSON answers say.

use futures::{AsyncRead, AsyncReadExt as _};
use http::{Method, Request};
use kube::client::Body;
use schema::Schemas;
use serde_json::{Value, json};

use crate::harness::{Client, Harness, config_map, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What an envelope holds, as JSON.
fn opened(bytes: &[u8]) -> Value {
    let unknown = protobuf::envelope(bytes).expect("an envelope");
    let schemas = Schemas::builtin();
    let kind = unknown.kind.trim_end_matches("List");
    let node = schemas.kind("", "v1", kind).expect("a kind of the core group");
    if kind == unknown.kind {
        return Value::Object(protobuf::decode(unknown.raw, node).expect("a message"));
    }
    // A list: its metadata, then its items, each in field 2.
    let mut items = Vec::new();
    let mut rest = unknown.raw;
    while let [tag, tail @ ..] = rest {
        let mut length = 0_usize;
        let mut at = 0;
        loop {
            length |= usize::from(tail[at] & 0x7f) << (7 * at);
            at += 1;
            if tail[at - 1] & 0x80 == 0 {
                break;
            }
        }
        let (message, tail) = tail[at..].split_at(length);
        if *tag == 0x12 {
            items.push(Value::Object(protobuf::decode(message, node).expect("an item")));
        }
        rest = tail;
    }
    Value::Array(items)
}

async fn raw(c: &Client, path: &str, accept: &str) -> (u16, String, Vec<u8>) {
    let request = Request::get(path).header("accept", accept).body(Body::empty()).expect("a request");
    let (parts, body) = c.0.send(request).await.expect("an answer").into_parts();
    let kind = parts.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let bytes = http_body_util::BodyExt::collect(body).await.expect("a whole answer").to_bytes();
    (parts.status.as_u16(), kind, bytes.to_vec())
}

/// Without its kind, and what protobuf cannot tell from nothing.
fn bare(mut value: Value) -> Value {
    for field in ["kind", "apiVersion"] {
        value.as_object_mut().expect("an object").remove(field);
    }
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.values_mut().for_each(strip);
                members.retain(|_, v| !v.is_null() && *v != json!("") && *v != json!({}) && *v != json!([]));
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    // What is owned is not stripped: its leaves are empty objects.
    let owners = value["metadata"]["managedFields"].take();
    strip(&mut value);
    value["metadata"]["managedFields"] = owners;
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protobuf_answers_say_what_json_answers_say() {
    let h = Harness::start().await;
    let c = h.admin();
    c.post(PODS, &pod("a")).await;
    c.post(PODS, &pod("b")).await;
    let (_, expected) = c.get(&format!("{PODS}/a")).await;
    let both = format!("{PROTOBUF},application/json");
    let (code, kind, bytes) = raw(&c, &format!("{PODS}/a"), &both).await;
    assert_eq!((code, kind.as_str()), (200, PROTOBUF));
    assert_eq!(bare(opened(&bytes)), bare(expected.clone()));

    let (code, kind, bytes) = raw(&c, PODS, &both).await;
    assert_eq!((code, kind.as_str()), (200, PROTOBUF));
    let Value::Array(items) = opened(&bytes) else { panic!("no list") };
    assert_eq!(items.len(), 2);
    assert_eq!(bare(items[0].clone()), bare(expected));

    // A refusal is encoded, too; what has no message comes as JSON.
    let (code, kind, bytes) = raw(&c, &format!("{PODS}/none"), &both).await;
    assert_eq!((code, kind.as_str()), (404, PROTOBUF));
    assert_eq!(opened(&bytes)["reason"], "NotFound");
    let (code, kind, _) = raw(&c, "/apis/apps/v1", &both).await;
    assert_eq!((code, kind.as_str()), (200, "application/json"));

    let metadata = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let (code, kind, bytes) = raw(&c, PODS, &metadata).await;
    assert_eq!((code, kind.as_str()), (200, PROTOBUF));
    assert_eq!(protobuf::envelope(&bytes).expect("an envelope").kind, "PartialObjectMetadataList");
}

async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> (String, Value) {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.expect("a length");
    let mut event = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut event).await.expect("an event");
    let length = usize::from(event[1]);
    let word = String::from_utf8(event[2..2 + length].to_vec()).expect("a word");
    let start = event.windows(4).position(|w| w == b"k8s\0").expect("an envelope");
    (word, opened(&event[start..]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_in_protobuf() {
    let h = Harness::start().await;
    let c = h.admin();
    c.post(MAPS, &config_map("a", json!({"k": "v"}))).await;
    let request = Request::builder().method(Method::GET).uri(format!("{MAPS}?watch=1"));
    let request = request.header("accept", PROTOBUF).body(Vec::new()).expect("a request");
    let mut stream = Box::pin(c.0.request_stream(request).await.expect("a stream"));
    let next = async |stream: &mut _| {
        tokio::time::timeout(std::time::Duration::from_secs(10), frame(stream)).await.expect("an event in time")
    };
    let (word, object) = next(&mut stream).await;
    assert_eq!((word.as_str(), &object["data"]["k"]), ("ADDED", &json!("v")));
    c.patch(&format!("{MAPS}/a"), "merge", &json!({"data": {"k": "w"}})).await;
    let (word, object) = next(&mut stream).await;
    assert_eq!((word.as_str(), &object["data"]["k"]), ("MODIFIED", &json!("w")));
    c.delete(&format!("{MAPS}/a"), &json!({})).await;
    assert_eq!(next(&mut stream).await.0, "DELETED");
}
