//! A request's body as an object of the kind that its path names.

use api::ApiError;
use api::meta;
use api::table::Resource;
use bytes::Bytes;
use schema::{FieldValidation, Gvk};
use serde_json::Value;

use crate::catalog::Catalog;
use crate::http::body::{self, Encoding};
use crate::http::request::Request;

/// Reads, decodes and checks the kind; `apiVersion` and `kind` are filled in when absent.
pub async fn object(
    catalog: &Catalog,
    request: &Request,
    row: &Resource,
    validation: FieldValidation,
) -> Result<Value, ApiError> {
    let encoding = body::encoding(&request.headers)?;
    let bytes = request.read_body().await?;
    match encoding {
        Encoding::Json => from_json(catalog, request, row, &bytes, validation),
        Encoding::Yaml => from_json(catalog, request, row, &yaml_to_json(&bytes)?, validation),
        Encoding::Protobuf => from_protobuf(catalog, row, &bytes),
    }
}

/// Protobuf knows no unknown fields: what the table has no tag for is newer than this server, and skipped.
fn from_protobuf(catalog: &Catalog, row: &Resource, bytes: &[u8]) -> Result<Value, ApiError> {
    let undecodable = |error: protobuf::Error| unrecognized(row, bytes, &error.to_string());
    let unknown = protobuf::envelope(bytes).map_err(undecodable)?;
    schema::check_claim(unknown.api_version, unknown.kind, &Gvk::new(&row.group, &row.version, &row.kind))?;
    let node = catalog.schemas.kind(&row.group, &row.version, &row.kind);
    let node = node.ok_or_else(|| unrecognized(row, bytes, "the kind has no protobuf form"))?;
    let mut object = Value::Object(protobuf::decode(unknown.raw, node).map_err(undecodable)?);
    meta::set_type(&mut object, row);
    Ok(object)
}

/// The options in the body of a delete, as JSON.
pub async fn delete_options(catalog: &Catalog, request: &Request) -> Result<Bytes, ApiError> {
    let bytes = request.read_body().await?;
    if bytes.is_empty() {
        return Ok(bytes);
    }
    match body::encoding(&request.headers)? {
        Encoding::Json => Ok(bytes),
        Encoding::Yaml => Ok(yaml_to_json(&bytes)?.into()),
        Encoding::Protobuf => {
            let undecodable = |e: protobuf::Error| ApiError::bad_request(e.to_string());
            let unknown = protobuf::envelope(&bytes).map_err(undecodable)?;
            let node = catalog.schemas.kind("", "v1", "DeleteOptions").ok_or_else(ApiError::no_such_path)?;
            let mut options = Value::Object(protobuf::decode(unknown.raw, node).map_err(undecodable)?);
            options["kind"] = unknown.kind.into();
            Ok(serde_json::to_vec(&options).map_err(ApiError::internal)?.into())
        }
    }
}

pub fn yaml_to_json(bytes: &[u8]) -> Result<Vec<u8>, ApiError> {
    let text =
        std::str::from_utf8(bytes).map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))?;
    let value: Value =
        daemon::config::yaml(text).map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))?;
    serde_json::to_vec(&value).map_err(|e| ApiError::bad_request(format!("error converting YAML to JSON: {e}")))
}

pub fn from_json(
    catalog: &Catalog,
    request: &Request,
    row: &Resource,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Value, ApiError> {
    let expected = Gvk::new(&row.group, &row.version, &row.kind);
    let Some(node) = catalog.schemas.get(&expected) else {
        let mut object: Value =
            serde_json::from_slice(bytes).map_err(|error| unrecognized(row, bytes, &error.to_string()))?;
        meta::set_type(&mut object, row);
        return Ok(object);
    };
    let (object, warnings) = schema::decode_json(bytes, &expected, node, validation)?;
    warnings.into_iter().for_each(|w| request.warn(w));
    Ok(object)
}

fn unrecognized(row: &Resource, bytes: &[u8], error: &str) -> ApiError {
    schema::unrecognized(bytes, &Gvk::new(&row.group, &row.version, &row.kind), error.to_owned()).into()
}

/// A value that does not fit its kind's type.
pub fn misfit(row: &Resource, error: &serde_json::Error) -> ApiError {
    let (kind, version) = (&row.kind, &row.version);
    ApiError::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {error}"))
}
