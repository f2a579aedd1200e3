//! From a JSON object to the envelope.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use schema::{Node, Object, Scalar, Shape};
use serde_json::{Map, Value};

use crate::decode::{MAX_DEPTH, PREFIX, message_name};
use crate::tags;
use crate::wire::Writer;

/// Whether there is a message for what the node models.
pub fn has_form(node: &Node) -> bool {
    !tags::of(&message_name(node)).is_empty()
}

/// The object as the message of its kind, without `apiVersion` and `kind`. What does not fit its type is left out.
pub fn encode(object: &Value, node: &Node) -> Vec<u8> {
    let mut out = Writer::default();
    if let (Some(members), Some(object)) = (object.as_object(), node.object()) {
        fields(members, &message_name(node), object, &mut out, 0);
    }
    out.0
}

/// The beginning of `k8s\0` and `runtime.Unknown`, up to a message of `length` bytes.
pub fn envelope_head(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut type_meta = Writer::default();
    type_meta.bytes(1, api_version.as_bytes());
    type_meta.bytes(2, kind.as_bytes());
    let mut out = Writer(PREFIX.to_vec());
    out.bytes(1, &type_meta.0);
    out.length(2, length);
    out.0
}

pub fn wrap(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let mut out = envelope_head(api_version, kind, raw.len());
    out.extend_from_slice(raw);
    out
}

/// One frame of a watch: its length, and the event with the object in its envelope.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut raw = Writer::default();
    raw.bytes(1, object);
    let mut event = Writer::default();
    event.bytes(1, event_type.as_bytes());
    event.bytes(2, &raw.0);
    let length = u32::try_from(event.0.len()).expect("an object is far smaller than 4 GiB");
    [&length.to_be_bytes()[..], &event.0].concat()
}

/// A message in a field of another.
pub fn field(number: u32, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::default();
    out.bytes(number, message);
    out.0
}

/// What comes before a message of `length` bytes in a field.
pub fn field_head(number: u32, length: usize, out: &mut Vec<u8>) {
    let mut writer = Writer(std::mem::take(out));
    writer.length(number, length);
    *out = writer.0;
}

fn fields(members: &Map<String, Value>, message: &str, object: &Object, out: &mut Writer, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for (number, tag) in tags::of(message) {
        match object.fields.iter().find(|f| f.name.eq_ignore_ascii_case(tag.name)) {
            Some(field) => {
                if let Some(value) = members.get(&*field.name).filter(|v| !v.is_null()) {
                    member(*number, &field.node, value, out, depth);
                }
            }
            // An embedded struct: its fields are this object's.
            None if !tag.message.is_empty() => {
                let mut inner = Writer::default();
                fields(members, tag.message, object, &mut inner, depth + 1);
                if !inner.0.is_empty() {
                    out.bytes(*number, &inner.0);
                }
            }
            None => {}
        }
    }
}

fn member(number: u32, node: &Node, value: &Value, out: &mut Writer, depth: usize) {
    match (&node.resolve().shape, value) {
        (Shape::List(of), Value::Array(items)) => {
            items.iter().for_each(|item| element(number, of, item, out, depth + 1));
        }
        (Shape::Map(of), Value::Object(entries)) => {
            for (key, value) in entries {
                let mut entry = Writer::default();
                entry.bytes(1, key.as_bytes());
                element(2, of, value, &mut entry, depth + 1);
                out.bytes(number, &entry.0);
            }
        }
        _ => element(number, node, value, out, depth),
    }
}

/// One value in one field.
fn element(number: u32, node: &Node, value: &Value, out: &mut Writer, depth: usize) {
    match (&node.resolve().shape, value) {
        (Shape::Scalar(kind), _) => scalar(number, *kind, value, out),
        (Shape::Any, _) => out.bytes(number, &field(1, value.to_string().as_bytes())),
        (Shape::Object(object), Value::Object(members)) => {
            let mut inner = Writer::default();
            fields(members, &message_name(node), object, &mut inner, depth + 1);
            out.bytes(number, &inner.0);
        }
        // A list in a map or a list is wrapped.
        (Shape::List(of), Value::Array(items)) => {
            let mut inner = Writer::default();
            items.iter().for_each(|item| element(1, of, item, &mut inner, depth + 1));
            out.bytes(number, &inner.0);
        }
        _ => {}
    }
}

fn scalar(number: u32, kind: Scalar, value: &Value, out: &mut Writer) {
    match (kind, value) {
        (Scalar::String, Value::String(text)) => out.bytes(number, text.as_bytes()),
        (Scalar::Bytes, Value::String(text)) => {
            out.bytes(number, &BASE64_STANDARD.decode(text).unwrap_or_default());
        }
        (Scalar::Boolean, Value::Bool(yes)) => out.varint_field(number, u64::from(*yes)),
        (Scalar::Int32 | Scalar::Int64, Value::Number(n)) => {
            let n = n.as_i64().or_else(|| n.as_u64().map(u64::cast_signed)).unwrap_or_default();
            out.varint_field(number, n.cast_unsigned());
        }
        (Scalar::Double, Value::Number(n)) => out.fixed64(number, n.as_f64().unwrap_or_default().to_bits()),
        (Scalar::IntOrString, Value::String(text)) => {
            let mut inner = Writer::default();
            inner.varint_field(1, 1);
            inner.bytes(3, text.as_bytes());
            out.bytes(number, &inner.0);
        }
        (Scalar::IntOrString, Value::Number(n)) => {
            let mut inner = Writer::default();
            inner.varint_field(1, 0);
            inner.varint_field(2, n.as_i64().unwrap_or_default().cast_unsigned());
            out.bytes(number, &inner.0);
        }
        (Scalar::Quantity, Value::String(text)) => out.bytes(number, &field(1, text.as_bytes())),
        (Scalar::Quantity, Value::Number(n)) => out.bytes(number, &field(1, n.to_string().as_bytes())),
        (Scalar::Time | Scalar::MicroTime, Value::String(text)) => {
            if let Ok(time) = text.parse::<Timestamp>() {
                out.bytes(number, &timestamp(time, kind == Scalar::MicroTime));
            }
        }
        _ => {}
    }
}

fn timestamp(time: Timestamp, micro: bool) -> Vec<u8> {
    let mut out = Writer::default();
    out.varint_field(1, time.as_second().cast_unsigned());
    if micro {
        out.varint_field(2, i64::from(time.subsec_nanosecond()).cast_unsigned());
    }
    out.0
}

#[cfg(test)]
mod tests {
    use schema::Schemas;
    use serde_json::json;

    use super::*;
    use crate::{Unknown, decode, envelope};

    /// What is written is read back.
    fn check((group, version, kind): (&str, &str, &str), object: &Value) {
        let schemas = Schemas::builtin();
        let node = schemas.kind(group, version, kind).expect("a kind");
        let raw = encode(object, node);
        assert_eq!(decode(&raw, node).map(Value::Object).as_ref(), Ok(object), "{kind}");
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let bytes = wrap(&api_version, kind, &raw);
        assert_eq!(envelope(&bytes), Ok(Unknown { api_version: &api_version, kind, raw: &raw }));
    }

    #[test]
    fn a_pod() {
        let probe = json!({"httpGet": {"path": "/", "port": "http", "httpHeaders": [{"name": "a", "value": "b"}]},
            "periodSeconds": 3});
        check(
            ("", "v1", "Pod"),
            &json!({
                "metadata": {
                    "name": "a", "labels": {"k": "", "l": "v"}, "creationTimestamp": "2026-01-02T03:04:05Z",
                    "generation": 2, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r",
                        "uid": "u", "controller": true, "blockOwnerDeletion": false}],
                    "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1",
                        "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:a": {}}}}],
                },
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "volumes": [
                        {"name": "e", "emptyDir": {}},
                        {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t",
                            "expirationSeconds": 3607}}], "defaultMode": 420}},
                        {"name": "s", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
                    ],
                    "containers": [{
                        "name": "c", "image": "i", "args": ["", "x"], "livenessProbe": probe,
                        "env": [{"name": "n", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}}],
                        "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "p"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "resources": {"limits": {"cpu": "100m", "memory": "1Gi"}},
                        "lifecycle": {"preStop": {"exec": {"command": ["sleep", "1"]}}},
                        "securityContext": {"runAsUser": 0, "privileged": false, "capabilities": {"drop": ["ALL"]}},
                    }],
                    "ephemeralContainers": [{"name": "d", "image": "i", "targetContainerName": "c"}],
                    "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 0}],
                    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]}}},
                },
                "status": {
                    "phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                    "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "x",
                        "state": {"terminated": {"exitCode": -1, "reason": "Error"}}, "lastState": {}}],
                },
            }),
        );
    }

    #[test]
    fn other_kinds() {
        check(
            ("apps", "v1", "Deployment"),
            &json!({"spec": {
                "replicas": 0, "selector": {"matchLabels": {"a": "b"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c"}]}},
            }}),
        );
        check(("", "v1", "Secret"), &json!({"data": {"k": "aGk="}, "type": "Opaque", "immutable": false}));
        check(
            ("coordination.k8s.io", "v1", "Lease"),
            &json!({"spec": {"holderIdentity": "h", "leaseTransitions": 1, "renewTime": "2026-01-02T03:04:05.678901Z"}}),
        );
        check(
            ("", "v1", "Service"),
            &json!({"spec": {"clusterIP": "None", "ports": [{"port": 80, "targetPort": "http"}], "selector": {"a": "b"}},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
        );
        check(
            ("rbac.authorization.k8s.io", "v1", "Role"),
            &json!({"rules": [{"apiGroups": ["", "apps"], "resources": ["pods"], "verbs": ["get"]}]}),
        );
        check(
            ("authorization.k8s.io", "v1", "SubjectAccessReview"),
            &json!({"spec": {"user": "u", "extra": {"k": ["a", "b"]}}, "status": {"allowed": true}}),
        );
        check(("apps", "v1", "ControllerRevision"), &json!({"data": {"spec": {"a": [1, null, "x"]}}, "revision": 7}));
    }

    #[test]
    fn frames_say_how_long_they_are() {
        let frame = watch_frame("ADDED", b"k8s\0x");
        let (length, event) = frame.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().expect("four bytes")) as usize, event.len());
        assert_eq!(event, [&b"\x0a\x05ADDED\x12\x07\x0a\x05"[..], b"k8s\0x"].concat());
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let schemas = Schemas::builtin();
        let node = schemas.kind("", "v1", "ConfigMap").expect("a kind");
        assert_eq!(encode(&json!({"data": 7, "immutable": "x", "other": 1}), node), Vec::<u8>::new());
    }
}
