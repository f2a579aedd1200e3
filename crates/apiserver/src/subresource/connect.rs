//! `log`, `exec`, `attach`, `portforward` and `proxy`: found here, streamed from where the pod is.

use std::sync::Arc;

use api::ApiError;
use api::table::Sub;
use http::{Method, StatusCode};
use serde_json::Value;

use crate::authz::Attributes;
use crate::cache::Entry;
use crate::http::query::Query;
use crate::http::reply::{Payload, Reply, TEXT};
use crate::proxy::{self, Destination, Security};
use crate::rest::Call;
use crate::state::Api;

const KUBELET_PORT: u16 = 10250;
/// Query parameters of a log that the kubelet knows under the same name.
const LOG_OPTIONS: &[&str] =
    &["follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream"];

async fn pod(call: &Call<'_>) -> Result<Value, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    api.caches.fresh().await?;
    let found = api.builtin("pods").get(&kind.key(&info.namespace, &info.name));
    found.map(|entry| entry.value()).ok_or_else(|| ApiError::not_found(kind.row.group_resource(), &info.name))
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    let containers = pod["spec"][list].as_array().into_iter().flatten();
    containers.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
}

/// The container asked for, or the only one.
fn container(pod: &Value, asked: Option<&str>) -> Result<String, ApiError> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let (own, init, ephemeral) =
        (names(pod, "containers"), names(pod, "initContainers"), names(pod, "ephemeralContainers"));
    if let Some(asked) = asked {
        if own.iter().chain(&init).chain(&ephemeral).any(|c| c == asked) {
            return Ok(asked.to_owned());
        }
        return Err(ApiError::bad_request(format!("container {asked} is not valid for pod {name}")));
    }
    match own.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(ApiError::bad_request(format!("a container name must be specified for pod {name}"))),
        many => {
            let mut message =
                format!("a container name must be specified for pod {name}, choose one of: [{}]", many.join(" "));
            for (what, list) in [("init", &init), ("ephemeral", &ephemeral)] {
                if !list.is_empty() {
                    message.push_str(&format!(" or one of the {what} containers: [{}]", list.join(" ")));
                }
            }
            Err(ApiError::bad_request(message))
        }
    }
}

fn kubelet(api: &Api, node: &str) -> Result<Destination, ApiError> {
    let gr = api::status::GroupResource { group: "", resource: "nodes" };
    let entry: Arc<Entry> = api.builtin("minions").get(node).ok_or_else(|| ApiError::not_found(gr, node))?;
    let node = entry.value();
    let addresses: Vec<&Value> = node["status"]["addresses"].as_array().into_iter().flatten().collect();
    let of_type = |wanted: &str| addresses.iter().find(|a| a["type"] == wanted).and_then(|a| a["address"].as_str());
    let preferred = ["InternalIP", "Hostname", "InternalDNS", "ExternalDNS", "ExternalIP"];
    let host = preferred.iter().find_map(|t| of_type(t));
    let host = host.ok_or_else(|| {
        ApiError::internal(format!("no preferred addresses found; known addresses: []; node {}", entry.name()))
    })?;
    let port =
        node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().and_then(|p| u16::try_from(p).ok());
    Ok(Destination {
        host: host.to_owned(),
        port: port.filter(|p| *p != 0).unwrap_or(KUBELET_PORT),
        security: Security::Kubelet,
    })
}

fn node_of(pod: &Value) -> Option<&str> {
    pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty())
}

fn with_query(path: String, pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return path;
    }
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{path}?{query}")
}

pub async fn log(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, request, .. } = call;
    let (info, query) = (&request.info, &request.query);
    check_log_options(query)?;
    let pod = pod(call).await?;
    let container = container(&pod, query.filled("container"))?;
    let Some(node) = node_of(&pod) else {
        return Ok(Reply::text(StatusCode::OK, ""));
    };
    let to = kubelet(api, node)?;
    let pairs: Vec<(&str, &str)> = LOG_OPTIONS.iter().filter_map(|o| Some((*o, query.filled(o)?))).collect();
    let path = with_query(format!("/containerLogs/{}/{}/{container}", info.namespace, info.name), &pairs);
    let response = proxy::stream(&api.backend, &to, Method::GET, &path, request, None).await?;
    if !response.status().is_success() {
        return Err(proxy::refusal(response).await);
    }
    let reply = proxy::reply(response);
    let Payload::Stream(body) = reply.payload else { return Err(ApiError::internal("a log that is no stream")) };
    Ok(Reply::new(StatusCode::OK, TEXT, Payload::Stream(body)))
}

fn check_log_options(query: &Query) -> Result<(), ApiError> {
    let refuse = |why: &str| Err(ApiError::new(422, "Invalid", format!("PodLogOptions \"\" is invalid: {why}")));
    if let Some(lines) = query.integer("tailLines")?.filter(|n| *n < 0) {
        return refuse(&format!("tailLines: Invalid value: {lines}: must be greater than or equal to 0"));
    }
    if let Some(bytes) = query.integer("limitBytes")?.filter(|n| *n < 1) {
        return refuse(&format!("limitBytes: Invalid value: {bytes}: must be greater than 0"));
    }
    if query.filled("sinceSeconds").is_some() && query.filled("sinceTime").is_some() {
        return refuse("<nil>: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified");
    }
    if let Some(seconds) = query.integer("sinceSeconds")?.filter(|n| *n < 1) {
        return refuse(&format!("sinceSeconds: Invalid value: {seconds}: must be greater than 0"));
    }
    Ok(())
}

pub async fn exec(call: &Call<'_>, sub: Sub) -> Result<Reply, ApiError> {
    let Call { api, request, .. } = call;
    let (info, query) = (&request.info, &request.query);
    may_create(call)?;
    let pod = pod(call).await?;
    let container = container(&pod, query.filled("container"))?;
    let node = assigned(&pod)?;
    // The kubelet has its own words for the streams. `stdout` and `stderr` are on unless switched off for attach only.
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (ours, theirs) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if query.truthy(ours) {
            pairs.push((theirs, "1"));
        }
    }
    pairs.extend(query.all("command").map(|c| ("command", c)));
    if sub == Sub::Exec && query.all("command").next().is_none() {
        return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
    }
    if !pairs.iter().any(|(k, _)| matches!(*k, "input" | "output" | "error")) {
        return Err(ApiError::bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    let verb = if sub == Sub::Exec { "exec" } else { "attach" };
    let path = with_query(format!("/{verb}/{}/{}/{container}", info.namespace, info.name), &pairs);
    proxy::tunnel(&api.backend, &kubelet(api, node)?, &path, request).await
}

pub async fn port_forward(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, request, .. } = call;
    let info = &request.info;
    may_create(call)?;
    let pod = pod(call).await?;
    let node = assigned(&pod)?;
    let pairs: Vec<(&str, &str)> = request.query.all("ports").map(|p| ("port", p)).collect();
    let path = with_query(format!("/portForward/{}/{}", info.namespace, info.name), &pairs);
    proxy::tunnel(&api.backend, &kubelet(api, node)?, &path, request).await
}

fn assigned(pod: &Value) -> Result<&str, ApiError> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    node_of(pod).ok_or_else(|| ApiError::bad_request(format!("pod {name} does not have a host assigned")))
}

/// A WebSocket is opened with GET; that must not be enough where a POST needs `create`.
fn may_create(call: &Call<'_>) -> Result<(), ApiError> {
    let Call { api, request, .. } = call;
    if request.info.verb == "create" {
        return Ok(());
    }
    let asked = Attributes { verb: "create".to_owned(), ..Attributes::from(&request.info) };
    api.rbac.authorize(&request.user, &asked)
}

/// `[https:]name[:port]`, as proxied pods and services are named.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

fn named(text: &str) -> Option<Named<'_>> {
    match text.split(':').collect::<Vec<_>>()[..] {
        [name] => Some(Named { https: false, name, port: "" }),
        [name, port] => Some(Named { https: false, name, port }),
        [scheme @ ("" | "http" | "https"), name, port] => Some(Named { https: scheme == "https", name, port }),
        _ => None,
    }
}

pub async fn proxy(call: &Call<'_>) -> Result<Reply, ApiError> {
    let Call { api, kind, request } = call;
    let info = &request.info;
    let invalid = || ApiError::bad_request(format!("invalid {} request {:?}", kind.row.singular, info.name));
    let asked = named(&info.name).ok_or_else(invalid)?;
    api.caches.fresh().await?;
    let to = match &*kind.row.plural {
        "nodes" => node_destination(api, &asked)?,
        "services" => service_destination(call, &asked)?,
        _ => pod_destination(call, &asked)?,
    };
    let path = proxied(request.uri.path(), info.rest.len());
    let path = request.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    if request.headers.contains_key(http::header::UPGRADE) {
        return proxy::tunnel(&api.backend, &to, &path, request).await;
    }
    let body = request.take_body();
    let response = proxy::stream(&api.backend, &to, request.method.clone(), &path, request, body).await?;
    Ok(proxy::reply(response))
}

/// What stands behind `proxy`, as the client wrote it, escapes, slashes and all. `segments` are there of it.
fn proxied(path: &str, segments: usize) -> &str {
    let behind = path.rmatch_indices('/').filter(|(at, _)| !matches!(path.as_bytes().get(at + 1), None | Some(b'/')));
    let rest = behind.take(segments).last().map_or(path.trim_end_matches('/').len(), |(at, _)| at);
    // Slashes before the first segment are part of it.
    let from = path[..rest].trim_end_matches('/').len();
    if path[from..].is_empty() { "/" } else { &path[from..] }
}

fn node_destination(api: &Api, asked: &Named<'_>) -> Result<Destination, ApiError> {
    let kubelet = kubelet(api, asked.name)?;
    match asked.port.parse::<u16>() {
        Ok(port) if port != kubelet.port => {
            let security = if asked.https { Security::Unverified } else { Security::Plain };
            Ok(Destination { port, security, ..kubelet })
        }
        _ => Ok(kubelet),
    }
}

fn pod_destination(call: &Call<'_>, asked: &Named<'_>) -> Result<Destination, ApiError> {
    let key = call.kind.key(&call.request.info.namespace, asked.name);
    let gr = call.kind.row.group_resource();
    let pod = call.api.builtin("pods").get(&key).ok_or_else(|| ApiError::not_found(gr, asked.name))?.value();
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten());
    let port = match asked.port {
        "" => ports.next().and_then(|p| p["containerPort"].as_u64()).unwrap_or(80),
        text => match text.parse() {
            Ok(port) => port,
            Err(_) => ports.find(|p| p["name"] == text).and_then(|p| p["containerPort"].as_u64()).unwrap_or(0),
        },
    };
    let host = pod["status"]["podIP"].as_str().unwrap_or_default();
    if host.is_empty() {
        return Err(ApiError::bad_request("address not allowed"));
    }
    destination(host, port, asked.https)
}

fn service_destination(call: &Call<'_>, asked: &Named<'_>) -> Result<Destination, ApiError> {
    let api = call.api;
    let namespace = &call.request.info.namespace;
    let unavailable = || ApiError::service_unavailable(format!("no endpoints available for service {:?}", asked.name));
    let key = call.kind.key(namespace, asked.name);
    let gr = call.kind.row.group_resource();
    let service = api.builtin("services/specs").get(&key).ok_or_else(|| ApiError::not_found(gr, asked.name))?.value();
    let ports: Vec<Value> = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let wanted = ports.iter().find(|p| {
        asked.port.is_empty()
            || p["name"] == asked.port
            || p["port"].as_u64().is_some_and(|n| n.to_string() == asked.port)
    });
    let port_name = wanted.ok_or_else(unavailable)?["name"].as_str().unwrap_or_default().to_owned();
    for slice in api.builtin("endpointslices").in_namespace(namespace) {
        if slice.label("kubernetes.io/service-name") != Some(asked.name) {
            continue;
        }
        let slice = slice.value();
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let Some(port) = ports.find(|p| p["name"].as_str().unwrap_or_default() == port_name) else { continue };
        let mut endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let ready = endpoints.find(|e| e["conditions"]["ready"] != Value::Bool(false));
        if let Some(host) = ready.and_then(|e| e["addresses"][0].as_str()) {
            return destination(host, port["port"].as_u64().unwrap_or(0), asked.https);
        }
    }
    Err(unavailable())
}

fn destination(host: &str, port: u64, https: bool) -> Result<Destination, ApiError> {
    let port = u16::try_from(port).ok().filter(|p| *p > 0).ok_or_else(|| ApiError::bad_request("invalid port"))?;
    let security = if https { Security::Unverified } else { Security::Plain };
    Ok(Destination { host: host.to_owned(), port, security })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_proxied_is_as_the_client_wrote_it() {
        let check = |behind: &str, segments: usize, expected: &str| {
            let path = format!("/api/v1/nodes/n/proxy{behind}");
            assert_eq!(proxied(&path, segments), expected, "{path}");
        };
        check("", 0, "/");
        check("/", 0, "/");
        check("/logs/", 1, "/logs/");
        check("/a%2Fb/proxy//c/", 3, "/a%2Fb/proxy//c/");
        check("//x", 1, "//x");
    }

    #[test]
    fn which_container() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "i"}]}});
        let check = |pod: &Value, asked: Option<&str>, expected: Result<&str, &str>| {
            let got = container(pod, asked).map_err(|e| e.to_string());
            assert_eq!(got, expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(&pod, Some("i"), Ok("i"));
        check(&pod, Some("x"), Err("container x is not valid for pod p"));
        let choose =
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]";
        check(&pod, None, Err(choose));
        check(&json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}}), None, Ok("a"));
    }

    #[test]
    fn proxied_names() {
        assert_eq!(named("web"), Some(Named { https: false, name: "web", port: "" }));
        assert_eq!(named("web:80"), Some(Named { https: false, name: "web", port: "80" }));
        assert_eq!(named("https:web:"), Some(Named { https: true, name: "web", port: "" }));
        assert_eq!(named("ftp:web:1"), None);
    }
}
