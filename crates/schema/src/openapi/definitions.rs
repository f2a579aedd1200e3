//! The definitions of a document: every type that its kinds are made of, with the extensions that clients merge by.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::table::{Resource, Table};
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::builtin::Schemas;
use crate::node::{Definition, Field, ListType, Merge, Node, Scalar, Shape};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

pub(super) fn render(dialect: Dialect, schemas: &Schemas, rows: &[&Arc<Resource>], table: &Table) -> Value {
    let mut found = BTreeMap::new();
    let mut out = Map::new();
    for row in rows {
        collect_kind(schemas, &row.group, &row.version, &row.kind, &mut found);
        for sub in &row.subresources {
            let (group, version, kind) = sub.kind(row);
            collect_kind(schemas, &group, &version, &kind, &mut found);
        }
        if let Some((name, list)) = list_definition(dialect, schemas, row) {
            out.insert(name, list);
        }
    }
    for name in [DELETE_OPTIONS, LIST_META, STATUS] {
        schemas.definition(name).into_iter().for_each(|definition| collect(definition, &mut found));
    }
    for (name, definition) in found {
        out.insert(name.to_owned(), definition_body(dialect, definition, table));
    }
    out.insert(
        PATCH.to_owned(),
        json!({
            "description": "Patch is provided to give a concrete name and type to the Kubernetes PATCH request body.",
            "type": "object",
        }),
    );
    Value::Object(out)
}

/// The name of the definition of a row's list: `io.k8s.api.apps.v1.DeploymentList`.
pub(super) fn list_name(schemas: &Schemas, row: &Resource) -> Option<String> {
    let definition = schemas.kind(&row.group, &row.version, &row.kind)?.definition()?;
    (row.verbs != api::table::Verbs::Create).then(|| format!("{}List", definition.name))
}

type Found<'a> = BTreeMap<&'a str, &'a Definition>;

fn collect_kind<'a>(schemas: &'a Schemas, group: &str, version: &str, kind: &str, found: &mut Found<'a>) {
    if let Some(definition) = schemas.kind(group, version, kind).and_then(Node::definition) {
        collect(definition, found);
    }
}

/// The definition and all that it is made of.
fn collect<'a>(definition: &'a Definition, found: &mut Found<'a>) {
    if found.insert(&definition.name, definition).is_none() {
        collect_node(definition.node(), found);
    }
}

fn collect_node<'a>(node: &'a Node, found: &mut Found<'a>) {
    match &node.shape {
        Shape::Ref(definition) => collect(definition, found),
        Shape::List(element) | Shape::Map(element) => collect_node(element, found),
        Shape::Object(object) => object.fields.iter().for_each(|field| collect_node(&field.node, found)),
        Shape::Any | Shape::Scalar(_) => {}
    }
}

fn definition_body(dialect: Dialect, definition: &Definition, table: &Table) -> Value {
    let mut body = node_body(dialect, definition.node());
    let mut gvks: Vec<Value> = definition.gvks.iter().map(|g| gvk(&g.group, &g.version, &g.kind)).collect();
    if &*definition.name == DELETE_OPTIONS {
        // It is accepted in every group.
        gvks =
            table.group_versions().into_iter().map(|(group, version)| gvk(group, version, "DeleteOptions")).collect();
    }
    if !gvks.is_empty() {
        body.insert("x-kubernetes-group-version-kind".to_owned(), gvks.into());
    }
    Value::Object(body)
}

pub(super) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn list_definition(dialect: Dialect, schemas: &Schemas, row: &Resource) -> Option<(String, Value)> {
    let name = list_name(schemas, row)?;
    let definition = schemas.kind(&row.group, &row.version, &row.kind)?;
    let object = definition.object()?;
    let property = |name: &str| object.field(name).map(|field| Value::Object(node_body(dialect, &field.node)));
    let metadata = reference(dialect, LIST_META);
    let list = json!({
        "description": format!("{} is a list of {}.", row.list_kind(), row.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": property("apiVersion"),
            "items": {"description": "items is the list of objects.", "type": "array",
                "items": node_body(dialect, definition)},
            "kind": property("kind"),
            "metadata": metadata,
        },
        "x-kubernetes-group-version-kind": [gvk(&row.group, &row.version, &row.list_kind())],
    });
    Some((name, list))
}

/// A reference with siblings needs `allOf` in OpenAPI v3; v2 readers know a bare one.
fn reference(dialect: Dialect, name: &str) -> Map<String, Value> {
    let target = json!({"$ref": dialect.reference(name)});
    match (dialect, target) {
        (Dialect::V2, Value::Object(target)) => target,
        (_, target) => Map::from_iter([("allOf".to_owned(), json!([target]))]),
    }
}

fn node_body(dialect: Dialect, node: &Node) -> Map<String, Value> {
    let mut body = match &node.shape {
        Shape::Ref(definition) => reference(dialect, &definition.name),
        Shape::Any => object_with("type", "object"),
        Shape::Scalar(scalar) => scalar_body(dialect, *scalar),
        Shape::List(element) => {
            let mut body = object_with("type", "array");
            body.insert("items".to_owned(), node_body(dialect, element).into());
            body
        }
        Shape::Map(element) => {
            let mut body = object_with("type", "object");
            body.insert("additionalProperties".to_owned(), node_body(dialect, element).into());
            body
        }
        Shape::Object(object) => {
            let mut body = object_with("type", "object");
            let fields = object.fields.iter().map(|f| (f.name.to_string(), field_body(dialect, f).into()));
            body.insert("properties".to_owned(), Value::Object(fields.collect()));
            let required: Vec<&str> = object.fields.iter().filter(|f| f.required).map(|f| &*f.name).collect();
            if !required.is_empty() {
                body.insert("required".to_owned(), required.into());
            }
            if object.atomic {
                body.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
            }
            body
        }
    };
    if let Some(description) = &node.description {
        body.insert("description".to_owned(), (**description).into());
    }
    body
}

fn field_body(dialect: Dialect, field: &Field) -> Map<String, Value> {
    let mut body = node_body(dialect, &field.node);
    if let Some(merge) = &field.merge {
        add_extensions(merge, &mut body);
    }
    body
}

fn add_extensions(merge: &Merge, body: &mut Map<String, Value>) {
    let mut add = |name: &str, value: Value| body.insert(format!("x-kubernetes-{name}"), value);
    if let Some(list) = merge.list {
        let name = match list {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        };
        add("list-type", name.into());
    }
    if !merge.list_keys.is_empty() {
        add("list-map-keys", merge.list_keys.iter().map(|k| k.as_ref()).collect::<Vec<&str>>().into());
    }
    if merge.map_atomic {
        add("map-type", "atomic".into());
    }
    let strategies = [
        (merge.strategy.merge, "merge"),
        (merge.strategy.replace, "replace"),
        (merge.strategy.retain_keys, "retainKeys"),
    ];
    let strategies: Vec<&str> = strategies.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    if !strategies.is_empty() {
        add("patch-strategy", strategies.join(",").into());
    }
    if let Some(key) = &merge.merge_key {
        add("patch-merge-key", (**key).into());
    }
}

fn object_with(key: &str, value: &str) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value.into())])
}

fn scalar_body(dialect: Dialect, scalar: Scalar) -> Map<String, Value> {
    let (kind, format) = match scalar {
        Scalar::String => ("string", ""),
        Scalar::Bytes => ("string", "byte"),
        Scalar::Boolean => ("boolean", ""),
        Scalar::Int32 => ("integer", "int32"),
        Scalar::Int64 => ("integer", "int64"),
        Scalar::Double => ("number", "double"),
        Scalar::IntOrString => ("string", "int-or-string"),
        Scalar::Quantity => ("string", ""),
        Scalar::Time | Scalar::MicroTime => ("string", "date-time"),
    };
    let mut body = Map::new();
    let either = match scalar {
        Scalar::IntOrString => Some("integer"),
        Scalar::Quantity => Some("number"),
        _ => None,
    };
    match either.filter(|_| dialect == Dialect::V3) {
        Some(other) => body.insert("oneOf".to_owned(), json!([{"type": other}, {"type": "string"}])),
        None => body.insert("type".to_owned(), kind.into()),
    };
    if !format.is_empty() {
        body.insert("format".to_owned(), format.into());
    }
    body
}
