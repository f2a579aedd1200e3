//! The peers' port.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc::UnboundedSender;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};
use tower::Service as _;

use super::hello::{Hello, REMOVED, clock_ms};
use super::link::MAX_BATCH_BYTES;
use super::snapshots::Incoming;
use super::wire;
use crate::auth::Asker;
use crate::config::MAX_REQUEST_BYTES;
use crate::error::Refusal;
use crate::pb::etcdserverpb::{HashKvRequest, HashKvResponse};
use crate::pb::kvraft::peer_server::{Peer, PeerServer};
use crate::pb::kvraft::{
    Empty, MembersResponse, MessageBatch, PromoteRequest, RenewRequest, RenewResponse, SnapshotPiece,
};
use crate::raft_node::{Input, MAX_PROPOSAL_BYTES};
use crate::server::{Reply, Routes};
use crate::service::{Context, hash, keep_alive, promote};
use crate::shared::Shared;

/// A batch is not ended in the middle of a message, and a message holds at least one entry, however large; beside it
/// there may be as much as is proposed at once.
const MAX_DECODED_BYTES: usize = MAX_BATCH_BYTES + MAX_PROPOSAL_BYTES + 2 * MAX_REQUEST_BYTES;

/// Peers are listened to until `ended` is cancelled, after the node has: what is under way needs their answers.
pub fn routes(
    hello: Hello,
    context: &Context,
    inputs: UnboundedSender<Input>,
    ended: CancellationToken,
) -> impl Routes + use<> {
    let incoming = Arc::new(Incoming::new(context.drain.clone()));
    let service = Service { hello, context: context.clone(), shared: context.shared.clone(), inputs, incoming, ended };
    Port(PeerServer::new(service).max_decoding_message_size(MAX_DECODED_BYTES))
}

struct Port(PeerServer<Service>);

impl Routes for Port {
    fn route(&self, request: http::Request<hyper::body::Incoming>) -> Reply {
        // It answers for other services that it has no such method, which is as good.
        self.0.clone().call(request)
    }

    fn is_stream(&self, path: &str) -> bool {
        path.ends_with("/Messages")
    }
}

struct Service {
    hello: Hello,
    context: Context,
    shared: Arc<Shared>,
    inputs: UnboundedSender<Input>,
    incoming: Arc<Incoming>,
    ended: CancellationToken,
}

impl Service {
    fn check(&self, metadata: &MetadataMap) -> Result<u64, Status> {
        let checked = self.hello.check(metadata, |id| self.shared.state.read().is_gone(id));
        if let Err(refusal) = &checked {
            tracing::warn!(why = refusal.message(), "refused a peer");
        }
        checked
    }

    fn input(&self, input: Input) -> Result<(), Status> {
        self.inputs.send(input).map_err(|_| Refusal::Stopped.into())
    }

    fn leads(&self) -> Result<(), Status> {
        if self.shared.status.leader() == self.shared.member_id { Ok(()) } else { Err(Refusal::NotLeader.into()) }
    }
}

#[tonic::async_trait]
impl Peer for Service {
    async fn messages(&self, r: Request<Streaming<MessageBatch>>) -> Result<Response<Empty>, Status> {
        let from = self.check(r.metadata())?;
        let mut batches = r.into_inner();
        let received_bytes = self.shared.gauges.peers.from(from);
        loop {
            let batch = tokio::select! {
                batch = batches.next() => batch,
                () = self.ended.cancelled() => return Err(Refusal::Stopped.into()),
            };
            let Some(batch) = batch else { return Ok(Response::new(Empty {})) };
            if self.context.peers.is_gone(from) {
                return Err(Status::permission_denied(REMOVED));
            }
            let batch = batch?;
            received_bytes.inc_by(u64::try_from(batch.encoded_len()).unwrap_or(u64::MAX));
            let messages = batch.messages.into_iter().filter_map(wire::from_wire).collect();
            self.input(Input::Messages(messages))?;
        }
    }

    async fn snapshot(&self, r: Request<Streaming<SnapshotPiece>>) -> Result<Response<Empty>, Status> {
        self.check(r.metadata())?;
        let input = self.incoming.receive(r.into_inner()).await?;
        self.input(input)?;
        Ok(Response::new(Empty {}))
    }

    /// The caller may not know the cluster yet.
    async fn members(&self, _: Request<Empty>) -> Result<Response<MembersResponse>, Status> {
        let state = self.shared.state.read();
        let members = state.member_list();
        Ok(Response::new(MembersResponse { cluster_id: self.shared.cluster_id, members, clock_ms: clock_ms() }))
    }

    async fn renew(&self, r: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        self.check(r.metadata())?;
        self.leads()?;
        let ttl = keep_alive(&self.context, r.get_ref().id).await?;
        Ok(Response::new(RenewResponse { ttl }))
    }

    async fn remaining(&self, r: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        self.check(r.metadata())?;
        self.leads()?;
        let ttl = self.shared.lessor.remaining_seconds(r.get_ref().id).unwrap_or(0);
        Ok(Response::new(RenewResponse { ttl }))
    }

    async fn hash(&self, r: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        self.check(r.metadata())?;
        hash(&self.shared, r.get_ref().revision).await.map(Response::new)
    }

    async fn promote(&self, r: Request<PromoteRequest>) -> Result<Response<MembersResponse>, Status> {
        self.check(r.metadata())?;
        self.leads()?;
        // The member that was asked has looked at who asks.
        let members = promote(&self.context, Asker::Member, r.get_ref().id).await?;
        Ok(Response::new(MembersResponse { cluster_id: self.shared.cluster_id, members, clock_ms: clock_ms() }))
    }
}
