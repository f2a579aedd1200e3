//! A pull-only registry over a directory of blobs: enough of the distribution API for real pulls, on loopback.
//!
//! The `ns` parameter that containerd sends to a mirror is not needed: a repository's name is unique here without
//! the host it stands for. Names, tags and digests are looked up, never used as paths unchecked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::oci::MANIFEST;

/// Layers pulled at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// A client that connects and says nothing is let go.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// What is served; read once, the blobs per request.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    tags: BTreeMap<String, String>,
}

type Answer = Response<Full<Bytes>>;

impl Registry {
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("tags.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let tags = serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Self { dir: dir.to_owned(), tags })
    }

    /// The answer to one request; `path` without the query.
    fn answer(&self, method: &Method, path: &str) -> Answer {
        if method != Method::GET && method != Method::HEAD {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry can only be pulled from");
        }
        if path == "/v2/" || path == "/v2" {
            return answer(StatusCode::OK, "application/json", Bytes::from_static(b"{}"));
        }
        let Some(rest) = path.strip_prefix("/v2/") else {
            return refuse(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such path");
        };
        if let Some((repository, reference)) = rest.rsplit_once("/manifests/") {
            return self.manifest(method, repository, reference);
        }
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return self.tags(repository);
        }
        match rest.rsplit_once("/blobs/") {
            Some((_, digest)) => self.blob(method, digest, "application/octet-stream", "BLOB_UNKNOWN"),
            None => refuse(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such path"),
        }
    }

    /// Tags and digests of the repository's manifests.
    fn manifests<'a>(&'a self, repository: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        let entries = self.tags.iter().filter_map(|(name, digest)| Some((name.rsplit_once(':')?, digest)));
        entries.filter(move |((name, _), _)| *name == repository).map(|((_, tag), digest)| (tag, digest.as_str()))
    }

    fn tags(&self, repository: &str) -> Answer {
        let tags: Vec<&str> = self.manifests(repository).map(|(tag, _)| tag).collect();
        if tags.is_empty() {
            return refuse(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry");
        }
        let body = serde_json::json!({ "name": repository, "tags": tags }).to_string();
        answer(StatusCode::OK, "application/json", Bytes::from(body))
    }

    /// By tag or by digest; a blob that is no manifest of this repository is not one here.
    fn manifest(&self, method: &Method, repository: &str, reference: &str) -> Answer {
        match self.manifests(repository).find(|(tag, digest)| *tag == reference || *digest == reference) {
            Some((_, digest)) => self.blob(method, digest, MANIFEST, "MANIFEST_UNKNOWN"),
            None => refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        }
    }

    fn blob(&self, method: &Method, digest: &str, kind: &str, unknown: &'static str) -> Answer {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return refuse(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "not a sha256 digest");
        }
        let Ok(data) = std::fs::read(self.dir.join("blobs/sha256").join(hex)) else {
            return refuse(StatusCode::NOT_FOUND, unknown, "unknown to this registry");
        };
        let length = data.len();
        let body = if method == Method::HEAD { Bytes::new() } else { Bytes::from(data) };
        let mut response = answer(StatusCode::OK, kind, body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        if let Ok(digest) = HeaderValue::from_str(digest) {
            headers.insert("docker-content-digest", digest);
        }
        response
    }
}

fn answer(code: StatusCode, kind: &str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).expect("content types are ASCII"));
    headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
    response
}

fn refuse(code: StatusCode, name: &str, message: &str) -> Answer {
    let body = serde_json::json!({ "errors": [{ "code": name, "message": message }] }).to_string();
    answer(code, "application/json", Bytes::from(body))
}

/// Serves until the process ends.
pub fn serve(dir: &Path, listen: SocketAddr) -> anyhow::Result<()> {
    let registry = Registry::open(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        registry.serve(listener).await
    })
}

impl Registry {
    /// Serves on a listener that is already bound.
    pub async fn serve(self, listener: TcpListener) -> anyhow::Result<()> {
        let registry = Arc::new(self);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let slot = slots.clone().acquire_owned().await.context("the semaphore is never closed")?;
            let (stream, _) = listener.accept().await.context("cannot accept")?;
            let registry = registry.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let response = registry.answer(request.method(), request.uri().path());
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                // A client that goes away in the middle is its own business.
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                drop(slot);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(registry: &Registry, method: &Method, path: &str, code: u16) {
        assert_eq!(registry.answer(method, path).status().as_u16(), code, "{method} {path}");
    }

    #[test]
    fn only_what_is_there_can_be_pulled_and_nothing_pushed() {
        let dir = std::env::temp_dir().join(format!("coxswain-registry-{}", std::process::id()));
        let hex = "a".repeat(64);
        std::fs::create_dir_all(dir.join("blobs/sha256")).expect("temp dir is writable");
        std::fs::write(dir.join("blobs/sha256").join(&hex), "{}").expect("writable");
        std::fs::write(dir.join("tags.json"), format!(r#"{{"library/x:1":"sha256:{hex}"}}"#)).expect("writable");
        let registry = Registry::open(&dir).expect("complete");
        check(&registry, &Method::GET, "/v2/", 200);
        check(&registry, &Method::HEAD, "/v2/library/x/manifests/1", 200);
        check(&registry, &Method::GET, &format!("/v2/library/x/blobs/sha256:{hex}"), 200);
        check(&registry, &Method::GET, &format!("/v2/library/x/manifests/sha256:{hex}"), 200);
        check(&registry, &Method::GET, &format!("/v2/library/y/manifests/sha256:{hex}"), 404);
        check(&registry, &Method::GET, "/v2/library/x/tags/list", 200);
        check(&registry, &Method::GET, "/v2/library/y/tags/list", 404);
        check(&registry, &Method::GET, "/v2/library/x/manifests/2", 404);
        check(&registry, &Method::GET, "/v2/library/x/blobs/sha256:../../etc/passwd", 400);
        check(&registry, &Method::PUT, "/v2/library/x/manifests/1", 405);
        std::fs::remove_dir_all(&dir).expect("made above");
    }
}
