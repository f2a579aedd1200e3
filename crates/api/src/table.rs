//! The resource table: one row per kind. Routing, discovery, OpenAPI, storage keys, printed tables and RBAC verbs
//! are all derived from it; adding a kind touches no handler and no router.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use serde_json::Value;

use crate::conversion::Conversion;
use crate::names::NameRule;
use crate::status::GroupResource;

/// Text of a row: static for built-in kinds, owned for kinds that are defined at run time.
pub type Text = Cow<'static, str>;

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
    /// certificatesigningrequests/approval
    Approval,
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
            Self::Approval => "approval",
        }
    }

    /// The HTTP-side verbs of the subresource as discovery lists them.
    pub fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status | Self::Scale | Self::EphemeralContainers | Self::Resize | Self::Approval => {
                &["get", "patch", "update"]
            }
            Self::Binding | Self::Eviction | Self::Token => &["create"],
            Self::Finalize => &["update"],
            Self::Log => &["get"],
            Self::Exec | Self::Attach | Self::PortForward => &["create", "get"],
            Self::Proxy => &["create", "delete", "get", "patch", "update"],
        }
    }

    /// The kind that the subresource speaks, as (group, version, kind).
    pub fn kind(self, of: &Resource) -> (Text, Text, Text) {
        let own = || (of.group.clone(), of.version.clone(), of.kind.clone());
        let other = |g: &'static str, v: &'static str, k: &'static str| (g.into(), v.into(), k.into());
        match self {
            Self::Status | Self::EphemeralContainers | Self::Resize | Self::Log | Self::Finalize | Self::Approval => {
                own()
            }
            Self::Scale => other("autoscaling", "v1", "Scale"),
            Self::Binding => other("", "v1", "Binding"),
            Self::Eviction => other("policy", "v1", "Eviction"),
            Self::Token => other("authentication.k8s.io", "v1", "TokenRequest"),
            Self::Exec => other("", "v1", "PodExecOptions"),
            Self::Attach => other("", "v1", "PodAttachOptions"),
            Self::PortForward => other("", "v1", "PodPortForwardOptions"),
            Self::Proxy => (of.group.clone(), of.version.clone(), format!("{}ProxyOptions", of.kind).into()),
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
    /// There may be such objects, but nobody makes one here.
    Read,
}

impl Verbs {
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Self::Stored => &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
            Self::Create => &["create"],
            Self::Read => &["get", "list", "watch"],
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
    pub name_rule: NameRule,
    pub verbs: Verbs,
    /// Whether all objects of a namespace can be deleted at once; namespaces cannot.
    pub delete_collection: bool,
    pub subresources: Vec<Sub>,
    /// Beside `metadata.name` and `metadata.namespace`, which every kind has.
    pub selectable: Vec<(Text, FieldGetter)>,
    pub printer: Option<Printer>,
    /// What everyone who uses the kind is warned of.
    pub deprecated: Option<Text>,
    /// For a kind whose objects are kept in another version.
    pub conversion: Option<Conversion>,
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

    pub fn subresource(&self, name: &str) -> Option<Sub> {
        self.subresources.iter().copied().find(|sub| sub.name() == name)
    }

    /// The verbs as discovery lists them.
    pub fn verb_names(&self) -> Vec<&'static str> {
        let allowed = |verb: &&str| self.delete_collection || *verb != "deletecollection";
        self.verbs.names().iter().copied().filter(allowed).collect()
    }

    /// `DeploymentList`
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// The columns of the kind, or name and creation time for a kind that has none of its own.
    pub fn columns(&self) -> Vec<Column> {
        self.printer.as_ref().map_or_else(crate::printers::default_columns, |p| p.columns.clone())
    }

    pub fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let cells = self.printer.as_ref().map_or(crate::printers::default_cells as Cells, |p| p.cells);
        cells(object, now)
    }

    /// Reads a selectable field; `None` when the kind cannot be selected by it.
    pub fn select(&self, object: &Value, field: &str) -> Option<String> {
        match field {
            "metadata.name" => Some(crate::meta::name(object).to_owned()),
            "metadata.namespace" => Some(crate::meta::namespace(object).to_owned()),
            _ => self.selectable.iter().find(|(name, _)| name == field).map(|(_, get)| get(object)),
        }
    }
}

/// The rows, found by (group, version, plural) and by (group, version, kind). Immutable: a kind that is added at run
/// time makes a new table.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// In the order in which discovery lists them.
    rows: Vec<Arc<Resource>>,
    by_plural: Vec<u32>,
    by_kind: Vec<u32>,
}

impl Table {
    pub fn new(rows: impl IntoIterator<Item = Resource>) -> Self {
        Self::from_shared(rows.into_iter().map(Arc::new).collect())
    }

    /// Every kind that is built in.
    pub fn builtin() -> Self {
        Self::new(crate::resources::all())
    }

    pub fn from_shared(rows: Vec<Arc<Resource>>) -> Self {
        let sorted = |key: fn(&Resource) -> Key<'_>| {
            let mut order: Vec<u32> = (0..u32::try_from(rows.len()).expect("fewer than 2^32 kinds")).collect();
            order.sort_by(|&a, &b| key(&rows[a as usize]).cmp(&key(&rows[b as usize])));
            order
        };
        Self { by_plural: sorted(plural_key), by_kind: sorted(kind_key), rows }
    }

    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }

    pub fn by_plural(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.find(&self.by_plural, plural_key, (group, version, plural))
    }

    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.find(&self.by_kind, kind_key, (group, version, kind))
    }

    /// Every (group, version), in the order of the rows: what discovery and OpenAPI have one document each for.
    pub fn group_versions(&self) -> Vec<(&str, &str)> {
        let mut found: Vec<(&str, &str)> = Vec::new();
        for row in &self.rows {
            let gv = (row.group.as_ref(), row.version.as_ref());
            if !found.contains(&gv) {
                found.push(gv);
            }
        }
        found
    }

    /// The rows of one group version, in order.
    pub fn of<'a>(&'a self, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.rows.iter().filter(move |row| row.group == group && row.version == version)
    }

    fn find(&self, order: &[u32], key: fn(&Resource) -> Key<'_>, wanted: Key<'_>) -> Option<&Arc<Resource>> {
        let at = order.binary_search_by(|&i| -> Ordering { key(&self.rows[i as usize]).cmp(&wanted) }).ok()?;
        Some(&self.rows[order[at] as usize])
    }
}

type Key<'a> = (&'a str, &'a str, &'a str);

fn plural_key(row: &Resource) -> Key<'_> {
    (&row.group, &row.version, &row.plural)
}

fn kind_key(row: &Resource) -> Key<'_> {
    (&row.group, &row.version, &row.kind)
}
