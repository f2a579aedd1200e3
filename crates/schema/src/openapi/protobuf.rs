//! The v2 document as protobuf, in gnostic's messages (`openapi.v2.Document`): the only form in which older clients ask
//! for it. A table says which member of the JSON goes under which tag; there is no decoder.

use serde_json::{Map, Value};

/// A message: its members, and the tag of its `x-` extensions.
struct Message {
    members: &'static [(&'static str, u32, Kind)],
    extensions: u32,
}

/// How a member is written.
enum Kind {
    Text,
    Flag,
    Texts,
    One(&'static Message),
    /// Inside a message of its own, under tag 1: gnostic wraps what may have several forms.
    Wrapped(&'static Kind),
    Many(&'static Kind),
    /// Entries of name and value, under this tag of a message of their own.
    Entries(u32, &'static Kind),
    Parameter,
    /// The one sort of security definition there is here.
    ApiKey,
}

static DOCUMENT: Message = Message {
    members: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::One(&INFO)),
        ("paths", 8, Kind::Entries(2, &Kind::One(&PATH_ITEM))),
        ("definitions", 9, Kind::Entries(1, &Kind::One(&SCHEMA))),
        ("security", 12, Kind::Many(&Kind::Entries(1, &Kind::Texts))),
        ("securityDefinitions", 13, Kind::Entries(1, &Kind::ApiKey)),
    ],
    extensions: 16,
};

static INFO: Message = Message { members: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)], extensions: 7 };

static PATH_ITEM: Message = Message {
    members: &[
        ("get", 2, Kind::One(&OPERATION)),
        ("put", 3, Kind::One(&OPERATION)),
        ("post", 4, Kind::One(&OPERATION)),
        ("delete", 5, Kind::One(&OPERATION)),
        ("patch", 8, Kind::One(&OPERATION)),
        ("parameters", 9, Kind::Many(&Kind::Parameter)),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    members: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("consumes", 7, Kind::Texts),
        ("parameters", 8, Kind::Many(&Kind::Parameter)),
        ("responses", 9, Kind::Entries(1, &Kind::Wrapped(&Kind::One(&RESPONSE)))),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    members: &[("description", 1, Kind::Text), ("schema", 2, Kind::Wrapped(&Kind::One(&SCHEMA)))],
    extensions: 5,
};

static SCHEMA: Message = Message {
    members: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("description", 4, Kind::Text),
        ("required", 19, Kind::Texts),
        ("additionalProperties", 21, Kind::Wrapped(&Kind::One(&SCHEMA))),
        ("type", 22, Kind::Wrapped(&Kind::Text)),
        ("items", 23, Kind::Wrapped(&Kind::One(&SCHEMA))),
        ("properties", 25, Kind::Entries(1, &Kind::One(&SCHEMA))),
    ],
    extensions: 31,
};

static BODY: Message = Message {
    members: &[
        ("description", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 5, Kind::One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY: Message = Message {
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
};

static PATH: Message = Message {
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};

static API_KEY: Message = Message {
    members: &[("type", 1, Kind::Text), ("name", 2, Kind::Text), ("in", 3, Kind::Text), ("description", 4, Kind::Text)],
    extensions: 5,
};

pub(super) fn encode(document: &Value) -> Vec<u8> {
    message(&DOCUMENT, document)
}

fn message(what: &Message, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in value.as_object().into_iter().flatten() {
        if key.starts_with("x-") {
            // The value travels as YAML, of which JSON is a part.
            let any = delimited(2, value.to_string().as_bytes());
            out.extend(delimited(what.extensions, &entry(key, &any)));
        } else {
            let known = what.members.iter().find(|(name, ..)| name == key);
            let (_, tag, kind) = known.expect("the document is made here, of members that the table knows");
            member(*tag, kind, value, &mut out);
        }
    }
    out
}

fn member(tag: u32, kind: &Kind, value: &Value, out: &mut Vec<u8>) {
    let items = || value.as_array().into_iter().flatten();
    match kind {
        Kind::Text => out.extend(delimited(tag, value.as_str().unwrap_or_default().as_bytes())),
        Kind::Flag => {
            varint(u64::from(tag) << 3, out);
            varint(u64::from(value == &Value::Bool(true)), out);
        }
        Kind::Texts => items().for_each(|item| member(tag, &Kind::Text, item, out)),
        Kind::Many(one) => items().for_each(|item| member(tag, one, item, out)),
        Kind::One(what) => out.extend(delimited(tag, &message(what, value))),
        Kind::Wrapped(inner) => {
            let mut wrapped = Vec::new();
            member(1, inner, value, &mut wrapped);
            out.extend(delimited(tag, &wrapped));
        }
        Kind::Entries(inner, kind) => out.extend(delimited(tag, &entries(*inner, kind, value.as_object()))),
        Kind::Parameter => out.extend(delimited(tag, &delimited(1, &parameter(value)))),
        Kind::ApiKey => out.extend(delimited(tag, &delimited(2, &message(&API_KEY, value)))),
    }
}

fn entries(tag: u32, kind: &Kind, values: Option<&Map<String, Value>>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in values.into_iter().flatten() {
        let mut content = Vec::new();
        match kind {
            // A list of texts is a message of its own here.
            Kind::Texts => {
                let mut list = Vec::new();
                member(1, kind, value, &mut list);
                content.extend(delimited(2, &list));
            }
            _ => member(2, kind, value, &mut content),
        }
        let mut named = delimited(1, name.as_bytes());
        named.extend(content);
        out.extend(delimited(tag, &named));
    }
    out
}

/// A `Parameter`: of the body, or of the query or the path.
fn parameter(value: &Value) -> Vec<u8> {
    match value["in"].as_str() {
        Some("body") => delimited(1, &message(&BODY, value)),
        Some("path") => delimited(2, &delimited(4, &message(&PATH, value))),
        _ => delimited(2, &delimited(3, &message(&QUERY, value))),
    }
}

fn entry(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = delimited(1, name.as_bytes());
    out.extend(delimited(2, value));
    out
}

fn delimited(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 6);
    varint(u64::from(tag) << 3 | 2, &mut out);
    varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_of_a_small_document() {
        let document = json!({"swagger": "2.0", "definitions": {"A": {"type": "string", "x-b": [1]}}});
        // definitions (9) { named (1) { name (1) "A", schema (2) { type (22) { (1) "string" }, extension (31) ... } } }
        let expected = [
            &[0x4a, 0x21, 0x0a, 0x1f, 0x0a, 0x01, b'A', 0x12, 0x1a][..],
            &[0xb2, 0x01, 0x08, 0x0a, 0x06],
            b"string",
            &[0xfa, 0x01, 0x0c, 0x0a, 0x03],
            b"x-b",
            &[0x12, 0x05, 0x12, 0x03],
            b"[1]",
            &[0x0a, 0x03],
            b"2.0",
        ];
        assert_eq!(encode(&document), expected.concat());
    }

    #[test]
    fn lengths_above_127_take_two_bytes() {
        let bytes = delimited(1, &[0; 300]);
        assert_eq!(bytes[..3], [0x0a, 0xac, 0x02]);
    }
}
