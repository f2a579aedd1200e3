//! The ports for clients and peers: TLS where the URL says so, HTTP/2 tuned for few connections that carry
//! thousands of watches and small transactions, HTTP/1 for those who ask how a member does. Nothing but the way to the service lies between HTTP/2 and gRPC:
//! layers that every request would pass through cost more than a small read.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;

use crate::authority::Authority;
use crate::gather::{Company, Gather};
use crate::metrics::Traffic;

/// Of all listeners of a port; those that come on top are let go at once.
const MAX_CONNECTIONS: usize = 16_384;
/// Open files that no client may take: the log, the checkpoint, the peers and who asks for metrics need theirs.
const RESERVED_FILES: u64 = 150;
/// More than the members of any cluster need.
pub const PEER_CONNECTIONS: usize = 48;
const MIN_CONNECTIONS: u64 = 16;
/// A peer that does not finish its handshake is let go after this.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client may send unread, per stream and in all: a full request fits. A connection with many small requests unread
/// is ended by the HTTP/2 library, at half of what a connection may hold, each counting at least 256 bytes: a stream of
/// small ones that is not read for a while must not come to that.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const MAX_FRAME_BYTES: u32 = 64 << 10;
/// Ever made, whatever the port.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
/// Requests on a connection that a client has given up before they were looked at: a store that was held up for a moment
/// finds all of them at once. A client that gives up more at once is let go.
const MAX_GIVEN_UP: usize = 16_384;
/// The code with which the transport refuses long messages.
const OUT_OF_RANGE: &str = "11";
/// How long clients' requests under way may take once the server drains.
const PATIENCE: Duration = Duration::from_secs(5);

pub struct Listener {
    pub listener: TcpListener,
    pub tls: Option<Arc<ServerConfig>>,
    pub names: Names,
}

/// What the common names in verified certificates mean.
#[derive(Debug, Clone)]
pub enum Names {
    Nothing,
    /// Whoever has no token is the user of this name.
    Users,
    /// Nobody else is served.
    Only(Arc<str>),
}

/// What a connection may be used for, how long it may be silent, and how long it may stay.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// Every watch may be a stream of its own.
    pub max_streams: u32,
    /// A connection without traffic is tried after the first and given up after the second.
    pub keepalive_interval: Option<Duration>,
    pub keepalive_timeout: Duration,
    /// How long requests under way may take once the server drains.
    pub patience: Duration,
}

impl Default for Tuning {
    fn default() -> Tuning {
        Tuning {
            max_streams: 100_000,
            keepalive_interval: Some(Duration::from_secs(30)),
            keepalive_timeout: Duration::from_secs(20),
            patience: PATIENCE,
        }
    }
}

/// The answer to one request.
pub type Reply = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// What answers the requests of a port.
pub trait Routes: Send + Sync + 'static {
    fn route(&self, request: http::Request<Incoming>) -> Reply;

    /// Whether a call of this path goes on after its first answer, or without any.
    fn is_stream(&self, path: &str) -> bool;
}

/// A message beyond the limit is refused by the transport, which says so in words and with a code of its own; clients
/// know Go's.
fn restate(response: http::Response<Body>) -> http::Response<Body> {
    let headers = response.headers();
    if headers.get(Status::GRPC_STATUS).is_some_and(|code| code == OUT_OF_RANGE)
        && let Some(status) = Status::from_header_map(headers).and_then(|status| too_large(&status))
    {
        return status.into_http();
    }
    response
}

/// What clients are told instead, if a message was refused for its length.
pub fn too_large(status: &Status) -> Option<Status> {
    let lengths = status.message().strip_prefix("Error, decoded message length too large: found ")?;
    let (found, limit) = lengths.strip_suffix(" bytes")?.split_once(" bytes, the limit is: ")?;
    Some(Status::resource_exhausted(format!("grpc: received message larger than max ({found} vs. {limit})")))
}

/// To a request for a service that there is not.
pub fn unknown(request: &http::Request<Incoming>) -> Reply {
    let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    let status = Status::unimplemented(format!("unknown service {service}"));
    Box::pin(std::future::ready(Ok(status.into_http())))
}

/// Serves until `drain` is cancelled and what was under way has ended.
pub async fn serve(
    listeners: Vec<Listener>,
    routes: impl Routes,
    traffic: Traffic,
    (max_connections, tuning): (usize, Tuning),
    drain: CancellationToken,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(max_connections));
    let (routes, open) = (Arc::new(routes), TaskTracker::new());
    for listener in listeners {
        let server = Server { traffic: traffic.clone(), tuning, drain: drain.clone() };
        open.spawn(accept(listener, routes.clone(), server, places.clone(), open.clone()));
    }
    drain.cancelled().await;
    open.close();
    if tokio::time::timeout(tuning.patience, open.wait()).await.is_err() {
        tracing::warn!("connections were still open at the end of the drain");
    }
    Ok(())
}

/// How many files this process may have open, as many as it can be granted.
fn open_files() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return RESERVED_FILES };
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    }
}

/// How many connections clients may have; asks for as many open files as there are to be had.
pub fn client_connections() -> usize {
    max_connections(open_files())
}

fn max_connections(open_files: u64) -> usize {
    let left = open_files.saturating_sub(RESERVED_FILES).max(MIN_CONNECTIONS);
    usize::try_from(left).map_or(MAX_CONNECTIONS, |left| left.min(MAX_CONNECTIONS))
}

/// What all connections of a port share.
#[derive(Clone)]
struct Server {
    traffic: Traffic,
    tuning: Tuning,
    drain: CancellationToken,
}

async fn accept(
    Listener { listener, tls, names }: Listener,
    routes: Arc<impl Routes>,
    server: Server,
    places: Arc<Semaphore>,
    open: TaskTracker,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let stream = tokio::select! {
            () = server.drain.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = stream else {
            // Out of file descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "rejected connection: there are too many");
            continue;
        };
        let (acceptor, names, routes, server) = (acceptor.clone(), names.clone(), routes.clone(), server.clone());
        open.spawn(async move {
            let _place = place;
            let traffic = server.traffic.clone();
            let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake(stream, acceptor, names, traffic));
            let shaken = tokio::select! {
                () = server.drain.cancelled() => return,
                shaken = shaking => shaken,
            };
            match shaken {
                Ok(Ok(connection)) => converse(connection, routes, server).await,
                Ok(Err(error)) => tracing::warn!(%peer, %error, "rejected connection"),
                Err(_) => tracing::warn!(%peer, "rejected connection: the handshake took too long"),
            }
        });
    }
}

/// Answers what comes on a connection, until either side ends it.
async fn converse(Connection { io, name, company }: Connection, routes: Arc<impl Routes>, server: Server) {
    let Server { tuning, drain, .. } = server;
    let id = ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        if let Some(name) = &name {
            request.extensions_mut().insert(name.clone());
        }
        let under_way = if routes.is_stream(request.uri().path()) {
            company.begin_stream();
            request.extensions_mut().insert(id);
            None
        } else {
            Some(company.begin())
        };
        let reply = routes.route(request);
        async move {
            let _under_way = under_way;
            reply.await.map(restate)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(tuning.max_streams)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_pending_accept_reset_streams(MAX_GIVEN_UP)
        .max_local_error_reset_streams(MAX_GIVEN_UP)
        .keep_alive_interval(tuning.keepalive_interval)
        .keep_alive_timeout(tuning.keepalive_timeout);
    let serving = builder.serve_connection(TokioIo::new(io), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection failed");
    }
}

async fn handshake(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    names: Names,
    traffic: Traffic,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let company = Arc::<Company>::default();
    match acceptor {
        None => {
            let io = Box::pin(Gather::new(Authority::new(stream), company.clone(), traffic));
            Ok(Connection { io, name: None, company })
        }
        Some(acceptor) => {
            let stream = acceptor.accept(stream).await?;
            let name = stream.get_ref().1.peer_certificates().and_then(common_name);
            let name = match names {
                Names::Nothing => None,
                Names::Users => name,
                Names::Only(only) if name.as_ref().is_none_or(|name| name.0 != only) => {
                    return Err(io::Error::other(format!("its certificate's common name is not {only}")));
                }
                Names::Only(_) => None,
            };
            Ok(Connection { io: Box::pin(Gather::new(stream, company.clone(), traffic)), name, company })
        }
    }
}

/// Which connection a call that goes on came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ConnectionId(u64);

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
    company: Arc<Company>,
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest() {
        let check = |files: u64, expected: usize| assert_eq!(max_connections(files), expected, "{files} files");
        check(256, 106);
        check(1_024, 874);
        check(1 << 20, MAX_CONNECTIONS);
        check(u64::MAX, MAX_CONNECTIONS);
        check(100, 16);
    }

    #[test]
    fn a_long_message_is_refused_in_gos_words() {
        let tonics = "Error, decoded message length too large: found 2097160 bytes, the limit is: 2097152 bytes";
        let told = too_large(&Status::out_of_range(tonics)).expect("known words");
        assert_eq!(told.code(), tonic::Code::ResourceExhausted);
        assert_eq!(told.message(), "grpc: received message larger than max (2097160 vs. 2097152)");
        assert!(too_large(&Status::out_of_range("etcdserver: mvcc: required revision has been compacted")).is_none());
    }

    /// Never answers.
    struct Silent(Arc<tokio::sync::Notify>);

    impl Routes for Silent {
        fn route(&self, _: http::Request<Incoming>) -> Reply {
            self.0.notify_one();
            Box::pin(std::future::pending())
        }

        fn is_stream(&self, _: &str) -> bool {
            false
        }
    }

    /// One client that does not end its call, nor its connection.
    #[tokio::test]
    async fn a_port_is_as_patient_as_it_was_told() {
        const GET_ROOT: &[u8] =
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84";
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let listener = Listener { listener, tls: None, names: Names::Nothing };
        let (drain, asked) = (CancellationToken::new(), Arc::new(tokio::sync::Notify::new()));
        let patience = Duration::from_millis(50);
        let tuning = Tuning { keepalive_interval: None, patience, ..Tuning::default() };
        let serving = serve(vec![listener], Silent(asked.clone()), Traffic::default(), (1, tuning), drain.clone());
        let serving = tokio::spawn(serving);
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(GET_ROOT).await.expect("sent");
        asked.notified().await;
        let begun = tokio::time::Instant::now();
        drain.cancel();
        serving.await.expect("no panic").expect("served");
        assert!((patience..PATIENCE).contains(&begun.elapsed()));
        drop(client);
    }
}
