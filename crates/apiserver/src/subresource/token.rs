//! `serviceaccounts/token`: TokenRequest.

use api::field::{Error, Path};
use api::{ApiError, ErrorList, meta};
use http::StatusCode;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::authn::review::strings;
use crate::authn::service_account::{Private, Ref};
use crate::cache::Entry;
use crate::http::reply::Reply;
use crate::rest::options::WriteOptions;
use crate::rest::{Call, decode};

const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
const DEFAULT_SECONDS: i64 = 3600;

pub async fn handle(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let options = WriteOptions::parse(&request.query, "CreateOptions")?;
    let (group, version, name) = api::table::Sub::Token.kind(&kind.row);
    let row = api::table::Resource { group, version, kind: name, ..(*kind.row).clone() };
    let mut token = decode::object(&api.catalog, request, &row, options.field_validation).await?;
    let given = meta::name(&token);
    if !given.is_empty() && given != info.name {
        let why = format!("name in TokenRequest {given:?} does not match the service account {:?}", info.name);
        return Err(ApiError::bad_request(why));
    }
    let seconds = token["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    validate(seconds)?;
    api.caches.fresh().await?;
    let account = api
        .builtin("serviceaccounts")
        .get(&kind.key(&info.namespace, &info.name))
        .ok_or_else(|| ApiError::not_found(kind.row.group_resource(), &info.name))?;
    let private = bound(call, &account, &token["spec"]["boundObjectRef"])?;
    let mut audiences = strings(&token["spec"]["audiences"]);
    if audiences.is_empty() {
        audiences = api.tokens.audiences().to_vec();
    }
    let signed = api.tokens.sign(private, audiences.clone(), request.now, seconds).map_err(ApiError::internal)?;
    let expires = request.now + SignedDuration::from_secs(seconds);
    token["spec"]["audiences"] = audiences.into();
    token["spec"]["expirationSeconds"] = seconds.into();
    token["metadata"] =
        json!({"name": info.name, "namespace": info.namespace, "creationTimestamp": meta::format_time(request.now)});
    let shown = if options.dry_run { "" } else { signed.as_str() };
    token["status"] = json!({"token": shown, "expirationTimestamp": meta::format_time(expires)});
    Ok(Reply::json(StatusCode::CREATED, &token))
}

fn validate(seconds: i64) -> Result<(), ApiError> {
    let path = Path::new("spec").child("expirationSeconds");
    let why = match seconds {
        s if s < MIN_SECONDS => "may not specify a duration less than 10 minutes",
        s if s > MAX_SECONDS => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let errors = ErrorList::from_iter([Error::invalid(&path, seconds, why)]);
    Err(ApiError::invalid("authentication.k8s.io", "TokenRequest", "", &errors))
}

/// What the token dies with.
fn bound(call: &Call<'_>, account: &Entry, reference: &Value) -> Result<Private, ApiError> {
    let Call { api, request, .. } = call;
    let namespace = &request.info.namespace;
    let by_entry = |e: &Entry| Ref { name: e.name().to_owned(), uid: e.uid.to_string() };
    let mut private = Private { namespace: namespace.clone(), serviceaccount: by_entry(account), ..Private::default() };
    if reference.is_null() {
        return Ok(private);
    }
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let (path, plural, key) = match kind {
        "Pod" => ("pods", "pods", format!("{namespace}/{name}")),
        "Secret" => ("secrets", "secrets", format!("{namespace}/{name}")),
        "Node" => ("minions", "nodes", name.to_owned()),
        _ => return Err(ApiError::bad_request(format!("cannot bind token for object of type v1, Kind={kind}"))),
    };
    let gr = api::status::GroupResource { group: "", resource: plural };
    let found = api.builtin(path).get(&key).ok_or_else(|| ApiError::not_found(gr, name))?;
    if !uid.is_empty() && uid != &*found.uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::conflict(gr, name, &why));
    }
    let reference = Some(by_entry(&found));
    match kind {
        "Pod" => {
            check_pod(call, account, &found, &mut private)?;
            private.pod = reference;
        }
        "Secret" => private.secret = reference,
        _ => private.node = reference,
    }
    Ok(private)
}

/// A pod's token is for the pod's own account; a kubelet asks only for pods on its node.
fn check_pod(call: &Call<'_>, account: &Entry, pod: &Entry, private: &mut Private) -> Result<(), ApiError> {
    let value = pod.value();
    let runs_as = value["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if runs_as != account.name() {
        return Err(ApiError::bad_request(format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            account.name()
        )));
    }
    let node = value["spec"]["nodeName"].as_str().unwrap_or_default();
    if let Some(asking) = call.request.user.node_name().filter(|n| *n != node) {
        let why = format!("node {asking:?} can only request tokens for pods scheduled on itself");
        return Err(ApiError::forbidden(call.kind.row.group_resource(), account.name(), &why));
    }
    if !node.is_empty() {
        let uid = call.api.builtin("minions").get(node).map(|n| n.uid.to_string()).unwrap_or_default();
        private.node = Some(Ref { name: node.to_owned(), uid });
    }
    Ok(())
}
