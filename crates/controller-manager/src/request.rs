//! Operations of a plan as HTTP requests.

use client::kube::Client;
use controllers::plan::{PatchType, Target, Verb};
use http::{Method, Request};
use serde_json::{Value, json};

/// The path of an object, or of its collection when the target has no name.
pub fn path(target: &Target, subresource: Option<&str>) -> String {
    let kind = &target.kind;
    let mut path = if kind.group.is_empty() {
        format!("/api/{}", kind.version)
    } else {
        format!("/apis/{}/{}", kind.group, kind.version)
    };
    // A Namespace names itself; everything else lives inside one or none.
    if let Some(namespace) = target.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        path.push_str(&format!("/namespaces/{namespace}"));
    }
    path.push('/');
    path.push_str(&kind.plural);
    for part in [Some(target.name.as_str()).filter(|name| !name.is_empty()), subresource].into_iter().flatten() {
        path.push('/');
        path.push_str(part);
    }
    path
}

pub fn build(target: &Target, verb: &Verb) -> Result<Request<Vec<u8>>, http::Error> {
    match verb {
        Verb::Create(object) => {
            let collection = Target { name: String::new(), ..target.clone() };
            send(Method::POST, &path(&collection, None), "application/json", object)
        }
        Verb::Update { object, subresource } => {
            send(Method::PUT, &path(target, *subresource), "application/json", object)
        }
        Verb::Patch { patch, kind, subresource } => {
            let media = match kind {
                PatchType::Merge => "application/merge-patch+json",
                PatchType::Strategic => "application/strategic-merge-patch+json",
            };
            send(Method::PATCH, &path(target, *subresource), media, patch)
        }
        Verb::Delete { uid, resource_version, propagation, grace_period_seconds } => {
            let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
            let mut preconditions = serde_json::Map::new();
            preconditions.extend(uid.clone().map(|uid| ("uid".to_owned(), Value::from(uid))));
            preconditions.extend(resource_version.clone().map(|v| ("resourceVersion".to_owned(), Value::from(v))));
            if !preconditions.is_empty() {
                options["preconditions"] = Value::from(preconditions);
            }
            if let Some(policy) = propagation {
                options["propagationPolicy"] = Value::from(policy.name());
            }
            if let Some(seconds) = grace_period_seconds {
                options["gracePeriodSeconds"] = Value::from(*seconds);
            }
            send(Method::DELETE, &path(target, None), "application/json", &options)
        }
    }
}

fn send(method: Method, path: &str, media: &str, body: &Value) -> Result<Request<Vec<u8>>, http::Error> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::CONTENT_TYPE, media)
        .header(http::header::ACCEPT, "application/json")
        .body(body.to_string().into_bytes())
}

/// Reads one object; `None` when it does not exist.
pub async fn get(client: &Client, target: &Target) -> Result<Option<Value>, client::kube::Error> {
    let request = Request::get(path(target, None))
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(client::kube::Error::HttpError)?;
    match client.request::<Value>(request).await {
        Ok(object) => Ok(Some(object)),
        Err(client::kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controllers::Kind;
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Namespace;

    fn check(kind: Kind, namespace: Option<&str>, name: &str, sub: Option<&str>, expected: &str) {
        let target = Target { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() };
        assert_eq!(path(&target, sub), expected);
    }

    #[test]
    fn paths() {
        check(Kind::of::<Namespace>(), None, "blue", Some("finalize"), "/api/v1/namespaces/blue/finalize");
        let deployment = Kind::of::<Deployment>;
        check(deployment(), Some("ns"), "d", None, "/apis/apps/v1/namespaces/ns/deployments/d");
        check(deployment(), Some("ns"), "", None, "/apis/apps/v1/namespaces/ns/deployments");
        check(deployment(), Some("ns"), "d", Some("status"), "/apis/apps/v1/namespaces/ns/deployments/d/status");
    }
}
