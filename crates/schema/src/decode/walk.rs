//! The walk: a serde visitor that takes whatever comes and compares it with the node it should be.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::scalar::{Found, Refusal};
use super::{go, scalar};
use crate::node::{Node, Object, Shape};

/// How many unknown or duplicate fields are reported.
const STRICT_MAX: usize = 100;

/// What was found on the way, and where the walk is.
#[derive(Default)]
pub(super) struct State<'n> {
    /// `unknown field "spec.foo"`, each text once, in order.
    pub strict: Vec<String>,
    /// The first value that does not fit.
    pub type_error: Option<String>,
    /// `spec.containers[0].name`
    path: String,
    /// The names of the fields only, and the struct that holds the last.
    fields: Vec<&'n str>,
    holder: &'n str,
}

impl State<'_> {
    fn report(&mut self, what: &str, name: &str) {
        let dot = if self.path.is_empty() { "" } else { "." };
        let text = format!("{what} field \"{}{dot}{name}\"", self.path);
        if self.strict.len() < STRICT_MAX && !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    fn refuse(&mut self, error: String) {
        self.type_error.get_or_insert(error);
    }

    fn mismatch(&mut self, found: &str, node: &Node) {
        let wanted = go::type_name(node);
        let error = if self.fields.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {wanted}")
        } else {
            let path = self.fields.join(".");
            format!("json: cannot unmarshal {found} into Go struct field {}.{path} of type {wanted}", self.holder)
        };
        self.refuse(error);
    }
}

/// Reads one value; `None` is a null, or what was refused.
pub(super) struct Seed<'s, 'n> {
    pub state: &'s mut State<'n>,
    pub node: &'n Node,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Value>, D::Error> {
        match self.node.resolve().shape {
            // Kept as it is, nulls and all.
            Shape::Any => {
                let value: Value = serde::Deserialize::deserialize(deserializer)?;
                Ok(Some(value).filter(|v| !v.is_null()))
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'n> Seed<'_, 'n> {
    fn scalar(self, found: &Found<'_>) -> Option<Value> {
        let Shape::Scalar(wanted) = self.node.resolve().shape else {
            self.state.mismatch(found.go_name(), self.node);
            return None;
        };
        match scalar::read(wanted, found) {
            Ok(value) => return Some(value),
            Err(Refusal::Mismatch(found)) => self.state.mismatch(&found, self.node),
            Err(Refusal::Text(text)) => self.state.refuse(text),
        }
        None
    }

    /// Reads a child that stands under `name`.
    fn child<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        name: &str,
        node: &'n Node,
    ) -> Result<Option<Value>, A::Error> {
        let length = self.state.path.len();
        if length > 0 {
            self.state.path.push('.');
        }
        self.state.path.push_str(name);
        let value = map.next_value_seed(Seed { state: self.state, node });
        self.state.path.truncate(length);
        value
    }

    fn object<'de, A: MapAccess<'de>>(mut self, object: &'n Object, mut map: A) -> Result<Value, A::Error> {
        let holder = self.node.definition().map_or("", |definition| definition.short_name());
        let mut out = Map::new();
        let mut seen: Vec<&str> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let Some(field) = object.field(&key) else {
                self.state.report("unknown", &key);
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&&*field.name) {
                self.state.report("duplicate", &key);
            }
            seen.push(&field.name);
            let outer = std::mem::replace(&mut self.state.holder, holder);
            self.state.fields.push(&field.name);
            let value = self.child(&mut map, &key, &field.node)?;
            self.state.fields.pop();
            self.state.holder = outer;
            match value {
                Some(value) => out.insert(key, value),
                None => out.remove(&key),
            };
        }
        Ok(Value::Object(out))
    }

    fn map<'de, A: MapAccess<'de>>(mut self, element: &'n Node, mut map: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.contains_key(&key) {
                self.state.report("duplicate", &key);
            }
            let value = self.child(&mut map, &key, element)?;
            if let Some(value) = value.or_else(|| zero(element)) {
                out.insert(key, value);
            }
        }
        Ok(Value::Object(out))
    }
}

/// What Go has where a list or a map holds a null.
fn zero(node: &Node) -> Option<Value> {
    match &node.resolve().shape {
        Shape::Object(_) => Some(Value::Object(Map::new())),
        Shape::Scalar(scalar) => scalar::zero(*scalar),
        Shape::Any | Shape::List(_) | Shape::Map(_) | Shape::Ref(_) => None,
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Option<Value>, E> {
        Ok(self.scalar(&Found::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Option<Value>, E> {
        Ok(self.scalar(&Found::Number(v.into())))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Option<Value>, E> {
        Ok(self.scalar(&Found::Number(v.into())))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Option<Value>, E> {
        // JSON has no other numbers than finite ones.
        Ok(Number::from_f64(v).and_then(|number| self.scalar(&Found::Number(number))))
    }

    fn visit_str<E>(self, v: &str) -> Result<Option<Value>, E> {
        Ok(self.scalar(&Found::String(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Value>, A::Error> {
        let Seed { state, node } = self;
        let Shape::List(element) = &node.resolve().shape else {
            refuse_composite(state, node, "array");
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(None);
        };
        let mut items = Vec::new();
        let length = state.path.len();
        loop {
            state.path.push_str(&format!("[{}]", items.len()));
            let item = seq.next_element_seed(Seed { state, node: element });
            state.path.truncate(length);
            match item? {
                Some(item) => items.push(item.or_else(|| zero(element)).unwrap_or(Value::Null)),
                None => return Ok(Some(Value::Array(items))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Value>, A::Error> {
        let node = self.node;
        match &node.resolve().shape {
            Shape::Object(object) => self.object(object, map).map(Some),
            Shape::Map(element) => self.map(element, map).map(Some),
            _ => {
                refuse_composite(self.state, node, "object");
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(None)
            }
        }
    }
}

/// Types with a decoder of their own complain in their own words.
fn refuse_composite(state: &mut State<'_>, node: &Node, found: &str) {
    let Shape::Scalar(wanted) = node.resolve().shape else { return state.mismatch(found, node) };
    match scalar::read(wanted, &Found::Composite(found)) {
        Err(Refusal::Text(text)) => state.refuse(text),
        _ => state.mismatch(found, node),
    }
}
