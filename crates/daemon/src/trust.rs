//! Whom to believe, from files of authorities that may change while the daemon runs: a new authority counts from the
//! next handshake on, and so two can be trusted while one takes over from the other. What they have revoked is in a file
//! beside. One that cannot be used is refused, and what was trusted before stays trusted.

use std::fmt::{self, Debug};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::revoked::Revoked;
use crate::tls::{Error, provider, roots};
use crate::watch_file::Watch;

/// The authorities, and what they have revoked.
#[derive(Debug, Clone)]
struct Files {
    ca: PathBuf,
    crl: Option<PathBuf>,
}

impl Files {
    fn new(ca: &Path, crl: Option<&Path>) -> Files {
        Files { ca: ca.to_owned(), crl: crl.map(Path::to_owned) }
    }
}

/// A verifier made from files, and made again when they change.
pub struct Reloading<V: ?Sized> {
    files: Files,
    current: ArcSwap<Arc<V>>,
    /// How often it was made.
    generation: AtomicU64,
    make: fn(&Files) -> Result<Arc<V>, Error>,
}

impl<V: ?Sized> Debug for Reloading<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<V: ?Sized + Send + Sync + 'static> Reloading<V> {
    /// Loads now, and again whenever a file changes (the task ends with the last reference). Needs a runtime.
    fn load(files: Files, make: fn(&Files) -> Result<Arc<V>, Error>) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(make(&files)?);
        let this = Arc::new(Self { files, current, generation: AtomicU64::new(1), make });
        let Files { ca, crl } = &this.files;
        match Watch::new([ca.as_path()].into_iter().chain(crl.as_deref())) {
            Ok(watch) => drop(tokio::spawn(follow(Arc::downgrade(&this), watch))),
            Err(error) => tracing::warn!(%error, authorities = %ca.display(), "cannot watch the authorities' file"),
        }
        Ok(this)
    }

    fn reload(&self) {
        match (self.make)(&self.files) {
            Ok(new) => {
                tracing::debug!(authorities = %self.files.ca.display(), "authorities reloaded");
                self.current.store(Arc::new(new));
                self.generation.fetch_add(1, Ordering::Release);
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(error, "keeping the authorities in use, and what they had revoked");
            }
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

/// Those whose clients a server believes, but for those in a list of revoked ones.
pub fn of_clients(ca: &Path, crl: Option<&Path>, required: bool) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let trust = Reloading::load(Files::new(ca, crl), Verifier::make)?;
    Ok(Arc::new(Clients { trust, required, judged_later: false }))
}

/// Whom to believe as a client.
#[derive(Debug)]
struct Verifier {
    chains: Arc<dyn ClientCertVerifier>,
    revoked: Revoked,
}

impl Verifier {
    fn make(files: &Files) -> Result<Arc<Verifier>, Error> {
        let chains = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(&files.ca)?), provider()).build()?;
        let revoked = files.crl.as_deref().map(Revoked::read).transpose()?.unwrap_or_default();
        Ok(Arc::new(Verifier { chains, revoked }))
    }

    fn verify(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if std::iter::once(own).chain(others).any(|certificate| self.revoked.holds(certificate)) {
            return Err(CertificateError::Revoked.into());
        }
        self.chains.verify_client_cert(own, others, now)
    }
}

/// Those whose clients a server believes, asked after the handshake: a certificate that is not believed gets an answer
/// in the server's own words, and counts no longer once its authority does not, on open connections too.
#[derive(Debug)]
pub struct ClientTrust(Arc<Reloading<Verifier>>);

impl ClientTrust {
    /// Needs a runtime.
    pub fn load(ca: &Path) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self(Reloading::load(Files::new(ca, None), Verifier::make)?)))
    }

    /// Changes whenever the answers of [`ClientTrust::believes`] may.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Whether a chain, the client's own certificate first, ends at an authority and holds now.
    pub fn believes(&self, chain: &[CertificateDer<'_>]) -> bool {
        let verifier = self.0.current.load();
        let verified = |(own, others)| verifier.verify(own, others, UnixTime::now()).is_ok();
        chain.split_first().is_some_and(verified)
    }
}

/// What a client showed on a connection, and whether that is believed.
#[derive(Debug)]
pub struct Shown {
    trust: Arc<ClientTrust>,
    chain: Vec<CertificateDer<'static>>,
    /// The generation of the authorities that has believed it. A refusal is not kept: a certificate may become valid.
    known: Mutex<Option<u64>>,
}

impl Shown {
    pub fn new(trust: Arc<ClientTrust>, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let chain = chain.unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
        Self { trust, chain, known: Mutex::default() }
    }

    /// The client's own certificate.
    pub fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// The signatures are verified once for each generation, the time whenever asked.
    pub fn is_believed(&self) -> bool {
        let generation = self.trust.generation();
        let mut known = self.known.lock();
        if *known != Some(generation) {
            *known = self.trust.believes(&self.chain).then_some(generation);
        }
        known.is_some() && self.certificate().is_some_and(is_valid_now)
    }
}

fn is_valid_now(certificate: &CertificateDer<'_>) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.validity().is_valid())
}

/// Takes any certificate whose key the client has; who is believed is asked later.
pub(crate) fn requested(trust: &ClientTrust) -> Arc<dyn ClientCertVerifier> {
    Arc::new(Clients { trust: trust.0.clone(), required: false, judged_later: true })
}

/// Those whose servers a client believes.
pub fn of_servers(ca: &Path) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let make = |files: &Files| -> Result<Arc<dyn ServerCertVerifier>, Error> {
        Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots(&files.ca)?), provider()).build()?)
    };
    Ok(Arc::new(Servers(Reloading::load(Files::new(ca, None), make)?)))
}

#[derive(Debug)]
struct Clients {
    trust: Arc<Reloading<Verifier>>,
    required: bool,
    judged_later: bool,
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
        if self.judged_later {
            return Ok(ClientCertVerified::assertion());
        }
        self.trust.current.load().verify(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.current.load().chains.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.current.load().chains.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.current.load().chains.supported_verify_schemes()
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
