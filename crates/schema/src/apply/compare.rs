//! What differs between two objects, as sets of paths.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::Element;
use super::set::FieldSet;
use super::typed::{Form, Type};
use crate::node::Node;

const PARTS: &[&str] = &["metadata", "spec", "status"];

#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub added: FieldSet,
    pub modified: FieldSet,
    pub removed: FieldSet,
}

impl Comparison {
    pub fn of(old: &Value, new: &Value, node: &Node) -> Self {
        let mut walk = Walk { found: Self::default(), path: Vec::new() };
        walk.visit(Some(old), Some(new), Type::of(node));
        walk.found
    }

    /// Leaves out what nobody may own.
    pub fn without(mut self, ignored: &FieldSet) -> Self {
        for set in [&mut self.added, &mut self.modified, &mut self.removed] {
            set.remove_below(ignored);
        }
        self
    }

    pub fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

struct Walk {
    found: Comparison,
    path: Vec<Element>,
}

impl Walk {
    fn visit(&mut self, old: Option<&Value>, new: Option<&Value>, of: Type<'_>) {
        if old == new {
            return;
        }
        let form = of.form([old, new]);
        let nothing = |value: Option<&Value>| match value {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
            Some(_) => false,
        };
        // Both empty, but not the same: the difference between none and empty is one, too.
        if matches!(form, Form::Leaf) || (nothing(old) && nothing(new)) {
            return self.leaf(old, new);
        }
        match form {
            Form::Keyed(..) | Form::Set => self.items(old, new, &form),
            _ => self.members(old, new, &form),
        }
        // What came or went whole is one more path.
        if old.is_none() || new.is_none() {
            self.leaf(old, new);
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) {
        // The parts of an object are always there, be it empty.
        let is_map = |value: Option<&Value>| value.is_none_or(|v| v.is_object() || v.is_null());
        if matches!(&self.path[..], [Element::Field(name)] if PARTS.contains(&name.as_str()))
            && is_map(old)
            && is_map(new)
        {
            return;
        }
        let set = match (old, new) {
            (None, _) => &mut self.found.added,
            (_, None) => &mut self.found.removed,
            _ => &mut self.found.modified,
        };
        set.insert(&self.path);
    }

    fn members(&mut self, old: Option<&Value>, new: Option<&Value>, form: &Form<'_>) {
        let none = Map::new();
        let old = old.and_then(Value::as_object).unwrap_or(&none);
        let new = new.and_then(Value::as_object).unwrap_or(&none);
        let names = old.keys().chain(new.keys().filter(|name| !old.contains_key(*name)));
        for name in names {
            self.path.push(Element::field(name));
            self.visit(old.get(name), new.get(name), form.member_or_any(name));
            self.path.pop();
        }
    }

    fn items(&mut self, old: Option<&Value>, new: Option<&Value>, form: &Form<'_>) {
        let (old, new) = (by_element(old, form), by_element(new, form));
        let elements = old.keys().chain(new.keys().filter(|e| !old.contains_key(*e)));
        for element in elements {
            let before = old.get(element).map_or(&[][..], Vec::as_slice);
            let after = new.get(element).map_or(&[][..], Vec::as_slice);
            self.path.push(element.clone());
            if before.len() <= 1 && after.len() <= 1 {
                self.visit(before.first().copied(), after.first().copied(), form.items());
            } else if before != after {
                // Items that are there twice are compared as one.
                self.leaf(before.first().copied(), after.first().copied());
            }
            self.path.pop();
        }
    }
}

type Items<'a> = BTreeMap<Element, Vec<&'a Value>>;

fn by_element<'a>(value: Option<&'a Value>, form: &Form<'_>) -> Items<'a> {
    let mut items = Items::new();
    for item in value.and_then(Value::as_array).into_iter().flatten() {
        if let Ok(element) = form.item(item) {
            items.entry(element).or_default().push(item);
        }
    }
    items
}
