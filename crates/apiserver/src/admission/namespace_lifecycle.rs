//! NamespaceLifecycle: nothing is created in a namespace that is missing or on its way out, and the namespaces that a
//! cluster cannot do without are not deleted.

use api::status::GroupResource;
use api::{ApiError, meta};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;
use serde_json::Value;

use super::{Attributes, Operation};

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];
const NAMESPACES: GroupResource<'static> = GroupResource { group: "", resource: "namespaces" };

pub async fn admit(a: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let namespace = meta::namespace(object);
    if a.operation != Operation::Create || namespace.is_empty() || is_access_review(a) {
        return Ok(());
    }
    let cache = a.api.builtin("namespaces");
    a.api.caches.own_writes(cache).await?;
    let found = match cache.get(namespace) {
        Some(found) => Some(found),
        None => {
            // It may have been made a moment ago.
            a.api.caches.fresh().await?;
            cache.get(namespace)
        }
    };
    let found = found.ok_or_else(|| ApiError::not_found(NAMESPACES, namespace))?;
    let found = found.value();
    let phase = found.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if phase == "Terminating" || meta::is_deleting(&found) {
        return Err(terminating(a, object, namespace));
    }
    Ok(())
}

/// Whether someone may do something can be asked for any namespace.
fn is_access_review(a: &Attributes<'_>) -> bool {
    a.kind.is("authorization.k8s.io", "localsubjectaccessreviews")
}

fn terminating(a: &Attributes<'_>, object: &Value, namespace: &str) -> ApiError {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = StatusCause {
        reason: Some("NamespaceTerminating".to_owned()),
        message: Some(format!("namespace {namespace} is being terminated")),
        field: Some("metadata.namespace".to_owned()),
    };
    a.refuse(meta::name(object), &why).with_causes(vec![cause])
}

pub fn check(a: &Attributes<'_>, object: &Value) -> Result<(), ApiError> {
    let name = meta::name(object);
    if a.is(Operation::Delete, "namespaces") && IMMORTAL.contains(&name) {
        return Err(a.refuse(name, "this namespace may not be deleted"));
    }
    Ok(())
}
