//! POST to a collection.

use api::{ApiError, meta, names};
use bytes::Bytes;
use http::StatusCode;
use registry::Context;
use serde_json::Value;

use super::options::WriteOptions;
use super::update::Rules;
use super::write::{self, Swapped, Writer};
use super::{Call, decode, ownership, present};
use crate::admission::{self, Operation};
use crate::catalog::Kind;
use crate::http::reply::Reply;
use crate::state::Api;

/// Names are made again this often when `generateName` hits one that is taken.
const MAX_NAMES: usize = 8;

pub async fn create(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let options = WriteOptions::parse(&request.query, "CreateOptions")?;
    let mut object = decode::object(&api.catalog, request, &kind.row, options.field_validation).await?;
    write::settle_namespace(kind, &mut object, &request.info.namespace)?;
    let writer = Writer::of(request, options.dry_run);
    let created = new_object(api, kind, &writer, object).await?;
    present::object(call, StatusCode::CREATED, kind.served_bytes(&created))
}

/// Creates an object, from its decoded form to the store.
pub async fn new_object(api: &Api, kind: &Kind, writer: &Writer<'_>, mut object: Value) -> Result<Bytes, ApiError> {
    kind.strategy.default(&mut object).map_err(|e| decode::misfit(&kind.row, &e))?;
    meta::set_type(&mut object, &kind.row);
    ownership::created(api, kind, writer, &mut object);
    owned_object(api, kind, writer, object).await
}

/// Creates an object that has its defaults and its owners. What comes back is as it is kept.
pub async fn owned_object(api: &Api, kind: &Kind, writer: &Writer<'_>, object: Value) -> Result<Bytes, ApiError> {
    let Some((kept, conversion)) = &kind.kept else { return kept_object(api, kind, writer, object).await };
    let ctx = write::context(&object, writer, Rules::Main, "");
    write::validate_create(kind, &object, &ctx)?;
    let mut object = (conversion.to_kept)(object);
    kept.strategy.default(&mut object).map_err(|e| decode::misfit(&kept.row, &e))?;
    kept_object(api, kept, writer, object).await
}

async fn kept_object(api: &Api, kind: &Kind, writer: &Writer<'_>, object: Value) -> Result<Bytes, ApiError> {
    if !meta::resource_version(&object).is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    let generated = meta::name(&object).is_empty() && !meta::text(&object, "generateName").is_empty();
    for _ in 0..MAX_NAMES {
        let mut attempt = object.clone();
        if generated {
            let name = names::generate(meta::text(&object, "generateName"), rand::random());
            meta::set_text(&mut attempt, "name", &name);
        }
        match once(api, kind, writer, attempt).await? {
            Ok(created) => return Ok(created),
            Err(name) if !generated => return Err(ApiError::already_exists(kind.row.group_resource(), &name)),
            Err(_) => {}
        }
    }
    let gr = kind.row.group_resource();
    Err(ApiError::already_exists(gr, meta::text(&object, "generateName")))
}

/// One attempt; the inner error is the name that is taken.
async fn once(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    mut object: Value,
) -> Result<Result<Bytes, String>, ApiError> {
    stamp(&mut object, writer, kind);
    admission::mutate(api, kind, writer, Operation::Create, "", None, &mut object).await?;
    let ctx = write::context(&object, writer, Rules::Main, "");
    kind.strategy.prepare_create(&mut object, &ctx).map_err(|e| decode::misfit(&kind.row, &e))?;
    meta::set_type(&mut object, &kind.row);
    // Allocations are given back when the object is not written after all.
    let allocated = api.services.allocate(api, kind, None, &mut object, writer.dry_run).await?;
    let written = check_and_write(api, kind, writer, &object, &ctx).await;
    allocated.settle(api, matches!(written, Ok(Ok(_)))).await;
    written
}

async fn check_and_write(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    object: &Value,
    ctx: &Context,
) -> Result<Result<Bytes, String>, ApiError> {
    write::validate_create(kind, object, ctx)?;
    admission::validate(api, kind, writer, Operation::Create, "", None, object).await?;
    write::warn(kind, object, writer);
    if writer.dry_run && write::current(api, kind, meta::namespace(object), meta::name(object)).await?.is_some() {
        return Ok(Err(meta::name(object).to_owned()));
    }
    match write::swap(api, kind, object, 0, writer.dry_run).await? {
        Swapped::Done(bytes) => Ok(Ok(bytes)),
        Swapped::Clash(_) => Ok(Err(meta::name(object).to_owned())),
    }
}

/// Metadata that only the server decides.
fn stamp(object: &mut Value, writer: &Writer<'_>, kind: &Kind) {
    let uid = uuid::Uuid::new_v4().to_string();
    let metadata = meta::metadata_mut(object);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
        metadata.remove(field);
    }
    metadata.insert("uid".to_owned(), uid.into());
    metadata.insert("creationTimestamp".to_owned(), meta::format_time(writer.now).into());
    if kind.strategy.has_generation() {
        metadata.insert("generation".to_owned(), 1.into());
    }
}
