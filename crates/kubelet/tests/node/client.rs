//! What the API server does to a kubelet: requests and upgrades over mutual TLS.

use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use pki::Pair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::env::Env;

pub struct Client {
    config: Arc<rustls::ClientConfig>,
    port: u16,
}

impl Client {
    pub fn new(env: &Env, identity: Option<&Pair>) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(env.authority.cert_pem().as_bytes()).expect("a certificate");
        roots.add(ca).expect("an authority");
        let builder = rustls::ClientConfig::builder_with_provider(daemon::tls::provider())
            .with_safe_default_protocol_versions()
            .expect("protocol versions")
            .with_root_certificates(roots);
        let config = match identity {
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert_pem.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![cert], key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        Client { config: Arc::new(config), port: env.port }
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        TlsConnector::from(self.config.clone()).connect(name, stream).await
    }

    /// Status 0: not reachable.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let Ok(stream) = self.connect().await else { return (0, String::new()) };
        let Ok((mut sender, connection)) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await else {
            return (0, String::new());
        };
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "node").body(Empty::<Bytes>::new()).expect("a request");
        let Ok(response) = sender.send_request(request).await else { return (0, String::new()) };
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    pub async fn websocket(&self, path: &str, protocol: &str) -> WebSocketStream<TlsStream<TcpStream>> {
        let mut request = format!("wss://127.0.0.1:{}{path}", self.port).into_client_request().expect("a URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol.parse().expect("a header"));
        let stream = self.connect().await.expect("reachable");
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.expect("an upgrade");
        let chosen = response.headers().get("Sec-WebSocket-Protocol").and_then(|v| v.to_str().ok());
        assert_eq!(chosen, Some(protocol));
        socket
    }

    /// Runs a command to its end: stdout, stderr and the final Status.
    pub async fn exec(&self, pod: &str, command: &[&str], stdin: Option<&[u8]>) -> (String, String, serde_json::Value) {
        let words: String = command
            .iter()
            .map(|w| format!("&command={}", form_urlencoded::byte_serialize(w.as_bytes()).collect::<String>()))
            .collect();
        let input = if stdin.is_some() { "&input=1" } else { "" };
        let path = format!("/exec/default/{pod}/c?output=1&error=1{input}{words}");
        let mut socket = self.websocket(&path, "v5.channel.k8s.io").await;
        if let Some(bytes) = stdin {
            socket.send(Message::binary([&[0], bytes].concat())).await.expect("sent");
            socket.send(Message::binary(vec![255, 0])).await.expect("sent");
        }
        let mut channels = vec![Vec::new(); 4];
        while let Some(Ok(message)) = socket.next().await {
            if let Message::Binary(bytes) = message {
                channels[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&channels[1]), text(&channels[2]), serde_json::from_slice(&channels[3]).unwrap_or_default())
    }
}
