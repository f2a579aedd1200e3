//! Whom to believe, from files of authorities that may change while the daemon runs: a new authority counts from the
//! next handshake on, and so two can be trusted while one takes over from the other. A file that cannot be used is
//! refused, and what was trusted before stays trusted.

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::tls::{Error, provider, roots};
use crate::watch_file::Watch;

/// A verifier made from a file, and made again when the file changes.
pub struct Reloading<V: ?Sized> {
    path: PathBuf,
    current: ArcSwap<Arc<V>>,
    make: fn(&Path) -> Result<Arc<V>, Error>,
}

impl<V: ?Sized> Debug for Reloading<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<V: ?Sized + Send + Sync + 'static> Reloading<V> {
    /// Loads now, and again whenever the file changes (the task ends with the last reference). Needs a runtime.
    fn load(path: &Path, make: fn(&Path) -> Result<Arc<V>, Error>) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(make(path)?);
        let this = Arc::new(Self { path: path.to_owned(), current, make });
        match Watch::new([path]) {
            Ok(watch) => drop(tokio::spawn(follow(Arc::downgrade(&this), watch))),
            Err(error) => tracing::warn!(%error, authorities = %path.display(), "cannot watch the authorities' file"),
        }
        Ok(this)
    }

    fn reload(&self) {
        match (self.make)(&self.path) {
            Ok(new) => {
                tracing::debug!(authorities = %self.path.display(), "authorities reloaded");
                self.current.store(Arc::new(new));
            }
            Err(error) => tracing::warn!(%error, "keeping the authorities in use"),
        }
    }
}

async fn follow<V: ?Sized + Send + Sync + 'static>(trust: Weak<Reloading<V>>, mut watch: Watch) {
    while watch.changed().await.is_ok() {
        match trust.upgrade() {
            Some(trust) => trust.reload(),
            None => return,
        }
    }
}

/// Those whose clients a server believes.
pub fn of_clients(ca: &Path, required: bool) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let make = |ca: &Path| -> Result<Arc<dyn ClientCertVerifier>, Error> {
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()).build()?)
    };
    Ok(Arc::new(Clients { trust: Reloading::load(ca, make)?, required }))
}

/// Those whose servers a client believes.
pub fn of_servers(ca: &Path) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let make = |ca: &Path| -> Result<Arc<dyn ServerCertVerifier>, Error> {
        Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots(ca)?), provider()).build()?)
    };
    Ok(Arc::new(Servers(Reloading::load(ca, make)?)))
}

#[derive(Debug)]
struct Clients {
    trust: Arc<Reloading<dyn ClientCertVerifier>>,
    required: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    /// No hints: they would be those of the moment at which they were lent out.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.trust.current.load().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.current.load().verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.current.load().verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.current.load().supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers(Arc<Reloading<dyn ServerCertVerifier>>);

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.current.load().verify_server_cert(end_entity, intermediates, name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.current.load().verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.current.load().verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.current.load().supported_verify_schemes()
    }
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
