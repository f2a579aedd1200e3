//! Discovery documents, made from the resource table.

use api::table::{Resource, Scope, Sub, Table, Verbs};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// `/api`: APIVersions of the legacy group.
pub fn core_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}],
    })
}

/// `/apis`: APIGroupList.
pub fn groups(table: &Table) -> Value {
    let groups: Vec<Value> = group_names(table).into_iter().map(|name| group_body(table, name)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`: APIGroup.
pub fn group(table: &Table, group: &str) -> Option<Value> {
    if !group_names(table).contains(&group) {
        return None;
    }
    let mut body = group_body(table, group);
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Some(body)
}

/// `/api/v1`, `/apis/<group>/<version>`: APIResourceList.
pub fn resources(table: &Table, group: &str, version: &str) -> Option<Value> {
    let mut rows = table.of(group, version).peekable();
    rows.peek()?;
    let mut listed: Vec<Value> = rows.flat_map(|row| resource_entries(row)).collect();
    listed.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let mut body = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version(group, version),
        "resources": listed,
    });
    if !group.is_empty() {
        body["apiVersion"] = "v1".into();
    }
    Some(body)
}

/// Which shape of aggregated discovery a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    V2,
    V2Beta1,
}

impl Aggregated {
    pub fn version(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }
}

/// APIGroupDiscoveryList of `/api` (`legacy`) or of `/apis`.
pub fn aggregated(table: &Table, legacy: bool, shape: Aggregated) -> Value {
    let names = if legacy { vec![""] } else { group_names(table) };
    let items: Vec<Value> = names.into_iter().map(|name| aggregated_group(table, name)).collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{}", shape.version()),
        "metadata": {},
        "items": items,
    })
}

/// What upstream's clients compare to see whether a kind is stored anew.
pub fn storage_version_hash(group: &str, version: &str, kind: &str) -> String {
    let hash = Sha256::digest(format!("{group}/{version}/{kind}"));
    BASE64_STANDARD.encode(&hash[..8])
}

/// Without the legacy group, in the order of the table.
fn group_names(table: &Table) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (group, _) in table.group_versions() {
        if !group.is_empty() && !names.contains(&group) {
            names.push(group);
        }
    }
    names
}

fn versions<'a>(table: &'a Table, group: &str) -> Vec<&'a str> {
    table.group_versions().into_iter().filter(|(g, _)| *g == group).map(|(_, version)| version).collect()
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The first version of a group in the table is the preferred one.
fn group_body(table: &Table, group: &str) -> Value {
    let version = |v: &&str| json!({"groupVersion": group_version(group, v), "version": v});
    let versions = versions(table, group);
    json!({
        "name": group,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

/// The resource, and one entry per subresource.
fn resource_entries(row: &Resource) -> Vec<Value> {
    let mut entry = Map::new();
    entry.insert("name".into(), (*row.plural).into());
    entry.insert("singularName".into(), (*row.singular).into());
    entry.insert("namespaced".into(), row.namespaced().into());
    entry.insert("kind".into(), (*row.kind).into());
    entry.insert("verbs".into(), row.verb_names().into());
    add_names(&mut entry, row);
    if row.verbs != Verbs::Create {
        let hash = storage_version_hash(&row.group, &row.version, &row.kind);
        entry.insert("storageVersionHash".into(), hash.into());
    }
    let mut entries = vec![Value::Object(entry)];
    entries.extend(row.subresources.iter().map(|&sub| subresource_entry(row, sub)));
    entries
}

fn subresource_entry(row: &Resource, sub: Sub) -> Value {
    let (group, version, kind) = sub.kind(row);
    let mut entry = json!({
        "name": format!("{}/{}", row.plural, sub.name()),
        "singularName": "",
        "namespaced": row.namespaced(),
        "kind": kind,
        "verbs": sub.verbs(),
    });
    if (&group, &version) != (&row.group, &row.version) {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

fn add_names(entry: &mut Map<String, Value>, row: &Resource) {
    for (key, names) in [("shortNames", &row.short_names), ("categories", &row.categories)] {
        if !names.is_empty() {
            entry.insert(key.into(), names.iter().map(|n| n.as_ref()).collect::<Vec<&str>>().into());
        }
    }
}

fn aggregated_group(table: &Table, group: &str) -> Value {
    let version = |version: &str| {
        let mut resources: Vec<Value> = table.of(group, version).map(|row| aggregated_resource(row)).collect();
        resources.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let mut metadata = Map::new();
    if !group.is_empty() {
        metadata.insert("name".into(), group.into());
    }
    metadata.insert("creationTimestamp".into(), Value::Null);
    json!({"metadata": metadata, "versions": versions(table, group).into_iter().map(version).collect::<Vec<_>>()})
}

fn aggregated_resource(row: &Resource) -> Value {
    let mut entry = Map::new();
    entry.insert("resource".into(), (*row.plural).into());
    entry.insert("responseKind".into(), response_kind("", "", &row.kind));
    let scope = if row.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" };
    entry.insert("scope".into(), scope.into());
    entry.insert("singularResource".into(), (*row.singular).into());
    entry.insert("verbs".into(), row.verb_names().into());
    add_names(&mut entry, row);
    if !row.subresources.is_empty() {
        let subresource = |&sub: &Sub| {
            let (group, version, kind) = sub.kind(row);
            let own = (&group, &version) == (&row.group, &row.version);
            let (group, version) = if own { ("", "") } else { (&*group, &*version) };
            json!({
                "subresource": sub.name(),
                "responseKind": response_kind(group, version, &kind),
                "verbs": sub.verbs(),
            })
        };
        entry.insert("subresources".into(), row.subresources.iter().map(subresource).collect::<Vec<_>>().into());
    }
    Value::Object(entry)
}

/// Empty group and version mean those of the document's place.
fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_upstreams() {
        assert_eq!(storage_version_hash("", "v1", "Pod"), "xPOwRZ+Yhw8=");
        assert_eq!(storage_version_hash("apps", "v1", "Deployment"), "8aSe+NMegvE=");
    }

    #[test]
    fn groups_and_their_versions() {
        let table = Table::builtin();
        let groups = groups(&table);
        assert_eq!(groups["groups"][0]["name"], "apps");
        assert_eq!(groups["groups"][0]["preferredVersion"], json!({"groupVersion": "apps/v1", "version": "v1"}));
        assert_eq!(group(&table, "batch").expect("a group")["kind"], "APIGroup");
        assert_eq!(group(&table, ""), None);
        assert_eq!(resources(&table, "apps", "v2"), None);
    }

    #[test]
    fn resources_of_a_version() {
        let table = Table::builtin();
        let apps = resources(&table, "apps", "v1").expect("apps/v1");
        let named = |name: &str| {
            let all = apps["resources"].as_array().expect("a list");
            all.iter().find(|r| r["name"] == name).cloned().expect("listed")
        };
        assert_eq!(
            named("deployments"),
            json!({"name": "deployments", "singularName": "deployment", "namespaced": true, "kind": "Deployment",
                "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
                "shortNames": ["deploy"], "categories": ["all"], "storageVersionHash": "8aSe+NMegvE="})
        );
        assert_eq!(
            named("deployments/scale"),
            json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
                "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]})
        );
    }

    #[test]
    fn aggregated_documents_hold_every_resource_once() {
        let table = Table::builtin();
        let all = [true, false].map(|legacy| aggregated(&table, legacy, Aggregated::V2));
        let versions = all.iter().flat_map(|list| list["items"].as_array().expect("items"));
        let count: usize = versions
            .flat_map(|item| item["versions"].as_array().expect("versions"))
            .map(|version| version["resources"].as_array().expect("resources").len())
            .sum();
        assert_eq!(count, table.rows().len());
        assert_eq!(all[1]["apiVersion"], "apidiscovery.k8s.io/v2");
        let pods = all[0]["items"][0]["versions"][0]["resources"].as_array().expect("resources");
        let pods = pods.iter().find(|r| r["resource"] == "pods").expect("pods");
        assert_eq!(pods["subresources"][1]["responseKind"]["kind"], "Binding");
    }
}
