//! The model of a type: what fields it has, of which shape, and how lists and maps in it are merged.
//!
//! Nodes are shared and never change once built. Every text is an `Arc<str>` that equal texts share. A named
//! definition is held by `Arc`, also where it contains itself, so a recursive definition (only JSONSchemaProps is one)
//! lives as long as the process.

use std::sync::{Arc, OnceLock};

/// group, version, kind
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    pub group: Arc<str>,
    pub version: Arc<str>,
    pub kind: Arc<str>,
}

impl Gvk {
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// From an object's `apiVersion` and `kind`.
    pub fn from_type(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self::new(group, version, kind)
    }

    /// `v1` or `apps/v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    pub shape: Shape,
    pub description: Option<Arc<str>>,
}

#[derive(Clone, Debug)]
pub enum Shape {
    /// Anything at all: RawExtension, JSON, FieldsV1.
    Any,
    Scalar(Scalar),
    List(Box<Node>),
    /// String keys to values of one type.
    Map(Box<Node>),
    Object(Box<Object>),
    Ref(Arc<Definition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    /// Base64 in JSON, `[]byte` in Go.
    Bytes,
    Boolean,
    Int32,
    Int64,
    Double,
    IntOrString,
    Quantity,
    Time,
    MicroTime,
}

#[derive(Clone, Debug, Default)]
pub struct Object {
    /// Sorted by name.
    pub fields: Vec<Field>,
    /// The whole object is replaced when it is applied.
    pub atomic: bool,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: Arc<str>,
    pub required: bool,
    pub node: Node,
    /// Most fields say nothing about merging.
    pub merge: Option<Box<Merge>>,
}

/// How a field's value is merged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    pub list: Option<ListType>,
    /// Of a list of type map; also what strategic merge cannot use.
    pub list_keys: Vec<Arc<str>>,
    pub map_atomic: bool,
    pub strategy: Strategy,
    pub merge_key: Option<Arc<str>>,
}

/// What applying does to a list; one that says nothing is atomic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// `x-kubernetes-patch-strategy`; a list without `merge` is replaced, a map only with `replace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strategy {
    pub merge: bool,
    pub replace: bool,
    pub retain_keys: bool,
}

/// A named type: `io.k8s.api.apps.v1.Deployment`.
#[derive(Debug)]
pub struct Definition {
    pub name: Arc<str>,
    /// The kinds that are of this type; empty for parts of kinds.
    pub gvks: Vec<Gvk>,
    pub(crate) node: OnceLock<Node>,
}

impl Definition {
    pub fn node(&self) -> &Node {
        self.node.get().expect("every definition is filled in before the model is handed out")
    }

    /// `DeploymentSpec`
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }

    /// As Go names the type: `v1.DeploymentSpec`.
    pub fn go_name(&self) -> &str {
        match self.name.rmatch_indices('.').nth(1) {
            Some((at, _)) => &self.name[at + 1..],
            None => &self.name,
        }
    }
}

impl Node {
    pub fn any() -> Self {
        Self { shape: Shape::Any, description: None }
    }

    /// What a reference stands for.
    pub fn resolve(&self) -> &Node {
        match &self.shape {
            Shape::Ref(definition) => definition.node().resolve(),
            _ => self,
        }
    }

    pub fn definition(&self) -> Option<&Arc<Definition>> {
        match &self.shape {
            Shape::Ref(definition) => Some(definition),
            _ => None,
        }
    }

    /// The fields, if it is an object with known ones.
    pub fn object(&self) -> Option<&Object> {
        match &self.resolve().shape {
            Shape::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The type of a list's items or a map's values.
    pub fn element(&self) -> Option<&Node> {
        match &self.resolve().shape {
            Shape::List(of) | Shape::Map(of) => Some(of),
            _ => None,
        }
    }

    pub fn field(&self, name: &str) -> Option<&Field> {
        self.object()?.field(name)
    }
}

impl Object {
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.fields.binary_search_by(|field| (*field.name).cmp(name)).ok()?;
        Some(&self.fields[at])
    }
}
