//! Lists: scalars merge as a set, objects by their merge key. Items of the patch come in the patch's order; items that
//! only the original has keep their places among those they had before.

use serde_json::Value;

use super::{MergeError, Object, PATCH, go_map, merge_map, order, plain};
use crate::node::Node;

/// `deletes`: the items of the patch are taken out instead.
pub(super) fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    element: Option<&Node>,
    merge_key: Option<&str>,
    deletes: bool,
) -> Result<Vec<Value>, MergeError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !of_objects(&original, &patch)? {
        if deletes {
            return Ok(original.into_iter().filter(|item| !patch.contains(item)).collect());
        }
        let mut merged = Vec::new();
        for item in original.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(order::arrange(merged, &patch, &original, None));
    }
    let unkeyed = || MergeError::Unkeyed(element.and_then(Node::definition).map_or("", |d| d.short_name()).to_owned());
    let key = merge_key.ok_or_else(unkeyed)?;
    let (original, patch) = special_items(original, patch, key)?;
    let merged = merge_items(original.clone(), &patch, element, key)?;
    Ok(order::arrange(merged, &patch, &original, Some(key)))
}

/// Whether the items are objects. All must be of one sort, and none a list.
pub(super) fn of_objects(original: &[Value], patch: &[Value]) -> Result<bool, MergeError> {
    let mut items = original.iter().chain(patch);
    let objects = items.clone().next().is_some_and(Value::is_object);
    if items.clone().any(Value::is_array) {
        return Err(MergeError::ListOfLists);
    }
    if items.any(|item| item.is_object() != objects) { Err(MergeError::Mixed) } else { Ok(objects) }
}

/// Carries out `$patch: delete` and `$patch: replace`; what is left of the patch is merged.
fn special_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), MergeError> {
    let mut kept = Vec::with_capacity(patch.len());
    let mut replaces = false;
    for item in patch {
        let Some(map) = item.as_object() else { return Err(MergeError::Mixed) };
        match map.get(PATCH).map(|directive| directive.as_str().unwrap_or_default()) {
            None => kept.push(item),
            Some("delete") => {
                let wanted = map.get(key).ok_or_else(|| no_key(map, key))?;
                original.retain(|item| item.get(key) != Some(wanted));
            }
            Some("replace") => replaces = true,
            Some("merge") => return Err(MergeError::MergeDirective),
            Some(other) => return Err(MergeError::Directive { directive: other.to_owned(), map: go_map(map) }),
        }
    }
    if replaces { Ok((kept, Vec::new())) } else { Ok((original, kept)) }
}

fn merge_items(
    mut merged: Vec<Value>,
    patch: &[Value],
    element: Option<&Node>,
    key: &str,
) -> Result<Vec<Value>, MergeError> {
    for item in patch {
        let Value::Object(new) = item else { return Err(MergeError::Mixed) };
        let wanted = new.get(key).ok_or_else(|| no_key(new, key))?;
        let found = merged.iter_mut().find(|old| old.get(key) == Some(wanted));
        match found {
            Some(old) => {
                let before = old.as_object_mut().map(std::mem::take).unwrap_or_default();
                *old = Value::Object(merge_map(before, new.clone(), element)?);
            }
            None => merged.extend(plain(item.clone())),
        }
    }
    Ok(merged)
}

pub(super) fn no_key(map: &Object, key: &str) -> MergeError {
    MergeError::NoMergeKey { map: go_map(map), key: key.to_owned() }
}
