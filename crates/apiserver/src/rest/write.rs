//! What all writes share: the object as it is in the store, metadata the server owns, validation, the final swap.

use std::time::Duration;

use api::field::Path;
use api::table::Sub;
use api::{ApiError, ErrorList, meta};
use bytes::Bytes;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use registry::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::authn::User;
use crate::catalog::Kind;
use crate::http::request::Request;
use crate::object;
use crate::rest::turns::Turn;
use crate::rest::update::Rules;
use crate::state::Api;
use crate::store::{Stored, Written};

/// Who writes, when, and whether for real.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    pub user: &'a User,
    pub now: Timestamp,
    pub dry_run: bool,
    /// Takes warnings; absent for what the server does on its own account.
    pub request: Option<&'a Request>,
}

impl<'a> Writer<'a> {
    pub fn of(request: &'a Request, dry_run: bool) -> Self {
        Self { user: &request.user, now: request.now, dry_run, request: Some(request) }
    }

    pub fn warn(&self, text: String) {
        if let Some(request) = self.request {
            request.warn(text);
        }
    }
}

/// The object that a write starts from.
#[derive(Clone)]
pub struct Current {
    /// With its resourceVersion.
    pub value: Value,
    pub revision: u64,
    /// Straight from the store, not from the cache.
    pub live: bool,
}

impl Current {
    fn from_stored(stored: &Stored) -> Result<Self, ApiError> {
        let mut value: Value = serde_json::from_slice(&stored.value)
            .map_err(|e| ApiError::internal(format!("{} does not decode: {e}", stored.key)))?;
        meta::set_resource_version(&mut value, stored.revision);
        Ok(Self { value, revision: stored.revision, live: true })
    }
}

/// The full key of an object in the store.
pub fn store_key(api: &Api, kind: &Kind, namespace: &str, name: &str) -> String {
    format!("{}/{}/{}", api.store.prefix(), kind.storage_path, kind.key(namespace, name))
}

/// The object as the cache has it, or as the store has it when the cache has not heard of it.
pub async fn current(api: &Api, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Current>, ApiError> {
    let cached = api.cache(kind).and_then(|cache| cache.get(&kind.key(namespace, name)));
    match cached {
        Some(entry) => Ok(Some(Current { value: entry.value(), revision: entry.revision, live: false })),
        None => live(api, kind, namespace, name).await,
    }
}

pub async fn live(api: &Api, kind: &Kind, namespace: &str, name: &str) -> Result<Option<Current>, ApiError> {
    let (stored, _) = api.store.get(&store_key(api, kind, namespace, name)).await?;
    stored.as_ref().map(Current::from_stored).transpose()
}

/// What a swap led to.
pub enum Swapped {
    Done(Bytes),
    /// Someone was faster; `None` when the object is gone.
    Clash(Option<Current>),
}

/// The object to try again with, when somebody was faster. Who has waited for a turn reads it anew.
pub async fn after_clash(
    api: &Api,
    kind: &Kind,
    namespace: &str,
    name: &str,
    turn: Option<&mut Turn<'_>>,
    newer: Option<Current>,
) -> Result<Option<Current>, ApiError> {
    let waited = match turn {
        Some(turn) => turn.lost().await,
        None => false,
    };
    if waited { live(api, kind, namespace, name).await } else { Ok(newer) }
}

/// Writes an object over revision `at` (0: it must not exist) and returns it as it is served.
pub async fn swap(api: &Api, kind: &Kind, object: &Value, at: u64, dry_run: bool) -> Result<Swapped, ApiError> {
    let encoded = object::encode(object);
    if encoded.len() > MAX_OBJECT {
        return Err(ApiError::too_large("etcdserver: request is too large"));
    }
    if dry_run {
        return Ok(Swapped::Done(object::with_revision(&encoded, at)).strip_zero(at, object));
    }
    let key = store_key(api, kind, meta::namespace(object), meta::name(object));
    let ttl = ttl(api, kind);
    let written = match at {
        0 => api.store.create(&key, &encoded, ttl).await?,
        at => api.store.update(&key, at, &encoded, ttl).await?,
    };
    match written {
        Written::At(revision) => {
            api.caches.note_written(kind, revision);
            Ok(Swapped::Done(object::with_revision(&encoded, revision)))
        }
        Written::Clash(stored) => Ok(Swapped::Clash(stored.as_ref().map(Current::from_stored).transpose()?)),
    }
}

/// etcd's own bound on a request, less what surrounds the value.
const MAX_OBJECT: usize = (3 << 20) / 2 - 1024;

impl Swapped {
    /// A dry-run creation has no resourceVersion.
    fn strip_zero(self, at: u64, object: &Value) -> Self {
        if at != 0 {
            return self;
        }
        Self::Done(Bytes::from(object::encode(object)))
    }
}

pub async fn swap_away(api: &Api, kind: &Kind, object: &Value, at: u64, dry_run: bool) -> Result<Swapped, ApiError> {
    let served = |revision| object::with_revision(&object::encode(object), revision);
    if dry_run {
        return Ok(Swapped::Done(served(at)));
    }
    let key = store_key(api, kind, meta::namespace(object), meta::name(object));
    match api.store.delete(&key, at).await? {
        Written::At(revision) => {
            api.caches.note_written(kind, revision);
            Ok(Swapped::Done(served(revision)))
        }
        Written::Clash(stored) => Ok(Swapped::Clash(stored.as_ref().map(Current::from_stored).transpose()?)),
    }
}

/// Events live for a while only.
fn ttl(api: &Api, kind: &Kind) -> Option<Duration> {
    (kind.row.plural == "events").then_some(api.config.event_ttl)
}

pub fn context(object: &Value, writer: &Writer<'_>, rules: Rules, subresource: &str) -> Context {
    Context {
        now: writer.now,
        namespace: meta::namespace(object).to_owned(),
        seed: rand::random(),
        status: rules == Rules::Status,
        approval: subresource == Sub::Approval.name(),
    }
}

/// Runs the strategy's and the metadata's validation of a new object.
pub fn validate_create(kind: &Kind, object: &Value, ctx: &Context) -> Result<(), ApiError> {
    let metadata = metadata(kind, object)?;
    let row = &kind.row;
    let mut errors = api::objectmeta::validate_create(&metadata, row.scope, row.name_rule, &Path::new("metadata"));
    errors.extend(kind.strategy.validate_create(object, ctx).map_err(|e| super::decode::misfit(row, &e))?);
    refuse(kind, object, &errors)
}

pub fn validate_update(kind: &Kind, new: &Value, old: &Value, ctx: &Context) -> Result<(), ApiError> {
    let (metadata, before) = (metadata(kind, new)?, metadata(kind, old)?);
    let mut errors = api::objectmeta::validate_update(&metadata, &before, &Path::new("metadata"));
    errors.extend(kind.strategy.validate_update(new, old, ctx).map_err(|e| super::decode::misfit(&kind.row, &e))?);
    refuse(kind, new, &errors)
}

pub fn refuse(kind: &Kind, object: &Value, errors: &ErrorList) -> Result<(), ApiError> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(&kind.row.group, &kind.row.kind, meta::name(object), errors))
}

fn metadata(kind: &Kind, object: &Value) -> Result<ObjectMeta, ApiError> {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    if metadata.is_null() {
        return Ok(ObjectMeta::default());
    }
    ObjectMeta::deserialize(metadata).map_err(|e| super::decode::misfit(&kind.row, &e))
}

/// Passes the strategy's warnings on to the client.
pub fn warn(kind: &Kind, object: &Value, writer: &Writer<'_>) {
    for warning in kind.strategy.warnings(object).unwrap_or_default() {
        writer.warn(warning);
    }
}

/// Puts the request's namespace into the object, or refuses another one.
pub fn settle_namespace(kind: &Kind, object: &mut Value, namespace: &str) -> Result<(), ApiError> {
    if !kind.row.namespaced() {
        meta::set_text(object, "namespace", "");
        return Ok(());
    }
    match meta::namespace(object) {
        "" => meta::set_text(object, "namespace", namespace),
        given if given == namespace => {}
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    Ok(())
}

/// Everything that a generation counts: all but metadata and status.
pub fn spec_changed(new: &Value, old: &Value) -> bool {
    let counted = |v: &Value| -> Vec<(String, Value)> {
        let members = v.as_object().into_iter().flatten();
        let kept = members.filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status" | "kind" | "apiVersion"));
        kept.map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    counted(new) != counted(old)
}
