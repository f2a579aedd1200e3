//! OpenAPI documents, made from the model and the resource table on demand. The server keeps them; nothing here does.

mod definitions;
mod paths;
mod protobuf;

use std::fmt::Write as _;

use api::table::Table;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::builtin::Schemas;

/// The version that the documents name.
const VERSION: &str = "v1.36.0";

/// Which OpenAPI a document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    fn reference(self, definition: &str) -> String {
        match self {
            Self::V2 => format!("#/definitions/{definition}"),
            Self::V3 => format!("#/components/schemas/{definition}"),
        }
    }
}

/// The hash of a document's bytes, for the URLs of the index and for ETags.
pub fn hash(document: &[u8]) -> String {
    Sha512::digest(document).iter().fold(String::with_capacity(128), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// `api/v1`, `apis/apps/v1`: the key of a document in the index, and its path below `/openapi/v3/`.
pub fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`: where each document is, as (group, version, hash of the document).
pub fn v3_index(documents: &[(&str, &str, &str)]) -> Vec<u8> {
    let mut found = Map::new();
    for (group, version, hash) in documents {
        let path = document_path(group, version);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        found.insert(path, json!({"serverRelativeURL": url}));
    }
    bytes(&json!({"paths": found}))
}

/// `/openapi/v3/<document_path>`; `None` when the table has no such group version.
pub fn v3(schemas: &Schemas, table: &Table, group: &str, version: &str) -> Option<Vec<u8>> {
    table.of(group, version).next()?;
    let rows: Vec<_> = table.of(group, version).collect();
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths::render(Dialect::V3, schemas, &rows),
        "components": {
            "schemas": definitions::render(Dialect::V3, schemas, &rows, table),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    });
    Some(bytes(&document))
}

/// `/openapi/v2` as JSON: everything in one document.
pub fn v2(schemas: &Schemas, table: &Table) -> Vec<u8> {
    bytes(&v2_document(schemas, table))
}

/// `/openapi/v2` as `application/com.github.proto-openapi.spec.v2.v1.0+protobuf`, the one form in which clients built on
/// client-go ask for it (they spell it `...spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(schemas: &Schemas, table: &Table) -> Vec<u8> {
    protobuf::encode(&v2_document(schemas, table))
}

fn v2_document(schemas: &Schemas, table: &Table) -> Value {
    let rows: Vec<_> = table.rows().iter().collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths::render(Dialect::V2, schemas, &rows),
        "definitions": definitions::render(Dialect::V2, schemas, &rows, table),
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({"description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"})
}

fn bytes(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("a JSON value has only string keys")
}

#[cfg(test)]
mod tests;
