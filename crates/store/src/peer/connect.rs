//! Connections to peers: TLS with this member's certificate where the URL says so.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::link::MAX_BATCH_BYTES;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that is gone without a word is noticed by this.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const WINDOW_BYTES: u32 = 8 << 20;

#[derive(Clone)]
pub struct Connector {
    tls: Option<Arc<ClientConfig>>,
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Stream = TokioIo<Box<dyn Io>>;

impl Connector {
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Connector {
        Connector { tls }
    }

    /// Connects when it is first used, and again when the connection is lost; to one of the URLs after the other.
    pub fn channel(&self, urls: &[String]) -> Channel {
        let endpoint = Endpoint::from_static("http://peer")
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .buffer_size(MAX_BATCH_BYTES);
        let uris: Vec<Uri> = urls.iter().filter_map(|url| url.parse().ok()).collect();
        endpoint.connect_with_connector_lazy(Dial { tls: self.tls.clone(), uris: uris.into(), next: 0 })
    }
}

/// What the channel asks for a connection.
#[derive(Clone)]
struct Dial {
    tls: Option<Arc<ClientConfig>>,
    uris: Arc<[Uri]>,
    next: usize,
}

impl tower::Service<Uri> for Dial {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let uri = self.uris.get(self.next % self.uris.len().max(1)).cloned();
        self.next = self.next.wrapping_add(1);
        let tls = self.tls.clone();
        Box::pin(async move {
            let uri = uri.ok_or_else(|| io::Error::other("the peer has no URL"))?;
            dial(&uri, tls).await
        })
    }
}

async fn dial(uri: &Uri, tls: Option<Arc<ClientConfig>>) -> io::Result<Stream> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(2380))).await?;
    stream.set_nodelay(true)?;
    if uri.scheme_str() != Some("https") {
        return Ok(TokioIo::new(Box::new(stream)));
    }
    let tls = tls.ok_or_else(|| io::Error::other(format!("{uri} needs --peer-trusted-ca-file")))?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    Ok(TokioIo::new(Box::new(stream)))
}
