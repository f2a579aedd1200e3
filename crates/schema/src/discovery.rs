//! Discovery documents, made from the resource table.

use api::table::Table;
use serde_json::{Value, json};

/// `/api`: APIVersions of the legacy group.
pub fn core_versions(server_address: &str) -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [
        {"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]})
}

/// `/apis`: APIGroupList.
pub fn groups(table: &Table) -> Value {
    let _ = table;
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
}

/// `/apis/<group>`: APIGroup.
pub fn group(_table: &Table, _group: &str) -> Option<Value> {
    None
}

/// `/api/v1`, `/apis/<group>/<version>`: APIResourceList.
pub fn resources(_table: &Table, _group: &str, _version: &str) -> Option<Value> {
    None
}

/// Which shape of aggregated discovery a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregated {
    V2,
    V2Beta1,
}

/// APIGroupDiscoveryList of `/api` (`legacy`) or of `/apis`.
pub fn aggregated(_table: &Table, _legacy: bool, _shape: Aggregated) -> Value {
    Value::Null
}
