//! Passing a request on and its answer back, and joining two connections once both have switched protocols.

use std::time::Duration;

use api::ApiError;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use super::{Backend, Destination, empty};
use crate::http::reply::{Body, BoxError, Payload, Reply};
use crate::http::request::Request as ClientRequest;

/// What a backend says when it refuses is quoted up to here.
const MAX_ERROR: usize = 50 << 10;
/// How long the two sides may take to switch protocols.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers of one connection only (RFC 9110, section 7.6.1), and the client's credentials.
const NOT_FORWARDED: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "authorization",
];

/// Passes a request on and streams what comes back.
pub async fn stream(
    backend: &Backend,
    to: &Destination,
    method: Method,
    path_and_query: &str,
    request: &ClientRequest,
    body: Option<Incoming>,
) -> Result<Response<Incoming>, ApiError> {
    let body: Body = match body {
        Some(body) => body.map_err(BoxError::from).boxed_unsync(),
        None => empty(),
    };
    let mut forwarded = prepared(to, method, path_and_query, body)?;
    copy_headers(&request.headers, forwarded.headers_mut());
    backend.send(to, forwarded).await
}

fn prepared(to: &Destination, method: Method, path_and_query: &str, body: Body) -> Result<Request<Body>, ApiError> {
    let host = format!("{}:{}", to.host, to.port);
    let request = Request::builder().method(method).uri(path_and_query).header(header::HOST, host).body(body);
    request.map_err(|e| ApiError::bad_request(e.to_string()))
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        let name_text = name.as_str();
        if !NOT_FORWARDED.contains(&name_text) && !name_text.starts_with("impersonate-") {
            to.append(name.clone(), value.clone());
        }
    }
}

/// A backend's answer as ours.
pub fn reply(response: Response<Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let content_type = parts.headers.get(header::CONTENT_TYPE).cloned();
    let mut reply = Reply::new(
        parts.status,
        "application/octet-stream",
        Payload::Stream(body.map_err(BoxError::from).boxed_unsync()),
    );
    if let Some(content_type) = content_type {
        reply.content_type = content_type;
    }
    for (name, value) in &parts.headers {
        let kept = !NOT_FORWARDED.contains(&name.as_str()) && name != header::CONTENT_TYPE && name != header::DATE;
        if kept {
            reply.headers.push((name.clone(), value.clone()));
        }
    }
    reply
}

/// A kubelet's refusal in the words of the API.
pub async fn refusal(response: Response<Incoming>) -> ApiError {
    let code = response.status();
    let body = Limited::new(response.into_body(), MAX_ERROR).collect().await;
    let text = body.map(|b| String::from_utf8_lossy(&b.to_bytes()).trim_end().to_owned()).unwrap_or_default();
    match code {
        StatusCode::INTERNAL_SERVER_ERROR => ApiError::internal(text),
        StatusCode::BAD_REQUEST => ApiError::bad_request(text),
        StatusCode::NOT_FOUND => {
            ApiError::new(404, "NotFound", format!("the server could not find the requested resource ({text})"))
        }
        StatusCode::FORBIDDEN => ApiError::new(403, "Forbidden", format!("unable to upgrade connection: {text}")),
        other => ApiError::new(other.as_u16(), "InternalError", text),
    }
}

/// Passes an upgrade on. When the backend switches protocols, so do we, and the bytes flow unread in both directions.
pub async fn tunnel(
    backend: &Backend,
    to: &Destination,
    path_and_query: &str,
    request: &ClientRequest,
) -> Result<Reply, ApiError> {
    let mut forwarded = prepared(to, request.method.clone(), path_and_query, empty())?;
    copy_headers(&request.headers, forwarded.headers_mut());
    for name in [header::CONNECTION, header::UPGRADE] {
        if let Some(value) = request.headers.get(&name) {
            forwarded.headers_mut().insert(name, value.clone());
        }
    }
    let Some(client) = request.take_upgrade().filter(|_| request.headers.contains_key(header::UPGRADE)) else {
        return Err(ApiError::bad_request("Upgrade request required"));
    };
    let mut response = backend.send(to, forwarded).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(reply(response));
    }
    let server = hyper::upgrade::on(&mut response);
    tokio::spawn(join(client, server));
    let mut switched = Reply::new(StatusCode::SWITCHING_PROTOCOLS, "", Payload::Bytes(Bytes::new()));
    switched.headers = switching_headers(response.headers());
    Ok(switched)
}

fn switching_headers(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let kept = |name: &HeaderName| {
        name == header::CONNECTION
            || name == header::UPGRADE
            || name.as_str().starts_with("sec-websocket")
            || name.as_str().starts_with("x-stream")
    };
    headers.iter().filter(|(name, _)| kept(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

async fn join(client: OnUpgrade, server: OnUpgrade) {
    let both = async { tokio::try_join!(client, server) };
    match tokio::time::timeout(UPGRADE_TIMEOUT, both).await {
        Ok(Ok((client, server))) => daemon::join::join(TokioIo::new(client), TokioIo::new(server)).await,
        Ok(Err(error)) => tracing::debug!(%error, "an upgrade failed"),
        Err(_) => tracing::debug!("an upgrade took too long"),
    }
}
