//! What is served outside of resources: discovery, OpenAPI, version, health, metrics, OIDC discovery. The documents
//! that follow from the resource table are made once and served as bytes, with their hash as ETag.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use api::ApiError;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use schema::discovery::{self, Aggregated};
use schema::openapi;
use serde_json::{Value, json};

use crate::catalog::Catalog;
use crate::http::reply::{JSON, Payload, Reply};
use crate::http::request::Request;
use crate::state::Api;

const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2_BETA1: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
/// A document whose URL carries its hash never changes.
const IMMUTABLE: &str = "public, immutable, max-age=31536000";

#[derive(Clone)]
struct Document {
    bytes: Bytes,
    hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Self {
        let hash = openapi::hash(&bytes);
        Self { bytes: bytes.into(), hash }
    }

    fn json(value: &Value) -> Self {
        Self::new(serde_json::to_vec(value).expect("a JSON value encodes"))
    }
}

/// Made on first use: a server at rest that nobody has asked holds none.
#[derive(Default)]
pub struct Documents {
    openapi_v2: OnceLock<Document>,
    openapi_v2_protobuf: OnceLock<Document>,
    /// By path below `/openapi/v3/`.
    openapi_v3: OnceLock<(Document, HashMap<String, Document>)>,
}

pub fn handle(api: &Arc<Api>, request: &Request) -> Result<Reply, ApiError> {
    let path = request.info.path.as_str();
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return Ok(Reply::not_found());
    }
    if let Some(reply) = health(api, request, path) {
        return Ok(reply);
    }
    let trimmed = path.trim_end_matches('/');
    let parts: Vec<&str> = trimmed.trim_start_matches('/').split('/').collect();
    Ok(match parts[..] {
        ["" | "index.html"] => Reply::ok(&index(&api.catalog)),
        ["version"] => Reply::ok(&version()),
        ["api"] => discover(api, request, true),
        ["apis"] => discover(api, request, false),
        ["api", "v1"] => found(request, discovery::resources(&api.catalog.table, "", "v1")),
        ["apis", group] => found(request, discovery::group(&api.catalog.table, group)),
        ["apis", group, version] => found(request, discovery::resources(&api.catalog.table, group, version)),
        ["openapi", "v2"] => openapi_v2(api, request),
        ["openapi", "v3"] => document(request, &api.documents.openapi_v3(&api.catalog).0, None),
        ["openapi", "v3", ..] => {
            let below = trimmed.trim_start_matches("/openapi/v3/");
            match api.documents.openapi_v3(&api.catalog).1.get(below) {
                Some(found) => document(request, found, request.query.get("hash")),
                None => Reply::not_found(),
            }
        }
        [".well-known", "openid-configuration"] => Reply::ok(&openid(api)),
        ["openid", "v1", "jwks"] => Reply {
            content_type: HeaderValue::from_static("application/jwk-set+json"),
            ..Reply::ok(&api.tokens.jwks())
        },
        _ => Reply::not_found(),
    })
}

fn health(api: &Api, request: &Request, path: &str) -> Option<Reply> {
    // `/readyz/etcd` asks for one check; its line of the verbose report is the answer.
    let (endpoint, check) = match path.trim_start_matches('/').split_once('/') {
        Some((endpoint, check)) => (format!("/{endpoint}"), Some(check)),
        None => (path.to_owned(), None),
    };
    if !matches!(endpoint.as_str(), "/healthz" | "/livez" | "/readyz" | "/metrics") {
        return None;
    }
    let verbose = request.query.get("verbose").is_some() || check.is_some();
    let (mut code, content_type, mut body) = api.health.respond(&endpoint, if verbose { "verbose" } else { "" })?;
    if let Some(check) = check.filter(|c| !c.is_empty()) {
        if endpoint == "/metrics" {
            return Some(Reply::not_found());
        }
        let Some(line) = body
            .lines()
            .find(|l| l.get(3..).is_some_and(|l| l.strip_prefix(check).is_some_and(|r| r.starts_with(' '))))
        else {
            return Some(Reply::not_found());
        };
        code = if line.starts_with("[+]") { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        body = if line.starts_with("[+]") { "ok".to_owned() } else { format!("{line}\n") };
    }
    Some(Reply::new(code, content_type, Payload::Bytes(body.into())))
}

fn index(catalog: &Catalog) -> Value {
    let mut paths = vec![
        "/.well-known/openid-configuration".to_owned(),
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
    ];
    let mut groups = Vec::new();
    for (group, version) in catalog.table.group_versions().into_iter().filter(|(g, _)| !g.is_empty()) {
        if !groups.contains(&group) {
            groups.push(group);
            paths.push(format!("/apis/{group}"));
        }
        paths.push(format!("/apis/{group}/{version}"));
    }
    let other =
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"];
    paths.extend(other.map(str::to_owned));
    paths.sort();
    json!({"paths": paths})
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": daemon::VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

/// `/api` and `/apis`, aggregated when the client takes that.
fn discover(api: &Api, request: &Request, legacy: bool) -> Reply {
    let table = &api.catalog.table;
    let accept: String = request.header("accept").split_whitespace().collect();
    let shapes = [("v=v2", Aggregated::V2, AGGREGATED_V2), ("v=v2beta1", Aggregated::V2Beta1, AGGREGATED_V2_BETA1)];
    for clause in accept.split(',') {
        let parts: Vec<&str> = clause.split(';').collect();
        if !(parts.contains(&"as=APIGroupDiscoveryList") && parts.contains(&"g=apidiscovery.k8s.io"))
            || parts[0] != JSON
        {
            continue;
        }
        if let Some((_, shape, content_type)) = shapes.iter().find(|(version, ..)| parts.contains(version)) {
            let document = Document::json(&discovery::aggregated(table, legacy, *shape));
            let mut reply = self::document(request, &document, None);
            reply.content_type = HeaderValue::from_static(content_type);
            return reply.with(header::VARY, HeaderValue::from_static("Accept"));
        }
    }
    let value = if legacy {
        discovery::core_versions(&format!("{}:{}", api.config.advertise, api.config.bind.port()))
    } else {
        discovery::groups(table)
    };
    Reply::ok(&value).with(header::VARY, HeaderValue::from_static("Accept"))
}

fn found(_request: &Request, value: Option<Value>) -> Reply {
    value.map_or_else(Reply::not_found, |value| Reply::ok(&value))
}

/// A document, or 304 for a client that has it.
/// kubectl asks for protobuf, under a name with `@` or, in newer versions, without.
fn openapi_v2(api: &Api, request: &Request) -> Reply {
    const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let accept = request.header("accept");
    let protobuf = accept.contains("proto-openapi.spec.v2@v1.0+protobuf")
        || accept.contains("proto-openapi.spec.v2.v1.0+protobuf");
    let mut reply = if protobuf {
        document(request, api.documents.openapi_v2_protobuf(&api.catalog), None)
    } else {
        document(request, api.documents.openapi_v2(&api.catalog), None)
    };
    if protobuf {
        reply.content_type = HeaderValue::from_static(PROTOBUF);
    }
    reply.with(header::VARY, HeaderValue::from_static("Accept"))
}

fn document(request: &Request, document: &Document, hash: Option<&str>) -> Reply {
    let etag = HeaderValue::from_str(&format!("{:?}", document.hash)).expect("a hash is a valid header value");
    let mut reply = if request.headers.get(header::IF_NONE_MATCH) == Some(&etag) {
        Reply::new(StatusCode::NOT_MODIFIED, JSON, Payload::Bytes(Bytes::new()))
    } else {
        Reply::bytes(StatusCode::OK, document.bytes.clone())
    };
    if hash.is_some_and(|hash| hash == document.hash) {
        reply.headers.push((header::CACHE_CONTROL, HeaderValue::from_static(IMMUTABLE)));
    }
    reply.with(header::ETAG, etag)
}

fn openid(api: &Api) -> Value {
    let issuer = api.tokens.issuer();
    let jwks =
        format!("https://{}/openid/v1/jwks", std::net::SocketAddr::new(api.config.advertise, api.config.bind.port()));
    json!({
        "issuer": issuer,
        "jwks_uri": jwks,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": api.tokens.algorithms(),
    })
}

impl Documents {
    fn openapi_v2(&self, catalog: &Catalog) -> &Document {
        self.openapi_v2.get_or_init(|| Document::new(openapi::v2(&catalog.schemas, &catalog.table)))
    }

    fn openapi_v2_protobuf(&self, catalog: &Catalog) -> &Document {
        let make = || Document::new(openapi::v2_protobuf(&catalog.schemas, &catalog.table));
        self.openapi_v2_protobuf.get_or_init(make)
    }

    fn openapi_v3(&self, catalog: &Catalog) -> &(Document, HashMap<String, Document>) {
        self.openapi_v3.get_or_init(|| {
            let mut all: Vec<(&str, &str, Document)> = Vec::new();
            for (group, version) in catalog.table.group_versions() {
                if let Some(bytes) = openapi::v3(&catalog.schemas, &catalog.table, group, version) {
                    all.push((group, version, Document::new(bytes)));
                }
            }
            let listed: Vec<(&str, &str, &str)> = all.iter().map(|(g, v, d)| (*g, *v, d.hash.as_str())).collect();
            let index = Document::new(openapi::v3_index(&listed));
            let path = |group: &str, version: &str| {
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
            };
            (index, all.into_iter().map(|(g, v, d)| (path(g, v), d)).collect())
        })
    }
}
