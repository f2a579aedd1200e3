//! The kinds this server serves: a row of the resource table, its strategy and where its objects are kept.

use std::collections::HashMap;
use std::sync::Arc;

use api::conversion::Conversion;
use api::meta;
use api::table::{Resource, Sub, Table, Verbs};
use bytes::Bytes;
use registry::Erased;
use schema::{Node, Schemas};
use serde_json::Value;

use crate::object;
use crate::rest::ownership::Resets;
use crate::rest::plain::Plain;

pub struct Kind {
    pub row: Arc<Resource>,
    pub strategy: &'static dyn Erased,
    /// Relative to the store's prefix, as upstream lays it out: `pods`, `services/specs`, `minions`.
    pub storage_path: String,
    pub resets: Resets,
    /// The model of its protobuf message, if it has one.
    pub message: Option<Node>,
    /// The kind that its objects are kept as, and how they follow from that.
    pub kept: Option<(Arc<Kind>, Conversion)>,
}

impl Kind {
    fn converted(row: &Arc<Resource>, kept: &Arc<Kind>, conversion: Conversion) -> Self {
        let kept = (kept.clone(), conversion);
        Self { storage_path: kept.0.storage_path.clone(), kept: Some(kept), ..Self::new(row) }
    }

    fn new(row: &Arc<Resource>) -> Self {
        let strategy = registry::strategy_for(&row.group, &row.version, &row.kind).unwrap_or(&Plain);
        let storage_path = storage_path(&row.group, &row.plural);
        let schemas = Schemas::builtin();
        let node = schemas.kind(&row.group, &row.version, &row.kind);
        let message = node.filter(|node| protobuf::has_form(node)).cloned();
        Self { row: row.clone(), strategy, storage_path, resets: Resets::of(row), message, kept: None }
    }

    /// The key of an object relative to the storage path.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        if self.row.namespaced() { format!("{namespace}/{name}") } else { name.to_owned() }
    }

    /// The kind that the objects are kept as.
    pub fn kept_as(&self) -> &Kind {
        self.kept.as_ref().map_or(self, |(kept, _)| kept)
    }

    /// An object as it is kept, in the version of this kind.
    pub fn served(&self, kept: Value) -> Value {
        match &self.kept {
            Some((_, conversion)) => (conversion.from_kept)(kept),
            None => kept,
        }
    }

    /// The same for bytes.
    pub fn served_bytes(&self, kept: &Bytes) -> Bytes {
        if self.kept.is_none() {
            return kept.clone();
        }
        let value: Value = serde_json::from_slice(kept).unwrap_or_default();
        let revision = meta::resource_version(&value).parse().unwrap_or_default();
        object::with_revision(&object::encode(&self.served(value)), revision)
    }

    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.row.group == group && self.row.plural == plural
    }
}

/// Upstream's layout has grown over time; whoever reads our store with its tools finds things where they are there.
fn storage_path(group: &str, plural: &str) -> String {
    match (group, plural) {
        ("", "nodes") => "minions".to_owned(),
        ("", "services") => "services/specs".to_owned(),
        ("", "endpoints") => "services/endpoints".to_owned(),
        ("", "replicationcontrollers") => "controllers".to_owned(),
        ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
        ("apiextensions.k8s.io" | "apiregistration.k8s.io", _) => format!("{group}/{plural}"),
        _ => plural.to_owned(),
    }
}

pub struct Catalog {
    pub table: Table,
    pub schemas: Arc<Schemas>,
    by_plural: HashMap<(String, String, String), Arc<Kind>>,
}

impl Catalog {
    pub fn builtin() -> Self {
        let table = Table::builtin();
        let key = |row: &Resource| (row.group.to_string(), row.version.to_string(), row.plural.to_string());
        let (converted, own): (Vec<_>, Vec<_>) = table.rows().iter().partition(|row| row.conversion.is_some());
        let mut by_plural: HashMap<_, _> = own.into_iter().map(|row| (key(row), Arc::new(Kind::new(row)))).collect();
        for (row, conversion) in converted.into_iter().filter_map(|row| Some((row, row.conversion?))) {
            let (group, version, plural) = conversion.kept;
            let kept = &by_plural[&(group.to_owned(), version.to_owned(), plural.to_owned())];
            let kind = Kind::converted(row, kept, conversion);
            by_plural.insert(key(row), Arc::new(kind));
        }
        Self { table, schemas: Schemas::builtin(), by_plural }
    }

    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        // Three short strings per request; a borrowed tuple key would need a wrapper type.
        self.by_plural.get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// Every kind that is kept in the store.
    pub fn stored(&self) -> impl Iterator<Item = Arc<Kind>> + '_ {
        self.by_plural.values().filter(|k| k.row.verbs != Verbs::Create && k.kept.is_none()).cloned()
    }

    pub fn has_group_version(&self, group: &str, version: &str) -> bool {
        self.table.group_versions().contains(&(group, version))
    }

    pub fn subresource(&self, kind: &Kind, name: &str) -> Option<Sub> {
        kind.row.subresource(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_upstream_keeps_them() {
        let catalog = Catalog::builtin();
        let check = |group: &str, version: &str, plural: &str, expected: &str| {
            let kind = catalog.find(group, version, plural).expect("a built-in kind");
            assert_eq!(format!("{}/{}", kind.storage_path, kind.key("ns", "x")), expected);
        };
        check("", "v1", "pods", "pods/ns/x");
        check("", "v1", "nodes", "minions/x");
        check("", "v1", "services", "services/specs/ns/x");
        check("apps", "v1", "deployments", "deployments/ns/x");
        check("coordination.k8s.io", "v1", "leases", "leases/ns/x");
    }

    #[test]
    fn no_two_kinds_share_a_place() {
        let catalog = Catalog::builtin();
        let mut paths: Vec<_> = catalog.stored().map(|k| k.storage_path.clone()).collect();
        let all = paths.len();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), all);
    }
}
