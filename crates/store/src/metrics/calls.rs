//! Calls by gRPC, counted as grpc-go's middleware does: begun and ended apart, so that the difference is what is under way.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use http::{HeaderMap, HeaderValue};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tonic::{Code, Status};

use super::Gauges;

/// All methods of all services: each is told of before it is ever called.
const METHODS: [(&str, &[&str]); 8] = [
    ("etcdserverpb.KV", &["Range", "Put", "DeleteRange", "Txn", "Compact"]),
    ("etcdserverpb.Watch", &["Watch"]),
    ("etcdserverpb.Lease", &["LeaseGrant", "LeaseRevoke", "LeaseKeepAlive", "LeaseTimeToLive", "LeaseLeases"]),
    ("etcdserverpb.Cluster", &["MemberAdd", "MemberRemove", "MemberUpdate", "MemberList", "MemberPromote"]),
    ("etcdserverpb.Maintenance", &["Alarm", "Status", "Defragment", "Hash", "HashKV", "Snapshot", "MoveLeader"]),
    (
        "etcdserverpb.Auth",
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
    ),
    ("v3electionpb.Election", &["Campaign", "Proclaim", "Leader", "Observe", "Resign"]),
    ("v3lockpb.Lock", &["Lock", "Unlock"]),
];

/// Of clients that do not say.
const UNKNOWN: &str = "unknown";
const MAX_VERSION_BYTES: usize = 16;

/// The kind of a method that answers more than once; all others are unary.
fn kind(method: &str) -> &'static str {
    match method {
        "Watch" | "LeaseKeepAlive" => "bidi_stream",
        "Snapshot" | "Observe" => "server_stream",
        _ => "unary",
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    grpc_method: &'static str,
    grpc_service: &'static str,
    grpc_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Handled {
    grpc_code: String,
    grpc_method: &'static str,
    grpc_service: &'static str,
    grpc_type: &'static str,
}

/// Who asks, by the version that it says of itself, and whether for a stream.
type Client = [(&'static str, String); 2];

fn client(version: &str, kind: &str) -> Client {
    [("client_api_version", version.to_owned()), ("type", kind.to_owned())]
}

#[derive(Debug)]
struct Begun {
    started: Counter,
    /// Of one that is asked once, which is then.
    received: Option<Counter>,
    /// By clients that do not say who they are.
    anonymous: Counter,
    kind: &'static str,
}

#[derive(Debug)]
pub struct Calls {
    started: Family<Method, Counter>,
    /// What is counted when a call begins, by the path of its request.
    by_path: HashMap<String, Begun>,
    received: Family<Method, Counter>,
    sent: Family<Method, Counter>,
    clients: Family<Client, Counter>,
    handled: Family<Handled, Counter>,
}

impl Default for Calls {
    fn default() -> Calls {
        let (started, received, sent) = (Family::default(), Family::default(), Family::default());
        let mut calls = Calls {
            started,
            by_path: HashMap::new(),
            received,
            sent,
            clients: Family::default(),
            handled: Family::default(),
        };
        for (grpc_service, methods) in METHODS {
            for grpc_method in methods {
                let begun = calls.begun(&Method { grpc_method, grpc_service, grpc_type: kind(grpc_method) });
                calls.by_path.insert(format!("/{grpc_service}/{grpc_method}"), begun);
            }
        }
        calls
    }
}

impl Calls {
    fn begun(&self, method: &Method) -> Begun {
        let kind = if method.grpc_type == "unary" { "unary" } else { "stream" };
        let received = self.received.get_or_create(method).clone();
        drop(self.sent.get_or_create(method).clone());
        Begun {
            started: self.started.get_or_create(method).clone(),
            received: (method.grpc_type != "bidi_stream").then_some(received),
            anonymous: self.clients.get_or_create(&client(UNKNOWN, kind)).clone(),
            kind,
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("grpc_server_started", "Total number of RPCs started on the server", self.started.clone());
        registry.register(
            "grpc_server_handled",
            "Total number of RPCs completed on the server, regardless of success or failure",
            self.handled.clone(),
        );
        registry.register(
            "grpc_server_msg_received",
            "Total number of RPC stream messages received on the server",
            self.received.clone(),
        );
        registry.register(
            "grpc_server_msg_sent",
            "Total number of gRPC stream messages sent by the server",
            self.sent.clone(),
        );
        registry.register(
            "etcd_server_client_requests",
            "The total number of client requests per client version",
            self.clients.clone(),
        );
    }

    pub fn begin(&self, path: &str, headers: &HeaderMap) {
        let Some(begun) = self.by_path.get(path) else { return };
        begun.started.inc();
        begun.received.iter().for_each(|received| _ = received.inc());
        match headers.get("client-api-version").and_then(version) {
            Some(version) => _ = self.clients.get_or_create(&client(version, begun.kind)).inc(),
            None => _ = begun.anonymous.inc(),
        }
    }

    /// Another message of a call that is asked more than once.
    pub fn asked(&self, grpc_service: &'static str, grpc_method: &'static str) {
        let labels = Method { grpc_method, grpc_service, grpc_type: kind(grpc_method) };
        self.received.get_or_create(&labels).inc();
    }

    fn answers(&self, grpc_service: &'static str, grpc_method: &'static str) -> Counter {
        let labels = Method { grpc_method, grpc_service, grpc_type: kind(grpc_method) };
        self.sent.get_or_create(&labels).clone()
    }

    /// A call that is answered once has ended.
    pub fn answer(&self, service: &'static str, method: &'static str, code: Code) {
        if code == Code::Ok {
            self.answers(service, method).inc();
        }
        self.end(service, method, code);
    }

    fn end(&self, service: &'static str, method: &'static str, code: Code) {
        // As grpc-go spells them.
        let grpc_code = match code {
            Code::Ok => "OK".to_owned(),
            Code::Cancelled => "Canceled".to_owned(),
            code => format!("{code:?}"),
        };
        let labels = Handled { grpc_code, grpc_method: method, grpc_service: service, grpc_type: kind(method) };
        self.handled.get_or_create(&labels).inc();
    }
}

/// What a client says of itself, if that is a version: each is kept for good.
fn version(value: &HeaderValue) -> Option<&str> {
    let version = value.to_str().ok()?;
    let is_version = version.len() <= MAX_VERSION_BYTES && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    is_version.then_some(version)
}

/// A call that is answered again and again; it has ended when its answers have.
pub struct Counted<S> {
    answers: S,
    gauges: Arc<Gauges>,
    sent: Counter,
    service: &'static str,
    method: &'static str,
    /// Of one that nobody waits for any more.
    code: Code,
}

impl<S> Counted<S> {
    pub fn new(answers: S, gauges: Arc<Gauges>, service: &'static str, method: &'static str) -> Counted<S> {
        let sent = gauges.calls.answers(service, method);
        Counted { answers, gauges, sent, service, method, code: Code::Cancelled }
    }
}

impl<T, S: Stream<Item = Result<T, Status>> + Unpin> Stream for Counted<S> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(Pin::new(&mut self.answers).poll_next(cx));
        match &answer {
            Some(Ok(_)) => _ = self.sent.inc(),
            Some(Err(status)) => self.code = status.code(),
            None if self.code == Code::Cancelled => self.code = Code::Ok,
            None => {}
        }
        Poll::Ready(answer)
    }
}

impl<S> Drop for Counted<S> {
    fn drop(&mut self) {
        self.gauges.calls.end(self.service, self.method, self.code);
    }
}
