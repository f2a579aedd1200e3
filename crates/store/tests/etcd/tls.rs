//! Who is spoken with, and by which TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::harness::Server;
use crate::setup::connect;

/// What a client speaks and shows, below HTTP.
pub struct TlsClient<'a> {
    pub file: &'a str,
    pub protocol: &'a str,
    pub versions: &'a [&'static SupportedProtocolVersion],
}

impl Default for TlsClient<'_> {
    fn default() -> Self {
        TlsClient { file: "tls", protocol: "http/1.1", versions: rustls::ALL_VERSIONS }
    }
}

/// A connection as curl would open it; the handshake comes with the first use.
pub fn connect_tls(server: &Server, port: u16, client: &TlsClient) -> StreamOwned<ClientConnection, TcpStream> {
    let certificate = |name: &str| CertificateDer::from_pem_file(server.path(name)).expect("written at the start");
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.crt")).expect("an authority");
    let key = PrivateKeyDer::from_pem_file(server.path(&format!("{}.key", client.file))).expect("written at the start");
    let mut config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(client.versions)
        .expect("ring speaks them")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&format!("{}.crt", client.file))], key)
        .expect("a pair");
    config.alpn_protocols = vec![client.protocol.into()];
    let name = "localhost".try_into().expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("valid");
    StreamOwned::new(client, connect(port))
}

#[test]
fn versions_and_suites_are_those_that_are_allowed() {
    const SUITE: &str = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let agreed = |server: &Server, versions: &[_]| {
        let mut stream = connect_tls(server, server.port, &TlsClient { versions, ..TlsClient::default() });
        stream.flush().ok()?;
        Some(stream.conn.negotiated_cipher_suite().expect("shaken hands").suite())
    };
    let newest = Server::start(&["--tls-min-version=TLS1.3"]);
    assert_eq!(agreed(&newest, &[&TLS12]), None);
    assert!(agreed(&newest, &[&TLS12, &TLS13]).is_some());
    let one = Server::start(&["--tls-max-version=TLS1.2", "--cipher-suites", SUITE]);
    assert_eq!(agreed(&one, &[&TLS13]), None);
    assert_eq!(agreed(&one, &[&TLS12]), Some(CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256));
}

/// Their authority is the same.
#[tokio::test]
async fn who_is_revoked_is_not_served() {
    let mut server = Server::new(&[]);
    let list = server.path("revoked.crl").display().to_string();
    server.add_flags(&["--client-crl-file", &list]);
    server.restart();
    let is_served = async |file: &str| {
        let mut client = server.client_with(&server.path("ca.crt"), Some(server.identity_of(file))).await;
        client.get("k", None).await.is_ok()
    };
    assert!(is_served("tls").await);
    assert!(!is_served("ann").await);
}

/// All the certificates are the same authority's.
#[test]
fn a_member_has_the_name_that_members_have() {
    let mut server = Server::new(&["--peer-cert-allowed-cn=ann"]);
    server.show_peers("ann");
    server.restart();
    let is_served = |file| {
        let mut stream =
            connect_tls(&server, server.peer_port, &TlsClient { file, protocol: "h2", versions: &[&TLS13] });
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").expect("before it is judged");
        let mut answer = [0; 9];
        match stream.read_exact(&mut answer) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => false,
            Err(error) => panic!("neither served nor let go: {error}"),
        }
    };
    assert!(is_served("ann"));
    assert!(!is_served("tls"));
}
