//! The verbs, over any kind of the resource table.

pub mod create;
pub mod decode;
pub mod delete;
pub mod options;
pub mod ownership;
pub mod patch;
mod patch_errors;
pub mod plain;
pub mod present;
pub mod read;
pub mod turns;
pub mod update;
pub mod watch;
pub mod write;

use std::sync::Arc;

use api::ApiError;
use api::table::Verbs;

use crate::catalog::Kind;
use crate::http::reply::Reply;
use crate::http::request::Request;
use crate::state::Api;
use crate::{authn, authz, subresource};

/// A request for a resource, its kind found.
pub struct Call<'a> {
    pub api: &'a Arc<Api>,
    pub kind: &'a Arc<Kind>,
    pub request: &'a Request,
}

/// Answers a resource request.
pub async fn handle(api: &Arc<Api>, request: &Request) -> Result<Reply, ApiError> {
    let info = &request.info;
    let Some(kind) = api.catalog.find(&info.group, &info.version, &info.resource) else {
        return Ok(Reply::not_found());
    };
    let kind = kind.clone();
    if !path_fits(&kind, request) {
        return Ok(Reply::not_found());
    }
    let call = Call { api, kind: &kind, request };
    if let Some(warning) = &kind.row.deprecated {
        request.warn(&**warning);
    }
    if !info.subresource.is_empty() {
        return subresource::handle(&call).await;
    }
    if kind.row.verbs == Verbs::Create {
        return match info.verb.as_str() {
            "create" if info.name.is_empty() => review(&call).await,
            _ => Err(ApiError::method_not_allowed()),
        };
    }
    if kind.row.namespaced() && info.namespace.is_empty() && !matches!(info.verb.as_str(), "list" | "watch") {
        return Err(ApiError::method_not_allowed());
    }
    if !kind.row.verb_names().contains(&info.verb.as_str()) {
        return Err(ApiError::method_not_allowed());
    }
    match (info.verb.as_str(), info.name.is_empty() || is_collection(request)) {
        ("get", false) => read::get(&call).await,
        ("list", _) => read::list(&call).await,
        ("watch", _) => watch::watch(&call).await,
        ("create", true) => create::create(&call).await,
        ("update", false) => update::replace(&call, false).await,
        ("patch", false) => patch::patch(&call, false).await,
        ("delete", false) => delete::delete(&call).await,
        ("deletecollection", _) => delete::collection(&call).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// A cluster-scoped kind has no route below a namespace: there, rights held in the namespace would be enough for it.
/// A Namespace is below itself.
fn path_fits(kind: &Kind, request: &Request) -> bool {
    let info = &request.info;
    let itself = kind.row.plural == "namespaces" && info.name == info.namespace;
    kind.row.namespaced() || info.namespace.is_empty() || itself
}

/// A name taken from a field selector does not make a request one for a single object.
fn is_collection(request: &Request) -> bool {
    matches!(request.info.verb.as_str(), "list" | "watch" | "deletecollection")
}

async fn review(call: &Call<'_>) -> Result<Reply, ApiError> {
    match &*call.kind.row.kind {
        "TokenReview" => authn::review::token(call).await,
        "SelfSubjectReview" => authn::review::myself(call).await,
        "SubjectAccessReview" => authz::review::subject(call, authz::review::Whose::Given).await,
        "LocalSubjectAccessReview" => authz::review::subject(call, authz::review::Whose::Local).await,
        "SelfSubjectAccessReview" => authz::review::subject(call, authz::review::Whose::Own).await,
        "SelfSubjectRulesReview" => authz::review::rules(call).await,
        "Binding" => subresource::binding::legacy(call).await,
        other => Err(ApiError::internal(format!("no handler for {other}"))),
    }
}
