//! Printed tables: the columns and cells of each kind, as `kubectl get` shows them. One file per group of kinds.
//! Cells are always made for the wide form; a client hides columns by their priority.

pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod config;
pub mod events;
pub mod network;
pub mod node;
pub mod pod;
pub mod policy;
pub mod rbac;
pub mod storage;
pub mod workload;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::selector::Selector;
use crate::table::{Cells, Column, Printer};
use crate::{duration, meta};

const NONE: &str = "<none>";
const UNKNOWN: &str = "<unknown>";
const UNSET: &str = "<unset>";

const NAME_WORDS: &str = "Name must be unique within a namespace. Is required when creating resources, although some \
    resources may allow a client to request the generation of an appropriate name automatically. Name is primarily \
    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

const AGE_WORDS: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It \
    is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It \
    is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: \
    https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// What a kind without columns of its own shows.
pub(crate) fn default_columns() -> Vec<Column> {
    vec![name_column(), column("Created At", "date", AGE_WORDS)]
}

pub(crate) fn default_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), meta::text(object, "creationTimestamp").into()]
}

/// The name first, then these.
fn printer(columns: Vec<Column>, cells: Cells) -> Printer {
    let columns = std::iter::once(name_column()).chain(columns).collect();
    Printer { columns, cells }
}

fn column(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { name: name.into(), kind: kind.into(), format: "".into(), description: description.into(), priority: 0 }
}

/// Shown with `-o wide` only.
fn wide(name: &'static str, kind: &'static str, description: &'static str) -> Column {
    Column { priority: 1, ..column(name, kind, description) }
}

fn name_column() -> Column {
    Column { format: "name".into(), ..column("Name", "string", NAME_WORDS) }
}

fn age_column() -> Column {
    column("Age", "string", AGE_WORDS)
}

/// The age of the object.
fn age(object: &Value, now: Timestamp) -> Value {
    since(meta::text(object, "creationTimestamp"), now).into()
}

/// How long ago a time was that is written so; nothing is `<unknown>`.
fn since(time: &str, now: Timestamp) -> String {
    meta::time(time).map_or_else(|| UNKNOWN.to_owned(), |then| duration::since(then, now))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn text_or<'a>(object: &'a Value, pointer: &str, instead: &'a str) -> &'a str {
    Some(text(object, pointer)).filter(|found| !found.is_empty()).unwrap_or(instead)
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn boolean(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn map<'a>(object: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

fn size(object: &Value, pointer: &str) -> usize {
    map(object, pointer).map_or(0, Map::len)
}

/// A value that may be a number or a string.
fn either(object: &Value, pointer: &str, instead: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => instead.to_owned(),
    }
}

/// `a=b,c=d`
fn labels(object: &Value, pointer: &str) -> String {
    let Some(labels) = map(object, pointer).filter(|map| !map.is_empty()) else { return NONE.to_owned() };
    let sorted: BTreeMap<&String, &str> = labels.iter().map(|(k, v)| (k, v.as_str().unwrap_or_default())).collect();
    sorted.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

/// A label selector object as text; empty is `<none>`.
fn label_selector(object: &Value, pointer: &str) -> String {
    let typed = object.pointer(pointer).map(LabelSelector::deserialize);
    let selector = match typed {
        None => return NONE.to_owned(),
        Some(Ok(typed)) => Selector::from_label_selector(Some(&typed)),
        Some(Err(_)) => return "<error>".to_owned(),
    };
    match selector {
        Ok(selector) if selector.requirements().is_empty() => NONE.to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}

/// Names and images of the containers of a pod spec, as two cells.
fn containers(object: &Value, pod_spec: &str) -> [Value; 2] {
    let containers = list(object, &format!("{pod_spec}/containers"));
    ["/name", "/image"].map(|field| containers.iter().map(|c| text(c, field)).collect::<Vec<_>>().join(",").into())
}

/// Columns for `containers` and the selector.
fn container_columns() -> [Column; 2] {
    [
        wide("Containers", "string", "Names of each container in the template."),
        wide("Images", "string", "Images referenced by each container in the template."),
    ]
}

fn selector_column() -> Column {
    wide("Selector", "string", "The label query over pods that should match.")
}

/// At most three of a list; how many more there are follows.
fn at_most_three(items: &[String]) -> String {
    const SHOWN: usize = 3;
    match items.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("{} + {more} more...", items[..SHOWN].join(",")),
        _ => items.join(","),
    }
}

/// Whether a condition of the status is `True`.
fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| text(condition, "/status") == "True")
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, "/status/conditions").iter().find(|condition| text(condition, "/type") == kind)
}

#[cfg(test)]
mod tests;
