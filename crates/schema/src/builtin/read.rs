//! From JSON Schema, as schemars makes it of the generated types, to the model.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::Schemas;
use super::facts::Facts;
use super::kinds::Root;
use crate::node::{Definition, Field, Gvk, Node, Object, Scalar, Shape};

const REF_PREFIX: &str = "#/$defs/";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const MICRO_TIME: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime";

pub(super) fn read(roots: Vec<Root>) -> Schemas {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut gvks: HashMap<String, Vec<Gvk>> = HashMap::new();
    for root in roots {
        let schema = (root.schema)(&mut generator);
        let name = schema.as_value().get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(REF_PREFIX));
        if let (Some(name), Some(gvk)) = (name, root.gvk) {
            gvks.entry(name.to_owned()).or_default().push(gvk);
        }
    }
    let bodies = generator.take_definitions(false);
    let mut texts = Texts::default();
    let empty = |name: &String| {
        let gvks = gvks.remove(name).unwrap_or_default();
        let name = texts.share(name);
        (name.clone(), Arc::new(Definition { name, gvks, node: OnceLock::new() }))
    };
    let definitions: BTreeMap<_, _> = bodies.keys().map(empty).collect();
    let mut reader = Reader { definitions: &definitions, facts: Facts::read(), texts };
    for (name, body) in &bodies {
        let node = reader.definition(name, body);
        definitions[name.as_str()].node.set(node).expect("each definition is filled in once");
    }
    Schemas::new(definitions)
}

/// Equal texts are kept once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(found) = self.0.get(text) {
            return found.clone();
        }
        let text: Arc<str> = text.into();
        self.0.insert(text.clone());
        text
    }
}

struct Reader<'a> {
    definitions: &'a BTreeMap<Arc<str>, Arc<Definition>>,
    facts: Facts,
    texts: Texts,
}

impl Reader<'_> {
    fn definition(&mut self, name: &str, body: &Value) -> Node {
        let mut node = self.node(name, body);
        node.shape = match name {
            QUANTITY => Shape::Scalar(Scalar::Quantity),
            MICRO_TIME => Shape::Scalar(Scalar::MicroTime),
            _ => node.shape,
        };
        node
    }

    fn node(&mut self, owner: &str, schema: &Value) -> Node {
        let description = schema.get("description").and_then(Value::as_str).map(|text| self.texts.share(text));
        Node { shape: self.shape(owner, schema), description }
    }

    fn shape(&mut self, owner: &str, schema: &Value) -> Shape {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(REF_PREFIX)) {
            return Shape::Ref(self.definitions[name].clone());
        }
        if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            return Shape::Scalar(Scalar::IntOrString);
        }
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        match (text("type"), text("format")) {
            (Some("string"), Some("byte")) => Shape::Scalar(Scalar::Bytes),
            (Some("string"), Some("date-time")) => Shape::Scalar(Scalar::Time),
            (Some("string"), _) => Shape::Scalar(Scalar::String),
            (Some("integer"), Some("int32")) => Shape::Scalar(Scalar::Int32),
            (Some("integer"), _) => Shape::Scalar(Scalar::Int64),
            (Some("number"), _) => Shape::Scalar(Scalar::Double),
            (Some("boolean"), _) => Shape::Scalar(Scalar::Boolean),
            (Some("array"), _) => Shape::List(Box::new(self.node(owner, &schema["items"]))),
            (Some("object"), _) => match (schema.get("properties"), schema.get("additionalProperties")) {
                (Some(Value::Object(properties)), _) => self.object(owner, schema, properties),
                (_, Some(values)) if values.is_object() => Shape::Map(Box::new(self.node(owner, values))),
                _ => Shape::Any,
            },
            _ => Shape::Any,
        }
    }

    fn object(&mut self, owner: &str, schema: &Value, properties: &Map<String, Value>) -> Shape {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        // The generated types hold `metadata` by value and so call it required; the API does not.
        let is_kind = properties.contains_key("apiVersion") && properties.contains_key("kind");
        let mut fields: Vec<Field> = Vec::with_capacity(properties.len());
        for (name, property) in properties {
            fields.push(Field {
                name: self.texts.share(name),
                required: required.contains(&name.as_str()) && !(is_kind && name == "metadata"),
                node: self.node(owner, property),
                merge: self.facts.field(owner, name).cloned().map(Box::new),
            });
        }
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Shape::Object(Box::new(Object { fields, atomic: self.facts.atomic(owner) }))
    }
}
