//! The side port every daemon serves: `/healthz`, `/livez`, `/readyz` with named checks, `/metrics`, and whatever
//! debug pages a daemon adds. Over plain HTTP on a loopback or node address, or over TLS, where everything but the
//! health paths wants a verified client certificate.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};

/// A peer that opens a connection and says nothing is let go after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Side ports serve a handful of scrapers.
const MAX_CONNECTIONS: usize = 64;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;
/// Given path and query, finds out what checks and pages will tell.
type Preparation = Arc<dyn Fn(&str, &str) -> BoxFuture<'static, ()> + Send + Sync>;
/// Given the query, tells the code, the content type and the body.
type Page = Arc<dyn Fn(&str) -> (StatusCode, &'static str, String) + Send + Sync>;

/// Named checks and pages; cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    live: RwLock<BTreeMap<String, Check>>,
    ready: RwLock<BTreeMap<String, Check>>,
    pages: RwLock<BTreeMap<String, Page>>,
    preparation: RwLock<Option<Preparation>>,
    metrics: Metrics,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").finish_non_exhaustive()
    }
}

impl Health {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Counts for `/livez`, `/healthz` and `/readyz`.
    pub fn live(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.inner.live.write().insert(name.to_owned(), Arc::new(check));
    }

    /// Counts for `/readyz` only.
    pub fn ready(&self, name: &str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.inner.ready.write().insert(name.to_owned(), Arc::new(check));
    }

    /// What has to be waited for before a request can be answered.
    pub fn prepare(&self, preparation: impl Fn(&str, &str) -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        *self.inner.preparation.write() = Some(Arc::new(preparation));
    }

    /// A page of its own: returns content type and body.
    pub fn page(&self, path: &str, page: impl Fn() -> (&'static str, String) + Send + Sync + 'static) {
        self.status_page(path, move |_| {
            let (kind, body) = page();
            (StatusCode::OK, kind, body)
        });
    }

    /// A page that is given the query, and decides about its status code too.
    pub fn status_page(
        &self,
        path: &str,
        page: impl Fn(&str) -> (StatusCode, &'static str, String) + Send + Sync + 'static,
    ) {
        self.inner.pages.write().insert(path.to_owned(), Arc::new(page));
    }

    /// The answer to a GET of a path with a query, or `None` when it is none of these paths. Also used by daemons that
    /// serve these paths on their main port.
    pub fn respond(&self, path: &str, query: &str) -> Option<(StatusCode, &'static str, String)> {
        let plain = "text/plain; charset=utf-8";
        let verbose = query.split('&').any(|part| part.starts_with("verbose"));
        match path {
            "/healthz" | "/livez" => Some(self.check(path, verbose, false)),
            "/readyz" => Some(self.check(path, verbose, true)),
            "/metrics" => Some((StatusCode::OK, metrics::CONTENT_TYPE, self.inner.metrics.encode())),
            _ => {
                let page = self.inner.pages.read().get(path).cloned();
                page.map(|page| {
                    let (code, kind, body) = page(query);
                    (code, if kind.is_empty() { plain } else { kind }, body)
                })
            }
        }
    }

    fn check(&self, path: &str, verbose: bool, ready: bool) -> (StatusCode, &'static str, String) {
        let plain = "text/plain; charset=utf-8";
        let mut checks: Vec<(String, Check)> =
            self.inner.live.read().iter().map(|(n, c)| (n.clone(), c.clone())).collect();
        if ready {
            checks.extend(self.inner.ready.read().iter().map(|(n, c)| (n.clone(), c.clone())));
        }
        let endpoint = path.trim_start_matches('/');
        let mut report = String::from("[+]ping ok\n");
        let mut failed = false;
        for (name, check) in checks {
            match check() {
                Ok(()) => report.push_str(&format!("[+]{name} ok\n")),
                Err(why) => {
                    failed = true;
                    report.push_str(&format!("[-]{name} failed: {why}\n"));
                }
            }
        }
        match (failed, verbose) {
            (true, _) => (StatusCode::INTERNAL_SERVER_ERROR, plain, format!("{report}{endpoint} check failed\n")),
            (false, true) => (StatusCode::OK, plain, format!("{report}{endpoint} check passed\n")),
            (false, false) => (StatusCode::OK, plain, "ok".to_owned()),
        }
    }

    /// The answer to any request, once what it tells is known.
    pub async fn answer<B>(&self, request: &Request<B>, trusted: bool) -> Response<Full<Bytes>> {
        let preparation = self.inner.preparation.read().clone();
        if let Some(preparation) = preparation {
            preparation(request.uri().path(), request.uri().query().unwrap_or_default()).await;
        }
        self.handle(request, trusted)
    }

    /// The answer to any request, by what is known. Who is not trusted is told no more than whether the daemon is well.
    fn handle<B>(&self, request: &Request<B>, trusted: bool) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let health = matches!(path, "/healthz" | "/livez" | "/readyz");
        let plain = "text/plain; charset=utf-8";
        let (code, kind, body) = if !health && !trusted {
            (StatusCode::UNAUTHORIZED, plain, "a client certificate is required\n".to_owned())
        } else if request.method() != http::Method::GET && request.method() != http::Method::HEAD {
            (StatusCode::METHOD_NOT_ALLOWED, plain, "only GET is allowed\n".to_owned())
        } else {
            self.respond(path, request.uri().query().unwrap_or_default()).unwrap_or((
                StatusCode::NOT_FOUND,
                plain,
                "404 page not found\n".to_owned(),
            ))
        };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = code;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }
}

/// Binds, naming the address in the error.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    Reserved::new(address)?.listen()
}

/// An address that nobody else can have any more, and at which nobody is let in yet.
pub struct Reserved {
    address: SocketAddr,
    socket: TcpSocket,
}

impl Reserved {
    /// Needs a runtime.
    pub fn new(address: SocketAddr) -> anyhow::Result<Reserved> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let bound = socket.and_then(|socket| {
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        });
        Ok(Reserved { address, socket: bound.with_context(|| cannot_listen(address))? })
    }

    pub fn listen(self) -> anyhow::Result<TcpListener> {
        self.socket.listen(BACKLOG).with_context(|| cannot_listen(self.address))
    }
}

fn cannot_listen(address: SocketAddr) -> String {
    format!("cannot listen on {address}")
}

/// Serves until the token is cancelled.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, health: Health, token: CancellationToken) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = token.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
        let (health, acceptor, token) = (health.clone(), acceptor.clone(), token.clone());
        tokio::spawn(async move {
            let work = connection(stream, acceptor, health);
            tokio::select! { () = token.cancelled() => {}, () = work => {} }
            drop(slot);
        });
    }
}

async fn connection(stream: tokio::net::TcpStream, acceptor: Option<TlsAcceptor>, health: Health) {
    match acceptor {
        None => http(TokioIo::new(stream), health, true).await,
        Some(acceptor) => {
            let Ok(Ok(stream)) = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(stream)).await else { return };
            let trusted = stream.get_ref().1.peer_certificates().is_some();
            http(TokioIo::new(stream), health, trusted).await;
        }
    }
}

async fn http<I>(io: I, health: Health, trusted: bool)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let health = health.clone();
        async move { Ok::<_, Infallible>(health.answer(&request, trusted).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    if let Err(error) = builder.serve_connection(io, service).await {
        tracing::debug!(%error, "side port connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(health: &Health, path: &str, query: &str, code: u16, words: &str) {
        let (status, _, body) = health.respond(path, query).expect("a known path");
        assert_eq!(status.as_u16(), code, "{body}");
        assert!(body.contains(words), "{body}");
    }

    #[test]
    fn readiness_includes_liveness_but_not_the_other_way_round() {
        let health = Health::new();
        health.ready("synced", || Err("informers not synced".into()));
        check(&health, "/livez", "", 200, "ok");
        check(&health, "/livez", "verbose", 200, "livez check passed");
        check(&health, "/readyz", "", 500, "[-]synced failed: informers not synced");
        health.live("loop", || Err("stuck".into()));
        check(&health, "/healthz", "", 500, "[-]loop failed: stuck");
        assert!(health.respond("/other", "").is_none());
    }
}
