//! A `kube::Client` over HTTP/2 with mutual TLS: all watches of a daemon share one connection, a dead peer is noticed
//! by pings, and a renewed client certificate is used from the next connection on.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwapOption;
use http::{HeaderValue, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::Body;
use kube::client::middleware::BaseUriLayer;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tower::{BoxError, ServiceBuilder};

use crate::kubeconfig::{self, Kubeconfig};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// As client-go: a silent connection is pinged, and dropped when the ping is not answered.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(15);

/// The client certificate of a kubeconfig, following its file.
#[derive(Debug)]
struct Identity(ArcSwapOption<CertifiedKey>);

impl ResolvesClientCert for Identity {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.load_full()
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

/// Connects lazily: an API server that is not there yet is no error here. `user_agent` is the daemon's name.
pub fn connect(kubeconfig: &Path, user_agent: &str) -> anyhow::Result<kube::Client> {
    let config = kubeconfig::read(kubeconfig)?;
    let tls = tls(&config, kubeconfig).with_context(|| format!("cannot use {}", kubeconfig.display()))?;
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http);
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_adaptive_window(true)
        .build::<_, Body>(https);
    let agent = HeaderValue::from_str(&format!("{user_agent}/{}", daemon::VERSION))?;
    let bearer = config.token.as_ref().map(|t| HeaderValue::from_str(&format!("Bearer {t}"))).transpose()?;
    let service = ServiceBuilder::new()
        .layer(BaseUriLayer::new(config.server.clone()))
        .map_request(move |mut request: http::Request<Body>| {
            request.headers_mut().insert(header::USER_AGENT, agent.clone());
            if let Some(bearer) = &bearer {
                request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
            }
            request
        })
        .map_err(BoxError::from)
        .service(client);
    Ok(kube::client::ClientBuilder::new(service, config.namespace).build())
}

fn tls(config: &Kubeconfig, path: &Path) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for cert in &config.ca {
        roots.add(cert.clone()).context("certificate-authority")?;
    }
    let identity = Arc::new(Identity(ArcSwapOption::new(config.identity.clone().map(Arc::new))));
    match daemon::watch_file::Watch::new(config.files.iter().map(std::path::PathBuf::as_path)) {
        Ok(watch) => drop(tokio::spawn(follow(path.to_owned(), Arc::downgrade(&identity), watch))),
        Err(error) => tracing::warn!(%error, "cannot watch the kubeconfig"),
    }
    Ok(ClientConfig::builder_with_provider(daemon::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_cert_resolver(identity))
}

async fn follow(path: std::path::PathBuf, identity: Weak<Identity>, mut watch: daemon::watch_file::Watch) {
    while watch.changed().await.is_ok() {
        let Some(identity) = identity.upgrade() else { return };
        match kubeconfig::read(&path) {
            Ok(config) => identity.0.store(config.identity.map(Arc::new)),
            Err(error) => tracing::warn!(%error, "keeping the client certificate in use"),
        }
    }
}
