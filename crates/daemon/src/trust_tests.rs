use std::fs;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::HandshakeKind;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::revoked::Revoked;
use crate::tls::{ClientAuth, ReloadingCert, client_config, client_config_under, server_config};
use crate::tls_policy::Policy;

const DEADLINE: Duration = Duration::from_secs(20);

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
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
    let (old, new) = (authority("old"), authority("new"));
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
    let trust = Reloading::load(Files::new(&servers_ca, None), roots_of).expect("authorities");
    fs::write(&servers_ca, "nonsense").expect("writable");
    trust.reload();
    assert_eq!(trust.current.load().len(), 2);
    fs::remove_dir_all(&dir).expect("there");
}

fn roots_of(files: &Files) -> Result<Arc<rustls::RootCertStore>, Error> {
    roots(&files.ca).map(Arc::new)
}

/// What an authority has revoked, one certificate at most.
fn crl(issuer: &CertifiedIssuer<'static, KeyPair>, revoked: Option<&[u8]>) -> String {
    let revoked = revoked.map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2026, 2, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.into_iter().collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).expect("an authority that may").pem().expect("encodable")
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&[tag, 0x82][..], &len, &content].concat()
}

/// As `openssl ca -gencrl` writes it without a `crlnumber`.
fn crl_of_version_1(issuer: &[u8], serial: &[u8]) -> Vec<u8> {
    let time = der(0x17, &[b"260101000000Z"]);
    // ecdsa-with-SHA256
    let algorithm = der(0x30, &[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]]);
    let revoked = der(0x30, &[&der(0x30, &[&der(2, &[serial]), &time])]);
    let list = der(0x30, &[&algorithm, issuer, &time, &revoked]);
    der(0x30, &[&list, &algorithm, &der(3, &[&[0]])])
}

/// From the next handshake on; an old list still counts.
#[tokio::test]
async fn who_is_revoked_is_not_believed() {
    let dir = std::env::temp_dir().join(format!("revoked-{}", std::process::id()));
    let (own, other) = (authority("own"), authority("other"));
    let server = party(&dir.join("server"), &own, &(own.pem() + &other.pem()));
    let client = party(&dir.join("client"), &own, &own.pem());
    let stranger = party(&dir.join("stranger"), &other, &own.pem());
    let leaf = CertificateDer::from_pem_file(dir.join("client/tls.crt")).expect("just written");
    let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).expect("a certificate");
    let (ca, list) = (dir.join("server/ca.crt"), dir.join("server/crl.pem"));
    fs::write(&list, crl(&own, None)).expect("writable");
    let served = server_config(server, ClientAuth::Unrevoked { ca: &ca, crl: &list }, &[]).expect("TLS");
    let acceptor = TlsAcceptor::from(Arc::new(served));
    let connector = |of: Arc<ReloadingCert>| {
        TlsConnector::from(Arc::new(client_config(&dir.join("client/ca.crt"), Some(of)).expect("TLS")))
    };
    let (connector, of_stranger) = (connector(client), connector(stranger));
    assert!(shake(&acceptor, &connector).await && shake(&acceptor, &of_stranger).await);
    fs::write(&list, crl(&own, Some(parsed.raw_serial()))).expect("writable");
    until(&acceptor, &connector, false).await;
    assert!(shake(&acceptor, &of_stranger).await, "its authority has no list");
    fs::write(&list, crl(&own, None)).expect("writable");
    until(&acceptor, &connector, true).await;
    fs::write(&list, crl_of_version_1(parsed.issuer().as_raw(), parsed.raw_serial())).expect("writable");
    until(&acceptor, &connector, false).await;
    assert!(shake(&acceptor, &of_stranger).await, "it is not in the list");
    fs::write(&list, crl_of_version_1(parsed.issuer().as_raw(), &[7])).expect("writable");
    until(&acceptor, &connector, true).await;
    // Another key of the same authority: it has signed nothing here.
    fs::write(&list, crl(&authority("own"), None) + &crl(&own, Some(parsed.raw_serial()))).expect("writable");
    until(&acceptor, &connector, false).await;
    fs::write(&list, crl(&authority("own"), None) + &crl(&own, Some(&[7]))).expect("writable");
    until(&acceptor, &connector, true).await;
    fs::write(&list, "nonsense").expect("writable");
    let error = Revoked::read(&list).expect_err("no list");
    assert!(error.to_string().contains("crl.pem"), "{error}");
    fs::remove_dir_all(&dir).expect("there");
}

/// How two who know each other shake hands the second time.
async fn second_handshake(acceptor: &TlsAcceptor, connector: &TlsConnector) -> HandshakeKind {
    let mut kind = None;
    for _ in 0..2 {
        let (a, b) = tokio::io::duplex(64 << 10);
        let name = ServerName::try_from("localhost").expect("a name");
        let (served, connected) = tokio::join!(acceptor.accept(a), connector.connect(name, b));
        let (mut served, mut connected) = (served.expect("believed"), connected.expect("believed"));
        // What the server gives out after the handshake is read with the first byte.
        served.write_u8(1).await.expect("open");
        assert_eq!(connected.read_u8().await.expect("open"), 1);
        kind = connected.get_ref().1.handshake_kind();
    }
    kind.expect("both are done")
}

/// A session taken up again would show no certificate, and go on past its being revoked.
#[tokio::test]
async fn who_shows_a_certificate_shows_it_every_time() {
    let dir = std::env::temp_dir().join(format!("resumed-{}", std::process::id()));
    let own = authority("own");
    let server = party(&dir.join("server"), &own, &own.pem());
    let client = party(&dir.join("client"), &own, &own.pem());
    let (ca, list) = (dir.join("server/ca.crt"), dir.join("server/crl.pem"));
    fs::write(&list, crl(&own, None)).expect("writable");
    for version in ["TLS1.2", "TLS1.3"] {
        let policy = Policy::new(version, version, []).expect("known versions");
        // As a client that would like to.
        let mut eager = client_config_under(&policy, &ca, Some(client.clone())).expect("TLS");
        eager.resumption = Resumption::default();
        let eager = TlsConnector::from(Arc::new(eager));
        let acceptor = |clients: ClientAuth<'_>| {
            TlsAcceptor::from(Arc::new(server_config(server.clone(), clients, &[]).expect("TLS")))
        };
        let taken_up = second_handshake(&acceptor(ClientAuth::None), &eager).await;
        assert_eq!(taken_up, HandshakeKind::Resumed, "{version}: nobody shows anything");
        for clients in
            [ClientAuth::Required(&ca), ClientAuth::Optional(&ca), ClientAuth::Unrevoked { ca: &ca, crl: &list }]
        {
            let kind = second_handshake(&acceptor(clients), &eager).await;
            assert_eq!(kind, HandshakeKind::Full, "{version}: {clients:?}");
        }
        let usual = TlsConnector::from(Arc::new(client_config(&ca, Some(client.clone())).expect("TLS")));
        let kind = second_handshake(&acceptor(ClientAuth::None), &usual).await;
        assert_eq!(kind, HandshakeKind::Full, "{version}: nor does a server count for longer than its authority");
    }
    fs::remove_dir_all(&dir).expect("there");
}
