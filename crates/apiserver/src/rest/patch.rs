//! PATCH: JSON patch, merge patch and strategic merge patch, applied to whatever the object is at that moment.

use api::table::Resource;
use api::{ApiError, meta};
use bytes::Bytes;
use http::StatusCode;
use schema::{DecodeError, FieldValidation, Gvk, Schemas};
use serde_json::Value;

use super::options::WriteOptions;
use super::update::{self, Rules, Target};
use super::write::Writer;
use super::{Call, decode, patch_errors, present};
use crate::http::body;
use crate::http::reply::Reply;
use crate::http::request::Request;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const TYPES: &[&str] = &[JSON_PATCH, MERGE_PATCH, STRATEGIC];
/// Upstream's bound on the operations of one JSON patch.
const MAX_OPERATIONS: usize = 10_000;

enum Form {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
}

pub struct Patch {
    form: Form,
    /// Fields that the text has twice.
    repeats: Vec<String>,
}

impl Patch {
    pub fn parse(media_type: &str, bytes: &Bytes) -> Result<Self, ApiError> {
        let form = match media_type {
            JSON_PATCH => Form::Json(operations(bytes)?),
            MERGE_PATCH => Form::Merge(map(bytes)?),
            STRATEGIC => Form::Strategic(map(bytes)?),
            _ => return Err(ApiError::unsupported_media_type(TYPES)),
        };
        Ok(Self { form, repeats: schema::repeats(bytes) })
    }

    fn apply(&self, schemas: &Schemas, row: &Resource, old: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        match &self.form {
            Form::Json(patch) => json_patch::patch(&mut new, patch).map_err(|_| patch_errors::rejected())?,
            Form::Merge(patch) => json_patch::merge(&mut new, patch),
            Form::Strategic(patch) => new = strategic(schemas, row, &new, patch)?,
        }
        if !new.is_object() {
            return Err(ApiError::bad_request(format!("the patch does not leave a {}", row.kind)));
        }
        Ok(new)
    }

    /// What the patch makes of an object, checked as an object that a client sent would be.
    pub fn checked(
        &self,
        schemas: &Schemas,
        request: &Request,
        row: &Resource,
        old: &Value,
        validation: FieldValidation,
    ) -> Result<Value, ApiError> {
        let new = self.apply(schemas, row, old)?;
        let gvk = Gvk::new(&row.group, &row.version, &row.kind);
        let Some(node) = schemas.get(&gvk) else { return Ok(new) };
        let of_kind = |error: &DecodeError| matches!(error, DecodeError::Unfit { found, .. } if *found == row.kind);
        match schema::decode_value(&new, &gvk, node, validation) {
            Ok((_, _)) if validation == FieldValidation::Strict && !self.repeats.is_empty() => {
                Err(self.refused(&new, &format!("strict decoding error: {}", self.repeats.join(", "))))
            }
            Ok((object, warnings)) => {
                let repeats = self.repeats.iter().filter(|_| validation == FieldValidation::Warn).cloned();
                repeats.chain(warnings).for_each(|w| request.warn(w));
                Ok(object)
            }
            Err(error) if of_kind(&error) => Err(self.refused(&new, &error.cause())),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it says of which version the object must be.
    pub fn names_version(&self) -> bool {
        match &self.form {
            Form::Json(patch) => patch.iter().any(|operation| operation.path().as_str() == "/metadata/resourceVersion"),
            Form::Merge(patch) | Form::Strategic(patch) => update::names_version(patch),
        }
    }

    fn refused(&self, new: &Value, why: &str) -> ApiError {
        match &self.form {
            Form::Strategic(patch) => {
                patch_errors::invalid(&patch_errors::go_text(patch), &patch_errors::converter_words(why))
            }
            Form::Json(_) | Form::Merge(_) => patch_errors::invalid(&new.to_string(), why),
        }
    }
}

fn map(bytes: &[u8]) -> Result<Value, ApiError> {
    let map = serde_json::from_slice(bytes).ok().filter(Value::is_object);
    map.ok_or_else(|| {
        ApiError::bad_request(format!("error decoding patch: {}", malformed(bytes, "map[string]interface {}")))
    })
}

/// Neither the text nor its type is what it should be, in the words of Go's decoder.
fn malformed(bytes: &[u8], wanted: &str) -> ApiError {
    let found = match serde_json::from_slice(bytes) {
        Ok(Value::Array(_)) => "array",
        Ok(Value::Object(_)) => "object",
        Ok(Value::String(_)) => "string",
        Ok(Value::Bool(_)) => "bool",
        _ => "number",
    };
    let unfit = || format!("json: cannot unmarshal {found} into Go value of type {wanted}");
    ApiError::bad_request(schema::syntax_error(bytes).unwrap_or_else(unfit))
}

fn operations(bytes: &[u8]) -> Result<json_patch::Patch, ApiError> {
    let list: Value = serde_json::from_slice(bytes).map_err(|_| malformed(bytes, "jsonpatch.Patch"))?;
    let count = list.as_array().ok_or_else(|| malformed(bytes, "jsonpatch.Patch"))?.len();
    if count > MAX_OPERATIONS {
        return Err(ApiError::too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }
    // An operation that there is not cannot be carried out.
    serde_json::from_value(list).map_err(|_| patch_errors::rejected())
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
    let options = WriteOptions::of_patch(&request.query)?;
    let patch = read(call).await?;
    let info = &request.info;
    let target = Target {
        kind,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        rules,
        conditional: patch.names_version(),
    };
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

/// The patched object, which must still be the same one.
pub fn patched(call: &Call<'_>, patch: &Patch, old: &Value, validation: FieldValidation) -> Result<Value, ApiError> {
    let Call { api, kind, request } = call;
    let new = patch.checked(&api.catalog.schemas, request, &kind.row, old, validation)?;
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
    fn versions_named() {
        let check = |media_type: &str, body: &'static str, expected: bool| {
            let patch = Patch::parse(media_type, &Bytes::from_static(body.as_bytes())).expect("a patch");
            assert_eq!(patch.names_version(), expected, "{body}");
        };
        check(MERGE_PATCH, r#"{"metadata":{"resourceVersion":"7"}}"#, true);
        check(MERGE_PATCH, r#"{"metadata":{"labels":{"a":"b"}}}"#, false);
        check(STRATEGIC, r#"{"metadata":{"resourceVersion":"0"}}"#, false);
        check(JSON_PATCH, r#"[{"op":"test","path":"/metadata/resourceVersion","value":"7"}]"#, true);
        check(JSON_PATCH, r#"[{"op":"add","path":"/data/a","value":"7"}]"#, false);
    }

    #[test]
    fn kinds_of_patches() {
        check(MERGE_PATCH, "{}", Ok(()));
        check(STRATEGIC, r#"{"spec":{}}"#, Ok(()));
        check(JSON_PATCH, r#"[{"op":"remove","path":"/a"}]"#, Ok(()));
        check(JSON_PATCH, r#"{"a":1}"#, Err(400));
        check(MERGE_PATCH, "[]", Err(400));
        check(STRATEGIC, "{", Err(400));
        check(JSON_PATCH, r#"[{"op":"bogus","path":"/a"}]"#, Err(422));
        check("application/apply-patch+yaml", "{}", Err(415));
        check("application/json", "{}", Err(415));
    }
}
