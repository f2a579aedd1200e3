use std::fs;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::tls::{ClientAuth, ReloadingCert, client_config, server_config};

const DEADLINE: Duration = Duration::from_secs(20);

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A directory with an identity, good for both sides, and the authorities that its owner believes.
fn party(dir: &Path, issuer: &CertifiedIssuer<'static, KeyPair>, trusted: &str) -> Arc<ReloadingCert> {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, issuer).expect("a certificate");
    fs::create_dir_all(dir).expect("writable");
    fs::write(dir.join("tls.crt"), cert.pem()).expect("writable");
    fs::write(dir.join("tls.key"), key.serialize_pem()).expect("writable");
    fs::write(dir.join("ca.crt"), trusted).expect("writable");
    ReloadingCert::load(&dir.join("tls.crt"), &dir.join("tls.key")).expect("a pair")
}

/// One handshake over a pipe. The side that refuses decides.
async fn shake(acceptor: &TlsAcceptor, connector: &TlsConnector) -> bool {
    let (a, b) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from("localhost").expect("a name");
    let (served, connected) = tokio::join!(acceptor.accept(a), connector.connect(name, b));
    served.is_ok() && connected.is_ok()
}

/// A file's change is seen soon, not at once.
async fn until(acceptor: &TlsAcceptor, connector: &TlsConnector, expected: bool) {
    let seen = async {
        while shake(acceptor, connector).await != expected {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, seen).await.unwrap_or_else(|_| panic!("handshakes never became {expected}"));
}

#[tokio::test]
async fn a_new_authority_counts_from_the_next_handshake_on() {
    let dir = std::env::temp_dir().join(format!("trust-{}", std::process::id()));
    let (old, new) = (authority(), authority());
    let server = party(&dir.join("server"), &old, &old.pem());
    let client = party(&dir.join("client"), &new, &old.pem());
    let (servers_ca, clients_ca) = (dir.join("server/ca.crt"), dir.join("client/ca.crt"));
    let served = server_config(server, ClientAuth::Required(&servers_ca), &[]).expect("TLS");
    let connected = client_config(&clients_ca, Some(client)).expect("TLS");
    let (acceptor, connector) = (TlsAcceptor::from(Arc::new(served)), TlsConnector::from(Arc::new(connected)));

    assert!(!shake(&acceptor, &connector).await, "the server does not know the client's authority");
    fs::write(&servers_ca, old.pem() + &new.pem()).expect("writable");
    until(&acceptor, &connector, true).await;
    fs::write(&clients_ca, new.pem()).expect("writable");
    until(&acceptor, &connector, false).await;
    fs::write(&clients_ca, old.pem()).expect("writable");
    until(&acceptor, &connector, true).await;
    // Nonsense is not believed, and takes nothing away.
    let trust = Reloading::load(&servers_ca, roots_of).expect("authorities");
    fs::write(&servers_ca, "nonsense").expect("writable");
    trust.reload();
    assert_eq!(trust.current.load().len(), 2);
    fs::remove_dir_all(&dir).expect("there");
}

fn roots_of(path: &Path) -> Result<Arc<rustls::RootCertStore>, Error> {
    roots(path).map(Arc::new)
}
