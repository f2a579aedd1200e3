//! exec, attach, run and portForward requests.

use std::time::Duration;

use cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::server::Server;
use crate::server::body::{Body, text};
use crate::server::request::{self, Query};
use crate::streaming::bridge::{self, Streams, V4, V5};
use crate::streaming::tunnel;
use crate::streaming::upgrade::{self, STREAM_PROTOCOL, Wanted};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PORT_FORWARD: &str = "portforward.k8s.io";

type Refusal = Box<Response<Body>>;

fn refuse(status: StatusCode, message: impl Into<String>) -> Refusal {
    Box::new(text(status, message))
}

/// `{verb}/{namespace}/{pod}/{container}`, or with the pod's uid before the container.
fn target<'a>(parts: &[&'a str]) -> Option<(&'a str, &'a str, Option<&'a str>, &'a str)> {
    match parts {
        [_, namespace, pod, container] => Some((namespace, pod, None, container)),
        [_, namespace, pod, uid, container] => Some((namespace, pod, Some(uid), container)),
        _ => None,
    }
}

/// The API server renames the client's `stdin`, `stdout`, `stderr`.
fn streams(query: &Query) -> Result<Streams, Refusal> {
    let either = |one: &str, other: &str| query.flag(one) || query.flag(other);
    let tty = query.flag("tty");
    let streams = Streams {
        stdin: either("input", "stdin"),
        stdout: either("output", "stdout"),
        stderr: either("error", "stderr") && !tty,
        tty,
    };
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(refuse(StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr"));
    }
    Ok(streams)
}

pub async fn exec_or_attach(server: &Server, request: Request<Incoming>, parts: &[&str]) -> Response<Body> {
    match try_exec_or_attach(server, request, parts).await {
        Ok(response) => response,
        Err(refusal) => *refusal,
    }
}

async fn try_exec_or_attach(
    server: &Server,
    request: Request<Incoming>,
    parts: &[&str],
) -> Result<Response<Body>, Refusal> {
    let not_found = || refuse(StatusCode::NOT_FOUND, "404 page not found\n");
    let (namespace, pod, uid, container) = target(parts).ok_or_else(not_found)?;
    let query = Query::of(request.uri());
    let streams = streams(&query)?;
    let entry = request::pod(server, namespace, pod, uid)?;
    let instance = request::running(&entry, container)?;
    let failed = |error: cri::Error| refuse(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let Streams { stdin, stdout, stderr, tty } = streams;
    let url = if parts[0] == "exec" {
        let cmd = query.all("command");
        let ask = ExecRequest { container_id: instance.id, cmd, tty, stdin, stdout, stderr };
        server.ctx.cri.exec(ask).await.map_err(failed)?.url
    } else {
        let ask = AttachRequest { container_id: instance.id, tty, stdin, stdout, stderr };
        server.ctx.cri.attach(ask).await.map_err(failed)?.url
    };
    match upgrade::wanted(request.headers()) {
        Some(Wanted::WebSocket) => websocket(request, &url, streams).await,
        Some(Wanted::Spdy) => spdy(request, &url).await,
        None => Err(refuse(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request")),
    }
}

fn bad_gateway(error: anyhow::Error) -> Refusal {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
}

async fn websocket(mut request: Request<Incoming>, url: &str, streams: Streams) -> Result<Response<Body>, Refusal> {
    let protocol = upgrade::negotiate(request.headers(), &[V5, V4])
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "no supported WebSocket subprotocol was offered"))?;
    let response = upgrade::accept_websocket(request.headers(), protocol)
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "not a WebSocket handshake"))?;
    // The runtime's protocol of v5 is v4's: the difference is only how a client closes stdin.
    let runtime = upgrade::connect(url, &[V4]).await.map_err(bad_gateway)?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let client = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        if let Err(error) = bridge::run(client, runtime.io, streams).await {
            tracing::debug!(error = format!("{error:#}"), "stream ended");
        }
    });
    Ok(response)
}

/// Both sides speak SPDY: nothing needs to be understood.
async fn spdy(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>, Refusal> {
    let offered: Vec<String> = request
        .headers()
        .get_all(STREAM_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|p| p.trim().to_owned()))
        .collect();
    let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
    let runtime = upgrade::connect(url, &offered).await.map_err(bad_gateway)?;
    let mut builder = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1");
    if let Some(protocol) = &runtime.protocol {
        builder = builder.header(STREAM_PROTOCOL, protocol);
    }
    let response =
        builder.body(Body::default()).map_err(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            daemon::join::join(TokioIo::new(upgraded), runtime.io).await;
        }
    });
    Ok(response)
}

pub async fn port_forward(server: &Server, request: Request<Incoming>, parts: &[&str]) -> Response<Body> {
    match try_port_forward(server, request, parts).await {
        Ok(response) => response,
        Err(refusal) => *refusal,
    }
}

async fn try_port_forward(
    server: &Server,
    mut request: Request<Incoming>,
    parts: &[&str],
) -> Result<Response<Body>, Refusal> {
    let (namespace, pod, uid) = match parts {
        [_, namespace, pod] => (*namespace, *pod, None),
        [_, namespace, pod, uid] => (*namespace, *pod, Some(*uid)),
        _ => return Err(refuse(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    let entry = request::pod(server, namespace, pod, uid)?;
    let view = entry.view();
    let host = podsync::pod::host_network(&entry.desired().pod);
    let sandbox = view.runtime.current_sandbox(host).map(|s| s.id.clone());
    let sandbox = sandbox
        .ok_or_else(|| refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to find sandbox for pod {pod:?}")))?;
    let url = server.ctx.cri.port_forward(PortForwardRequest { pod_sandbox_id: sandbox, port: Vec::new() }).await;
    let url = url.map_err(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?.url;
    match upgrade::wanted(request.headers()) {
        Some(Wanted::Spdy) => return spdy(request, &url).await,
        Some(Wanted::WebSocket) => {}
        None => return Err(refuse(StatusCode::BAD_REQUEST, "unable to upgrade: missing upgrade headers in request")),
    }
    upgrade::negotiate(request.headers(), &[TUNNEL])
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "no supported WebSocket subprotocol was offered"))?;
    let response = upgrade::accept_websocket(request.headers(), TUNNEL)
        .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "not a WebSocket handshake"))?;
    let runtime = upgrade::connect(&url, &[PORT_FORWARD]).await.map_err(bad_gateway)?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let client = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        tunnel::websocket(client, runtime.io).await;
    });
    Ok(response)
}

/// `/run`: a command to its end, its output as the answer.
pub async fn run(server: &Server, request: &Request<Incoming>, parts: &[&str]) -> Response<Body> {
    let query = Query::of(request.uri());
    let outcome = async {
        let not_found = || refuse(StatusCode::NOT_FOUND, "404 page not found\n");
        let (namespace, pod, uid, container) = target(parts).ok_or_else(not_found)?;
        let entry = request::pod(server, namespace, pod, uid)?;
        let instance = request::running(&entry, container)?;
        let words = query.get("cmd").unwrap_or_default().split(' ').map(ToOwned::to_owned).collect();
        let ran = server.ctx.cri.exec_sync(&instance.id, words, Duration::ZERO).await;
        ran.map_err(|e| refuse(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
    };
    match outcome.await {
        Ok(done) => {
            let output = [done.stdout, done.stderr].concat();
            crate::server::body::page(StatusCode::OK, "text/plain; charset=utf-8", output)
        }
        Err(refusal) => *refusal,
    }
}
