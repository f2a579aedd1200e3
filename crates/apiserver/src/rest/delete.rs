//! DELETE of one object and of a collection: preconditions, grace periods, finalizers, propagation.

use api::{ApiError, meta};
use bytes::Bytes;
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::options::{Deletion, Propagation};
use super::write::{self, Current, Swapped, Writer};
use super::{Call, decode, present};
use crate::admission::{self, Operation};
use crate::cache::Selection;
use crate::catalog::Kind;
use crate::http::reply::Reply;
use crate::state::Api;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a delete led to.
pub struct Deleted {
    pub bytes: Bytes,
    pub uid: String,
    /// Gone from the store, as opposed to marked for deletion.
    pub gone: bool,
}

pub async fn delete(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let options = Deletion::parse(&decode::delete_options(&api.catalog, request).await?, &request.query)?;
    let writer = Writer::of(request, options.dry_run);
    let deleted = one(api, kind.kept_as(), &writer, &info.namespace, &info.name, &options).await?;
    let honest = options.orphan_dependents == Some(false) || options.propagation == Propagation::Foreground;
    let code = if !deleted.gone && honest { StatusCode::ACCEPTED } else { StatusCode::OK };
    if deleted.gone && !returns_object(kind) {
        return Ok(Reply::json(code, &success(kind, &info.name, &deleted.uid)));
    }
    present::object(call, code, kind.served_bytes(&deleted.bytes))
}

/// Kinds whose deletion answers with the object and not with a Status.
fn returns_object(kind: &Kind) -> bool {
    const KINDS: &[&str] = &[
        "pods",
        "podtemplates",
        "persistentvolumes",
        "persistentvolumeclaims",
        "serviceaccounts",
        "resourcequotas",
        "services",
    ];
    kind.row.group.is_empty() && KINDS.contains(&&*kind.row.plural)
}

fn success(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind.row.plural, "uid": uid});
    if !kind.row.group.is_empty() {
        details["group"] = kind.row.group.as_ref().into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

pub async fn collection(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let options = Deletion::parse(&decode::delete_options(&api.catalog, request).await?, &request.query)?;
    let writer = Writer::of(request, options.dry_run);
    let selection = Selection::parse(&kind.row, &info.namespace, &request.query)?;
    let cache = api.cache(kind).ok_or_else(ApiError::no_such_path)?;
    let revision = api.caches.fresh().await?;
    let listed = cache.list(&selection, None, 0);
    let mut items = Vec::new();
    for entry in listed.items {
        match one(api, kind.kept_as(), &writer, entry.namespace(), entry.name(), &options).await {
            Ok(deleted) => {
                items.push(kind.served(serde_json::from_slice::<Value>(&deleted.bytes).unwrap_or_default()));
            }
            Err(error) if error.code() == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Reply::ok(&json!({
        "kind": kind.row.list_kind(),
        "apiVersion": kind.row.api_version(),
        "metadata": {"resourceVersion": revision.to_string()},
        "items": items,
    })))
}

/// Deletes one object, or marks it for deletion.
pub async fn one(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    namespace: &str,
    name: &str,
    options: &Deletion,
) -> Result<Deleted, ApiError> {
    let gr = kind.row.group_resource();
    let key = write::store_key(api, kind, namespace, name);
    let mut turn = if options.resource_version.is_some() { None } else { Some(api.turns.begin(&key).await) };
    let mut current = write::current(api, kind, namespace, name).await?;
    loop {
        let Some(old) = current else { return Err(ApiError::not_found(gr, name)) };
        match attempt(api, kind, writer, &old, options).await {
            Ok((Swapped::Done(bytes), gone)) => {
                return Ok(Deleted { bytes, uid: meta::uid(&old.value).to_owned(), gone });
            }
            Ok((Swapped::Clash(newer), _)) => {
                current = write::after_clash(api, kind, namespace, name, turn.as_mut(), newer).await?;
            }
            Err(_) if !old.live => current = write::live(api, kind, namespace, name).await?,
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(
    api: &Api,
    kind: &Kind,
    writer: &Writer<'_>,
    old: &Current,
    options: &Deletion,
) -> Result<(Swapped, bool), ApiError> {
    check_preconditions(kind, &old.value, options)?;
    admission::validate(api, kind, writer, Operation::Delete, "", Some(&old.value), &old.value).await?;
    let grace = grace(kind, &old.value, options)?;
    let propagation = propagation(kind, &old.value, writer, options);
    let marked = mark(kind, &old.value, writer, propagation, grace);
    if is_done(kind, &marked) {
        let done = write::swap_away(api, kind, &marked, old.revision, writer.dry_run).await?;
        if matches!(done, Swapped::Done(_)) {
            api.services.release(api, kind, &old.value, writer.dry_run).await;
        }
        return Ok((done, true));
    }
    if marked == old.value {
        return Ok((Swapped::Done(crate::object::with_revision(&crate::object::encode(&marked), old.revision)), false));
    }
    Ok((write::swap(api, kind, &marked, old.revision, writer.dry_run).await?, false))
}

fn check_preconditions(kind: &Kind, object: &Value, options: &Deletion) -> Result<(), ApiError> {
    let (gr, name) = (kind.row.group_resource(), meta::name(object));
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != meta::uid(object)) {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            meta::uid(object)
        );
        return Err(ApiError::conflict(gr, name, &why));
    }
    let version = meta::resource_version(object);
    if let Some(given) = options.resource_version.as_deref().filter(|given| *given != version) {
        let why = format!(
            "the ResourceVersion in the precondition ({given}) does not match the ResourceVersion in record \
             ({version}). The object might have been modified"
        );
        return Err(ApiError::conflict(gr, name, &why));
    }
    Ok(())
}

/// How long the object may take to go; `None` for kinds that go at once.
fn grace(kind: &Kind, object: &Value, options: &Deletion) -> Result<Option<i64>, ApiError> {
    let default = kind.strategy.grace_period_seconds(object).map_err(|e| decode::misfit(&kind.row, &e))?;
    let Some(default) = default else { return Ok(None) };
    let asked = options.grace_period_seconds.unwrap_or(default);
    // Nothing runs yet, or nothing runs any more.
    let phase = object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    let unscheduled = object.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty();
    if kind.is("", "pods") && (unscheduled || matches!(phase, "Succeeded" | "Failed")) {
        return Ok(Some(0));
    }
    Ok(Some(if asked < 0 { 1 } else { asked }))
}

/// The object as it is marked for deletion.
fn mark(kind: &Kind, old: &Value, writer: &Writer<'_>, propagation: Propagation, grace: Option<i64>) -> Value {
    let mut object = old.clone();
    set_propagation(&mut object, propagation);
    let seconds = grace.unwrap_or(0);
    let before = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
    let since = meta::deletion_timestamp(old);
    if let (Some(since), Some(before)) = (since, before) {
        // A later delete can shorten the grace period and never lengthens it.
        if grace.is_none() || seconds >= before {
            return object;
        }
        let when = since - SignedDuration::from_secs(before - seconds);
        set_deletion(&mut object, when.max(writer.now), seconds);
        return object;
    }
    if since.is_some() {
        return object;
    }
    set_deletion(&mut object, writer.now + SignedDuration::from_secs(seconds), seconds);
    if meta::generation(&object) > 0 {
        let generation = meta::generation(&object) + 1;
        meta::metadata_mut(&mut object).insert("generation".to_owned(), generation.into());
    }
    if kind.is("", "namespaces") {
        object["status"]["phase"] = "Terminating".into();
    }
    object
}

fn set_deletion(object: &mut Value, when: jiff::Timestamp, seconds: i64) {
    let metadata = meta::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), meta::format_time(when).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
}

/// What was asked for; else what the object's finalizers say already; else what the kind has always done.
fn propagation(kind: &Kind, object: &Value, writer: &Writer<'_>, options: &Deletion) -> Propagation {
    let decided = meta::finalizers(object).iter().any(|f| *f == ORPHAN || *f == FOREGROUND);
    if options.propagation != Propagation::Default || decided || !kind.strategy.orphans_by_default() {
        return options.propagation;
    }
    if kind.is("batch", "jobs") {
        writer.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning"
                .to_owned(),
        );
    }
    Propagation::Orphan
}

/// Propagation is carried to the garbage collector by a finalizer.
fn set_propagation(object: &mut Value, propagation: Propagation) {
    let wanted = match propagation {
        Propagation::Default => return,
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Orphan => Some(ORPHAN),
    };
    let kept = meta::finalizers(object).into_iter().filter(|f| *f != ORPHAN && *f != FOREGROUND);
    let finalizers: Vec<Value> = kept.chain(wanted).map(Value::from).collect();
    let metadata = meta::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
}

/// Whether nothing keeps a marked object.
fn is_done(kind: &Kind, object: &Value) -> bool {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    let spec = object.pointer("/spec/finalizers").and_then(Value::as_array);
    let namespace_kept = kind.is("", "namespaces") && spec.is_some_and(|f| !f.is_empty());
    grace == 0 && meta::finalizers(object).is_empty() && !namespace_kept
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authn::User;
    use crate::catalog::Catalog;

    fn kind(plural: &str) -> Arc<Kind> {
        Catalog::builtin().find("", "v1", plural).expect("built in").clone()
    }

    fn check(plural: &str, object: Value, options: Deletion, expected: (bool, Value, Value)) {
        let (kind, user) = (kind(plural), User::loopback());
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        let writer = Writer { user: &user, now, dry_run: false, request: None };
        let grace = grace(&kind, &object, &options).expect("fits");
        let marked = mark(&kind, &object, &writer, propagation(&kind, &object, &writer, &options), grace);
        let metadata = &marked["metadata"];
        let got = (is_done(&kind, &marked), metadata["deletionTimestamp"].clone(), metadata["finalizers"].clone());
        assert_eq!(got, expected);
    }

    #[test]
    fn marks() {
        let plain = || json!({"metadata": {"name": "a"}});
        check("configmaps", plain(), Deletion::default(), (true, json!("2026-01-01T00:00:00Z"), Value::Null));
        let foreground = Deletion { propagation: Propagation::Foreground, ..Deletion::default() };
        check("configmaps", plain(), foreground.clone(), (false, json!("2026-01-01T00:00:00Z"), json!([FOREGROUND])));
        let orphan = Deletion { propagation: Propagation::Orphan, ..Deletion::default() };
        let held = json!({"metadata": {"name": "a", "finalizers": ["x/y", FOREGROUND]}});
        check("configmaps", held.clone(), orphan, (false, json!("2026-01-01T00:00:00Z"), json!(["x/y", ORPHAN])));
        check(
            "configmaps",
            held,
            Deletion::default(),
            (false, json!("2026-01-01T00:00:00Z"), json!(["x/y", FOREGROUND])),
        );
        let namespace = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        let deleted = json!("2026-01-01T00:00:00Z");
        check("replicationcontrollers", plain(), Deletion::default(), (false, deleted, json!([ORPHAN])));
        let background = Deletion { propagation: Propagation::Background, ..Deletion::default() };
        check("replicationcontrollers", plain(), background, (true, json!("2026-01-01T00:00:00Z"), Value::Null));
        check("namespaces", namespace, Deletion::default(), (false, json!("2026-01-01T00:00:00Z"), Value::Null));
    }
}
