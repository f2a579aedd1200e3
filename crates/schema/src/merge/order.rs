//! The order of merged lists, and `$setElementOrder`, by which a patch states it.

use serde_json::Value;

use super::list::{merge_list, no_key, of_objects};
use super::{MergeError, Object, PATCH, SET_ORDER, child, go_list, plain};
use crate::node::Node;

/// Carries out every `$setElementOrder/<list>` of the patch, together with the list itself if the patch has it too.
pub(super) fn apply(original: &mut Object, patch: &mut Object, node: Option<&Node>) -> Result<(), MergeError> {
    let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let Some(Value::Array(wanted)) = patch.remove(&directive) else { return Err(MergeError::SetElementOrder) };
        let name = &directive[SET_ORDER.len()..];
        let (child, merge) = child(node, name);
        let key = merge.and_then(|m| m.merge_key.as_deref());
        let old = list_of(original.get(name))?;
        let new = list_of(patch.get(name))?;
        check_order(new.as_deref().unwrap_or_default(), &wanted, key)?;
        let merged = match (old.clone(), new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match plain(Value::Array(new)) {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            (Some(old), Some(new)) if merge.is_some_and(|m| m.strategy.merge) => {
                merge_list(old, new, child.and_then(Node::element), key, false)?
            }
            (Some(_), Some(new)) => new,
        };
        let key = if of_objects(&merged, &[])? { key } else { None };
        let arranged = arrange(merged, &wanted, &old.unwrap_or_default(), key);
        original.insert(name.to_owned(), Value::Array(arranged));
        patch.remove(name);
    }
    Ok(())
}

/// An explicit null is no list, and is left for the patch itself to carry out.
fn list_of(value: Option<&Value>) -> Result<Option<Vec<Value>>, MergeError> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        Some(_) => Err(MergeError::SetElementOrder),
    }
}

/// The items of the patch, but for those it deletes, must come in the stated order.
fn check_order(patch: &[Value], wanted: &[Value], key: Option<&str>) -> Result<(), MergeError> {
    let directive = |item: &Value| item.get(PATCH).and_then(Value::as_str).map(str::to_owned);
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        return Ok(());
    }
    let mut wanted_items = wanted.iter();
    for item in patch.iter().filter(|item| directive(item).is_none()) {
        if let (Some(key), Some(map)) = (key, item.as_object()) {
            map.get(key).ok_or_else(|| no_key(map, key))?;
        }
        if !wanted_items.any(|w| same(w, item, key)) {
            return Err(MergeError::Order { patch: go_list(patch), order: go_list(wanted) });
        }
    }
    Ok(())
}

/// `merged`, with what is in `first` in its order, and all else where it stood relative to them in `before`.
pub(super) fn arrange(merged: Vec<Value>, first: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|other| same(other, item, key));
    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| place(first, item).is_some());
    named.sort_by_key(|item| place(first, item));
    others.sort_by_key(|item| place(before, item).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some(other), Some(item)) => {
                matches!((place(before, other), place(before, item)), (Some(o), Some(n)) if o < n)
            }
            (other, _) => other.is_some(),
        };
        match if other_first { others.next() } else { named.next() } {
            Some(item) => out.push(item),
            None => return out,
        }
    }
}

fn same(a: &Value, b: &Value, key: Option<&str>) -> bool {
    match key {
        Some(key) if a.is_object() || b.is_object() => a.get(key).is_some() && a.get(key) == b.get(key),
        _ => a == b,
    }
}
