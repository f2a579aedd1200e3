//! The server as a client: of kubelets over mutual TLS, and of pods and services for the proxy subresource.

mod forward;

use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http::reply::{Body, BoxError};

pub use forward::{refusal, reply, stream, tunnel};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request is forwarded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub host: String,
    pub port: u16,
    pub security: Security,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    /// A kubelet: its certificate is verified, ours is shown.
    Kubelet,
    /// A pod that serves TLS: nobody vouches for its certificate, as upstream's proxy takes it.
    Unverified,
}

pub struct Backend {
    kubelet: Arc<ClientConfig>,
    unverified: Arc<ClientConfig>,
}

impl Backend {
    pub fn new(kubelet: Arc<ClientConfig>, unverified: Arc<ClientConfig>) -> Self {
        Self { kubelet, unverified }
    }

    /// Sends one request over a connection of its own.
    pub async fn send(&self, to: &Destination, request: Request<Body>) -> Result<Response<Incoming>, ApiError> {
        let unreachable = |error: String| {
            ApiError::internal(format!("error dialing backend: dial tcp {}:{}: {error}", to.host, to.port))
        };
        let connecting = TcpStream::connect((to.host.as_str(), to.port));
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| unreachable("i/o timeout".to_owned()))?
            .map_err(|e| unreachable(e.to_string()))?;
        let _ = stream.set_nodelay(true);
        let config = match to.security {
            Security::Plain => return exchange(stream, request).await,
            Security::Kubelet => self.kubelet.clone(),
            Security::Unverified => self.unverified.clone(),
        };
        let name = ServerName::try_from(to.host.clone()).map_err(|e| unreachable(e.to_string()))?;
        let stream = TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|e| unreachable(format!("remote error: tls: {e}")))?;
        exchange(stream, request).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Body>,
) -> Result<Response<Incoming>, ApiError> {
    let failed = |error: hyper::Error| ApiError::internal(format!("error talking to the backend: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "backend connection ended");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

pub fn empty() -> Body {
    Empty::<Bytes>::new().map_err(|never| -> BoxError { match never {} }).boxed_unsync()
}

/// Accepts any certificate.
#[derive(Debug)]
pub struct AnyCertificate(pub Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
