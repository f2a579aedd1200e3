//! The gRPC services: validate, ask the node, put the header on the answer.

mod access;
mod auth;
mod cluster;
mod kv;
mod lease;
mod maintenance;
mod snapshot_stream;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Response, Status};

use crate::auth::Asker;
use crate::config::{Config, GRPC_OVERHEAD_BYTES};
use crate::error::Refusal;
use crate::pb::etcdserverpb as pb;
use crate::raft_node::Handle;
use crate::shared::Shared;

/// The bounds that every service keeps.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_txn_ops: usize,
    pub max_request_bytes: usize,
    pub quota_bytes: u64,
    pub progress_interval: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Limits {
        Limits {
            max_txn_ops: config.max_txn_ops,
            max_request_bytes: config.max_request_bytes,
            quota_bytes: config.quota_bytes,
            progress_interval: config.progress_interval,
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
}

impl Context {
    fn answer<T>(
        &self,
        service: &'static str,
        method: &'static str,
        answer: Result<T, Status>,
    ) -> Result<Response<T>, Status> {
        let code = answer.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
        self.shared.gauges.count(service, method, code);
        answer.map(Response::new)
    }

    /// Refuses writes when the quota is used up. The first to notice raises the alarm.
    async fn check_space(&self, more_bytes: usize) -> Result<(), Refusal> {
        let (out_of_space, used) = {
            let state = self.shared.state.read();
            (state.out_of_space(), state.kv.size_bytes())
        };
        if out_of_space {
            return Err(Refusal::NoSpace);
        }
        if used.saturating_add(more_bytes) as u64 <= self.limits.quota_bytes {
            return Ok(());
        }
        let alarm = pb::AlarmRequest {
            action: pb::alarm_request::AlarmAction::Activate.into(),
            member_id: self.shared.member_id,
            alarm: pb::AlarmType::Nospace.into(),
        };
        self.propose(Asker::Member, crate::pb::kvraft::command::Op::Alarm(alarm)).await?;
        tracing::warn!(used, quota = self.limits.quota_bytes, "the quota is used up: alarm raised");
        Err(Refusal::NoSpace)
    }
}

/// All services behind one router. Requests a little over the limit are read, so that they
/// are refused with etcd's words and not with the transport's.
pub fn routes(context: &Context) -> Routes {
    let max = context.limits.max_request_bytes + GRPC_OVERHEAD_BYTES;
    let mut routes = Routes::builder();
    routes
        .add_service(pb::kv_server::KvServer::new(kv::Kv(context.clone())).max_decoding_message_size(max))
        .add_service(pb::watch_server::WatchServer::new(watch::Watch(context.clone())))
        .add_service(pb::lease_server::LeaseServer::new(lease::Lease(context.clone())))
        .add_service(pb::auth_server::AuthServer::new(auth::Auth(context.clone())))
        .add_service(pb::cluster_server::ClusterServer::new(cluster::Cluster(context.clone())))
        .add_service(pb::maintenance_server::MaintenanceServer::new(maintenance::Maintenance(context.clone())));
    routes.routes()
}
