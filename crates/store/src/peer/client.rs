//! Calls to one peer, each introduced.

use futures::Stream;
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::hello::Hello;
use crate::pb::etcdserverpb::{HashKvRequest, HashKvResponse};
use crate::pb::kvraft::peer_client::PeerClient as Generated;
use crate::pb::kvraft::{
    Empty, MembersResponse, MessageBatch, PromoteRequest, RenewRequest, RenewResponse, SnapshotPiece,
};

#[derive(Clone)]
pub struct PeerClient {
    client: Generated<Channel>,
    hello: Hello,
    pub to: u64,
}

impl PeerClient {
    pub fn new(channel: Channel, hello: Hello, to: u64) -> PeerClient {
        PeerClient { client: Generated::new(channel), hello, to }
    }

    pub async fn messages(&mut self, batches: impl Stream<Item = MessageBatch> + Send + 'static) -> Result<(), Status> {
        self.client.messages(self.hello.introduce(batches, self.to)).await.map(drop)
    }

    pub async fn snapshot(&mut self, pieces: impl Stream<Item = SnapshotPiece> + Send + 'static) -> Result<(), Status> {
        self.client.snapshot(self.hello.introduce(pieces, self.to)).await.map(drop)
    }

    pub async fn members(&mut self) -> Result<MembersResponse, Status> {
        self.client.members(Empty {}).await.map(Response::into_inner)
    }

    /// The lease's TTL as the leader has it, renewed.
    pub async fn renew(&mut self, id: i64) -> Result<RenewResponse, Status> {
        self.client.renew(self.hello.introduce(RenewRequest { id }, self.to)).await.map(Response::into_inner)
    }

    pub async fn remaining(&mut self, id: i64) -> Result<RenewResponse, Status> {
        self.client.remaining(self.hello.introduce(RenewRequest { id }, self.to)).await.map(Response::into_inner)
    }

    pub async fn hash(&mut self, revision: i64) -> Result<HashKvResponse, Status> {
        self.client.hash(self.hello.introduce(HashKvRequest { revision }, self.to)).await.map(Response::into_inner)
    }

    pub async fn promote(&mut self, id: u64) -> Result<MembersResponse, Status> {
        self.client.promote(self.hello.introduce(PromoteRequest { id }, self.to)).await.map(Response::into_inner)
    }
}
