//! What every object's metadata must satisfy, on create and on update, in upstream's words.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;

use crate::field::{Error, ErrorList, Path};
use crate::meta::Meta;
use crate::names::{self, NameRule};
use crate::table::Scope;

/// Keys and values of all annotations together.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

const IMMUTABLE: &str = "field is immutable";
const STANDARD_FINALIZERS: [&str; 3] = ["kubernetes", "orphan", "foregroundDeletion"];

/// The metadata of an object that is about to be created. `path` is `metadata` (or a template's).
pub fn validate_create(meta: &ObjectMeta, scope: Scope, rule: NameRule, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(prefix) = non_empty(&meta.generate_name) {
        let at = path.child("generateName");
        errors.extend(rule.check(prefix, true).iter().map(|c| Error::invalid(&at, prefix, c)).collect());
    }
    match non_empty(&meta.name) {
        Some(name) => {
            let at = path.child("name");
            errors.extend(rule.check(name, false).iter().map(|c| Error::invalid(&at, name, c)).collect());
        }
        None => errors.push(Error::required(&path.child("name"), "name or generateName is required")),
    }
    errors.extend(validate_namespace(meta.namespace_str(), scope, &path.child("namespace")));
    errors.extend(validate_common(meta, path));
    errors
}

/// The metadata of an object that replaces `old`.
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if old.deletion_timestamp.is_some() {
        errors.extend(validate_no_new_finalizers(new, old, &path.child("finalizers")));
    }
    if new.resource_version.as_deref().unwrap_or_default().is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let (generation, before) = (new.generation.unwrap_or_default(), old.generation.unwrap_or_default());
    if generation < before {
        errors.push(Error::invalid(&path.child("generation"), generation, "must not be decremented"));
    }
    errors.extend(immutable(&new.name, &old.name, &path.child("name")));
    errors.extend(immutable(&new.namespace, &old.namespace, &path.child("namespace")));
    errors.extend(immutable(&new.uid, &old.uid, &path.child("uid")));
    errors.extend(immutable(&new.creation_timestamp, &old.creation_timestamp, &path.child("creationTimestamp")));
    errors.extend(immutable(&new.deletion_timestamp, &old.deletion_timestamp, &path.child("deletionTimestamp")));
    errors.extend(immutable(
        &new.deletion_grace_period_seconds,
        &old.deletion_grace_period_seconds,
        &path.child("deletionGracePeriodSeconds"),
    ));
    errors.extend(validate_common(new, path));
    errors
}

/// `field is immutable`, unless nothing changed; an empty string counts as absent.
pub fn immutable<T: serde::Serialize>(new: &T, old: &T, path: &Path) -> ErrorList {
    let read = |v: &T| match serde_json::to_value(v) {
        Ok(Value::String(s)) if s.is_empty() => Value::Null,
        Ok(value) => value,
        Err(_) => Value::Null,
    };
    let (new, old) = (read(new), read(old));
    if new == old { ErrorList::new() } else { ErrorList::from_iter([Error::invalid(path, new, IMMUTABLE)]) }
}

/// Keys and values of labels, also those of a template or a selector's matchLabels.
pub fn validate_labels(labels: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (key, value) in labels {
        errors.extend(names::qualified_name(key).iter().map(|c| Error::invalid(path, key.as_str(), c)).collect());
        errors.extend(names::label_value(value).iter().map(|c| Error::invalid(path, value.as_str(), c)).collect());
    }
    errors
}

/// Keys of annotations, and the size of all of them.
pub fn validate_annotations(annotations: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for key in annotations.keys() {
        let complaints = names::qualified_name(&key.to_lowercase());
        errors.extend(complaints.iter().map(|c| Error::invalid(path, key.as_str(), c)).collect());
    }
    if annotations.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > ANNOTATIONS_MAX_BYTES {
        errors.push(Error::too_long(path, ANNOTATIONS_MAX_BYTES));
    }
    errors
}

fn validate_common(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(generation) = meta.generation.filter(|&g| g < 0) {
        let at = path.child("generation");
        errors.push(Error::invalid(&at, generation, "must be greater than or equal to 0"));
    }
    errors.extend(validate_labels(meta.labels.as_ref().unwrap_or(&BTreeMap::new()), &path.child("labels")));
    let annotations = meta.annotations.as_ref();
    errors.extend(validate_annotations(annotations.unwrap_or(&BTreeMap::new()), &path.child("annotations")));
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    errors.extend(validate_owners(owners, &path.child("ownerReferences")));
    errors.extend(validate_finalizers(meta.finalizers.as_deref().unwrap_or_default(), &path.child("finalizers")));
    errors
}

fn validate_namespace(namespace: &str, scope: Scope, path: &Path) -> ErrorList {
    match (scope, namespace) {
        (Scope::Namespaced, "") => ErrorList::from_iter([Error::required(path, "")]),
        (Scope::Namespaced, name) => {
            names::dns_1123_label(name).iter().map(|c| Error::invalid(path, name, c)).collect()
        }
        (Scope::Cluster, "") => ErrorList::new(),
        (Scope::Cluster, _) => ErrorList::from_iter([Error::forbidden(path, "not allowed on this type")]),
    }
}

fn validate_owners(owners: &[OwnerReference], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut controller: Option<&str> = None;
    for owner in owners {
        errors.extend(validate_owner(owner, path));
        if owner.controller != Some(true) {
            continue;
        }
        if let Some(first) = controller {
            let detail = format!(
                "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {}",
                owner.name
            );
            errors.push(Error::invalid(path, json(&owners), &detail));
        }
        controller = Some(&owner.name);
    }
    errors
}

fn validate_owner(owner: &OwnerReference, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let version = owner.api_version.rsplit('/').next().unwrap_or_default();
    if version.is_empty() {
        let detail = "version must not be empty";
        errors.push(Error::invalid(&path.child("apiVersion"), owner.api_version.as_str(), detail));
    }
    for (field, value) in [("kind", &owner.kind), ("name", &owner.name), ("uid", &owner.uid)] {
        if value.is_empty() {
            errors.push(Error::invalid(&path.child(field), value.as_str(), "must not be empty"));
        }
    }
    if owner.api_version == "v1" && owner.kind == "Event" {
        let detail = "/v1, Kind=Event is disallowed from being an owner";
        errors.push(Error::invalid(path, json(owner), detail));
    }
    errors
}

fn validate_finalizers(finalizers: &[String], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for finalizer in finalizers {
        let name = finalizer.as_str();
        errors.extend(names::qualified_name(name).iter().map(|c| Error::invalid(path, name, c)).collect());
        if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(Error::invalid(path, name, detail));
        }
    }
    let has = |wanted: &str| finalizers.iter().any(|f| f == wanted);
    if has("orphan") && has("foregroundDeletion") {
        let detail = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(Error::invalid(path, json(&finalizers), detail));
    }
    errors
}

fn validate_no_new_finalizers(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> ErrorList {
    let mut added: Vec<&String> = new.finalizers.iter().flatten().filter(|f| !old.has_finalizer(f)).collect();
    if added.is_empty() {
        return ErrorList::new();
    }
    added.sort();
    let listed = added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ");
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
    );
    ErrorList::from_iter([Error::forbidden(path, &detail)])
}

fn non_empty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|t| !t.is_empty())
}

fn json<T: serde::Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests;
