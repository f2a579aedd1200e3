//! From the envelope to a JSON object.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use schema::{Node, Object, Scalar, Shape};
use serde_json::{Map, Value};

use crate::tags;
use crate::wire::{Error, Fields, Wire, varint};

pub(crate) const PREFIX: &[u8] = b"k8s\0";
/// Deeper than any built-in kind.
pub(crate) const MAX_DEPTH: usize = 48;
/// Pointers in Go, for which zero says something; any other zero is the absence of a value.
const ZERO_COUNTS: &[&str] = &[
    "activeDeadlineSeconds",
    "backoffLimit",
    "backoffLimitPerIndex",
    "completions",
    "defaultMode",
    "deletionGracePeriodSeconds",
    "expirationSeconds",
    "failedJobsHistoryLimit",
    "fsGroup",
    "gracePeriodSeconds",
    "maxFailedIndexes",
    "minReplicas",
    "mode",
    "parallelism",
    "priority",
    "progressDeadlineSeconds",
    "replicas",
    "revisionHistoryLimit",
    "runAsGroup",
    "runAsUser",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "terminationGracePeriodSeconds",
    "tolerationSeconds",
    "ttlSecondsAfterFinished",
];
/// Pointers in Go, for which false says something.
const MEANT_FALSE: &[&str] = &[
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "attachRequired",
    "automountServiceAccountToken",
    "blockOwnerDeletion",
    "controller",
    "enableServiceLinks",
    "hostUsers",
    "immutable",
    "manualSelector",
    "optional",
    "orphanDependents",
    "podInfoOnMount",
    "privileged",
    "readOnlyRootFilesystem",
    "ready",
    "runAsNonRoot",
    "serving",
    "setHostnameAsFQDN",
    "shareProcessNamespace",
    "started",
    "suspend",
    "terminating",
];

/// What the envelope carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
}

/// Opens `k8s\0` and `runtime.Unknown`.
pub fn envelope(bytes: &[u8]) -> Result<Unknown<'_>, Error> {
    let body = bytes.strip_prefix(PREFIX).ok_or(Error::Prefix)?;
    let mut unknown = Unknown { api_version: "", kind: "", raw: &[] };
    for field in Fields(body) {
        match field? {
            (1, wire) => {
                for field in Fields(wire.bytes()?) {
                    match field? {
                        (1, wire) => unknown.api_version = wire.text()?,
                        (2, wire) => unknown.kind = wire.text()?,
                        _ => {}
                    }
                }
            }
            (2, wire) => unknown.raw = wire.bytes()?,
            _ => {}
        }
    }
    Ok(unknown)
}

/// The object in `raw`, of the kind that `node` models, without `apiVersion` and `kind`.
pub fn decode(raw: &[u8], node: &Node) -> Result<Map<String, Value>, Error> {
    match value(node, "", Wire::Bytes(raw), 0)? {
        Some(Value::Object(object)) => Ok(object),
        _ => Ok(Map::new()),
    }
}

/// One value; nothing when Go's JSON would leave it out.
fn value(node: &Node, field: &str, wire: Wire<'_>, depth: usize) -> Result<Option<Value>, Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    match &node.resolve().shape {
        Shape::Scalar(kind) => scalar(*kind, field, wire),
        Shape::Any => raw_json(wire.bytes()?),
        Shape::Object(object) => {
            let mut out = Map::new();
            let message = message_name(node);
            fields(wire.bytes()?, &message, object, &mut out, depth)?;
            Ok(Some(Value::Object(out)))
        }
        // Only as a part of another value: ExtraValue wraps its list.
        Shape::List(of) => {
            let mut items = Vec::new();
            for item in Fields(wire.bytes()?) {
                items.extend(value(of, field, item?.1, depth + 1)?);
            }
            Ok(Some(Value::Array(items)))
        }
        Shape::Map(_) | Shape::Ref(_) => Err(Error::Mismatch),
    }
}

/// `api.core.v1.pod` for what the node refers to.
pub(crate) fn message_name(node: &Node) -> String {
    let mut node = node;
    let mut name = String::new();
    while let Some(definition) = node.definition() {
        name = definition.name.trim_start_matches("io.k8s.").to_lowercase();
        node = definition.node();
    }
    name
}

fn fields(
    bytes: &[u8],
    message: &str,
    object: &Object,
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::Depth);
    }
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let Some(tag) = tags::find(message, number) else { continue };
        let known = object.fields.iter().find(|f| f.name.eq_ignore_ascii_case(tag.name));
        match known {
            Some(field) => member(field, wire, out, depth)?,
            // An embedded struct: its fields are this object's.
            None if !tag.message.is_empty() => fields(wire.bytes()?, tag.message, object, out, depth + 1)?,
            None => {}
        }
    }
    Ok(())
}

fn member(field: &schema::Field, wire: Wire<'_>, out: &mut Map<String, Value>, depth: usize) -> Result<(), Error> {
    let name = &*field.name;
    match &field.node.resolve().shape {
        Shape::List(of) => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Err(Error::Mismatch) };
            match (wire, &of.resolve().shape) {
                (Wire::Bytes(mut packed), Shape::Scalar(Scalar::Int32 | Scalar::Int64)) => {
                    while !packed.is_empty() {
                        list.push(varint(&mut packed)?.cast_signed().into());
                    }
                }
                // In a list nothing is left out: `apiGroups: [""]`.
                _ => list.push(element(of, wire, depth)?),
            }
        }
        Shape::Map(of) => {
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = map else { return Err(Error::Mismatch) };
            let (mut key, mut found) = ("", None);
            for part in Fields(wire.bytes()?) {
                match part? {
                    (1, wire) => key = wire.text()?,
                    (2, wire) => found = Some(element(of, wire, depth)?),
                    _ => {}
                }
            }
            let absent = || if matches!(of.resolve().shape, Shape::Scalar(_)) { "".into() } else { Value::Null };
            map.insert(key.to_owned(), found.unwrap_or_else(absent));
        }
        _ => {
            let decoded = value(&field.node, name, wire, depth + 1)?;
            let decoded = decoded.or_else(|| field.required.then(|| zero(&field.node)).flatten());
            if let Some(value) = decoded {
                out.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// The zero of a required number or boolean; an empty text is as good as none.
fn zero(node: &Node) -> Option<Value> {
    match &node.resolve().shape {
        Shape::Scalar(Scalar::Boolean) => Some(false.into()),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64) => Some(0.into()),
        _ => None,
    }
}

/// A value in a list or map.
fn element(of: &Node, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match value(of, "", wire, depth + 1)? {
        Some(value) => value,
        None => match (&of.resolve().shape, wire) {
            (Shape::Scalar(Scalar::Int32 | Scalar::Int64), Wire::Varint(n)) => n.cast_signed().into(),
            (Shape::Scalar(_), _) => "".into(),
            _ => Value::Null,
        },
    })
}

fn scalar(kind: Scalar, field: &str, wire: Wire<'_>) -> Result<Option<Value>, Error> {
    let filled = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    Ok(match kind {
        Scalar::String => filled(wire.text()?),
        Scalar::Bytes => Some(BASE64_STANDARD.encode(wire.bytes()?).into()),
        Scalar::Boolean => {
            let yes = wire.integer()? != 0;
            (yes || MEANT_FALSE.contains(&field)).then(|| yes.into())
        }
        Scalar::Int32 | Scalar::Int64 => {
            let number = wire.integer()?;
            (number != 0 || ZERO_COUNTS.contains(&field)).then(|| number.into())
        }
        Scalar::Double => match wire {
            Wire::Fixed64(bits) => serde_json::Number::from_f64(f64::from_bits(bits)).map(Value::Number),
            _ => return Err(Error::Mismatch),
        },
        Scalar::IntOrString => int_or_string(wire.bytes()?)?,
        Scalar::Quantity => {
            let first = Fields(wire.bytes()?).next().transpose()?;
            first.map(|(_, wire)| wire.text().map(Value::from)).transpose()?
        }
        Scalar::Time => time(wire.bytes()?, false)?,
        Scalar::MicroTime => time(wire.bytes()?, true)?,
    })
}

fn int_or_string(bytes: &[u8]) -> Result<Option<Value>, Error> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    for field in Fields(bytes) {
        match field? {
            (1, wire) => is_text = wire.integer()? == 1,
            (2, wire) => number = wire.integer()?,
            (3, wire) => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_text { Some(text.into()) } else { Some(number.into()) })
}

/// An empty message is Go's zero time: null in JSON, and left out here.
fn time(bytes: &[u8], micro: bool) -> Result<Option<Value>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, wire) => seconds = wire.integer()?,
            (2, wire) => nanos = wire.integer()?,
            _ => {}
        }
    }
    let nanos = i32::try_from(nanos).map_err(|_| Error::Overflow)?;
    let time = Timestamp::new(seconds, if micro { nanos } else { 0 }).map_err(|_| Error::Overflow)?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(format).to_string().into()))
}

/// RawExtension and its like: JSON in field 1.
fn raw_json(bytes: &[u8]) -> Result<Option<Value>, Error> {
    for field in Fields(bytes) {
        if let (1, wire) = field? {
            return serde_json::from_slice(wire.bytes()?).map(Some).map_err(|_| Error::Json);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use schema::Schemas;
    use serde_json::json;

    use super::*;

    fn field(number: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(body.len()).expect("short")];
        out.extend_from_slice(body);
        out
    }

    fn check(kind: &str, raw: &[u8], expected: Value) {
        let schemas = Schemas::builtin();
        let node = schemas.kind("", "v1", kind).expect("a kind");
        assert_eq!(decode(raw, node).map(Value::Object), Ok(expected));
    }

    #[test]
    fn an_envelope() {
        let unknown = [field(1, &[field(1, b"v1"), field(2, b"Pod")].concat()), field(2, b"raw")].concat();
        let bytes = [PREFIX, unknown.as_slice()].concat();
        assert_eq!(envelope(&bytes), Ok(Unknown { api_version: "v1", kind: "Pod", raw: b"raw" }));
        assert_eq!(envelope(b"{}"), Err(Error::Prefix));
    }

    #[test]
    fn strings_maps_times_and_empty_values() {
        let label = field(11, &[field(1, b"k"), field(2, b"")].concat());
        let meta = [field(1, b"n"), field(2, b""), field(8, &[]), label].concat();
        check("ConfigMap", &field(1, &meta), json!({"metadata": {"name": "n", "labels": {"k": ""}}}));
        let meta = [field(1, b"n"), field(8, &[0x08, 0x01])].concat();
        check(
            "ConfigMap",
            &field(1, &meta),
            json!({"metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:01Z"}}),
        );
        check("Secret", &field(2, &[field(1, b"k"), field(2, b"hi")].concat()), json!({"data": {"k": "aGk="}}));
    }

    #[test]
    fn embedded_structs_and_pointers_to_zero() {
        // spec.volumes[0] = {name, emptyDir: {}} and terminationGracePeriodSeconds 0
        let volume = [field(1, b"v"), field(2, &field(2, &[]))].concat();
        let spec = [field(1, &volume), vec![0x20, 0x00]].concat();
        let expected =
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}], "terminationGracePeriodSeconds": 0}});
        check("Pod", &field(2, &spec), expected);
    }

    #[test]
    fn nonsense_is_refused() {
        let schemas = Schemas::builtin();
        let node = schemas.kind("", "v1", "Pod").expect("a kind");
        for raw in [&[0x0a, 0x05][..], &[0x0a, 0x02, 0x0a, 0x09], &[0x08, 0x01], &[0xff; 11]] {
            assert!(decode(raw, node).is_err(), "{raw:?}");
        }
    }
}
