//! The paths of a document: what can be done to each resource, with the parameters that clients probe for.

use std::sync::Arc;

use api::table::{Resource, Sub, Verbs};
use serde_json::{Map, Value, json};

use super::Dialect;
use super::definitions::{gvk, list_name};
use crate::builtin::Schemas;
use crate::node::Node;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const PATCH_TYPES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

pub(super) fn render(dialect: Dialect, schemas: &Schemas, rows: &[&Arc<Resource>]) -> Value {
    let mut paths = Map::new();
    for row in rows {
        let at = Place { dialect, schemas, row };
        let root = if row.group.is_empty() { "/api/v1".to_owned() } else { format!("/apis/{}", row.api_version()) };
        let (collection, scope) = match row.namespaced() {
            true => (format!("{root}/namespaces/{{namespace}}/{}", row.plural), vec![in_path("namespace")]),
            false => (format!("{root}/{}", row.plural), Vec::new()),
        };
        if row.namespaced() && row.verbs != Verbs::Create {
            paths.insert(format!("{root}/{}", row.plural), json!({"get": at.read("list", "ForAllNamespaces")}));
        }
        let named = [scope.clone(), vec![in_path("name")]].concat();
        paths.insert(collection.clone(), at.collection(&scope));
        if row.verbs != Verbs::Create {
            paths.insert(format!("{collection}/{{name}}"), at.item(&named));
        }
        for &sub in &row.subresources {
            paths.insert(format!("{collection}/{{name}}/{}", sub.name()), at.subresource(sub, &named));
        }
    }
    Value::Object(paths)
}

/// A parameter of the path.
fn in_path(name: &'static str) -> (&'static str, &'static str) {
    ("path", name)
}

struct Place<'a> {
    dialect: Dialect,
    schemas: &'a Schemas,
    row: &'a Resource,
}

type Parameters = Vec<(&'static str, &'static str)>;

impl Place<'_> {
    fn collection(&self, scope: &Parameters) -> Value {
        let mut operations = Map::new();
        if self.row.verbs != Verbs::Create {
            operations.insert("get".to_owned(), self.read("list", ""));
        }
        if self.row.verbs == Verbs::Stored && self.row.delete_collection {
            operations.insert("delete".to_owned(), self.delete("deletecollection", "Collection"));
        }
        if self.row.verbs != Verbs::Read {
            operations.insert("post".to_owned(), self.write("post", "create", &self.own(), ""));
        }
        self.with_parameters(operations, scope)
    }

    fn item(&self, named: &Parameters) -> Value {
        let own = self.own();
        if self.row.verbs == Verbs::Read {
            let get = [("get".to_owned(), self.read("get", ""))];
            return self.with_parameters(get.into_iter().collect(), named);
        }
        let operations = [
            ("get", self.read("get", "")),
            ("put", self.write("put", "replace", &own, "")),
            ("patch", self.patch(&own, "")),
            ("delete", self.delete("delete", "")),
        ];
        self.with_parameters(operations.map(|(verb, op)| (verb.to_owned(), op)).into_iter().collect(), named)
    }

    fn subresource(&self, sub: Sub, named: &Parameters) -> Value {
        let (group, version, kind) = sub.kind(self.row);
        let target = Target::new(self.schemas, &group, &version, &kind);
        let suffix = capitalized(sub.name());
        let mut operations = Map::new();
        for verb in sub.verbs() {
            let (method, operation) = match *verb {
                "get" if matches!(sub, Sub::Exec | Sub::Attach | Sub::PortForward | Sub::Proxy) => {
                    ("get", self.operation("connect", "connectGet", &target, &suffix, &[]))
                }
                "get" => ("get", self.operation("get", "read", &target, &suffix, &[])),
                "create" if matches!(sub, Sub::Exec | Sub::Attach | Sub::PortForward | Sub::Proxy) => {
                    ("post", self.operation("connect", "connectPost", &target, &suffix, &[]))
                }
                "create" => ("post", self.write("post", "create", &target, &suffix)),
                "update" if sub != Sub::Proxy => ("put", self.write("put", "replace", &target, &suffix)),
                "patch" if sub != Sub::Proxy => ("patch", self.patch(&target, &suffix)),
                _ => continue,
            };
            operations.insert(method.to_owned(), operation);
        }
        self.with_parameters(operations, named)
    }

    fn own(&self) -> Target {
        Target::new(self.schemas, &self.row.group, &self.row.version, &self.row.kind)
    }

    /// `get` or `list`
    fn read(&self, action: &str, suffix: &str) -> Value {
        let mut target = self.own();
        if action == "get" {
            return self.operation("get", "read", &target, suffix, &[]);
        }
        target.definition = list_name(self.schemas, self.row);
        let query = [
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ];
        self.operation("list", "list", &target, suffix, &query)
    }

    fn write(&self, action: &str, verb: &str, target: &Target, suffix: &str) -> Value {
        let query = ["dryRun", "fieldManager", "fieldValidation"];
        let mut operation = self.operation(action, verb, target, suffix, &query);
        self.add_body(&mut operation, target.definition.as_deref(), &["*/*"]);
        operation
    }

    fn patch(&self, target: &Target, suffix: &str) -> Value {
        let query = ["dryRun", "fieldManager", "fieldValidation", "force"];
        let mut operation = self.operation("patch", "patch", target, suffix, &query);
        self.add_body(&mut operation, Some(&format!("{META}.Patch")), PATCH_TYPES);
        operation
    }

    fn delete(&self, action: &str, suffix: &str) -> Value {
        let mut target = self.own();
        target.definition = Some(format!("{META}.Status"));
        let query = ["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
        let mut operation = self.operation(action, "delete", &target, suffix, &query);
        self.add_body(&mut operation, Some(&format!("{META}.DeleteOptions")), &["*/*"]);
        operation
    }

    fn operation(&self, action: &str, verb: &str, target: &Target, suffix: &str, query: &[&str]) -> Value {
        let group = self.row.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
        let tag = format!("{group}_{}", self.row.version);
        let space = if self.row.namespaced() && suffix != "ForAllNamespaces" { "Namespaced" } else { "" };
        let id =
            format!("{verb}{}{}{space}{}{suffix}", capitalized(group), capitalized(&self.row.version), self.row.kind);
        let parameters: Vec<Value> = query.iter().map(|name| self.parameter("query", name)).collect();
        let mut operation = json!({
            "tags": [tag],
            "operationId": id,
            "responses": self.responses(target.definition.as_deref()),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": target.gvk,
        });
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        operation
    }

    fn responses(&self, definition: Option<&str>) -> Value {
        let mut ok = json!({"description": "OK"});
        if let Some(name) = definition {
            let schema = json!({"$ref": self.dialect.reference(name)});
            match self.dialect {
                Dialect::V2 => ok["schema"] = schema,
                Dialect::V3 => ok["content"] = json!({"application/json": {"schema": schema}}),
            }
        }
        json!({"200": ok, "401": {"description": "Unauthorized"}})
    }

    fn add_body(&self, operation: &mut Value, definition: Option<&str>, types: &[&str]) {
        let Some(name) = definition else { return };
        let schema = json!({"$ref": self.dialect.reference(name)});
        match self.dialect {
            Dialect::V2 => {
                operation["consumes"] = types.into();
                let body = json!({"name": "body", "in": "body", "required": true, "schema": schema});
                if let Some(parameters) = operation["parameters"].as_array_mut() {
                    parameters.push(body);
                }
            }
            Dialect::V3 => {
                let content = types.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema})));
                operation["requestBody"] = json!({"content": content.collect::<Map<_, _>>()});
            }
        }
    }

    fn parameter(&self, place: &str, name: &str) -> Value {
        let kind = match name {
            "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
            "watch" | "allowWatchBookmarks" | "sendInitialEvents" | "force" | "orphanDependents" => "boolean",
            _ => "string",
        };
        let mut parameter = json!({"name": name, "in": place, "uniqueItems": true});
        match self.dialect {
            Dialect::V2 => parameter["type"] = kind.into(),
            Dialect::V3 => {
                parameter = json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}});
            }
        }
        if place == "path" {
            parameter["required"] = true.into();
        }
        parameter
    }

    fn with_parameters(&self, mut operations: Map<String, Value>, parameters: &Parameters) -> Value {
        if !parameters.is_empty() {
            let parameters: Vec<Value> = parameters.iter().map(|(place, name)| self.parameter(place, name)).collect();
            operations.insert("parameters".to_owned(), parameters.into());
        }
        Value::Object(operations)
    }
}

/// What an operation is about.
struct Target {
    gvk: Value,
    definition: Option<String>,
}

impl Target {
    fn new(schemas: &Schemas, group: &str, version: &str, kind: &str) -> Self {
        let definition = schemas.kind(group, version, kind).and_then(Node::definition).map(|d| d.name.to_string());
        Self { gvk: gvk(group, version, kind), definition }
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
