//! A small API server: objects by path, watches, the reviews a kubelet asks for.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// `/api/v1/namespaces/ns/pods/p`.
#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
}

pub struct Api {
    state: Mutex<State>,
    changes: broadcast::Sender<(String, &'static str, Value)>,
}

fn kind_of(plural: &str) -> &'static str {
    match plural {
        "pods" => "Pod",
        "nodes" => "Node",
        "services" => "Service",
        "configmaps" => "ConfigMap",
        "secrets" => "Secret",
        "leases" => "Lease",
        "events" => "Event",
        _ => "Unknown",
    }
}

fn merge(into: &mut Value, patch: &Value) {
    let (Some(map), Some(changes)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in changes {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

impl Api {
    pub async fn start() -> (Arc<Api>, String) {
        let (changes, _) = broadcast::channel(1024);
        let api = Arc::new(Api { state: Mutex::default(), changes });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is up");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let server = api.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let api = server.clone();
                let service = service_fn(move |request| {
                    let api = api.clone();
                    async move { Ok::<_, Infallible>(api.handle(request).await) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        (api, url)
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    pub fn list(&self, prefix: &str) -> Vec<Value> {
        let state = self.state.lock();
        state.objects.iter().filter(|(path, _)| path.starts_with(prefix)).map(|(_, o)| o.clone()).collect()
    }

    pub fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", state.version));
        }
        let known = state.objects.insert(path.to_owned(), object.clone()).is_some();
        let word = if known { "MODIFIED" } else { "ADDED" };
        let _ = self.changes.send((path.to_owned(), word, object.clone()));
        object
    }

    pub fn remove(&self, path: &str) -> Option<Value> {
        let removed = self.state.lock().objects.remove(path)?;
        let _ = self.changes.send((path.to_owned(), "DELETED", removed.clone()));
        Some(removed)
    }

    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        match parts.method {
            Method::POST => self.create(&path, body),
            Method::PUT => answer(StatusCode::OK, &self.put(&path, body)),
            Method::PATCH => self.patch(&path, &body),
            Method::DELETE => match self.remove(&path) {
                Some(removed) => answer(StatusCode::OK, &removed),
                None => not_found(),
            },
            _ => self.read(&path, &query),
        }
    }

    fn create(&self, path: &str, mut body: Value) -> Response<Body> {
        if path.ends_with("/subjectaccessreviews") {
            body["status"] = json!({"allowed": body["spec"]["user"] == "admin"});
            return answer(StatusCode::CREATED, &body);
        }
        if path.ends_with("/token") {
            body["status"] = json!({"token": "a-token", "expirationTimestamp": "2099-01-01T00:00:00Z"});
            return answer(StatusCode::CREATED, &body);
        }
        let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        answer(StatusCode::CREATED, &self.put(&format!("{path}/{name}"), body))
    }

    fn patch(&self, path: &str, patch: &Value) -> Response<Body> {
        let path = path.trim_end_matches("/status");
        let Some(mut object) = self.get(path) else { return not_found() };
        merge(&mut object, patch);
        answer(StatusCode::OK, &self.put(path, object))
    }

    fn read(&self, path: &str, query: &str) -> Response<Body> {
        if let Some(object) = self.get(path) {
            return answer(StatusCode::OK, &object);
        }
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        if kind_of(&plural) == "Unknown" {
            return not_found();
        }
        let named = form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == "fieldSelector")
            .and_then(|(_, v)| v.strip_prefix("metadata.name=").map(ToOwned::to_owned));
        let path = path.to_owned();
        let wanted = move |at: &str, object: &Value| {
            // A cluster-wide collection matches every namespace's.
            let collection = at.rsplit_once('/').map_or("", |(dir, _)| dir);
            let inside =
                collection == path || (collection.ends_with(&format!("/{plural}")) && !path.contains("/namespaces/"));
            inside && named.as_ref().is_none_or(|name| object["metadata"]["name"] == name.as_str())
        };
        if query.contains("watch=") {
            return self.watch(wanted);
        }
        let state = self.state.lock();
        let items: Vec<&Value> = state.objects.iter().filter(|(at, o)| wanted(at, o)).map(|(_, o)| o).collect();
        let list = json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string()}, "items": items});
        answer(StatusCode::OK, &list)
    }

    fn watch(&self, wanted: impl Fn(&str, &Value) -> bool + Send + 'static) -> Response<Body> {
        let events = BroadcastStream::new(self.changes.subscribe()).filter_map(move |change| {
            let (path, word, mut object) = change.ok()?;
            if !wanted(&path, &object) {
                return None;
            }
            let plural = path.rsplit('/').nth(1).unwrap_or_default();
            object["kind"] = json!(kind_of(plural));
            let line = format!("{}\n", json!({"type": word, "object": object}));
            Some(Ok(Frame::data(Bytes::from(line))))
        });
        Response::new(StreamBody::new(events).boxed_unsync())
    }
}

fn answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn not_found() -> Response<Body> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": "NotFound", "message": "not found", "code": 404});
    answer(StatusCode::NOT_FOUND, &status)
}
