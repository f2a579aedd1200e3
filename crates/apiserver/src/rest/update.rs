//! PUT, and the loop that every change of an existing object goes through: read, change, check, swap, again when
//! someone was faster.

use api::field::{Error, Path};
use api::{ApiError, ErrorList, meta};
use bytes::Bytes;
use http::StatusCode;
use registry::Context;
use serde_json::Value;

use super::options::WriteOptions;
use super::write::{self, Current, Swapped, Writer};
use super::{Call, create, decode, ownership, present};
use crate::admission::{self, Operation};
use crate::authz::Attributes;
use crate::catalog::Kind;
use crate::http::reply::Reply;
use crate::object;
use crate::state::Api;

/// How a change is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// As an update of the main resource.
    Main,
    /// As an update of the status half.
    Status,
    /// The subresource has checked all it needs to.
    Trusted,
}

/// Which object, and as what.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub kind: &'a Kind,
    pub namespace: &'a str,
    pub name: &'a str,
    pub subresource: &'a str,
    pub rules: Rules,
    /// Of that version, or not at all.
    pub conditional: bool,
    pub owns: Owns,
}

/// Whose the changed fields are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owns {
    /// The writer's.
    Changes,
    /// As the mutation has it.
    Settled,
}

/// Whether an object that a client sent names the version that it is made from.
pub fn names_version(object: &Value) -> bool {
    !matches!(meta::resource_version(object), "" | "0")
}

pub type Mutation<'a> = &'a (dyn Fn(&Value) -> Result<Value, ApiError> + Send + Sync);

/// The object after the change, as it is served.
pub struct Updated {
    pub bytes: Bytes,
    pub deleted: bool,
}

pub async fn replace(call: &Call<'_>, status: bool) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let options = WriteOptions::parse(&request.query, "UpdateOptions")?;
    let mut object = decode::object(&api.catalog, request, &kind.row, options.field_validation).await?;
    check_name(&object, &info.name)?;
    write::settle_namespace(kind, &mut object, &info.namespace)?;
    kind.strategy.default(&mut object).map_err(|e| decode::misfit(&kind.row, &e))?;
    let writer = Writer::of(request, options.dry_run);
    let target = Target {
        kind,
        namespace: &info.namespace,
        name: &info.name,
        subresource: &info.subresource,
        rules: if status { Rules::Status } else { Rules::Main },
        conditional: names_version(&object),
        owns: Owns::Changes,
    };
    let put = object.clone();
    match update_served(api, &writer, &target, &move |_| Ok(put.clone())).await {
        Err(error) if error.code() == 404 && !status && kind.strategy.allow_create_on_update() => {
            // Whoever may only change must not make.
            let asked = Attributes { verb: "create".to_owned(), ..Attributes::from(&request.info) };
            api.rbac.authorize(&request.user, &asked)?;
            let created = create::new_object(api, kind, &writer, object).await?;
            present::object(call, StatusCode::CREATED, kind.served_bytes(&created))
        }
        updated => present::object(call, StatusCode::OK, updated?.bytes),
    }
}

pub fn check_name(object: &Value, name: &str) -> Result<(), ApiError> {
    match meta::name(object) {
        "" => Err(ApiError::bad_request(
            "the name of the object (based on URL) was undeterminable: name must be provided",
        )),
        given if given == name => Ok(()),
        given => Err(ApiError::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        ))),
    }
}

/// Changes an object of a kind that may be kept in another version: `mutate` and what comes back are in this one.
pub async fn update_served(
    api: &Api,
    writer: &Writer<'_>,
    target: &Target<'_>,
    mutate: Mutation<'_>,
) -> Result<Updated, ApiError> {
    let kind = target.kind;
    let Some((kept, conversion)) = &kind.kept else { return update(api, writer, target, mutate).await };
    let of_kept = Target { kind: kept, owns: Owns::Settled, ..*target };
    let updated = update(api, writer, &of_kept, &|old| {
        let old = kind.served(old.clone());
        let mut new = mutate(&old)?;
        if target.owns == Owns::Changes {
            ownership::updated(api, kind, writer, target.subresource, &old, &mut new);
        }
        let ctx = write::context(&old, writer, target.rules, target.subresource);
        write::validate_update(kind, &new, &old, &ctx)?;
        let mut new = (conversion.to_kept)(new);
        kept.strategy.default(&mut new).map_err(|e| decode::misfit(&kept.row, &e))?;
        Ok(new)
    })
    .await?;
    Ok(Updated { bytes: kind.served_bytes(&updated.bytes), ..updated })
}

/// Changes an object. `mutate` makes the new object from the old one and may run several times.
pub async fn update(
    api: &Api,
    writer: &Writer<'_>,
    target: &Target<'_>,
    mutate: Mutation<'_>,
) -> Result<Updated, ApiError> {
    let Target { kind, namespace, name, .. } = *target;
    let gr = kind.row.group_resource();
    let key = write::store_key(api, kind, namespace, name);
    let mut turn = if target.conditional { None } else { Some(api.turns.begin(&key).await) };
    let mut current = write::current(api, kind, namespace, name).await?;
    loop {
        let Some(old) = current else { return Err(ApiError::not_found(gr, name)) };
        match attempt(api, writer, target, &old, mutate).await {
            Ok(Swapped::Done(bytes)) => {
                let deleted = false;
                return Ok(Updated { bytes, deleted });
            }
            Ok(Swapped::Clash(newer)) => {
                current = write::after_clash(api, kind, namespace, name, turn.as_mut(), newer).await?;
            }
            // The refusal may be due to an old view; the store has the last word.
            Err(_) if !old.live => current = write::live(api, kind, namespace, name).await?,
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(
    api: &Api,
    writer: &Writer<'_>,
    target: &Target<'_>,
    old: &Current,
    mutate: Mutation<'_>,
) -> Result<Swapped, ApiError> {
    let kind = target.kind;
    let mut new = mutate(&old.value)?;
    check_preconditions(kind, &new, old)?;
    if target.owns == Owns::Changes {
        ownership::updated(api, kind, writer, target.subresource, &old.value, &mut new);
    }
    let status = target.rules == Rules::Status;
    let ctx = write::context(&old.value, writer, target.rules, target.subresource);
    if target.rules != Rules::Trusted {
        kind.strategy.prepare_update(&mut new, &old.value, &ctx).map_err(|e| decode::misfit(&kind.row, &e))?;
    }
    keep_metadata(&mut new, &old.value);
    meta::set_type(&mut new, &kind.row);
    admission::mutate(api, kind, writer, Operation::Update, target.subresource, Some(&old.value), &mut new).await?;
    // A binding completes the spec that was asked for; it is not another one.
    let binding = target.subresource == "binding";
    if kind.strategy.has_generation() && !status && !binding && write::spec_changed(&new, &old.value) {
        let generation = meta::generation(&old.value) + 1;
        meta::metadata_mut(&mut new).insert("generation".to_owned(), generation.into());
    }
    let main = target.rules == Rules::Main;
    if !main {
        return check_and_finish(api, writer, target, old, &mut new, &ctx).await;
    }
    let allocated = api.services.allocate(api, kind, Some(&old.value), &mut new, writer.dry_run).await?;
    let done = check_and_finish(api, writer, target, old, &mut new, &ctx).await;
    allocated.settle(api, matches!(done, Ok(Swapped::Done(_)))).await;
    done
}

async fn check_and_finish(
    api: &Api,
    writer: &Writer<'_>,
    target: &Target<'_>,
    old: &Current,
    new: &mut Value,
    ctx: &Context,
) -> Result<Swapped, ApiError> {
    let kind = target.kind;
    if target.rules != Rules::Trusted {
        write::validate_update(kind, new, &old.value, ctx)?;
    }
    admission::validate(api, kind, writer, Operation::Update, target.subresource, Some(&old.value), new).await?;
    if target.rules == Rules::Main {
        write::warn(kind, new, writer);
    }
    ownership::settle_times(&old.value, new);
    finish(api, writer, kind, old, new).await
}

/// Writes the change; one that changes nothing is not written, and one that takes the last finalizer deletes.
async fn finish(api: &Api, writer: &Writer<'_>, kind: &Kind, old: &Current, new: &Value) -> Result<Swapped, ApiError> {
    if is_finally_deleted(kind, old, new) {
        let done = write::swap_away(api, kind, new, old.revision, writer.dry_run).await?;
        if matches!(done, Swapped::Done(_)) {
            api.services.release(api, kind, new, writer.dry_run).await;
        }
        return Ok(done);
    }
    if object::encode(new) == object::encode(&old.value) {
        // A change that changes nothing must hold against the newest object, too.
        if !old.live {
            let live = write::live(api, kind, meta::namespace(new), meta::name(new)).await?;
            if live.as_ref().map(|l| l.revision) != Some(old.revision) {
                return Ok(Swapped::Clash(live));
            }
        }
        return Ok(Swapped::Done(object::with_revision(&object::encode(new), old.revision)));
    }
    write::swap(api, kind, new, old.revision, writer.dry_run).await
}

fn is_finally_deleted(kind: &Kind, old: &Current, new: &Value) -> bool {
    let namespace_kept = kind.is("", "namespaces")
        && new.pointer("/spec/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    let grace = new.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    meta::is_deleting(&old.value) && meta::finalizers(new).is_empty() && grace == 0 && !namespace_kept
}

/// The resourceVersion and uid that the client named must be the object's.
fn check_preconditions(kind: &Kind, new: &Value, old: &Current) -> Result<(), ApiError> {
    let gr = kind.row.group_resource();
    let name = meta::name(&old.value);
    let (uid, given) = (meta::uid(&old.value), meta::uid(new));
    if !given.is_empty() && given != uid {
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(ApiError::conflict(gr, name, &why));
    }
    match meta::resource_version(new) {
        "" | "0" if kind.strategy.allow_unconditional_update() => Ok(()),
        "" | "0" => {
            let path = Path::new("metadata").child("resourceVersion");
            let error = Error::invalid(&path, 0, "must be specified for an update");
            Err(ApiError::invalid(gr.group, gr.resource, name, &ErrorList::from_iter([error])))
        }
        version => match version.parse::<u64>() {
            Ok(revision) if revision == old.revision => Ok(()),
            Ok(_) => Err(ApiError::stale(gr, name)),
            Err(_) => {
                let path = Path::new("metadata").child("resourceVersion");
                let error = Error::invalid(&path, version, "strconv.ParseUint: parsing: invalid syntax");
                Err(ApiError::invalid(gr.group, gr.resource, name, &ErrorList::from_iter([error])))
            }
        },
    }
}

/// What an update cannot change, whatever the client sent; absent means unchanged.
fn keep_metadata(new: &mut Value, old: &Value) {
    let revision = meta::resource_version(old).to_owned();
    let before = old.get("metadata").cloned().unwrap_or_default();
    let metadata = meta::metadata_mut(new);
    metadata.insert("resourceVersion".to_owned(), revision.into());
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        if metadata.get(field).is_none_or(Value::is_null) {
            keep(metadata, &before, field);
        }
    }
    for field in ["generation", "generateName"] {
        keep(metadata, &before, field);
    }
    metadata.remove("selfLink");
}

fn keep(metadata: &mut serde_json::Map<String, Value>, before: &Value, field: &str) {
    match before.get(field) {
        Some(value) if !value.is_null() => metadata.insert(field.to_owned(), value.clone()),
        _ => metadata.remove(field),
    };
}
