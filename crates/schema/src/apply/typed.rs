//! A value seen by its type: whether it is one thing, or made of parts that have owners of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::path::{Element, show};
use super::set::FieldSet;
use crate::node::{ListType, Merge, Node, Object, Shape};

/// A type and how its place merges it; without a node, anything goes.
#[derive(Clone, Copy)]
pub(super) struct Type<'a> {
    node: Option<&'a Node>,
    merge: Option<&'a Merge>,
}

/// How ownership sees a value.
pub(super) enum Form<'a> {
    /// Owned as a whole.
    Leaf,
    Keyed(&'a [Arc<str>], Type<'a>),
    Set,
    Fields(&'a Object),
    Map(Type<'a>),
}

/// What a configuration cannot say, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub path: Vec<Element>,
    pub why: String,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", show(&self.path), self.why)
    }
}

impl<'a> Type<'a> {
    pub fn of(node: &'a Node) -> Self {
        Self { node: Some(node), merge: None }
    }

    const ANY: Type<'static> = Type { node: None, merge: None };

    /// What nobody described is deduced from a value: maps are made of their members, lists are one thing.
    pub fn form(self, values: [Option<&Value>; 2]) -> Form<'a> {
        let is_map = || values.iter().flatten().all(|v| v.is_object()) && values.iter().any(Option::is_some);
        let whole = self.merge.is_some_and(|m| m.map_atomic);
        match self.node.map(|node| &node.resolve().shape) {
            Some(Shape::Scalar(_)) => Form::Leaf,
            Some(Shape::List(items)) => self.list(items),
            Some(Shape::Map(_) | Shape::Object(_)) if whole => Form::Leaf,
            Some(Shape::Map(values)) => Form::Map(Type::of(values)),
            Some(Shape::Object(object)) if object.atomic => Form::Leaf,
            Some(Shape::Object(object)) => Form::Fields(object),
            Some(Shape::Any | Shape::Ref(_)) | None if is_map() => Form::Map(Type::ANY),
            Some(Shape::Any | Shape::Ref(_)) | None => Form::Leaf,
        }
    }

    fn list(self, items: &'a Node) -> Form<'a> {
        match self.merge {
            Some(Merge { list: Some(ListType::Map), list_keys, .. }) => Form::Keyed(list_keys, Type::of(items)),
            Some(Merge { list: Some(ListType::Set), .. }) => Form::Set,
            _ => Form::Leaf,
        }
    }
}

impl<'a> Form<'a> {
    /// The type of a member; `None`: an object that has no such field.
    pub fn member(&self, name: &str) -> Option<Type<'a>> {
        match self {
            Form::Fields(object) => object.field(name).map(|f| Type { node: Some(&f.node), merge: f.merge.as_deref() }),
            Form::Map(values) => Some(*values),
            _ => None,
        }
    }

    pub fn member_or_any(&self, name: &str) -> Type<'a> {
        self.member(name).unwrap_or(Type::ANY)
    }

    pub fn items(&self) -> Type<'a> {
        match self {
            Form::Keyed(_, items) => *items,
            _ => Type::ANY,
        }
    }

    /// Which item of its list a value is.
    pub fn item(&self, item: &Value) -> Result<Element, String> {
        match self {
            Form::Keyed(keys, _) => keyed(keys, item),
            _ => of_set(item),
        }
    }
}

fn keyed(keys: &[Arc<str>], item: &Value) -> Result<Element, String> {
    let object = match item {
        Value::Object(object) => object,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let defaults: Vec<(&Arc<str>, Value)> = keys.iter().filter_map(|key| Some((key, key_default(key)?))).collect();
    let pairs: Vec<(&str, &Value)> = keys
        .iter()
        .filter_map(|key| {
            let default = || defaults.iter().find(|(k, _)| *k == key).map(|(_, value)| value);
            Some((&**key, object.get(&**key).filter(|v| !v.is_null()).or_else(default)?))
        })
        .collect();
    if pairs.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default \
             values for any key fields)",
            keys.join(" ")
        ));
    }
    Ok(Element::key(pairs.into_iter()))
}

/// The keys that the API fills in when they are absent: those of ports.
fn key_default(key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

fn of_set(item: &Value) -> Result<Element, String> {
    match item {
        Value::Object(_) => Err("associative list without keys has an element that's a map type".to_owned()),
        Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
        Value::Null => Err("associative list without keys has an element that's an explicit null".to_owned()),
        scalar => Ok(Element::value(scalar)),
    }
}

/// Everything that a value says, as paths; what it cannot say goes to `misfits`.
pub(super) struct Walk {
    pub set: FieldSet,
    pub misfits: Vec<Misfit>,
    path: Vec<Element>,
}

impl Walk {
    pub fn over(value: &Value, node: &Node) -> Self {
        let mut walk = Self { set: FieldSet::default(), misfits: Vec::new(), path: Vec::new() };
        walk.visit(value, Type::of(node));
        walk
    }

    fn visit(&mut self, value: &Value, of: Type<'_>) {
        let form = of.form([Some(value), None]);
        match (&form, value) {
            (Form::Keyed(..) | Form::Set, Value::Array(items)) => self.items(items, &form),
            (Form::Fields(_) | Form::Map(_), Value::Object(members)) => {
                for (name, member) in members {
                    self.path.push(Element::field(name));
                    self.member(name, member, &form);
                    self.path.pop();
                }
            }
            (Form::Leaf, _) => self.set.insert(&self.path),
            (_, Value::Null) => {}
            (Form::Keyed(..) | Form::Set, _) => self.refuse(format!("expected list, got {}", sort(value))),
            _ => self.refuse(format!("expected map, got {}", sort(value))),
        }
    }

    fn member(&mut self, name: &str, member: &Value, form: &Form<'_>) {
        let known = form.member(name);
        match known {
            Some(of) => self.visit(member, of),
            None => self.refuse("field not declared in schema".to_owned()),
        }
        let empty = member.is_null() || member.as_object().is_some_and(serde_json::Map::is_empty);
        if empty || known.is_none() || matches!(form, Form::Map(_)) {
            self.set.insert(&self.path);
        }
    }

    fn items(&mut self, items: &[Value], form: &Form<'_>) {
        let mut elements: BTreeMap<Element, usize> = BTreeMap::new();
        for (at, item) in items.iter().enumerate() {
            match form.item(item) {
                Ok(element) => *elements.entry(element).or_default() += 1,
                Err(why) => self.refuse(format!("element {at}: {why}")),
            }
        }
        for item in items {
            let Ok(element) = form.item(item) else { continue };
            let single = elements.get(&element) == Some(&1);
            if !single && elements.insert(element.clone(), 0) != Some(0) {
                self.refuse(format!("duplicate entries for key {element}"));
            }
            self.path.push(element);
            // Of items that are there twice nobody can own a part.
            if single {
                self.visit(item, form.items());
            }
            self.set.insert(&self.path);
            self.path.pop();
        }
    }

    fn refuse(&mut self, why: String) {
        self.misfits.push(Misfit { path: self.path.clone(), why });
    }
}

fn sort(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Array(_) => "list".to_owned(),
        Value::Object(_) => "map".to_owned(),
        scalar => scalar.to_string(),
    }
}
