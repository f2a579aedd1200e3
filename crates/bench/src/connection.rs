//! One HTTP/2 connection, bare: what is measured are the servers, and whatever a client adds it
//! adds to both.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::{Context as _, Result};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower::Service;

#[derive(Debug, Clone)]
pub struct Connection(SendRequest<Body>);

impl Connection {
    pub async fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Result<Connection> {
        let connecting = || format!("cannot connect to {address}");
        let stream = TcpStream::connect(address).await.with_context(connecting)?;
        stream.set_nodelay(true)?;
        match tls {
            None => Connection::begin(stream).await,
            Some(tls) => {
                let name = ServerName::try_from("localhost").expect("a valid name");
                let stream = TlsConnector::from(tls).connect(name, stream).await.with_context(connecting)?;
                Connection::begin(stream).await
            }
        }
    }

    async fn begin(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Connection> {
        let (requests, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        // It ends with the last handle, or with an error that the next request meets.
        tokio::spawn(driver);
        Ok(Connection(requests))
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
