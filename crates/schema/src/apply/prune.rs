//! An object without some of its paths.

use serde_json::{Map, Value};

use super::path::Element;
use super::set::{Branch, FieldSet};
use super::typed::{Form, Type};
use crate::node::Node;

pub(super) fn remove(object: &Value, paths: &FieldSet, node: &Node) -> Value {
    without(object, paths, Type::of(node)).unwrap_or(Value::Object(Map::new()))
}

/// `None`: nothing is left of it.
fn without(value: &Value, paths: &FieldSet, of: Type<'_>) -> Option<Value> {
    if paths.is_empty() {
        return Some(value.clone());
    }
    let form = of.form([Some(value), None]);
    match (&form, value) {
        // Paths lead into it from a time when it was made of parts.
        (Form::Leaf, Value::Array(_) | Value::Object(_)) => None,
        (Form::Keyed(..) | Form::Set, Value::Array(items)) => {
            let left = items.iter().filter_map(|item| {
                let branch = form.item(item).ok().and_then(|element| paths.branch(&element));
                kept(item, branch, form.items(), Some(Value::Null))
            });
            filled(Value::Array(left.collect()))
        }
        (Form::Fields(_) | Form::Map(_), Value::Object(members)) => {
            let left = members.iter().filter_map(|(name, member)| {
                let branch = paths.branch(&Element::field(name));
                Some((name.clone(), kept(member, branch, form.member_or_any(name), None)?))
            });
            filled(Value::Object(left.collect()))
        }
        _ => Some(value.clone()),
    }
}

/// An item of a list is not lost with its parts.
fn kept(value: &Value, branch: Option<&Branch>, of: Type<'_>, emptied: Option<Value>) -> Option<Value> {
    match branch {
        None => Some(value.clone()),
        Some(Branch { member: true, .. }) => None,
        Some(branch) => without(value, &branch.below, of).or(emptied),
    }
}

fn filled(value: Value) -> Option<Value> {
    let empty = match &value {
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    (!empty).then_some(value)
}

/// With the fields that lead to members as members, too; the entries of maps and lists are not fields.
pub(super) fn with_named_fields(set: &FieldSet, node: &Node) -> FieldSet {
    named(set, Type::of(node))
}

fn named(set: &FieldSet, of: Type<'_>) -> FieldSet {
    let form = of.form([None, None]);
    let branches = set.0.iter().map(|(step, branch)| {
        let (is_field, below) = match step {
            Element::Field(name) => {
                (matches!(&form, Form::Fields(o) if o.field(name).is_some()), form.member_or_any(name))
            }
            _ => (false, form.items()),
        };
        let member = branch.member || (is_field && !branch.below.is_empty());
        (step.clone(), Branch { member, below: named(&branch.below, below) })
    });
    FieldSet(branches.collect())
}
