//! OpenAPI documents.

use api::table::Table;

use crate::builtin::Schemas;

/// Content hash for the URLs of the index and for ETags.
pub fn hash(document: &[u8]) -> String {
    format!("{:x}", document.len())
}

/// `/openapi/v3`: where each document is. `documents`: (group, version, hash of the document).
pub fn v3_index(_documents: &[(&str, &str, &str)]) -> Vec<u8> {
    Vec::new()
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/<group>/<version>`.
pub fn v3(_schemas: &Schemas, _table: &Table, _group: &str, _version: &str) -> Option<Vec<u8>> {
    None
}

/// `/openapi/v2` as JSON.
pub fn v2(_schemas: &Schemas, _table: &Table) -> Vec<u8> {
    Vec::new()
}
