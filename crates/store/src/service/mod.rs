//! The gRPC services: validate, ask the node, put the header on the answer.

mod access;
mod auth;
mod cluster;
mod election;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod room;
mod snapshot_stream;
mod turns;
mod watch;

pub use cluster::promote;
pub use lease::keep_alive;
#[cfg(test)]
pub use lease::{renew_here, renew_if_sure};
pub use maintenance::hash;
pub use room::Room;

use std::sync::Arc;
use std::time::Duration;

use daemon::health::Health;
use futures::Stream;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Response, Status};
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service as _;

use crate::auth::Asker;
use crate::config::{Config, GRPC_OVERHEAD_BYTES};
use crate::error::Refusal;
use crate::metrics::Counted;
use crate::pb::etcdserverpb::auth_server::{self, AuthServer};
use crate::pb::etcdserverpb::cluster_server::{self, ClusterServer};
use crate::pb::etcdserverpb::kv_server::{self, KvServer};
use crate::pb::etcdserverpb::lease_server::{self, LeaseServer};
use crate::pb::etcdserverpb::maintenance_server::{self, MaintenanceServer};
use crate::pb::etcdserverpb::watch_server::{self, WatchServer};
use crate::pb::kvraft::command::Op;
use crate::pb::v3electionpb::election_server::{self, ElectionServer};
use crate::pb::v3lockpb::lock_server::{self, LockServer};
use crate::peer::{PeerClient, Peers};
use crate::raft_node::{Answer, Handle};
use crate::server::{self, Reply, Routes};
use crate::shared::Shared;

/// The bounds that every service keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub quota_bytes: u64,
    pub progress_interval: Duration,
    pub election_timeout: Duration,
    pub strict_reconfig_check: bool,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Limits {
        Limits {
            max_txn_ops: config.max_txn_ops,
            max_request_bytes: config.max_request_bytes,
            quota_bytes: config.quota_bytes,
            progress_interval: config.progress_interval,
            election_timeout: config.tick * u32::try_from(config.election_ticks).unwrap_or(u32::MAX),
            strict_reconfig_check: config.strict_reconfig_check,
        }
    }
}

/// What every service holds.
#[derive(Clone)]
pub struct Context {
    pub shared: Arc<Shared>,
    pub node: Handle,
    pub limits: Limits,
    /// Cancelled when the server drains: streams end.
    pub drain: CancellationToken,
    pub peers: Arc<Peers>,
    pub room: Arc<Room>,
    /// What is served beside gRPC.
    pub pages: Health,
}

impl Context {
    fn answer<T>(
        &self,
        service: &'static str,
        method: &'static str,
        answer: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let code = answer.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        self.shared.gauges.calls.answer(service, method, code);
        answer.map(Response::new)
    }

    /// A call that is answered by a stream ends with it.
    fn answer_stream<T, S: Stream<Item = Result<T, Status>> + Unpin>(
        &self,
        service: &'static str,
        method: &'static str,
        answer: Result<S, Status>,
    ) -> Result<Response<Counted<S>>, Status> {
        match answer {
            Ok(stream) => Ok(Response::new(Counted::new(stream, self.shared.gauges.clone(), service, method))),
            Err(status) => self.answer(service, method, Err(status)),
        }
    }

    /// A learner has no say, and may lag behind: it answers no more than what is asked of itself.
    fn check_voter(&self) -> Result<(), Refusal> {
        let status = &self.shared.status;
        match (status.is_voter(), status.is_removed()) {
            (true, _) => Ok(()),
            (false, true) => Err(Refusal::Stopped),
            (false, false) => Err(Refusal::NotForLearner),
        }
    }

    /// Puts a command through the log, to be applied if the asker may do what it does.
    async fn propose(&self, asker: Asker, op: Op) -> Answer {
        self.check_voter()?;
        let answer = self.node.propose(asker.sign(op)).await;
        self.shared.gauges.count_proposal(&answer);
        answer
    }

    async fn read_index(&self) -> Result<(), Refusal> {
        self.check_voter()?;
        // Without anybody to ask, the way to the raft thread and back is most of a read.
        if self.shared.status.is_alone() {
            return Ok(());
        }
        let read = self.node.read_index().await;
        self.shared.gauges.count_read(read);
        read
    }

    /// The leader, when it is another member.
    fn leading_peer(&self) -> Result<Option<PeerClient>, Refusal> {
        match self.shared.status.leader() {
            0 => Err(Refusal::NoLeader),
            leader if leader == self.shared.member_id => Ok(None),
            leader => self.peers.client(leader).map(Some).ok_or(Refusal::NoLeader),
        }
    }
}

/// How clients ask to be refused where there is no leader.
const REQUIRE_LEADER: &str = "hasleader";

fn requires_leader(headers: &http::HeaderMap) -> bool {
    headers.get(REQUIRE_LEADER).is_some_and(|value| value == "true")
}

/// The services by their names.
struct Port {
    shared: Arc<Shared>,
    kv: KvServer<kv::Kv>,
    watch: WatchServer<watch::Watch>,
    lease: LeaseServer<lease::Lease>,
    auth: AuthServer<auth::Auth>,
    cluster: ClusterServer<cluster::Cluster>,
    maintenance: MaintenanceServer<maintenance::Maintenance>,
    lock: LockServer<lock::Lock>,
    election: ElectionServer<election::Election>,
    health: HealthServer<HealthService>,
    pages: Health,
}

impl Routes for Port {
    fn route(&self, request: http::Request<Incoming>) -> Reply {
        if self.shared.status.leader() == 0 && requires_leader(request.headers()) {
            return Box::pin(std::future::ready(Ok(Status::from(Refusal::NoLeader).into_http())));
        }
        self.shared.gauges.calls.begin(request.uri().path(), request.headers());
        let service = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match service {
            kv_server::SERVICE_NAME => self.kv.clone().call(request),
            watch_server::SERVICE_NAME => self.watch.clone().call(request),
            lease_server::SERVICE_NAME => self.lease.clone().call(request),
            auth_server::SERVICE_NAME => self.auth.clone().call(request),
            cluster_server::SERVICE_NAME => self.cluster.clone().call(request),
            maintenance_server::SERVICE_NAME => self.maintenance.clone().call(request),
            lock_server::SERVICE_NAME => self.lock.clone().call(request),
            election_server::SERVICE_NAME => self.election.clone().call(request),
            health_server::SERVICE_NAME => self.health.clone().call(request),
            _ if is_grpc(&request) => server::unknown(&request),
            // Whoever may connect may know.
            _ => {
                let pages = self.pages.clone();
                Box::pin(async move { Ok(pages.answer(&request, true).await.map(Body::new)) })
            }
        }
    }

    fn is_stream(&self, path: &str) -> bool {
        ["Watch", "LeaseKeepAlive", "Snapshot", "Observe"].contains(&path.rsplit('/').next().unwrap_or_default())
    }
}

fn is_grpc(request: &http::Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What the client port answers. Requests a little over the limit are read, so that they are refused with etcd's words
/// and not with the transport's.
pub fn routes(context: &Context) -> impl Routes + use<> {
    let max = context.limits.max_request_bytes + GRPC_OVERHEAD_BYTES;
    Port {
        shared: context.shared.clone(),
        kv: KvServer::new(kv::Kv(context.clone())).max_decoding_message_size(max),
        watch: WatchServer::new(watch::Watch(context.clone())).max_decoding_message_size(max),
        lease: LeaseServer::new(lease::Lease(context.clone())).max_decoding_message_size(max),
        auth: AuthServer::new(auth::Auth(context.clone())).max_decoding_message_size(max),
        cluster: ClusterServer::new(cluster::Cluster(context.clone())).max_decoding_message_size(max),
        maintenance: MaintenanceServer::new(maintenance::Maintenance(context.clone())).max_decoding_message_size(max),
        lock: LockServer::new(lock::Lock(context.clone())).max_decoding_message_size(max),
        election: ElectionServer::new(election::Election(context.clone())).max_decoding_message_size(max),
        // A member opens its port when it serves.
        health: HealthServer::new(HealthService::from_health_reporter(HealthReporter::new())),
        pages: context.pages.clone(),
    }
}
