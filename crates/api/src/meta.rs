//! Object metadata, read and written both in JSON objects and in the typed `ObjectMeta`. What is absent reads as
//! empty, as it does in Go.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value};

use crate::table::Resource;

/// A string field of `metadata`, empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, "name")
}

pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

pub fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

pub fn creation_timestamp(object: &Value) -> Option<Timestamp> {
    time(text(object, "creationTimestamp"))
}

pub fn deletion_timestamp(object: &Value) -> Option<Timestamp> {
    time(text(object, "deletionTimestamp"))
}

pub fn is_deleting(object: &Value) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null())
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn labels(object: &Value) -> BTreeMap<String, String> {
    string_map(object.pointer("/metadata/labels"))
}

pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    string_map(object.pointer("/metadata/annotations"))
}

pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// The owner with `controller: true`.
pub fn controller(object: &Value) -> Option<&Value> {
    let owners = object.pointer("/metadata/ownerReferences")?.as_array()?;
    owners.iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// `metadata`, made when absent.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    let root = as_object(object);
    as_object(root.entry("metadata").or_insert_with(empty))
}

/// Sets a string field of `metadata`; an empty value removes it.
pub fn set_text(object: &mut Value, field: &str, value: &str) {
    let metadata = metadata_mut(object);
    if value.is_empty() {
        metadata.remove(field);
    } else {
        metadata.insert(field.to_owned(), value.into());
    }
}

pub fn set_resource_version(object: &mut Value, revision: u64) {
    metadata_mut(object).insert("resourceVersion".to_owned(), revision.to_string().into());
}

/// Sets `apiVersion` and `kind` to what the row says.
pub fn set_type(object: &mut Value, resource: &Resource) {
    let root = as_object(object);
    root.insert("apiVersion".to_owned(), resource.api_version().into());
    root.insert("kind".to_owned(), resource.kind.clone().into_owned().into());
}

/// RFC 3339 in UTC with whole seconds, as `metav1.Time` is written.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// RFC 3339 with six decimals, as `metav1.MicroTime` is written.
pub fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

pub fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn empty() -> Value {
    Value::Object(Map::new())
}

/// The value as an object; anything else is replaced by an empty one.
fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = empty();
    }
    value.as_object_mut().expect("made an object just above")
}

/// The same questions, asked of the typed metadata.
pub trait Meta {
    fn name_str(&self) -> &str;
    fn namespace_str(&self) -> &str;
    fn uid_str(&self) -> &str;
    fn label(&self, key: &str) -> Option<&str>;
    fn annotation(&self, key: &str) -> Option<&str>;
    fn has_finalizer(&self, name: &str) -> bool;
    fn is_deleting(&self) -> bool;
    fn controller(&self) -> Option<&OwnerReference>;
    /// Whether the object is controlled by the owner with this uid.
    fn controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }
}

impl Meta for ObjectMeta {
    fn name_str(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    fn namespace_str(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    fn uid_str(&self) -> &str {
        self.uid.as_deref().unwrap_or_default()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().flatten().any(|f| f == name)
    }

    fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_reads_as_empty() {
        let object = json!({"metadata": {"name": "a", "labels": {"x": "y"}, "ownerReferences": [
            {"name": "p"}, {"name": "q", "controller": true}]}});
        assert_eq!((name(&object), namespace(&object), generation(&object)), ("a", "", 0));
        assert_eq!(label(&object, "x"), Some("y"));
        assert_eq!(controller(&object).and_then(|o| o["name"].as_str()), Some("q"));
        assert!(!is_deleting(&object));
        assert_eq!(name(&Value::Null), "");
    }

    #[test]
    fn writing_makes_what_is_missing() {
        let mut object = json!({});
        set_resource_version(&mut object, 7);
        set_text(&mut object, "namespace", "blue");
        assert_eq!(object, json!({"metadata": {"resourceVersion": "7", "namespace": "blue"}}));
        set_text(&mut object, "namespace", "");
        assert_eq!(object, json!({"metadata": {"resourceVersion": "7"}}));
    }

    #[test]
    fn times_are_written_as_metav1_writes_them() {
        let at: Timestamp = "2026-01-02T03:04:05.678901234+01:00".parse().expect("a time");
        assert_eq!(format_time(at), "2026-01-02T02:04:05Z");
        assert_eq!(format_micro_time(at), "2026-01-02T02:04:05.678901Z");
    }
}
