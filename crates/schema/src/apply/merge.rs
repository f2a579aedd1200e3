//! An object with a configuration laid over it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::path::Element;
use super::typed::{Form, Type};
use crate::node::Node;

pub(super) fn merge(live: &Value, config: &Value, node: &Node) -> Value {
    merged(Some(live), Some(config), Type::of(node)).unwrap_or(Value::Null)
}

fn merged(live: Option<&Value>, config: Option<&Value>, of: Type<'_>) -> Option<Value> {
    let (Some(old), Some(new)) = (live, config) else { return config.or(live).cloned() };
    let form = of.form([live, config]);
    match (&form, old, new) {
        (Form::Keyed(..) | Form::Set, Value::Array(old), Value::Array(new)) if !old.is_empty() || !new.is_empty() => {
            Some(Value::Array(lists(old, new, &form)))
        }
        (Form::Fields(_) | Form::Map(_), Value::Object(old), Value::Object(new))
            if !old.is_empty() || !new.is_empty() =>
        {
            Some(Value::Object(maps(old, new, &form)))
        }
        // A null says nothing of what a list or a map is made of.
        (Form::Keyed(..) | Form::Set, Value::Array(items), Value::Null) if !items.is_empty() => Some(old.clone()),
        (Form::Fields(_) | Form::Map(_), Value::Object(members), Value::Null) if !members.is_empty() => {
            Some(old.clone())
        }
        _ => Some(new.clone()),
    }
}

fn maps(old: &Map<String, Value>, new: &Map<String, Value>, form: &Form<'_>) -> Map<String, Value> {
    let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
    let members =
        names.filter_map(|name| Some((name.clone(), merged(old.get(name), new.get(name), form.member_or_any(name))?)));
    members.collect()
}

/// The configuration's items come in its order; those that only the object has keep their places between those that
/// both have.
fn lists(old: &[Value], new: &[Value], form: &Form<'_>) -> Vec<Value> {
    let old: Vec<(Option<Element>, &Value)> = old.iter().map(|item| (form.item(item).ok(), item)).collect();
    let new: Vec<(Element, &Value)> = new.iter().filter_map(|item| Some((form.item(item).ok()?, item))).collect();
    let mut before: BTreeMap<&Element, Vec<&Value>> = BTreeMap::new();
    for (element, item) in old.iter().filter_map(|(element, item)| Some((element.as_ref()?, item))) {
        before.entry(element).or_default().push(item);
    }
    let wanted: BTreeSet<&Element> = new.iter().map(|(element, _)| element).collect();
    let shared: Vec<&Element> = new.iter().map(|(element, _)| element).filter(|e| before.contains_key(e)).collect();

    let mut out = Vec::with_capacity(old.len().max(new.len()));
    let (mut next_shared, mut done) = (shared.into_iter().peekable(), BTreeSet::new());
    let (mut at, mut rest) = (0, new.iter().peekable());
    while at < old.len() || rest.peek().is_some() {
        if let Some((element, item)) = old.get(at) {
            let Some(element) = element.as_ref().filter(|e| wanted.contains(e)) else {
                out.push((*item).clone());
                at += 1;
                continue;
            };
            // Its turn is past, or comes with another item of the configuration.
            if done.contains(element) || next_shared.peek().is_some_and(|next| *next != element) {
                at += 1;
                continue;
            }
        }
        let Some((element, item)) = rest.next() else { break };
        // Of items that are there twice there is none to merge with.
        let twin = before.get(element).filter(|items| items.len() == 1).map(|items| items[0]);
        out.extend(merged(twin, Some(item), form.items()));
        done.insert(element);
        next_shared.next_if(|next| *next == element);
    }
    out
}
