//! The client port: TLS where the URL says so, HTTP/2 tuned for few connections that carry
//! thousands of watches and small transactions.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Result;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::gather::Gather;

/// Handshakes under way; further connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 64;
/// A peer that does not finish its handshake is let go after this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Every watch may be a stream of its own.
const MAX_STREAMS: u32 = 100_000;
/// What a client may send unread, per stream and in all: a full request fits.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const MAX_FRAME_BYTES: u32 = 64 << 10;
/// A connection without traffic is tried after the first and given up after the second.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long requests under way may take once the server drains.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Listener {
    pub listener: TcpListener,
    pub tls: Option<Arc<ServerConfig>>,
}

/// Serves until `drain` is cancelled and what was under way has ended.
pub async fn serve(listeners: Vec<Listener>, routes: Routes, drain: CancellationToken) -> Result<()> {
    let (accepted, connections) = mpsc::channel(MAX_HANDSHAKES);
    for listener in listeners {
        tokio::spawn(accept(listener, accepted.clone(), drain.clone()));
    }
    drop(accepted);
    let serving = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), drain.clone().cancelled_owned());
    let overdue = async {
        drain.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = overdue => {
            tracing::warn!("connections were still open at the end of the drain");
            Ok(())
        }
    }
}

async fn accept(
    Listener { listener, tls }: Listener,
    accepted: mpsc::Sender<io::Result<Connection>>,
    drain: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            () = drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = stream else {
            // Out of file descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (acceptor, accepted) = (acceptor.clone(), accepted.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, acceptor)).await {
                // The server is gone only when draining.
                Ok(Ok(connection)) => drop(accepted.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::warn!(%peer, %error, "rejected connection"),
                Err(_) => tracing::warn!(%peer, "rejected connection: the handshake took too long"),
            }
            drop(slot);
        });
    }
}

async fn handshake(stream: TcpStream, acceptor: Option<TlsAcceptor>) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    match acceptor {
        None => Ok(Connection { io: Box::pin(Gather::new(stream)), name: None }),
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let name = stream.get_ref().1.peer_certificates().and_then(common_name);
            Ok(Connection { io: Box::pin(Gather::new(stream)), name })
        }
    }
}

/// The name in a client's certificate, which the handshake has verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommonName(pub Arc<str>);

fn common_name(chain: &[CertificateDer<'_>]) -> Option<CommonName> {
    let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    // Of several the last one, as in Go.
    let name = certificate.subject().iter_common_name().last()?.as_str().ok()?;
    (!name.is_empty()).then(|| CommonName(name.into()))
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection with its handshake behind it.
struct Connection {
    io: Pin<Box<dyn Io>>,
    name: Option<CommonName>,
}

impl Connected for Connection {
    type ConnectInfo = Option<CommonName>;

    fn connect_info(&self) -> Option<CommonName> {
        self.name.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
