//! The encoded form of an object.
//!
//! Stored bytes are `{"kind":..,"apiVersion":..,"metadata":{..},..}` without a resourceVersion; served bytes have it
//! spliced in as the first member of `metadata`. Kind and apiVersion hold no quotes, so the first `"metadata":{` of a
//! canonical encoding is the object's own, and splicing needs no parser.

use api::table::Resource;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

const METADATA: &[u8] = b"\"metadata\":{";
const CANONICAL_START: &[u8] = b"{\"kind\":\"";

/// Encodes for the store.
pub fn encode(object: &Value) -> Vec<u8> {
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(b"{\"kind\":");
    write(&mut out, object.get("kind").unwrap_or(&Value::String(String::new())));
    out.extend_from_slice(b",\"apiVersion\":");
    write(&mut out, object.get("apiVersion").unwrap_or(&Value::String(String::new())));
    out.extend_from_slice(b",\"metadata\":{");
    let metadata = object.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    members(
        &mut out,
        metadata.iter().filter(|(k, v)| *k != "resourceVersion" && *k != "selfLink" && !v.is_null()),
        true,
    );
    out.push(b'}');
    members(&mut out, object.iter().filter(|(k, _)| !matches!(k.as_str(), "kind" | "apiVersion" | "metadata")), false);
    out.push(b'}');
    out
}

/// How every encoding of a kind begins.
pub fn type_meta(row: &Resource) -> String {
    format!("{{\"kind\":\"{}\",\"apiVersion\":\"{}\",", row.kind, row.api_version())
}

fn members<'a>(out: &mut Vec<u8>, members: impl Iterator<Item = (&'a String, &'a Value)>, mut first: bool) {
    for (key, value) in members {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write(out, &Value::String(key.clone()));
        out.push(b':');
        write(out, value);
    }
}

fn write(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("a JSON value with string keys always encodes into memory");
}

/// Where the members of `metadata` begin; `None` for bytes that another program wrote in another order.
fn splice_point(stored: &[u8]) -> Option<usize> {
    if !stored.starts_with(CANONICAL_START) {
        return None;
    }
    let at = stored.windows(METADATA.len()).position(|w| w == METADATA)?;
    // Only kind and apiVersion may come before it.
    let before = &stored[..at];
    (before.iter().filter(|b| **b == b':').count() == 2).then_some(at + METADATA.len())
}

/// The served bytes of a stored object.
pub fn with_revision(stored: &[u8], revision: u64) -> Bytes {
    let mut out = BytesMut::new();
    splice(&mut out, stored, revision);
    out.freeze()
}

fn splice(out: &mut BytesMut, stored: &[u8], revision: u64) {
    let Some(at) = splice_point(stored) else {
        let parsed: Value = serde_json::from_slice(stored).unwrap_or_default();
        let encoded = encode(&parsed);
        // `encode` always yields the canonical order, so this recursion ends.
        debug_assert!(splice_point(&encoded).is_some());
        return splice(out, &encoded, revision);
    };
    let revision = revision.to_string();
    out.reserve(stored.len() + revision.len() + 24);
    out.put_slice(&stored[..at]);
    out.put_slice(b"\"resourceVersion\":\"");
    out.put_slice(revision.as_bytes());
    out.put_slice(if stored.get(at) == Some(&b'}') { b"\"" } else { b"\"," });
    out.put_slice(&stored[at..]);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    pub fn head(self) -> &'static [u8] {
        match self {
            Self::Added => b"{\"type\":\"ADDED\",\"object\":",
            Self::Modified => b"{\"type\":\"MODIFIED\",\"object\":",
            Self::Deleted => b"{\"type\":\"DELETED\",\"object\":",
        }
    }
}

pub const FRAME_TAIL: &[u8] = b"}\n";

/// One watch frame and, as a slice of the same memory, the object in it.
pub fn frame(kind: EventType, stored: &[u8], revision: u64) -> (Bytes, Bytes) {
    let mut out = BytesMut::with_capacity(stored.len() + 80);
    out.put_slice(kind.head());
    splice(&mut out, stored, revision);
    out.put_slice(FRAME_TAIL);
    let frame = out.freeze();
    let body = frame.slice(kind.head().len()..frame.len() - FRAME_TAIL.len());
    (frame, body)
}

/// A frame for bytes that already carry the right revision.
pub fn reframe(kind: EventType, body: &[u8]) -> Bytes {
    Bytes::from([kind.head(), body, FRAME_TAIL].concat())
}

/// The same served object under another resourceVersion.
pub fn at_revision(served: &[u8], revision: u64) -> Bytes {
    let Some(at) = splice_point(served) else { return Bytes::copy_from_slice(served) };
    let head = b"\"resourceVersion\":\"";
    let rest = &served[at..];
    let Some(end) = rest.strip_prefix(head).and_then(|r| r.iter().position(|b| *b == b'"')) else {
        return Bytes::copy_from_slice(served);
    };
    let mut out = BytesMut::with_capacity(served.len() + 8);
    out.put_slice(&served[..at]);
    out.put_slice(head);
    out.put_slice(revision.to_string().as_bytes());
    out.put_slice(&rest[head.len() + end..]);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(object: &Value, expected: &str) {
        let stored = encode(object);
        assert_eq!(std::str::from_utf8(&with_revision(&stored, 7)).expect("utf-8"), expected);
    }

    #[test]
    fn the_revision_is_the_first_member_of_metadata() {
        check(
            &json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "x", "resourceVersion": "3"}, "data": {"metadata": {}}}),
            r#"{"kind":"A","apiVersion":"v1","metadata":{"resourceVersion":"7","name":"x"},"data":{"metadata":{}}}"#,
        );
        check(
            &json!({"apiVersion": "v1", "kind": "A"}),
            r#"{"kind":"A","apiVersion":"v1","metadata":{"resourceVersion":"7"}}"#,
        );
    }

    #[test]
    fn bytes_in_a_foreign_order_are_put_right() {
        let foreign = br#"{"data":{"metadata":{}},"apiVersion":"v1","kind":"A","metadata":{"name":"x"}}"#;
        let served: Value = serde_json::from_slice(&with_revision(foreign, 9)).expect("JSON");
        assert_eq!(served["metadata"]["resourceVersion"], "9");
        assert_eq!(served["data"], json!({"metadata": {}}));
    }

    #[test]
    fn a_frame_holds_its_object() {
        let stored = encode(&json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "x"}}));
        let (frame, body) = frame(EventType::Added, &stored, 5);
        assert_eq!(frame, reframe(EventType::Added, &body));
        assert_eq!(at_revision(&body, 12), with_revision(&stored, 12));
    }
}
