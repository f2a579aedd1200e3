//! A small HTTP server for pages that answer with a status of their own: load balancers look at the code.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A peer that opens a connection and says nothing is let go after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Load balancers probe from a handful of addresses.
const MAX_CONNECTIONS: usize = 64;

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    pub status: StatusCode,
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: String,
}

/// Answers a path, or not.
pub type Handler = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// Serves until the token is cancelled.
pub async fn serve(listener: TcpListener, handler: Handler, token: CancellationToken) {
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
        let (handler, token) = (handler.clone(), token.clone());
        tokio::spawn(async move {
            tokio::select! { () = token.cancelled() => {}, () = connection(stream, handler) => {} }
            drop(slot);
        });
    }
}

async fn connection(stream: tokio::net::TcpStream, handler: Handler) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let response = respond(handler(request.uri().path()));
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "health connection");
    }
}

fn respond(page: Option<Page>) -> Response<Full<Bytes>> {
    let Some(page) = page else {
        let mut response = Response::new(Full::new(Bytes::from_static(b"404 page not found\n")));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("X-Content-Type-Options", HeaderValue::from_static("nosniff"));
    for (name, value) in page.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    let mut response = Response::new(Full::new(Bytes::from(page.body)));
    *response.status_mut() = page.status;
    *response.headers_mut() = headers;
    response
}
