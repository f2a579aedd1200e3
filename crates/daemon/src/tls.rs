//! TLS from files, reloaded when the files change: a renewed certificate is used by the next handshake, and no
//! connection is dropped for it; so are the authorities. A half-written or mismatched pair is refused and the old one stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

use crate::tls_policy::Policy;
use crate::trust::{self, ClientTrust};
use crate::watch_file::Watch;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {what} from {}", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{} holds no certificate", path.display())]
    Empty { path: PathBuf },
    #[error("the certificate {} and the key {} do not belong together", cert.display(), key.display())]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{} cannot serve as a certificate authority", path.display())]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("{} holds no list of revoked certificates that can be used", path.display())]
    Revoked {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("cannot set up TLS")]
    Config(#[from] rustls::Error),
    #[error("cannot set up client certificate verification")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The cryptography of every daemon. Passed explicitly; never installed as a process default.
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = |source| Error::Read { what: "certificates", path: path.to_owned(), source };
    let certs: Vec<_> = CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if certs.is_empty() {
        return Err(Error::Empty { path: path.to_owned() });
    }
    Ok(certs)
}

/// The authorities in a PEM bundle.
pub fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path)? {
        roots.add(cert).map_err(|source| Error::Authority { path: path.to_owned(), source })?;
    }
    Ok(roots)
}

fn certified_key(cert: &Path, key: &Path) -> Result<CertifiedKey, Error> {
    let der = PrivateKeyDer::from_pem_file(key).map_err(|source| Error::Read {
        what: "a private key",
        path: key.to_owned(),
        source,
    })?;
    let pair = |source| Error::Pair { cert: cert.to_owned(), key: key.to_owned(), source };
    CertifiedKey::from_der(certificates(cert)?, der, &provider()).map_err(pair)
}

/// A certificate and key that follow their files; both a server's and a client's identity.
#[derive(Debug)]
pub struct ReloadingCert {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl ReloadingCert {
    /// Loads now, and again whenever the files change (the task ends with the last reference). Needs a runtime.
    pub fn load(cert: &Path, key: &Path) -> Result<Arc<Self>, Error> {
        let current = ArcSwap::from_pointee(certified_key(cert, key)?);
        let this = Arc::new(Self { cert: cert.to_owned(), key: key.to_owned(), current });
        match Watch::new([cert, key]) {
            Ok(watch) => drop(tokio::spawn(follow(Arc::downgrade(&this), watch))),
            Err(error) => tracing::warn!(%error, cert = %cert.display(), "cannot watch the certificate's files"),
        }
        Ok(this)
    }

    fn reload(&self) {
        match certified_key(&self.cert, &self.key) {
            Ok(new) if new.cert == self.current.load().cert => {}
            Ok(new) => {
                tracing::info!(cert = %self.cert.display(), "certificate reloaded");
                self.current.store(Arc::new(new));
            }
            Err(error) => tracing::warn!(%error, "keeping the certificate in use"),
        }
    }
}

async fn follow(cert: std::sync::Weak<ReloadingCert>, mut watch: Watch) {
    while watch.changed().await.is_ok() {
        match cert.upgrade() {
            Some(cert) => cert.reload(),
            None => return,
        }
    }
}

impl ResolvesServerCert for ReloadingCert {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for ReloadingCert {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub enum ClientAuth<'a> {
    None,
    /// A certificate is verified when one is presented.
    Optional(&'a Path),
    Required(&'a Path),
    /// The same, but for certificates in a list of revoked ones.
    Unrevoked {
        ca: &'a Path,
        crl: &'a Path,
    },
    /// A certificate is taken when one is presented; the server verifies it by [`trust::Shown`], request by request.
    Requested(&'a Arc<ClientTrust>),
}

/// A server's TLS: HTTP/2 and HTTP/1.1 by ALPN.
pub fn server_config(
    cert: Arc<dyn ResolvesServerCert>,
    clients: ClientAuth<'_>,
    alpn: &[&str],
) -> Result<ServerConfig, Error> {
    server_config_under(&Policy::default(), cert, clients, alpn)
}

/// The same with the versions and cipher suites that a policy allows.
pub fn server_config_under(
    policy: &Policy,
    cert: Arc<dyn ResolvesServerCert>,
    clients: ClientAuth<'_>,
    alpn: &[&str],
) -> Result<ServerConfig, Error> {
    let builder =
        ServerConfig::builder_with_provider(policy.provider.clone()).with_protocol_versions(&policy.versions)?;
    let builder = match clients {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional(ca) => builder.with_client_cert_verifier(trust::of_clients(ca, None, false)?),
        ClientAuth::Required(ca) => builder.with_client_cert_verifier(trust::of_clients(ca, None, true)?),
        ClientAuth::Unrevoked { ca, crl } => builder.with_client_cert_verifier(trust::of_clients(ca, Some(crl), true)?),
        ClientAuth::Requested(trust) => builder.with_client_cert_verifier(trust::requested(trust)),
    };
    let mut config = builder.with_cert_resolver(cert);
    if !matches!(clients, ClientAuth::None | ClientAuth::Requested(_)) {
        verify_always(&mut config);
    }
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    Ok(config)
}

/// A session that is taken up again shows no certificate, and so would outlive what made it trusted.
fn verify_always(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
}

/// A client's TLS: trusts `ca` only, shows `identity` when asked.
pub fn client_config(ca: &Path, identity: Option<Arc<ReloadingCert>>) -> Result<ClientConfig, Error> {
    client_config_under(&Policy::default(), ca, identity)
}

/// The same with the versions and cipher suites that a policy allows.
pub fn client_config_under(
    policy: &Policy,
    ca: &Path,
    identity: Option<Arc<ReloadingCert>>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(policy.provider.clone())
        .with_protocol_versions(&policy.versions)?
        // A verifier of one's own is rustls' own, made anew when the file changes.
        .dangerous()
        .with_custom_certificate_verifier(trust::of_servers(ca)?);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    };
    // For the same reason.
    config.resumption = Resumption::disabled();
    Ok(config)
}
