//! Calls by gRPC, counted as grpc-go's middleware does: begun and ended apart, so that the difference is what is under way.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
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

#[derive(Debug)]
pub struct Calls {
    started: Family<Method, Counter>,
    /// Those of `started`, by the path of a request.
    by_path: HashMap<String, Counter>,
    handled: Family<Handled, Counter>,
}

impl Default for Calls {
    fn default() -> Calls {
        let started = Family::<Method, Counter>::default();
        let mut by_path = HashMap::new();
        for (grpc_service, methods) in METHODS {
            for grpc_method in methods {
                let labels = Method { grpc_method, grpc_service, grpc_type: kind(grpc_method) };
                by_path.insert(format!("/{grpc_service}/{grpc_method}"), started.get_or_create(&labels).clone());
            }
        }
        Calls { started, by_path, handled: Family::default() }
    }
}

impl Calls {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("grpc_server_started", "Total number of RPCs started on the server", self.started.clone());
        registry.register(
            "grpc_server_handled",
            "Total number of RPCs completed on the server, regardless of success or failure",
            self.handled.clone(),
        );
    }

    pub fn begin(&self, path: &str) {
        if let Some(counter) = self.by_path.get(path) {
            counter.inc();
        }
    }

    pub fn end(&self, service: &'static str, method: &'static str, code: Code) {
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

/// A call that is answered again and again; it has ended when its answers have.
pub struct Counted<S> {
    answers: S,
    gauges: Arc<Gauges>,
    service: &'static str,
    method: &'static str,
    /// Of one that nobody waits for any more.
    code: Code,
}

impl<S> Counted<S> {
    pub fn new(answers: S, gauges: Arc<Gauges>, service: &'static str, method: &'static str) -> Counted<S> {
        Counted { answers, gauges, service, method, code: Code::Cancelled }
    }
}

impl<T, S: Stream<Item = Result<T, Status>> + Unpin> Stream for Counted<S> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(Pin::new(&mut self.answers).poll_next(cx));
        match &answer {
            Some(Ok(_)) => {}
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
