//! Answers as protobuf: any JSON object, whole lists from what their objects keep encoded, and frames of watches.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use schema::{Gvk, Node, Schemas, Shape};
use serde_json::Value;

use crate::cache::Entry;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
/// Of every list's message.
const METADATA: u32 = 1;
const ITEMS: u32 = 2;

/// An object in its envelope; `None` for a kind that has no message.
pub fn object(value: &Value) -> Option<Vec<u8>> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    Some(protobuf::wrap(version, kind, &message(value, version, kind)?))
}

fn message(value: &Value, version: &str, kind: &str) -> Option<Vec<u8>> {
    let items = value.get("items").and_then(Value::as_array);
    if let (Some(of), Some(items)) = (kind.strip_suffix("List"), items) {
        let mut raw = list_head(&value["metadata"])?;
        for item in items {
            raw.extend(protobuf::field(ITEMS, &message(item, version, of)?));
        }
        return Some(raw);
    }
    if kind == "PartialObjectMetadata" {
        return Some(protobuf::field(METADATA, &protobuf::encode(&value["metadata"], &named(OBJECT_META)?)));
    }
    let schemas = Schemas::builtin();
    let node = schemas.get(&Gvk::from_type(version, kind)).filter(|node| protobuf::has_form(node))?;
    Some(protobuf::encode(value, node))
}

fn list_head(metadata: &Value) -> Option<Vec<u8>> {
    Some(protobuf::field(METADATA, &protobuf::encode(metadata, &named(LIST_META)?)))
}

/// A type that is no kind, by its name.
fn named(definition: &str) -> Option<Node> {
    let definition = Schemas::builtin().definition(definition)?.clone();
    Some(Node { shape: Shape::Ref(definition), description: None })
}

/// A list in its envelope, as pieces in order: what stands between the objects, and their bytes as they keep them.
pub fn list(version: &str, kind: &str, metadata: &Value, items: &[Arc<Entry>], node: &Node) -> Option<Vec<Bytes>> {
    let messages: Vec<&Bytes> = items.iter().map(|entry| entry.message(node)).collect();
    let head = list_head(metadata)?;
    // What stands before each object, one after the other, and where each ends.
    let mut between = Vec::with_capacity(items.len() * 6);
    let mut ends = Vec::with_capacity(items.len());
    for message in &messages {
        protobuf::field_head(ITEMS, message.len(), &mut between);
        ends.push(between.len());
    }
    let length = head.len() + between.len() + messages.iter().map(|m| m.len()).sum::<usize>();
    let mut first = BytesMut::from(&protobuf::envelope_head(version, kind, length)[..]);
    first.extend_from_slice(&head);
    let between = Bytes::from(between);
    let mut pieces = Vec::with_capacity(1 + 2 * messages.len());
    pieces.push(first.freeze());
    let mut start = 0;
    for (message, end) in messages.into_iter().zip(ends) {
        pieces.push(between.slice(start..end));
        pieces.push(message.clone());
        start = end;
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::Catalog;
    use crate::object::{self as json_object, EventType};

    fn raw(bytes: &[u8], kind: &str) -> Vec<u8> {
        let unknown = protobuf::envelope(bytes).expect("an envelope");
        assert_eq!(unknown.kind, kind);
        unknown.raw.to_vec()
    }

    #[test]
    fn a_list_from_its_objects_is_the_list_from_its_text() {
        let catalog = Catalog::builtin();
        let kind = catalog.find("", "v1", "configmaps").expect("built in");
        let node = kind.message.as_ref().expect("a message");
        let entry = |name: &str| {
            let object =
                json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}, "data": {"k": "v"}});
            let stored = json_object::encode(&object);
            Arc::new(Entry::decode(kind, EventType::Added, name, &stored, 7).expect("JSON").0)
        };
        let entries = [entry("a"), entry("b")];
        let metadata = json!({"resourceVersion": "9", "remainingItemCount": 3});
        let pieces = list("v1", "ConfigMapList", &metadata, &entries, node).expect("a list");
        let items: Vec<Value> = entries.iter().map(|e| e.value()).collect();
        let text = json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": items});
        assert_eq!(pieces.concat(), object(&text).expect("a list"));
        assert_eq!(entries[0].message(node).as_ptr(), pieces[2].as_ptr(), "no object is copied");
    }

    #[test]
    fn metadata_alone_and_kinds_without_a_message() {
        let partial =
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}});
        assert_eq!(raw(&object(&partial).expect("bytes"), "PartialObjectMetadata"), b"\x0a\x03\x0a\x01a");
        let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {},
            "items": [partial]});
        let got = raw(&object(&list).expect("bytes"), "PartialObjectMetadataList");
        assert_eq!(got, b"\x0a\x00\x12\x05\x0a\x03\x0a\x01a");
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 404});
        assert!(object(&status).is_some());
        assert_eq!(object(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})), None);
        assert_eq!(object(&json!({})), None);
    }
}
