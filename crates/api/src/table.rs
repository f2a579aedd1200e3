//! The resource table: one row per kind. Routing, discovery, OpenAPI, storage keys, printed tables and RBAC verbs
//! are all derived from it; adding a kind touches no handler and no router.

use std::borrow::Cow;

use serde_json::Value;

use crate::status::GroupResource;

type Text = Cow<'static, str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// How a subresource behaves; the handler is chosen by this, never by the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sub {
    /// get, patch, update of the status half of the object
    Status,
    /// autoscaling/v1 Scale over spec.replicas
    Scale,
    Binding,
    Eviction,
    EphemeralContainers,
    Resize,
    Log,
    Exec,
    Attach,
    PortForward,
    Proxy,
    /// serviceaccounts/token
    Token,
    /// namespaces/finalize
    Finalize,
}

impl Sub {
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::EphemeralContainers => "ephemeralcontainers",
            Self::Resize => "resize",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Proxy => "proxy",
            Self::Token => "token",
            Self::Finalize => "finalize",
        }
    }
}

/// What a resource allows; `Stored` has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verbs {
    /// create delete deletecollection get list patch update watch
    Stored,
    /// A review: only `create`, nothing is stored (TokenReview, SubjectAccessReview, ...).
    Create,
}

impl Verbs {
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Stored => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            Self::Create => &["create"],
        }
    }
}

/// One cell of a printed row.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Text,
    /// OpenAPI type: `string`, `integer`, `date`, ...
    pub kind: Text,
    /// `name` for the first column, else mostly empty.
    pub format: Text,
    pub description: Text,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

/// Cells for one object; `now` is needed for ages.
pub type Cells = fn(object: &Value, now: jiff::Timestamp) -> Vec<Value>;

/// Reads a selectable field out of an object (`spec.nodeName`); absent is the empty string.
pub type FieldGetter = fn(object: &Value) -> String;

/// The printed form of a kind.
#[derive(Clone, Debug)]
pub struct Printer {
    pub columns: Vec<Column>,
    pub cells: Cells,
}

/// One row: one kind in one version.
#[derive(Clone, Debug)]
pub struct Resource {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub scope: Scope,
    pub verbs: Verbs,
    pub subresources: Vec<Sub>,
    /// Beside `metadata.name` and `metadata.namespace`, which every kind has.
    pub selectable: Vec<(Text, FieldGetter)>,
    pub printer: Option<Printer>,
}

impl Resource {
    /// `v1` or `apps/v1`
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn group_resource(&self) -> GroupResource<'_> {
        GroupResource { group: &self.group, resource: &self.plural }
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn has(&self, sub: Sub) -> bool {
        self.subresources.contains(&sub)
    }
}
