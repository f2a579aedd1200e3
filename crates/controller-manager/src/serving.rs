//! The HTTPS port for health and metrics.

use std::sync::Arc;

use anyhow::Context;
use daemon::CancellationToken;
use daemon::health::{self, Health};
use daemon::tls::{self, ClientAuth, ReloadingCert};
use jiff::Timestamp;
use pki::authority::{Authority, Leaf};
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::flags::Flags;

/// Binds, then serves in the background until the token is cancelled.
pub async fn start(flags: &Flags, health: &Health, token: &CancellationToken) -> anyhow::Result<()> {
    if flags.secure_port == 0 {
        return Ok(());
    }
    let clients = flags.client_ca_file.as_deref().map_or(ClientAuth::None, ClientAuth::Optional);
    let config = tls::server_config(certificate(flags)?, clients, &["h2", "http/1.1"])?;
    let listener = health::bind((flags.bind_address, flags.secure_port).into()).await?;
    tokio::spawn(health::serve(listener, Some(Arc::new(config)), health.clone(), token.clone()));
    Ok(())
}

fn certificate(flags: &Flags) -> anyhow::Result<Arc<dyn ResolvesServerCert>> {
    match (&flags.tls_cert_file, &flags.tls_private_key_file) {
        (Some(cert), Some(key)) => Ok(ReloadingCert::load(cert, key)?),
        _ => Ok(Arc::new(SelfSigned(Arc::new(self_signed().context("cannot make a self-signed certificate")?)))),
    }
}

/// One certificate for the life of the process.
#[derive(Debug)]
struct SelfSigned(Arc<CertifiedKey>);

impl ResolvesServerCert for SelfSigned {
    fn resolve(&self, _hello: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn self_signed() -> anyhow::Result<CertifiedKey> {
    let now = Timestamp::now();
    let name = "kube-controller-manager";
    let authority = Authority::load(&Authority::create(&format!("{name}-ca"), now)?)?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let pair = authority.issue(&Leaf::server(name, names), now)?;
    let chain = CertificateDer::pem_slice_iter(pair.cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes())?;
    Ok(CertifiedKey::from_der(chain, key, &tls::provider())?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_certificate_of_its_own() {
        assert_eq!(super::self_signed().expect("made").cert.len(), 1);
    }
}
