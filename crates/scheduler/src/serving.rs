//! The HTTPS port: health, metrics.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use daemon::CancellationToken;
use daemon::health::{self, Health};
use daemon::tls::{ClientAuth, ReloadingCert, server_config};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::flags::Flags;

/// Binds now, so that a port that is taken stops the start; serves until the token is cancelled.
pub async fn start(flags: &Flags, health: Health, token: CancellationToken) -> anyhow::Result<()> {
    if flags.secure_port == 0 {
        return Ok(());
    }
    let certificate: Arc<dyn ResolvesServerCert> = match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(cert), Some(key)) => ReloadingCert::load(cert, key)?,
        _ => self_signed(flags)?,
    };
    let clients = flags.client_ca_file.as_deref().map_or(ClientAuth::None, ClientAuth::Optional);
    let tls = server_config(certificate, clients, &["h2", "http/1.1"])?;
    let listener = health::bind(SocketAddr::new(flags.bind_address, flags.secure_port)).await?;
    tokio::spawn(health::serve(listener, Some(Arc::new(tls)), health, token));
    Ok(())
}

/// Good enough for probes, which do not verify; kept in memory only.
fn self_signed(flags: &Flags) -> anyhow::Result<Arc<dyn ResolvesServerCert>> {
    let now = jiff::Timestamp::now();
    let authority = pki::Authority::load(&pki::Authority::create("kube-scheduler-ca", now)?)?;
    let names = vec!["localhost".into(), "127.0.0.1".into(), flags.bind_address.to_string()];
    let pair = authority.issue(&pki::Leaf::server("kube-scheduler", names), now)?;
    let pem = format!("{}{}", pair.cert_pem, authority.cert_pem());
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
    let certified = CertifiedKey::from_der(chain, key, &daemon::tls::provider()).context("self-signed certificate")?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}
