//! Validation shared by several kinds, in upstream's field paths and words.
//!
//! Every function appends its findings to `errs`; nothing here changes an object. An absent string and an empty one
//! are the same thing, as in upstream's internal types.

pub mod affinity;
pub mod container;
pub mod cron;
pub mod env;
pub mod names;
pub mod pod_spec;
pub mod pod_update;
pub mod probe;
pub mod rbac;
pub mod reference;
pub mod resources;
pub mod rolling;
pub mod scheduling;
pub mod security;
pub mod selector;
pub mod signer;
pub mod template;
pub mod volume;
pub mod volume_mount;

pub(crate) use api::field::{Error, ErrorList, Path};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde_json::Value;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const IMMUTABLE: &str = "field is immutable";
pub(crate) const PORT_RANGE: &str = "must be between 1 and 65535, inclusive";

/// The text of an optional string; absent is empty.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// A value as an error message shows it.
pub(crate) fn json<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// One `Invalid` per message.
pub(crate) fn each(messages: Vec<String>, value: &str, path: &Path, errs: &mut ErrorList) {
    for message in messages {
        errs.push(Error::invalid(path, value, &message));
    }
}

pub(crate) fn non_negative(value: impl Into<i64>, path: &Path, errs: &mut ErrorList) {
    let value = value.into();
    if value < 0 {
        errs.push(Error::invalid(path, value, NOT_NEGATIVE));
    }
}

/// `non_negative` of what may be absent.
pub(crate) fn maybe_non_negative<T: Into<i64> + Copy>(value: Option<T>, path: &Path, errs: &mut ErrorList) {
    if let Some(value) = value {
        non_negative(value, path, errs);
    }
}

/// Zero is allowed to stand for absent only where the caller says so.
pub(crate) fn port(value: i32, path: &Path, errs: &mut ErrorList) {
    if !(1..=65535).contains(&value) {
        errs.push(Error::invalid(path, value, PORT_RANGE));
    }
}

pub(crate) fn port_or_name(value: &IntOrString, path: &Path, errs: &mut ErrorList) {
    match value {
        IntOrString::Int(number) => port(*number, path, errs),
        IntOrString::String(name) => each(names::port_name(name), name, path, errs),
    }
}

/// An enumerated field that must be set.
pub(crate) fn one_of(value: &str, allowed: &[&str], path: &Path, errs: &mut ErrorList) {
    if value.is_empty() {
        errs.push(Error::required(path, ""));
    } else {
        maybe_one_of(value, allowed, path, errs);
    }
}

/// An enumerated field that may be empty.
pub(crate) fn maybe_one_of(value: &str, allowed: &[&str], path: &Path, errs: &mut ErrorList) {
    if !value.is_empty() && !allowed.contains(&value) {
        errs.push(Error::not_supported(path, value, allowed));
    }
}

pub(crate) fn required(value: &str, path: &Path, errs: &mut ErrorList) {
    if value.is_empty() {
        errs.push(Error::required(path, ""));
    }
}

pub(crate) fn immutable<T: Serialize + PartialEq>(new: &T, old: &T, path: &Path, errs: &mut ErrorList) {
    if new != old {
        errs.push(Error::invalid(path, json(new), IMMUTABLE));
    }
}

/// `immutable` for strings, where absent and empty are one.
pub(crate) fn immutable_text(new: &Option<String>, old: &Option<String>, path: &Path, errs: &mut ErrorList) {
    immutable(&text(new), &text(old), path, errs);
}

pub(crate) fn metadata() -> Path {
    Path::new("metadata")
}

pub(crate) fn spec() -> Path {
    Path::new("spec")
}

pub(crate) fn status() -> Path {
    Path::new("status")
}

/// Iterates an optional list with the path of each item.
pub(crate) fn items<'a, 'p, T>(
    list: &'a Option<Vec<T>>,
    path: &'p Path,
) -> impl Iterator<Item = (Path, &'a T)> + use<'a, 'p, T> {
    list.iter().flatten().enumerate().map(|(i, item)| (path.index(i), item))
}
