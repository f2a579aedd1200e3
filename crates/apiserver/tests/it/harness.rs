//! A store in a temporary directory, the server in this process, clients with certificates. All of it goes when the
//! harness is dropped.

use std::fs;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use apiserver::config::Flags;
use apiserver::server::Server;
use clap::Parser as _;
use daemon::CancellationToken;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::client::Body;
use kube::config::AuthInfo;
use pki::{Authority, Leaf, Pair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

const START_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Harness {
    pub dir: TempDir,
    pub url: String,
    authority: Authority,
    ca: Pair,
    stop: CancellationToken,
    server: JoinHandle<()>,
    // Last: the server drains before its store goes.
    _store: Store,
    /// Where the store takes requests, past the API server.
    pub store_url: String,
}

struct Store(Child);

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
    }
}

/// A port that nobody is given twice, from below those that the kernel gives to clients: one of theirs may be taken
/// before the store has bound it. Other test processes begin elsewhere.
fn port() -> u16 {
    const PORTS: std::ops::Range<u32> = 12_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(101);
    for _ in PORTS {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + offset).expect("below 32,000");
        if StdListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("loopback has no free port");
}

fn store(dir: &Path) -> (Store, String) {
    let client = format!("http://127.0.0.1:{}", port());
    let ours = std::env::var("COXSWAIN_TEST_STORE").ok();
    let mut command = Command::new(ours.as_deref().unwrap_or("etcd"));
    if ours.is_none() {
        let peer = format!("http://127.0.0.1:{}", port());
        command.args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")]);
        command.arg(format!("--initial-cluster=default={peer}"));
    }
    let log = fs::File::create(dir.join("store.log")).expect("a log file");
    let child = command
        .arg(format!("--data-dir={}", dir.join("store").display()))
        .args([format!("--listen-client-urls={client}"), format!("--advertise-client-urls={client}")])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the store starts; is etcd-server installed?");
    (Store(child), client)
}

impl Harness {
    pub async fn start() -> Self {
        Self::with_flags(&[]).await
    }

    pub async fn with_flags(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let now = Timestamp::now();
        let ca = Authority::create("kubernetes", now).expect("an authority");
        let authority = Authority::load(&ca).expect("its own authority");
        let serving =
            authority.issue(&Leaf::server("kube-apiserver", vec!["127.0.0.1".to_owned()]), now).expect("a leaf");
        let kubelet = Leaf::client("kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins"));
        let kubelet = authority.issue(&kubelet, now).expect("a leaf");
        let (private, public) = pki::service_account_keys().expect("keys");
        let file = |name: &str, text: &str| -> PathBuf {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        let (store, servers) = store(dir.path());
        let flags = [
            ("etcd-servers", servers.clone()),
            ("client-ca-file", file("ca.crt", &ca.cert_pem).display().to_string()),
            ("tls-cert-file", file("apiserver.crt", &serving.cert_pem).display().to_string()),
            ("tls-private-key-file", file("apiserver.key", &serving.key_pem).display().to_string()),
            ("kubelet-client-certificate", file("kubelet.crt", &kubelet.cert_pem).display().to_string()),
            ("kubelet-client-key", file("kubelet.key", &kubelet.key_pem).display().to_string()),
            ("service-account-issuer", "https://kubernetes.default.svc".to_owned()),
            ("service-account-key-file", file("sa.pub", &public).display().to_string()),
            ("service-account-signing-key-file", file("sa.key", &private).display().to_string()),
            ("advertise-address", "10.77.0.1".to_owned()),
        ];
        let flags = flags.iter().map(|(name, value)| format!("--{name}={value}"));
        let flags = ["kube-apiserver".to_owned()].into_iter().chain(flags).chain(extra.iter().map(|f| (*f).to_owned()));
        let config = Flags::parse_from(flags).validate().expect("a valid configuration");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let stop = CancellationToken::new();
        let server = Server::build(config, stop.clone()).await.expect("the server builds");
        let server = tokio::spawn(server.run(listener));
        let this = Self { dir, url, authority, ca, stop, server, _store: store, store_url: servers };
        this.wait_ready().await;
        this
    }

    async fn wait_ready(&self) {
        let client = self.admin();
        let ready = async {
            while client.get("/readyz").await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(START_TIMEOUT, ready).await.expect("the server becomes ready");
        // Pods need the account that the controller manager would make.
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let made = async {
            // The server makes the namespace in its own time.
            while !matches!(client.post("/api/v1/namespaces/default/serviceaccounts", &account).await.0, 201 | 409) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(START_TIMEOUT, made).await.expect("the default namespace is made");
    }

    pub fn admin(&self) -> Client {
        self.user("admin", Some("system:masters"))
    }

    pub fn identity(&self, name: &str, group: Option<&str>) -> Pair {
        self.authority.issue(&Leaf::client(name, group), Timestamp::now()).expect("a leaf")
    }

    pub fn user(&self, name: &str, group: Option<&str>) -> Client {
        self.certified(&self.identity(name, group))
    }

    /// An administrator of another cluster, which had the same address.
    pub fn stranger(&self) -> Client {
        let ca = Authority::create("kubernetes", Timestamp::now()).expect("an authority");
        let authority = Authority::load(&ca).expect("its own");
        self.certified(
            &authority.issue(&Leaf::client("admin", Some("system:masters")), Timestamp::now()).expect("a leaf"),
        )
    }

    /// Whose certificate was good, long ago.
    pub fn veteran(&self) -> Client {
        let then = "2001-01-01T00:00:00Z".parse().expect("a time");
        self.certified(&self.authority.issue(&Leaf::client("admin", Some("system:masters")), then).expect("a leaf"))
    }

    fn certified(&self, pair: &Pair) -> Client {
        let pem = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
        self.client(AuthInfo {
            client_certificate_data: Some(pem(&pair.cert_pem)),
            client_key_data: Some(pem(&pair.key_pem).into()),
            ..AuthInfo::default()
        })
    }

    /// What signs service account tokens.
    pub fn signing_key(&self) -> Vec<u8> {
        fs::read(self.dir.path().join("sa.key")).expect("the key was written at the start")
    }

    pub fn bearer(&self, token: &str) -> Client {
        self.client(AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() })
    }

    pub fn nobody(&self) -> Client {
        self.client(AuthInfo::default())
    }

    fn client(&self, auth_info: AuthInfo) -> Client {
        let mut config = kube::Config::new(self.url.parse().expect("a URL"));
        let block = x509_parser::pem::parse_x509_pem(self.ca.cert_pem.as_bytes()).expect("a PEM block").1;
        config.root_cert = Some(vec![block.contents]);
        config.auth_info = auth_info;
        config.default_retry = false;
        Client(kube::Client::try_from(config).expect("a client"))
    }

    /// A kubeconfig for the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        let identity = self.identity("admin", Some("system:masters"));
        let text = pki::kubeconfig::render("test", &self.url, &self.ca.cert_pem, "admin", &identity);
        let path = self.dir.path().join("admin.conf");
        fs::write(&path, text).expect("a file");
        path
    }
}

/// Raw requests: status code and decoded body.
pub struct Client(pub kube::Client);

impl Client {
    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> (u16, Value) {
        let (code, _, body) = self.exchange(method, path, &[("content-type", content_type)], body).await;
        (code, body)
    }

    pub async fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> (u16, http::HeaderMap, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body)).expect("a request");
        let (parts, body) = self.0.send(request).await.expect("an answer").into_parts();
        let bytes = body.collect().await.expect("a whole answer").to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (parts.status.as_u16(), parts.headers, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, "application/json", Vec::new()).await
    }

    pub async fn post(&self, path: &str, object: &Value) -> (u16, Value) {
        self.send(Method::POST, path, "application/json", object.to_string().into_bytes()).await
    }

    pub async fn put(&self, path: &str, object: &Value) -> (u16, Value) {
        self.send(Method::PUT, path, "application/json", object.to_string().into_bytes()).await
    }

    pub async fn patch(&self, path: &str, kind: &str, patch: &Value) -> (u16, Value) {
        let content_type = format!("application/{kind}-patch+json");
        self.send(Method::PATCH, path, &content_type, patch.to_string().into_bytes()).await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> (u16, Value) {
        self.send(Method::DELETE, path, "application/json", options.to_string().into_bytes()).await
    }
}

pub fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    })
}

pub fn deployment(name: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    })
}
