//! PATCH: JSON patch, merge patch, strategic merge patch and server-side apply, on whatever the object is at that
//! moment.

use std::fmt;

use api::table::Resource;
use api::{ApiError, meta};
use bytes::Bytes;
use http::StatusCode;
use schema::{DecodeError, FieldValidation, Gvk, Schemas};
use serde_json::Value;

use super::options::WriteOptions;
use super::update::{self, Owns, Rules, Target};
use super::write::{self, Writer};
use super::{Call, create, decode, ownership, patch_errors, present};
use crate::authz::Attributes;
use crate::http::body;
use crate::http::query::Query;
use crate::http::reply::Reply;
use crate::http::request::Request;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";
const TYPES: &[&str] = &[JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY];
/// A configuration that nobody has applied yet makes the object, unless somebody else just did.
const MAX_TURNS: usize = 5;
/// Upstream's bound on the operations of one JSON patch.
const MAX_OPERATIONS: usize = 10_000;

enum Form {
    Json(json_patch::Patch),
    Merge(Value),
    Strategic(Value),
    /// A configuration.
    Apply(Value),
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
            APPLY => Form::Apply(configuration(bytes)?),
            _ => return Err(ApiError::unsupported_media_type(TYPES)),
        };
        Ok(Self { form, repeats: schema::repeats(bytes) })
    }

    /// What is to be applied, if it is an apply.
    pub fn config(&self) -> Option<&Value> {
        match &self.form {
            Form::Apply(config) => Some(config),
            _ => None,
        }
    }

    /// An apply settles itself what is whose.
    pub fn owns(&self) -> Owns {
        if self.config().is_some() { Owns::Settled } else { Owns::Changes }
    }

    pub fn options(&self, query: &Query) -> Result<WriteOptions, ApiError> {
        if self.config().is_some() { WriteOptions::of_apply(query) } else { WriteOptions::of_patch(query) }
    }

    fn apply(&self, schemas: &Schemas, row: &Resource, old: &Value) -> Result<Value, ApiError> {
        let mut new = old.clone();
        match &self.form {
            Form::Json(patch) => json_patch::patch(&mut new, patch).map_err(|_| patch_errors::rejected())?,
            Form::Merge(patch) => json_patch::merge(&mut new, patch),
            Form::Strategic(patch) => new = strategic(schemas, row, &new, patch)?,
            Form::Apply(_) => return Err(ApiError::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, STRATEGIC])),
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
            Form::Merge(patch) | Form::Strategic(patch) | Form::Apply(patch) => update::names_version(patch),
        }
    }

    fn refused(&self, new: &Value, why: &str) -> ApiError {
        match &self.form {
            Form::Strategic(patch) => {
                patch_errors::invalid(&patch_errors::go_text(patch), &patch_errors::converter_words(why))
            }
            Form::Json(_) | Form::Merge(_) | Form::Apply(_) => patch_errors::invalid(&new.to_string(), why),
        }
    }
}

/// YAML, of which JSON is a part.
fn configuration(bytes: &[u8]) -> Result<Value, ApiError> {
    let value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(_) => {
            let undecodable = |error: &dyn fmt::Display| ApiError::bad_request(format!("error decoding YAML: {error}"));
            let text = std::str::from_utf8(bytes).map_err(|error| undecodable(&error))?;
            daemon::config::yaml(text).map_err(|error| undecodable(&error))?
        }
    };
    match value {
        Value::Object(_) => Ok(value),
        _ => {
            let why = "error decoding YAML: json: cannot unmarshal into Go value of type map[string]interface {}";
            Err(ApiError::bad_request(why))
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
    let Call { api, kind, request } = call;
    let patch = read(call).await?;
    let options = patch.options(&request.query)?;
    let info = &request.info;
    let target = Target {
        kind,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        rules: if status { Rules::Status } else { Rules::Main },
        conditional: patch.names_version(),
        owns: patch.owns(),
    };
    let writer = Writer::of(request, options.dry_run);
    let makes = patch.config().filter(|_| !status);
    for _ in 0..MAX_TURNS {
        let updated = update::update_served(api, &writer, &target, &|old| {
            let mut new = patched(call, &patch, old, &options)?;
            kind.strategy.default(&mut new).map_err(|e| decode::misfit(&kind.row, &e))?;
            Ok(new)
        })
        .await;
        let Some(config) = makes.filter(|_| matches!(&updated, Err(error) if error.code() == 404)) else {
            return present::object(call, StatusCode::OK, updated?.bytes);
        };
        match make(call, config, &options, &writer).await {
            Err(error) if error.reason() == "AlreadyExists" => {}
            created => return present::object(call, StatusCode::CREATED, kind.served_bytes(&created?)),
        }
    }
    Err(ApiError::conflict(kind.row.group_resource(), &info.name, "the object is made and deleted again and again"))
}

/// Makes the object that a configuration describes.
async fn make(call: &Call<'_>, config: &Value, options: &WriteOptions, writer: &Writer<'_>) -> Result<Bytes, ApiError> {
    let Call { api, kind, request } = call;
    let asked = Attributes { verb: "create".to_owned(), ..Attributes::from(&request.info) };
    api.rbac.authorize(&request.user, &asked)?;
    let mut object = applied(call, config, None, options)?;
    let uid = meta::uid(&object);
    if !uid.is_empty() {
        let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
        return Err(ApiError::conflict(kind.row.group_resource(), &request.info.name, &why));
    }
    update::check_name(&object, &request.info.name)?;
    write::settle_namespace(kind, &mut object, &request.info.namespace)?;
    kind.strategy.default(&mut object).map_err(|e| decode::misfit(&kind.row, &e))?;
    meta::set_type(&mut object, &kind.row);
    create::owned_object(api, kind, writer, object).await
}

pub async fn read(call: &Call<'_>) -> Result<Patch, ApiError> {
    let media_type = body::media_type(&call.request.headers);
    let patch = Patch::parse(media_type, &call.request.read_body().await?)?;
    if patch.config().is_some() && !patch.repeats.is_empty() {
        let words = format!("error strict decoding YAML: {}", patch.repeats.join(", "));
        match WriteOptions::of_apply(&call.request.query)?.field_validation {
            FieldValidation::Strict => return Err(ApiError::bad_request(words)),
            FieldValidation::Warn => patch.repeats.iter().for_each(|repeat| call.request.warn(repeat)),
            FieldValidation::Ignore => {}
        }
    }
    Ok(patch)
}

/// The patched object, which must still be the same one.
pub fn patched(call: &Call<'_>, patch: &Patch, old: &Value, options: &WriteOptions) -> Result<Value, ApiError> {
    let Call { api, kind, request } = call;
    let new = match patch.config() {
        Some(config) => applied(call, config, Some(old), options)?,
        None => patch.checked(&api.catalog.schemas, request, &kind.row, old, options.field_validation)?,
    };
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

fn applied(call: &Call<'_>, config: &Value, live: Option<&Value>, options: &WriteOptions) -> Result<Value, ApiError> {
    let Call { api, kind, request } = call;
    let (row, writer) = (&kind.row, Writer::of(request, options.dry_run));
    let object = ownership::applied(api, kind, &writer, &request.info.subresource, live, config, options.force)?;
    let gvk = Gvk::new(&row.group, &row.version, &row.kind);
    match api.catalog.schemas.get(&gvk) {
        Some(node) => Ok(schema::decode_value(&object, &gvk, node, FieldValidation::Ignore)?.0),
        None => Ok(object),
    }
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
        check(APPLY, "apiVersion: v1\nkind: Pod\n", Ok(()));
        check(APPLY, r#"{"kind":"Pod"}"#, Ok(()));
        check(APPLY, "[a]", Err(400));
        check(APPLY, "a: [", Err(400));
        check("application/apply-patch+cbor", "", Err(415));
        check("application/json", "{}", Err(415));
    }
}
