//! Strategic merge patch: lists merge by key or by value, maps by field, as the merge table says, and directives in
//! the patch (`$patch`, `$retainKeys`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`) say otherwise.

mod list;
mod order;

use api::ApiError;
use serde_json::{Map, Value};

use crate::node::{Merge, Node, Shape};
use list::merge_list;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Why a patch cannot be applied; the conversion to `ApiError` has upstream's code for each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    #[error("json: cannot unmarshal {0} into Go value of type map[string]interface {{}}")]
    NotAnObject(&'static str),
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive { directive: String, map: String },
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey { map: String, key: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("cannot merge lists without merge key for {0}")]
    Unkeyed(String),
    #[error("The order in patch list:\n{patch}\n doesn't match {SET_ORDER} list:\n{order}\n")]
    Order { patch: String, order: String },
    #[error("cannot merge items of different types in one list")]
    Mixed,
}

impl From<MergeError> for ApiError {
    fn from(error: MergeError) -> Self {
        match error {
            MergeError::NotAnObject(_)
            | MergeError::PrimitiveList
            | MergeError::RetainKeys
            | MergeError::SetElementOrder => Self::bad_request(error.to_string()),
            MergeError::ListOfLists => {
                Self::new(422, "Invalid", "the server rejected our request due to an error in our request")
            }
            // Upstream has no better code for these.
            _ => Self::new(500, "", error.to_string()),
        }
    }
}

/// `original` after `patch`, by the merge keys and strategies of `node`.
pub fn strategic_merge(original: &Value, patch: &Value, node: &Node) -> Result<Value, MergeError> {
    let object = |value: &Value| match value {
        Value::Object(map) => Ok(map.clone()),
        Value::Null => Ok(Object::new()),
        Value::Array(_) => Err(MergeError::NotAnObject("array")),
        Value::String(_) => Err(MergeError::NotAnObject("string")),
        Value::Number(_) => Err(MergeError::NotAnObject("number")),
        Value::Bool(_) => Err(MergeError::NotAnObject("bool")),
    };
    merge_map(object(original)?, object(patch)?, Some(node)).map(Value::Object)
}

/// `node` is unknown below fields that take anything.
fn merge_map(mut original: Object, mut patch: Object, node: Option<&Node>) -> Result<Object, MergeError> {
    if let Some(directive) = patch.remove(PATCH) {
        return match directive.as_str() {
            Some("replace") => Ok(patch),
            Some("delete") => Ok(Object::new()),
            _ => {
                patch.insert(PATCH.to_owned(), directive.clone());
                Err(MergeError::Directive { directive: go_text(&directive), map: go_map(&patch) })
            }
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::apply(&mut original, &mut patch, node)?;
    for (key, value) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
            Some(name) => (name.to_owned(), true),
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match (original.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Some(merge_object_field(old, new, node, &key)?),
            (Some(Value::Array(old)), Value::Array(new)) => {
                Some(Value::Array(merge_list_field(old, new, node, &key, deletes)?))
            }
            (old, _) if deletes => old,
            (_, new) => plain(new),
        };
        if let Some(merged) = merged {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

fn merge_object_field(old: Object, new: Object, node: Option<&Node>, key: &str) -> Result<Value, MergeError> {
    let (child, merge) = child(node, key);
    if merge.is_some_and(|m| m.strategy.replace) {
        Ok(Value::Object(new))
    } else {
        merge_map(old, new, child).map(Value::Object)
    }
}

fn merge_list_field(
    old: Vec<Value>,
    new: Vec<Value>,
    node: Option<&Node>,
    key: &str,
    deletes: bool,
) -> Result<Vec<Value>, MergeError> {
    let (child, merge) = child(node, key);
    if !deletes && !merge.is_some_and(|m| m.strategy.merge) {
        return Ok(new);
    }
    let merge_key = merge.and_then(|m| m.merge_key.as_deref());
    merge_list(old, new, child.and_then(Node::element), merge_key, deletes)
}

/// The type of a field or of a map's values, and how it is merged.
fn child<'a>(node: Option<&'a Node>, key: &str) -> (Option<&'a Node>, Option<&'a Merge>) {
    let Some(node) = node else { return (None, None) };
    match &node.resolve().shape {
        Shape::Object(object) => match object.field(key) {
            Some(field) => (Some(&field.node), field.merge.as_deref()),
            None => (None, None),
        },
        Shape::Map(values) => (Some(values), None),
        _ => (None, None),
    }
}

/// `$retainKeys` names every key that may stay; the patch may set no other.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), MergeError> {
    let kept = match patch.remove(RETAIN_KEYS) {
        None => return Ok(()),
        Some(Value::Array(kept)) => kept,
        Some(_) => return Err(MergeError::RetainKeys),
    };
    let keeps = |key: &str| kept.iter().any(|k| k.as_str() == Some(key));
    let foreign = |(key, value): (&String, &Value)| {
        !value.is_null() && !key.starts_with(SET_ORDER) && !key.starts_with(DELETE_FROM) && !keeps(key)
    };
    if patch.iter().any(foreign) {
        return Err(MergeError::RetainKeys);
    }
    original.retain(|key, _| keeps(key));
    Ok(())
}

/// A value that is new: without nulls and directives. `None`: nothing is left of it.
fn plain(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(map) => {
            if map.get(PATCH).and_then(Value::as_str) == Some("delete") {
                return None;
            }
            let is_directive = |key: &str| {
                key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM)
            };
            let kept = map.into_iter().filter(|(key, _)| !is_directive(key));
            Some(Value::Object(kept.filter_map(|(key, value)| Some((key, plain(value)?))).collect()))
        }
        Value::Array(items) => {
            let is_marker = |item: &Value| item.as_object().is_some_and(|map| map.contains_key(PATCH));
            let kept = items.into_iter().filter(|item| !is_marker(item));
            Some(Value::Array(kept.filter_map(|item| if item.is_null() { Some(item) } else { plain(item) }).collect()))
        }
        scalar => Some(scalar),
    }
}

/// As Go prints a map: `map[a:1 b:[x y]]`.
fn go_map(map: &Object) -> String {
    let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
    pairs.sort_by_key(|(key, _)| *key);
    let pairs: Vec<String> = pairs.into_iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
    format!("map[{}]", pairs.join(" "))
}

fn go_text(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(map) => go_map(map),
        other => other.to_string(),
    }
}

fn go_list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests;
