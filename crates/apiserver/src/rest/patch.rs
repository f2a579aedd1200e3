//! PATCH: JSON patch, merge patch and strategic merge patch, applied to whatever the object is at that moment.

use api::table::Resource;
use api::{ApiError, meta};
use bytes::Bytes;
use http::StatusCode;
use schema::{FieldValidation, Schemas};
use serde_json::Value;

use super::options::WriteOptions;
use super::update::{self, Rules, Target};
use super::write::Writer;
use super::{Call, decode, present};
use crate::catalog::Kind;
use crate::http::body;
use crate::http::reply::Reply;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const TYPES: &[&str] = &[JSON_PATCH, MERGE_PATCH, STRATEGIC];
/// Upstream's bound on the operations of one JSON patch.
const MAX_OPERATIONS: usize = 10_000;

pub enum Patch {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

impl Patch {
    pub fn parse(media_type: &str, bytes: &Bytes) -> Result<Self, ApiError> {
        let undecodable = |e: serde_json::Error| ApiError::bad_request(format!("error decoding patch: {e}"));
        let object = || -> Result<Value, ApiError> {
            let patch: Value = serde_json::from_slice(bytes).map_err(undecodable)?;
            if patch.is_object() {
                Ok(patch)
            } else {
                Err(ApiError::bad_request("error decoding patch: not an object"))
            }
        };
        match media_type {
            JSON_PATCH => {
                let patch: json_patch::Patch = serde_json::from_slice(bytes).map_err(undecodable)?;
                if patch.0.len() > MAX_OPERATIONS {
                    return Err(ApiError::too_large(format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
                        patch.0.len()
                    )));
                }
                Ok(Self::Json(patch))
            }
            MERGE_PATCH => Ok(Self::Merge(object()?)),
            STRATEGIC => Ok(Self::Strategic(object()?)),
            _ => Err(ApiError::unsupported_media_type(TYPES)),
        }
    }

    pub fn apply(&self, schemas: &Schemas, kind: &Kind, old: &Value) -> Result<Value, ApiError> {
        self.apply_to(schemas, &kind.row, old)
    }

    /// As `apply`, of a kind that is not stored itself (Scale).
    pub fn apply_to(&self, schemas: &Schemas, row: &Resource, old: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        match self {
            Self::Json(patch) => json_patch::patch(&mut new, patch).map_err(|_| {
                ApiError::new(422, "Invalid", "the server rejected our request due to an error in our request")
            })?,
            Self::Merge(patch) => json_patch::merge(&mut new, patch),
            Self::Strategic(patch) => new = strategic(schemas, row, &new, patch)?,
        }
        if !new.is_object() {
            return Err(ApiError::bad_request(format!("the patch does not leave a {}", row.kind)));
        }
        Ok(new)
    }
}

fn strategic(schemas: &Schemas, row: &Resource, old: &Value, patch: &Value) -> Result<Value, ApiError> {
    match schemas.kind(&row.group, &row.version, &row.kind) {
        Some(node) => Ok(schema::strategic_merge(old, patch, node)?),
        None => Err(ApiError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH])),
    }
}

pub async fn patch(call: &Call<'_>, status: bool) -> Result<Reply, ApiError> {
    let rules = if status { Rules::Status } else { Rules::Main };
    let Call { api, kind, request } = call;
    let options = WriteOptions::parse(&request.query, "PatchOptions")?;
    let patch = read(call).await?;
    let info = &request.info;
    let target = Target { kind, namespace: &info.namespace, name: &info.name, subresource: &info.subresource, rules };
    let writer = Writer::of(request, options.dry_run);
    let updated = update::update(api, &writer, &target, &|old| {
        let mut new = patched(call, &patch, old, options.field_validation)?;
        kind.strategy.default(&mut new).map_err(|e| decode::misfit(&kind.row, &e))?;
        Ok(new)
    })
    .await?;
    present::object(call, StatusCode::OK, updated.bytes)
}

pub async fn read(call: &Call<'_>) -> Result<Patch, ApiError> {
    let request = call.request;
    let media_type = body::media_type(&request.headers);
    if media_type.starts_with("application/apply-patch") {
        return Err(ApiError::unsupported_media_type(TYPES));
    }
    Patch::parse(media_type, &request.read_body().await?)
}

/// The patched object, checked as an object that a client sent would be.
pub fn patched(call: &Call<'_>, patch: &Patch, old: &Value, validation: FieldValidation) -> Result<Value, ApiError> {
    let Call { api, kind, request } = call;
    let new = patch.apply(&api.catalog.schemas, kind, old)?;
    let bytes = serde_json::to_vec(&new).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let new = decode::from_json(&api.catalog, request, &kind.row, &bytes, validation)?;
    update::check_name(&new, meta::name(old))?;
    if meta::namespace(&new) != meta::namespace(old) {
        return Err(ApiError::bad_request(format!(
            "the namespace of the object ({}) does not match the namespace on the request ({})",
            meta::namespace(&new),
            meta::namespace(old)
        )));
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(media_type: &str, body: &'static str, expected: Result<(), u16>) {
        let got = Patch::parse(media_type, &Bytes::from_static(body.as_bytes()));
        assert_eq!(got.map(drop).map_err(|e| e.code()), expected, "{media_type} {body}");
    }

    #[test]
    fn kinds_of_patches() {
        check(MERGE_PATCH, "{}", Ok(()));
        check(STRATEGIC, r#"{"spec":{}}"#, Ok(()));
        check(JSON_PATCH, r#"[{"op":"remove","path":"/a"}]"#, Ok(()));
        check(JSON_PATCH, r#"{"a":1}"#, Err(400));
        check(MERGE_PATCH, "[]", Err(400));
        check("application/apply-patch+yaml", "{}", Err(415));
        check("application/json", "{}", Err(415));
    }
}
