//! Accepting connections: TLS with a client certificate when there is one, HTTP/1.1 or HTTP/2 by ALPN, draining.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::CancellationToken;
use daemon::trust::Shown;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::chain::Chain;
use crate::authn::{Certified, User, x509};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that sends half a header is let go after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const MAX_CONNECTIONS: usize = 16_384;
const MAX_STREAMS: u32 = 250;
/// Requests that a client has given up before they were looked at; one that gives up more at once loses its connection,
/// with all its watches.
const MAX_GIVEN_UP: usize = 4_096;
const MAX_HEADERS: u32 = 1 << 20;
/// After a failed accept (out of descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub async fn run(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    chain: Arc<Chain>,
    stop: CancellationToken,
    grace_period: Duration,
) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let Ok(place) = connections.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "too many connections");
            continue;
        };
        let (acceptor, chain, watcher) = (acceptor.clone(), chain.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            if let Some(stream) = handshake(&acceptor, stream, peer).await {
                connection(stream, chain, watcher).await;
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(grace_period, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
    // Small frames of a watch must not wait for each other.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake error");
            None
        }
        Err(_) => None,
    }
}

async fn connection(stream: TlsStream<TcpStream>, chain: Arc<Chain>, watcher: hyper_util::server::graceful::Watcher) {
    let shown = Arc::new(Shown::new(chain.clients.clone(), stream.get_ref().1.peer_certificates()));
    let user: Option<Arc<User>> = shown.certificate().and_then(x509::user).map(Arc::new);
    let service = service_fn(move |request| {
        let (chain, user, shown) = (chain.clone(), user.clone(), shown.clone());
        async move {
            // A connection may outlive the certificate it was opened with, and the authority that signed it.
            let certified = match user.as_deref() {
                Some(user) if shown.is_believed() => Certified::User(user),
                Some(_) => Certified::Refused,
                None => Certified::Nobody,
            };
            Ok::<_, Infallible>(Box::pin(chain.serve(request, certified)).await)
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_pending_accept_reset_streams(MAX_GIVEN_UP)
        .max_local_error_reset_streams(MAX_GIVEN_UP)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%error, "connection ended");
    }
}
