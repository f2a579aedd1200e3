//! The rows of the resource table that are built in, one file per group of kinds.

mod apps;
mod auth;
mod batch;
mod cluster;
mod core;
mod network;
mod policy;
mod workload;

use serde_json::Value;

use crate::conversion::Conversion;
use crate::names::NameRule;
use crate::table::{FieldGetter, Printer, Resource, Scope, Sub, Verbs};

/// Every built-in kind, in the order in which discovery lists groups.
pub fn all() -> Vec<Resource> {
    let groups: [fn() -> Vec<Resource>; 8] =
        [core::rows, workload::rows, apps::rows, auth::rows, batch::rows, network::rows, policy::rows, cluster::rows];
    groups.into_iter().flat_map(|rows| rows()).collect()
}

/// (group, version)
type GroupVersion = (&'static str, &'static str);

fn stored((group, version): GroupVersion, kind: &'static str, plural: &'static str, scope: Scope) -> Resource {
    Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        name_rule: NameRule::Subdomain,
        verbs: Verbs::Stored,
        delete_collection: true,
        subresources: Vec::new(),
        selectable: Vec::new(),
        printer: None,
        deprecated: None,
        conversion: None,
    }
}

fn namespaced(gv: GroupVersion, kind: &'static str, plural: &'static str) -> Resource {
    stored(gv, kind, plural, Scope::Namespaced)
}

fn cluster(gv: GroupVersion, kind: &'static str, plural: &'static str) -> Resource {
    stored(gv, kind, plural, Scope::Cluster)
}

fn review(gv: GroupVersion, kind: &'static str, plural: &'static str, scope: Scope) -> Resource {
    Resource { verbs: Verbs::Create, ..stored(gv, kind, plural, scope) }
}

impl Resource {
    fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().map(|&n| n.into()).collect();
        self
    }

    /// `kubectl get all` lists it.
    fn in_all(mut self) -> Self {
        self.categories.push("all".into());
        self
    }

    fn subs(mut self, subs: &[Sub]) -> Self {
        self.subresources = subs.to_vec();
        self
    }

    fn fields(mut self, fields: &[(&'static str, FieldGetter)]) -> Self {
        self.selectable = fields.iter().map(|&(name, get)| (name.into(), get)).collect();
        self
    }

    fn named(mut self, rule: NameRule) -> Self {
        self.name_rule = rule;
        self
    }

    /// Its objects are kept in another version.
    fn kept_as(mut self, conversion: Conversion) -> Self {
        self.conversion = Some(conversion);
        self
    }

    /// As `since` and, for those who look for what to use now, `instead`.
    fn deprecated(mut self, since: &str, instead: &str) -> Self {
        let named = format!("{} {}", self.api_version(), self.kind);
        self.deprecated = Some(format!("{named} is deprecated in {since}+; use {instead}").into());
        self
    }

    fn printed(mut self, printer: Printer) -> Self {
        self.printer = Some(printer);
        self
    }
}

/// The text of a field for a field selector: numbers and booleans as Go prints them, absence as nothing.
fn text(object: &Value, pointer: &str) -> String {
    match object.pointer(pointer) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        Some(Value::Bool(b)) => b.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
