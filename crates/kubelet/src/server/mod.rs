//! The node's HTTPS API: every request is authenticated, then authorized by the API server.

pub mod auth;
pub mod body;
pub mod logs;
pub mod metrics;
pub mod node_logs;
pub mod pods;
pub mod request;
pub mod rotate;
pub mod streams;
pub mod tls;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use daemon::health::Health;
use daemon::trust::{ClientTrust, Shown};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::context::Context;
use crate::pods::Pods;
use auth::{Attributes, Authenticator, Certified};
use body::{Body, text};

const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

pub struct Server {
    pub ctx: Arc<Context>,
    pub pods: Arc<Pods>,
    pub health: Health,
    authenticator: Authenticator,
}

impl Server {
    pub fn new(ctx: Arc<Context>, pods: Arc<Pods>, health: Health) -> Server {
        let authenticator = Authenticator::new(ctx.api.clone(), &ctx.settings);
        Server { ctx, pods, health, authenticator }
    }

    pub async fn run(self, listener: TcpListener, tls: tls::Tls, token: CancellationToken) {
        let server = Arc::new(self);
        let acceptor = TlsAcceptor::from(tls.config);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted =
                tokio::select! { () = token.cancelled() => return, accepted = listener.accept() => accepted };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, most likely: others need time to close theirs.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let (server, acceptor, clients) = (server.clone(), acceptor.clone(), tls.clients.clone());
            tokio::spawn(async move {
                server.serve(stream, acceptor, clients).await;
                drop(slot);
            });
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, acceptor: TlsAcceptor, clients: Option<Arc<ClientTrust>>) {
        let _ = stream.set_nodelay(true);
        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await else { return };
        let shown = clients.map(|trust| Arc::new(Shown::new(trust, stream.get_ref().1.peer_certificates())));
        let service = service_fn(move |request| {
            let (server, shown) = (self.clone(), shown.clone());
            async move { Ok::<_, std::convert::Infallible>(server.handle(request, shown.as_deref()).await) }
        });
        // HTTP/1.1 only: upgrades are what this API is mostly for.
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    }

    async fn handle(&self, request: Request<Incoming>, shown: Option<&Shown>) -> Response<Body> {
        let identity = match self.authenticator.authenticate(Certified::of(shown), request.headers()).await {
            Ok(identity) => identity,
            Err(response) => return response,
        };
        let attributes = Attributes::of(request.method(), request.uri().path());
        if let Err(response) = self.authenticator.authorize(&identity, &attributes).await {
            return response;
        }
        self.route(request).await
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let read = matches!(*request.method(), Method::GET | Method::HEAD);
        match parts.as_slice() {
            ["pods"] if read => pods::list(self),
            ["configz"] if read => body::json(&json!({"kubeletconfig": self.ctx.settings.config})),
            ["logs", ..] if read => node_logs::serve(Path::new(node_logs::ROOT), &path),
            ["containerLogs", namespace, pod, container] if read => {
                logs::serve(self, &request, namespace, pod, container).await
            }
            ["exec" | "attach", ..] => streams::exec_or_attach(self, request, &parts).await,
            ["portForward", ..] => streams::port_forward(self, request, &parts).await,
            ["run", ..] if *request.method() == Method::POST => streams::run(self, &request, &parts).await,
            ["stats", "summary"] if read => metrics::summary(self).await,
            ["metrics", "resource"] if read => metrics::resource(self).await,
            ["healthz" | "livez" | "readyz" | "metrics", ..] if read => {
                match self.health.respond(&path, request.uri().query().unwrap_or_default()) {
                    Some((status, kind, page)) => body::page(status, kind, page),
                    None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
                }
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}
