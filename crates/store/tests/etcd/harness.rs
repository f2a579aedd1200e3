//! A server with its certificates and data in a temporary directory; gone when dropped.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

/// Nothing here takes near as long, even on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Server {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub peer_port: u16,
    pub metrics_port: u16,
    flags: Vec<String>,
    /// Members speak TLS with each other.
    peer_tls: bool,
    /// Where the process ends by itself, if it was built for that.
    pub failpoints: Option<String>,
    child: Option<Child>,
    lines: Option<Receiver<String>>,
}

/// Without it a test would show nothing.
pub fn need(program: &str) {
    let package = if program == "etcd" { "etcd-server" } else { "etcd-client" };
    let runs = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(runs.is_ok(), "{program} is not installed: apt-get install {package}");
}

/// A port that nobody is given twice, from below those that the kernel gives to clients. Other
/// test processes begin elsewhere.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u32> = 12_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(101);
    for _ in PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + offset).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("loopback has no free port");
}

/// A CA, one certificate that serves both as the server's and as a nameless client's, one of a client named ann, and a list
/// in which ann's is revoked.
pub fn write_certificates(dir: &Path) {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate().expect("randomness");
    let ca_cert = ca.self_signed(&ca_key).expect("a valid CA");
    let issuer = Issuer::new(ca, ca_key);
    std::fs::write(dir.join("ca.crt"), ca_cert.pem()).expect("writable");

    write_certificate(dir, "tls", None, &issuer);
    write_certificate(dir, "ann", Some("ann"), &issuer);
    let ann = RevokedCertParams {
        serial_number: SerialNumber::from(serial("ann")),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2026, 2, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![ann],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer).and_then(|list| list.pem()).expect("a valid list");
    std::fs::write(dir.join("revoked.crl"), list).expect("writable");
}

fn serial(file: &str) -> u64 {
    file.bytes().fold(1, |serial, byte| serial << 8 | u64::from(byte))
}

fn write_certificate(dir: &Path, file: &str, common_name: Option<&str>, issuer: &Issuer<'_, KeyPair>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut leaf = CertificateParams::new(names).expect("valid names");
    leaf.serial_number = Some(SerialNumber::from(serial(file)));
    leaf.distinguished_name = DistinguishedName::new();
    if let Some(name) = common_name {
        leaf.distinguished_name.push(DnType::CommonName, name);
    }
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("randomness");
    let cert = leaf.signed_by(&key, issuer).expect("a valid leaf");
    std::fs::write(dir.join(format!("{file}.crt")), cert.pem()).expect("writable");
    std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem()).expect("writable");
}

impl Server {
    pub fn start(flags: &[&str]) -> Server {
        let mut server = Server::new(flags);
        server.restart();
        server
    }

    /// Not started yet.
    pub fn new(flags: &[&str]) -> Server {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_certificates(dir.path());
        Server {
            dir,
            port: free_port(),
            peer_port: free_port(),
            metrics_port: free_port(),
            flags: flags.iter().map(ToString::to_string).collect(),
            failpoints: None,
            peer_tls: false,
            child: None,
            lines: None,
        }
    }

    pub fn add_flags(&mut self, flags: &[&str]) {
        self.flags.extend(flags.iter().map(ToString::to_string));
    }

    pub fn peer_url(&self) -> String {
        let scheme = if self.peer_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.peer_port)
    }

    /// Members show each other this pair of files.
    pub fn show_peers(&mut self, file: &str) {
        self.peer_tls = true;
        let ca = self.path("ca.crt").display().to_string();
        let path = |end| self.path(&format!("{file}.{end}")).display().to_string();
        let (cert, key) = (path("crt"), path("key"));
        self.add_flags(&["--peer-cert-file", &cert, "--peer-key-file", &key, "--peer-trusted-ca-file", &ca]);
    }

    pub fn client_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn command(&self) -> Command {
        let client = format!("https://127.0.0.1:{}", self.port);
        let peer = self.peer_url();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kube-store"));
        command
            .args(["--data-dir".as_ref(), self.path("data").as_os_str()])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", self.metrics_port)])
            .args(["--cert-file".as_ref(), self.path("tls.crt").as_os_str()])
            .args(["--key-file".as_ref(), self.path("tls.key").as_os_str()])
            .args(["--trusted-ca-file".as_ref(), self.path("ca.crt").as_os_str()])
            .arg("--client-cert-auth")
            .args(&self.flags)
            .envs(self.failpoints.iter().map(|points| ("FAILPOINTS", points)));
        command
    }

    /// Starts the process on the data that is there and waits until it serves.
    pub fn restart(&mut self) {
        self.launch();
        self.await_line("ready to serve client requests");
    }

    /// Starts the process on the data that is there.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "stopped before");
        let mut child = self.command().stderr(Stdio::piped()).spawn().expect("the binary was built");
        self.lines = Some(lines(child.stderr.take().expect("piped")));
        self.child = Some(child);
    }

    /// Waits until the log says so.
    pub fn await_line(&mut self, words: &str) {
        let lines = self.lines.as_ref().expect("launched");
        let mut log = String::new();
        let deadline = Instant::now() + DEADLINE;
        while !log.contains(words) {
            let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            log.push_str(&line.unwrap_or_else(|_| panic!("the server does not say {words:?}:\n{log}")));
            log.push('\n');
        }
        // The reader goes on draining the log, so that the server never blocks on it.
    }

    /// Waits until the process has ended by itself.
    pub fn await_end(&mut self) -> std::process::ExitStatus {
        let status = self.child().wait().expect("a child");
        self.child = None;
        status
    }

    /// Whether the process still runs.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("running")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("it runs");
    }

    pub fn kill(&mut self) {
        self.child().kill().expect("SIGKILL");
        self.child().wait().expect("killed");
        self.child = None;
    }

    /// As an init system would; the exit must be clean.
    pub fn terminate(&mut self) {
        self.signal(Signal::SIGTERM);
        assert!(self.child().wait().expect("ends").success());
        self.child = None;
    }

    pub fn identity(&self) -> Identity {
        self.identity_of("tls")
    }

    pub fn identity_of(&self, file: &str) -> Identity {
        let pem = |end| std::fs::read(self.path(&format!("{file}.{end}"))).expect("written at the start");
        Identity::from_pem(pem("crt"), pem("key"))
    }

    pub async fn client(&self) -> Client {
        self.client_with(&self.path("ca.crt"), Some(self.identity())).await
    }

    /// Authenticates at once.
    pub async fn client_as(&self, user: &str, password: &str) -> Result<Client, etcd_client::Error> {
        let options = self.tls(&self.path("ca.crt"), Some(self.identity())).with_user(user, password);
        Client::connect([self.endpoint()], Some(options)).await
    }

    /// Is refused, and its streams end, where there is no leader.
    pub async fn client_of_a_leader(&self) -> Client {
        let options = self.tls(&self.path("ca.crt"), Some(self.identity())).with_require_leader(true);
        Client::connect([self.endpoint()], Some(options)).await.expect("a valid endpoint")
    }

    /// Connects with the first request.
    pub async fn client_with(&self, ca: &Path, identity: Option<Identity>) -> Client {
        let connected = Client::connect([self.endpoint()], Some(self.tls(ca, identity)));
        connected.await.expect("a valid endpoint")
    }

    /// For services that etcd-client does not know.
    pub async fn channel(&self) -> tonic::transport::Channel {
        use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
        let pem = |name: &str| std::fs::read(self.path(name)).expect("written at the start");
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(pem("ca.crt")))
            .identity(Identity::from_pem(pem("tls.crt"), pem("tls.key")))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(self.endpoint()).expect("a URL");
        endpoint.tls_config(tls).expect("valid").connect().await.expect("served")
    }

    fn endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn tls(&self, ca: &Path, identity: Option<Identity>) -> ConnectOptions {
        let ca = std::fs::read(ca).expect("written at the start");
        let mut tls = TlsOptions::new().ca_certificate(Certificate::from_pem(ca)).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        ConnectOptions::new().with_tls(tls)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn lines(stderr: std::process::ChildStderr) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // Once nobody listens the lines are read and dropped.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// The gRPC code and words of a refusal.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, etcd_client::Error>) -> (i32, String) {
    match answer.expect_err("a refusal") {
        etcd_client::Error::GRpcStatus(status) => (status.code().into(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}
