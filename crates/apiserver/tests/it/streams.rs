//! Logs and upgraded streams, passed through to a kubelet: here a TLS server that answers a log with the path it was
//! asked for, and an upgrade by sending back what it gets.

use std::sync::Arc;

use daemon::tls::{self, ClientAuth, ReloadingCert};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::{Harness, pod};

async fn kubelet(h: &Harness) -> u16 {
    let dir = h.dir.path();
    let cert = ReloadingCert::load(&dir.join("apiserver.crt"), &dir.join("apiserver.key")).expect("a certificate");
    let config = tls::server_config(cert, ClientAuth::Required(&dir.join("ca.crt")), &[]).expect("TLS");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.expect("the server shows its certificate");
                let service = hyper::service::service_fn(answer);
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = connection.with_upgrades().await;
            });
        }
    });
    port
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let asked = request.uri().to_string();
    let mut response = Response::new(Full::new(Bytes::from(asked.clone())));
    if request.uri().path().contains("waiting") {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    if let Some(protocol) = request.headers().get(header::UPGRADE).cloned() {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::UPGRADE, protocol);
        response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("Upgrade"));
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(&mut request).await.expect("an upgrade");
            let mut upgraded = TokioIo::new(upgraded);
            upgraded.write_all(format!("{asked}\n").as_bytes()).await.expect("written");
            let (mut read, mut write) = tokio::io::split(upgraded);
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
    }
    Ok(response)
}

async fn running_pod(h: &Harness, name: &str, port: u16) {
    let c = h.admin();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    c.post("/api/v1/nodes", &node).await;
    c.post("/api/v1/namespaces/default/pods", &pod(name)).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    let (code, status) = c.post(&format!("/api/v1/namespaces/default/pods/{name}/binding"), &binding).await;
    assert_eq!(code, 201, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_the_kubelet() {
    let h = Harness::start().await;
    let port = kubelet(&h).await;
    running_pod(&h, "p", port).await;
    running_pod(&h, "waiting", port).await;
    let c = h.admin();
    let (code, log) = c.get("/api/v1/namespaces/default/pods/p/log?tailLines=3&follow=true").await;
    assert_eq!((code, log), (200, json!("/containerLogs/default/p/c?follow=true&tailLines=3")));
    let (code, status) = c.get("/api/v1/namespaces/default/pods/waiting/log").await;
    assert_eq!((code, &status["message"]), (400, &json!("/containerLogs/default/waiting/c")));
    let (code, status) = c.get("/api/v1/namespaces/default/pods/p/log?container=x").await;
    assert_eq!((code, &status["message"]), (400, &json!("container x is not valid for pod p")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_goes_through_both_ways() {
    let h = Harness::start().await;
    let port = kubelet(&h).await;
    running_pod(&h, "p", port).await;
    let dir = h.dir.path();
    let pair = h.identity("admin", Some("system:masters"));
    std::fs::write(dir.join("me.crt"), &pair.cert_pem).expect("a file");
    std::fs::write(dir.join("me.key"), &pair.key_pem).expect("a file");
    let identity = ReloadingCert::load(&dir.join("me.crt"), &dir.join("me.key")).expect("a certificate");
    let config = tls::client_config(&dir.join("ca.crt"), Some(identity)).expect("TLS");
    let stream = TcpStream::connect(h.url.trim_start_matches("https://")).await.expect("connects");
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
    let request = "POST /api/v1/namespaces/default/pods/p/exec?command=ls&command=-l&stdin=true&stdout=true HTTP/1.1\r\n\
                   Host: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut seen = Vec::new();
    let wanted = b"/exec/default/p/c?input=1&output=1&command=ls&command=-l\n";
    while !seen.ends_with(wanted) {
        let mut block = [0; 1024];
        let count = stream.read(&mut block).await.expect("read");
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&block[..count]);
    }
    let head = String::from_utf8_lossy(&seen).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: spdy/3.1"), "{head}");
    stream.write_all(b"hello").await.expect("sent");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).await.expect("echoed");
    assert_eq!(&echoed, b"hello");
    // Without an upgrade there is nothing to stream to.
    let (code, status) =
        h.admin().post("/api/v1/namespaces/default/pods/p/exec?command=ls&stdout=true", &json!({})).await;
    assert_eq!((code, &status["message"]), (400, &json!("Upgrade request required")));
}
