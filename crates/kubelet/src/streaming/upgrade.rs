//! Upgrades: accepting the client's, asking the runtime for its SPDY.

use daemon::join::LINGER;
use futures::stream::{SplitSink, SplitStream};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// What a client may ask a connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    WebSocket,
    Spdy,
}

pub fn wanted(headers: &HeaderMap) -> Option<Wanted> {
    let upgrade = headers.get(header::UPGRADE)?.to_str().ok()?.to_ascii_lowercase();
    match upgrade.as_str() {
        "websocket" => Some(Wanted::WebSocket),
        "spdy/3.1" => Some(Wanted::Spdy),
        _ => None,
    }
}

/// The first of ours that the client offers.
pub fn negotiate(headers: &HeaderMap, ours: &[&'static str]) -> Option<&'static str> {
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    ours.iter().find(|ours| offered.contains(ours)).copied()
}

/// The 101 of a WebSocket handshake; `None` when the request is no handshake.
pub fn accept_websocket<B: Default>(headers: &HeaderMap, protocol: &str) -> Option<Response<B>> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::UPGRADE, "websocket")
        .header(header::CONNECTION, "Upgrade")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .header(header::SEC_WEBSOCKET_PROTOCOL, protocol)
        .body(B::default())
        .ok()
}

/// Ends a WebSocket whose streams have ended, and the connection under it: with what TLS ends with, too.
pub async fn end<A>(sink: SplitSink<WebSocketStream<A>, Message>, source: SplitStream<WebSocketStream<A>>)
where
    A: AsyncRead + AsyncWrite + Unpin,
{
    let Ok(mut client) = sink.reunite(source) else { return };
    let ending = async {
        let _ = client.close(None).await;
        let _ = client.get_mut().shutdown().await;
    };
    let _ = tokio::time::timeout(LINGER, ending).await;
}

/// A connection to the runtime's streaming server, speaking SPDY, and the protocol it chose.
pub struct RuntimeStream {
    pub io: TokioIo<Upgraded>,
    pub protocol: Option<String>,
}

pub async fn connect(url: &str, protocols: &[&str]) -> anyhow::Result<RuntimeStream> {
    use anyhow::Context;
    let uri: Uri = url.parse().context("the runtime's streaming URL")?;
    let authority = uri.authority().context("the runtime's streaming URL has no host")?;
    let stream = TcpStream::connect((authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(80)));
    let stream = stream.await.context("cannot reach the runtime's streaming server")?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1");
    for protocol in protocols {
        request = request.header(STREAM_PROTOCOL, *protocol);
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    anyhow::ensure!(
        response.status() == StatusCode::SWITCHING_PROTOCOLS,
        "the runtime's streaming server answered {}",
        response.status()
    );
    let protocol = response.headers().get(STREAM_PROTOCOL).and_then(|v| v.to_str().ok()).map(ToOwned::to_owned);
    let upgraded = hyper::upgrade::on(response).await?;
    Ok(RuntimeStream { io: TokioIo::new(upgraded), protocol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols() {
        let check = |offered: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered.parse().expect("a header value"));
            assert_eq!(negotiate(&headers, &["v5.channel.k8s.io", "v4.channel.k8s.io"]), expected);
        };
        check("v4.channel.k8s.io, v5.channel.k8s.io", Some("v5.channel.k8s.io"));
        check("v4.channel.k8s.io", Some("v4.channel.k8s.io"));
        check("base64.channel.k8s.io", None);
    }
}
